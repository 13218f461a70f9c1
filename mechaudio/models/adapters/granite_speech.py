"""Granite Speech: conformer over stacked pairs of mel frames, a Q-Former with three queries in 0.3 s, Granite decoder.

A conformer layer is half a feed-forward, attention within blocks of 4 s, a convolution, half a feed-forward and a norm.
`resid_mid` is the residual stream behind attention, `mlp_out` half of what the second feed-forward gives.
"""

from dataclasses import replace

from mechaudio.models.adapter import CONFORMER_LAYERS, DECODER, Adapter, End, InBlocks, TokenTiming

_SHARED = (
    "three audio tokens hear their window of 0.3 s together, and the clock shares it out among them. The last "
    "window is filled up, so the clock may run 0.3 s past the end of the clip",
    "its processor's mask counts tokens, not frames. In a dict of inputs, clips that differ by less than 0.3 s "
    "look equally long if silence was put behind the shorter one, and run together. Prompts of ma.prompt run apart",
    "its processor needs torchaudio. The network takes dicts of its own inputs without it",
    "the decoder multiplies embed by embedding_multiplier before the first layer. It multiplies the outputs of "
    "attention and MLP by residual_multiplier: attn_out and mlp_out are these products, which are added",
    "the tower adds what it recognises to the stream behind its middle layer: resid_pre of the next layer is more "
    "than resid_post",
    "its audio.scores hold the position bias, which is made from q: editing q moves both",
    "while its tower attends, torch uses one kernel of attention in the whole process: what other threads run "
    "meanwhile, of any network, may differ by rounding. A plain call of it in another thread that is under way when a "
    "run begins, and over before the run is, leaves torch at that kernel",
    "transformers does not divide its logits by logits_scaling, as it does those of the decoder alone "
    "(GraniteForCausalLM). The order of answers stays; probabilities and entropies are those of logits that are so "
    "many times larger",
)

GRANITE_SPEECH = Adapter(
    family="granite_speech",
    network_class="GraniteSpeechForConditionalGeneration",
    checkpoints=("ibm-granite/granite-speech-3.3-2b", "ibm-granite/granite-speech-3.3-8b"),
    decoder=replace(DECODER, attention_times="residual_multiplier", mlp_times="residual_multiplier"),
    encoder=replace(
        CONFORMER_LAYERS,
        layers="model.encoder.layers",
        attention="attn",
        mlp="ff2",
        end=End("a norm", "post_norm"),
        config="encoder_config",
        insides=InBlocks(queries="to_q"),
        output="to_out",
        overwritten=("resid_post",),
    ),
    projector="model.projector",
    # One frame or up to 15 make one window, and a window makes three tokens.
    timing=TokenTiming(
        samples=4800,
        tokens=3,
        window=64_000,
        long_clips="split",
        steps=((1, 15, 0), (1, 1, 1)),
        chunk=15,
        hop=320,
        shortest=257,
    ),
    features_mask="input_features_mask",
    mask_counts="tokens",
    frames_axis=1,
    leaks_padding="its tower and the projector know no mask",
    turns="text",
    system=(
        "Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\nYou are Granite, developed by IBM. You are "
        "a helpful AI assistant"
    ),
    exceptions=(
        *_SHARED,
        "its checkpoints come with an adapter of low rank for audio, which transformers puts in only where peft is "
        "installed",
    ),
)

GRANITE_SPEECH_PLUS = replace(
    GRANITE_SPEECH,
    family="granite_speech_plus",
    network_class="GraniteSpeechPlusForConditionalGeneration",
    checkpoints=("ibm-granite/granite-speech-4.1-2b-plus",),
    system=None,
    exceptions=(
        *_SHARED,
        "the projector hears some of the tower's layers beside the last: cat_hidden_layers of the checkpoint names "
        "them",
    ),
)

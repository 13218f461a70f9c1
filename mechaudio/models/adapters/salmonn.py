"""SALMONN: Whisper and BEATs side by side, a window Q-Former that makes a token of every 340 ms, Llama decoder.

What the Q-Former's queries do among themselves is no hook point: a window has one query, which sees only itself.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, WHISPER_ENCODER, Adapter, End, Stack, TokenTiming

_LLAMA = "llama_model.base_model.model.model"
_NORMS = "each layer ends in a norm of its own, so the last resid_post is normed"

BEATS = Stack(
    layers="beats.encoder.layers",
    attention="self_attn",
    mid_norm="self_attn_layer_norm",
    mlp="fc2",
    down="",
    norm=None,
    config="beats_config",
    output="out_proj",
    frames_of=(2560, 8),
    between={
        "attention": "it is multiplied by (2 x layers)^(1/4)",
        "mlp": "a norm, behind which it is multiplied by the same",
    },
    end=End("a norm", "final_layer_norm"),
    absent={"norm": _NORMS},
)
WINDOW_QFORMER = Stack(
    layers="speech_Qformer.bert.encoder.layer",
    attention="crossattention",
    mid_norm="crossattention.output.LayerNorm",
    mlp="output_query.dense",
    down="",
    norm=None,
    config="qformer_config",
    output="output.dense",
    frames_of=(5440, 1),
    between={"attention": "its query's attention to itself and a norm", "mlp": "a norm"},
    end=End("a norm", "output_query.LayerNorm"),
    absent={"norm": _NORMS},
)

SALMONN = Adapter(
    family="salmonn",
    network_class="SalmonnForConditionalGeneration",
    network="mechaudio.models.salmonn.network:SalmonnForConditionalGeneration",
    processor="mechaudio.models.salmonn.processor:SalmonnProcessor",
    checkpoints=(),
    parts=("tsinghua-ee/SALMONN-7B", "tsinghua-ee/SALMONN"),
    decoder=replace(DECODER, layers=f"{_LLAMA}.layers", norm=f"{_LLAMA}.norm"),
    encoder=replace(WHISPER_ENCODER, layers="speech_encoder.layers", norm="speech_encoder.layer_norm"),
    tower="whisper",
    towers={"beats": BEATS, "qformer": WINDOW_QFORMER},
    decoder_module=_LLAMA,
    unembed="llama_model.base_model.model.lm_head",
    projector="speech_llama_proj",
    timing=TokenTiming(
        samples=5440,
        window=480_000,
        long_clips="split",
        pads_to_window=True,
        steps=((3, 2, 1), (17, 17, 0)),
        counted_by="n_audio_tokens",
    ),
    features_mask="input_features_mask",
    features_beside={"filterbank_features": "beats_config.num_mel_bins"},
    lengths="audio_samples",
    leaks_padding="BEATs hears what shorter clips are filled up with",
    cuts_padding=False,
    answer="apart",
    one_clip="it was trained on one clip a prompt",
    exceptions=(
        "it is a class of mechaudio, not of transformers. Its checkpoints are parts, which `mechaudio assemble` "
        "puts together once",
        "it hears clips of up to 30 s (config.max_seconds). Whisper hears windows of 30 s filled up with silence, "
        "which becomes audio tokens too: every clip has 88. Those behind its end are the span audio_padding",
        "an answer's letter is the token that training wrote, tokenised apart from the prompt",
        "it has three audio towers: audio_blocks are Whisper's layers, `model.towers['beats']` and "
        "`model.towers['qformer']` the others. In strings, their names stand in the place of audio: beats.pattern",
        "BEATs' scores hold its position bias, which gates made from the queries scale: an edit of q does not move it",
        "BEATs has eight tokens for every 160 ms, one per group of bands, lowest first. The Q-Former's hook points "
        "have windows of 340 ms along their first axis. Its attention is that of a window's query to 17 frames",
        "the 17 BEATs tokens of a window are 2 1/8 patches of eight bands, not its 340 ms in 17 steps",
    ),
)

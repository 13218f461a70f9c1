"""Phi-4-multimodal: conformer over 80 mel bands, eight frames in one token, Phi decoder that puts the audio in itself.

A conformer layer is half a feed-forward, attention, a convolution, half a feed-forward and a norm. `resid_mid` is the
residual stream behind attention, `mlp_out` half of what the second feed-forward gives.
"""

from dataclasses import replace

from mechaudio.models.adapter import CONFORMER_LAYERS, DECODER, Adapter, End, TokenTiming

PHI_4_MULTIMODAL = Adapter(
    family="phi4_multimodal",
    network_class="Phi4MultimodalForCausalLM",
    checkpoints=("microsoft/Phi-4-multimodal-instruct",),
    decoder=replace(DECODER, layers="model.layers", norm="model.norm", config=""),
    encoder=replace(
        CONFORMER_LAYERS,
        layers="model.embed_tokens_extend.audio_embed.encoder.encoders",
        mlp="feed_forward_out",
        end=End("a norm", "layer_norm"),
    ),
    decoder_module="model",
    merged="model.embed_tokens_extend",
    projector="model.embed_tokens_extend.audio_embed.down_proj_for_speech",
    timing=TokenTiming(samples=1280, window=640_000, long_clips="split", steps=((3, 2, 1),) * 3, shortest=400),
    features="audio_input_features",
    features_mask="audio_attention_mask",
    frames_axis=1,
    features_sizes="audio_embed_sizes",
    bands="input_size",
    leaks_padding="the tower's mask adds 1 to the scores of real frames and forbids none",
    exceptions=(
        "its written answers do not cross the position after which its rotary embeddings change "
        "(original_max_position_embeddings): transformers forgets the prompt there and goes on from the newest token "
        "alone. ma.generate says then that a placeholder of audio is missing; of prompts without sound it goes on so",
        "plain transformers hands the clip over again with every new token. It fails with a shape mismatch where "
        "the network writes the placeholder of audio. Here sound comes with the prompt alone, and that token is "
        "text",
    ),
)

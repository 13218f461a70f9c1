"""Gemma 3n: conformer that attends within sliding windows, 188 tokens for every clip, decoder with four streams.

The decoder's layers pass on four residual streams (AltUp). Attention and MLP work on a prediction of the first one:
`resid_pre` and `resid_post` are the first stream, `resid_mid` is that prediction after attention. What attention and
MLP give is normed before it is added: `attn_out` and `mlp_out` are what comes out of that norm, in the tower too.
Behind attention the prediction and a projection of low rank (Laurel) are added and divided by the root of two:
`attn_out` is the part of `resid_mid` that is attention's, so divided.
"""

import math
from dataclasses import replace

from mechaudio.models.adapter import CONFORMER_LAYERS, DECODER, Adapter, End, TokenTiming

GEMMA_3N = Adapter(
    family="gemma3n",
    network_class="Gemma3nForConditionalGeneration",
    checkpoints=("google/gemma-3n-E2B-it", "google/gemma-3n-E4B-it"),
    decoder=replace(
        DECODER,
        mid_norm="pre_feedforward_layernorm",
        attention_norm="post_attention_layernorm",
        mlp_norm="post_feedforward_layernorm",
        attention_times=1 / math.sqrt(2),
        between={
            "attention": (
                "AltUp, which predicts the stream from all four, and Laurel: resid_mid is "
                "(prediction + Laurel) / sqrt 2 + attn_out"
            ),
        },
        end=End("AltUp, which corrects all four streams by the difference that the layer made", "altup.router_norm"),
        layout="streams",
    ),
    encoder=replace(
        CONFORMER_LAYERS,
        layers="model.audio_tower.conformer",
        attention="attention",
        mid_norm="attention",
        mlp="ffw_layer_end.ffw_layer_2",
        down="",
        attention_norm="attention.post_norm",
        mlp_norm="ffw_layer_end.post_layer_norm",
        mlp_times="conf_residual_weight",
        end=End("a norm", "norm"),
        insides="windows",
        output="post",
    ),
    logits={"softcapped_at": "text_config.final_logit_softcapping"},
    projector="model.embed_audio.soft_embedding_norm",
    no_shared_prefix="its layers take more that depends on the position, and some take the keys of earlier layers",
    timing=TokenTiming(
        samples=2560,
        window=480_000,
        long_clips="cut",
        pads_to_window=True,
        steps=((3, 2, 1), (3, 2, 1), (1, 4, 0)),
        shortest=513,
        always=188,
    ),
    features_mask="input_features_mask",
    frames_axis=1,
    bands="input_feat_size",
    leaks_padding=(
        "the convolutions in front of its tower run without the mask of real frames, and a last token can hear them"
    ),
    exceptions=(
        "every clip makes 188 audio tokens. Those behind its end all hold the vector of padding, and are the span "
        "audio_padding",
        "in the decoder, resid_pre and resid_post are the first of four residual streams, on which attention and "
        "MLP work. resid_mid is its prediction after attention. No addition leads from one to the other",
        "projector_out is the normed vector in front of the projection, as wide as the tower: the projection also "
        "embeds text and padding. It has a row per token that the tower made, and none for padding",
        "layers that share keys and values have the k and v of an earlier layer",
        "layers with a sliding window forget: the new tokens of a generation see only as many of the last keys as "
        "the window holds",
        "in the tower, scores are those behind the softcap. A frame of padding sees all of its window alike",
        "logits are as the network returns them, after its softcap",
        "gradients are not finite where a padding token's embedding is exactly zero, as in plain transformers",
    ),
)

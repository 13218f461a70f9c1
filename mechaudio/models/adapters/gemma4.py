"""Gemma 4: conformer that attends within sliding windows, Gemma decoder with per-layer inputs.

What attention and MLP give is normed before it is added to the residual stream: `attn_out` and `mlp_out` are what
comes out of that norm. A conformer layer is half a feed-forward, attention, a convolution, half a feed-forward and a
norm: `resid_mid` is the residual stream behind attention, `mlp_out` half of what the second feed-forward gives.
"""

from dataclasses import replace

from mechaudio.models.adapter import CONFORMER_LAYERS, DECODER, Adapter, End, TokenTiming

GEMMA_4 = Adapter(
    family="gemma4",
    network_class="Gemma4ForConditionalGeneration",
    checkpoints=("google/gemma-4-E2B-it", "google/gemma-4-E4B-it"),
    decoder=replace(
        DECODER,
        mid_norm="pre_feedforward_layernorm",
        attention_norm="post_attention_layernorm",
        mlp_norm="post_feedforward_layernorm",
        end=End(
            "what the layer makes of its own input, and a scaling of the whole stream",
            closing="per_layer_input_gate",
            scaled_by="layer_scalar",
        ),
    ),
    encoder=replace(
        CONFORMER_LAYERS,
        mid_norm="lconv1d",
        mlp="feed_forward2.ffw_layer_2",
        down="linear",
        attention_norm="norm_post_attn",
        mlp_norm="feed_forward2.post_layer_norm",
        mlp_times="residual_weight",
        end=End("a norm", "norm_out"),
        overwritten=("attn_out",),
        insides="windows",
        output="post.linear",
    ),
    logits={"softcapped_at": "text_config.final_logit_softcapping"},
    projector="model.embed_audio",
    no_shared_prefix="its layers take more that depends on the position, and some take the keys of earlier layers",
    timing=TokenTiming(samples=640, window=480_000, long_clips="cut", steps=((3, 2, 1),) * 2, shortest=161),
    features_mask="input_features_mask",
    frames_axis=1,
    bands="subsampling_conv_channels",
    exceptions=(
        "heads are wider in layers with full attention than in those with a sliding window",
        "layers that share keys and values have the k and v of an earlier layer. To generate, plain transformers "
        "computes them for the last position of the prompt only. steps[0] of ma.generate holds that one position "
        "there, and ma.run holds all",
        "layers with a sliding window forget: the new tokens of a generation see only as many of the last keys as "
        "the window holds",
        "in a decoder with experts, mlp_out is the sum of the experts and of the dense MLP beside them. mlp_post "
        "are the neurons of the dense MLP",
        "in the tower, scores are those behind the softcap. A frame of padding sees all of its window alike. All "
        "of attention but z is in fp32",
        "logits are as the network returns them, after its softcap",
    ),
)

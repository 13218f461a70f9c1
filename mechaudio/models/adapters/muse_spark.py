"""Muse Spark: causal convolutions over the waveform at 24 kHz, a mixture-of-experts decoder with gated additions.

`audio_blocks` are the stages of the tower, each of which makes the sequence shorter and wider. What attention and MLP
give is normed, and a gate weighs it against the residual stream, dimension by dimension: `attn_out` and `mlp_out` are
what comes out of norm and gate.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, EXPERTS, Adapter, Stack, TokenTiming

_GATED = "each dimension of the stream is multiplied by what the gate leaves of it"

MUSE_SPARK = Adapter(
    family="muse_spark",
    network_class="MuseSparkForConditionalGeneration",
    checkpoints=("meta-models/Muse-Spark-Open-816B-A42B",),
    decoder=replace(
        DECODER,
        mid_norm="pre_feedforward_layernorm",
        attention_norm="post_attention_layernorm",
        mlp_norm="post_feedforward_layernorm",
        between={"attention": _GATED, "mlp": _GATED},
        gates={"attention": "post_attention_residual_gate", "mlp": "post_feedforward_residual_gate"},
        z_times="a gate divided by its length",
        absent={"down": EXPERTS},
    ),
    encoder=Stack(
        layers="model.audio_tower.layers",
        attention=None,
        mid_norm=None,
        mlp=None,
        norm="model.audio_tower.norm",
        config="audio_config",
        absent={
            "attention": "its audio tower is made of convolutions and has no attention",
            "mid_norm": "a stage of its audio tower is a row of convolutions, with no attention before an MLP",
            "mlp": "a stage of its audio tower holds several feed-forwards and none of its own",
        },
    ),
    logits={
        "multiplied_by": "text_config.output_multiplier",
        "softcapped_at": "text_config.final_logit_softcapping",
    },
    projector="model.audio_tower.post_proj_norm",
    no_shared_prefix="layers with a sliding window keep the last keys and values only",
    timing=TokenTiming(samples=1920, window=None, long_clips="split", steps=((1, 1920, 0),), hop=1),
    features="input_values",
    features_mask="input_values_mask",
    bands=None,
    sampling_rate=24_000,
    exceptions=(
        "audio_blocks are the stages of the tower, which differ in width and in length. Only the last has a frame "
        "per audio token",
        "projector_out is normed once more before it is put in, as embeddings of text are",
        "in half precision, rounding (another batch, another device) can send a token to other experts. Logits "
        "then differ by more than rounding. Reading is bit-exact, as everywhere",
        "an edit moves earlier positions by rounding: experts multiply all tokens that come to them together. An "
        "edited token that goes elsewhere changes the shapes of these matrices",
        "layers with a sliding window forget: the new tokens of a generation see only as many of the last keys as "
        "the window holds",
        "logits are as the network returns them, after its softcap",
    ),
)

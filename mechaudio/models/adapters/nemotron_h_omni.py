"""Nemotron-H-Omni: Parakeet's conformer, a hybrid decoder of Mamba, attention, expert and MLP layers.

A decoder layer has one part only, its mixer, which is of the kind that the checkpoint's config lists for the layer. A
conformer layer is half a feed-forward, attention, a convolution, half a feed-forward and a norm; `resid_mid` is the
residual stream behind attention, `mlp_out` half of what the second feed-forward gives.
"""

from dataclasses import replace

from mechaudio.models.adapter import CONFORMER_LAYERS, EXPERTS, Adapter, End, MixedStack, Stack, TokenTiming

_BETWEEN = "a layer is one mixer, so there is no place between attention and MLP"
_MAMBA = "the layer is a Mamba block, a recurrence without {part}; resid_post - resid_pre is what it adds"
_MLP = "the layer's mixer is an MLP and not attention"

_LAYERS = Stack(
    layers="language_model.model.layers",
    attention=None,
    mid_norm=None,
    mlp=None,
    norm="language_model.model.norm_f",
    config="text_config",
    absent={
        "attention": _MAMBA.format(part="attention"),
        "mid_norm": "a Mamba block has no norm between attention and MLP: " + _BETWEEN,
        "mlp": _MAMBA.format(part="an MLP"),
    },
)
_ATTENTION = replace(
    _LAYERS,
    attention="mixer",
    absent={"mid_norm": _BETWEEN, "mlp": "the layer's mixer is attention, and no MLP follows it"},
)
_DENSE = replace(_LAYERS, mlp="mixer", absent={"attention": _MLP, "mid_norm": _BETWEEN})
_EXPERTS = replace(_DENSE, down=None, absent={**_DENSE.absent, "down": EXPERTS})

NEMOTRON_H_OMNI = Adapter(
    family="nemotron_h_omni",
    network_class="NemotronH_Omni_Reasoning_V3",
    checkpoints=("nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",),
    decoder=MixedStack(
        layers=_LAYERS.layers,
        attention=None,
        mid_norm=None,
        mlp=None,
        norm=_LAYERS.norm,
        config=_LAYERS.config,
        kinds={"linear_attention": _LAYERS, "full_attention": _ATTENTION, "moe": _EXPERTS, "mlp": _DENSE},
    ),
    encoder=replace(
        CONFORMER_LAYERS,
        layers="audio_tower.layers",
        mid_norm="norm_conv",
        down="linear2",
        end=End("a norm", "norm_out"),
    ),
    decoder_module="language_model",
    unembed="language_model.lm_head",
    projector="embed_audio",
    no_shared_prefix="its Mamba layers look back through a state, not through keys and values",
    timing=TokenTiming(
        samples=1280,
        window=None,
        long_clips="split",
        steps=((3, 2, 1),) * 3,
        shortest=320,
        beyond_mask=1,
    ),
    features_mask="input_features_mask",
    frames_axis=1,
    leaks_padding="where its frames divide by eight, a clip's last audio token lies outside the tower's mask",
    exceptions=(
        "decoder layers differ: some have attention, others an MLP or experts, and the rest are Mamba blocks. No "
        "layer has a resid_mid",
        "an edit moves earlier positions by rounding: experts multiply all tokens that come to them together. An "
        "edited token that goes elsewhere changes the shapes of these matrices",
        "in the tower, scores hold a position bias, which is made from the queries before q: an edit of q does not "
        "move it",
        "in the tower, rows that may see nothing (padding, and the last token where frames divide by eight) attend to "
        "all keys alike",
    ),
)

"""Dots 3 Note: convolutions over mel frames, rotary encoder, mixture-of-experts decoder that attends in two ways.

Decoder layers look at the keys that an indexer chooses, or within a sliding window and with fewer heads. Tables by
layer and head have one number of heads, that of the former.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, EXPERTS, WHISPER_ENCODER, Adapter, MixedStack, TokenTiming

_ALL_HEADS = replace(
    DECODER,
    z_times="a gate, one number a head",
    absent={"down": EXPERTS},
)
_SLIDING = replace(
    _ALL_HEADS,
    attention=None,
    z_times=None,
    absent={
        "attention": (
            "the layer attends within a sliding window, with another number of heads than the config's; resid_mid - "
            "resid_pre is what attention adds"
        ),
        "down": EXPERTS,
    },
)

DOTS_3_NOTE = Adapter(
    family="dots3_note",
    network_class="Dots3NoteForConditionalGeneration",
    checkpoints=("dots-studio/dots3-note-prev",),
    decoder=MixedStack(
        layers=DECODER.layers,
        attention=None,
        mid_norm=None,
        mlp=None,
        norm=DECODER.norm,
        config=DECODER.config,
        kinds={"indexed_attention": _ALL_HEADS, "full_attention": _ALL_HEADS, "sliding_attention": _SLIDING},
    ),
    encoder=replace(WHISPER_ENCODER, mid_norm="post_attention_layernorm", mlp="mlp", down="down_proj", output="o_proj"),
    projector="model.audio_tower.adapter",
    projector_layout="packed",
    no_shared_prefix="an indexer chooses keys by a cache of its own, and keys are kept in a form of low rank",
    timing=TokenTiming(samples=1280, window=960_000, long_clips="split", steps=((3, 2, 1),) * 3, shortest=1),
    features_mask="chunk_sample_lengths",
    mask_counts="samples",
    bands="feature_size",
    exceptions=(
        "transformers has it from 5.23 on, which needs Python 3.11",
        "layers with a sliding window have another number of heads, and no hook points inside attention. The other "
        "layers have them all. There the output projection takes the product of z and a gate",
        "layers with an indexer see the 2,048 keys (index_topk) that it chooses for each position. The other keys "
        "have weight zero in pattern. An edit of q or k does not move the choice",
        "in half precision, rounding (another batch, another device) can send a token to other experts. Logits "
        "then differ by more than rounding. Reading is bit-exact, as everywhere",
        "an edit moves earlier positions by rounding: experts multiply all tokens that come to them together. An "
        "edited token that goes elsewhere changes the shapes of these matrices",
    ),
)

"""One name, many spellings; and what is said of a name that is none."""

import pytest

from mechaudio.tracing.hook_points import (
    LAYER_POINTS,
    MEANINGS,
    MODEL_POINTS,
    SHAPES,
    HookPoint,
    address,
    order_of,
    parse,
)


@pytest.mark.parametrize(
    ("spelling", "name", "layer"),
    [
        ("pattern", "pattern", None),
        ("blocks.3.attn.pattern", "pattern", 3),
        ("blocks.3.attn.hook_pattern", "pattern", 3),
        ("blocks.3.attn.hook_attn_scores", "scores", 3),
        ("blocks.3.hook_resid_post", "resid_post", 3),
        ("blocks.-1.hook_mlp_out", "mlp_out", -1),
        ("blocks.0.attn.hook_rot_q", "q", 0),
        ("audio.blocks.1.attn.hook_z", "audio.z", 1),
        ("audio_blocks.1.resid_mid", "audio.resid_mid", 1),
        ("audio.resid_post", "audio.resid_post", None),
        ("blocks.3.attn.hook_result", "result", 3),
        ("blocks.3.mlp.hook_post", "mlp_post", 3),
        ("blocks.3.mlp.post", "mlp_post", 3),
        ("audio.blocks.1.mlp.hook_post", "audio.mlp_post", 1),
        ("mlp_post", "mlp_post", None),
        ("hook_embed", "embed", None),
        ("ln_final.hook_normalized", "final_norm", None),
        ("unembed", "logits", None),
        ("projector.hook_out", "projector_out", None),
        ("audio_projector.hook_out", "projector_out", None),
    ],
)
def test_every_spelling_leads_to_one_name(spelling, name, layer):
    assert parse(spelling) == (name, layer)


@pytest.mark.parametrize(
    "wrong", ["patern", "audio.mass", "blocks.3.logits", "audio.embed", "blocks.x.attn.pattern", "blocks.3", ""]
)
def test_an_unknown_name_is_answered_with_those_there_are(wrong):
    with pytest.raises(KeyError, match=r"no hook point .*resid_pre, q, k, v, scores, pattern"):
        parse(wrong)


def test_the_address_of_a_hook_point_parses_back_to_it():
    for point in LAYER_POINTS:
        for name in (point, f"audio.{point}") if point != "mass" else (point,):
            assert parse(address(name, 2)) == (name, 2)


def test_hook_points_sort_as_the_model_computes_them():
    computed = [
        "audio.resid_pre",
        "audio.pattern",
        "audio.final_norm",
        "projector_out",
        "embed",
        "resid_pre",
        "z",
        "resid_post",
        "final_norm",
        "logits",
    ]
    layers = {name: None if name in MODEL_POINTS else 0 for name in computed}
    shuffled = [*computed[1::2], *computed[::2]]
    assert sorted(shuffled, key=lambda name: order_of(name, layers[name])) == computed
    assert order_of("resid_pre", 1) > order_of("resid_post", 0)


def test_every_hook_point_has_a_shape_and_a_meaning():
    names = {*LAYER_POINTS, *MODEL_POINTS}
    assert set(SHAPES) == names
    assert set(MEANINGS) == names


def test_rows_belong_to_attention_and_positions_to_the_rest():
    with pytest.raises(ValueError, match=r"'resid_post' has positions: use positions="):
        HookPoint("resid_post", queries="last")
    with pytest.raises(ValueError, match=r"'pattern' has query rows, not positions: use queries="):
        HookPoint("pattern", positions="last")


def test_a_layer_is_given_once():
    with pytest.raises(ValueError, match=r"names layer 3, but layers=\[4\] was given too"):
        HookPoint("blocks.3.attn.pattern", layers=[4])
    with pytest.raises(ValueError, match="exists once in the model"):
        HookPoint("logits", layers=[0])

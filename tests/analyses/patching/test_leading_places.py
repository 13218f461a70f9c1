import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses.patching import leading_places
from mechaudio.analyses.patching.activation_patching import activation_patching
from mechaudio.analyses.patching.pairs import contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces


@pytest.fixture
def swept(monkeypatch):
    """The prompts of every sweep, and where its variants begin."""
    seen = []

    def spy(model, batch, variants, **options):
        seen.append((batch.condition, [variant.positions for variant in variants if variant]))
        return ma.sweep(model, batch, variants, **options)

    monkeypatch.setattr(leading_places, "sweep", spy)
    return seen


def behind(model, asked, *over, name=None, positions=None, **words):
    wanted = PatchedPlaces(model, over, name, "denoising", None, None, positions, 1.0)
    return leading_places._behind(wanted, contrast(model, asked, **words))


@pytest.mark.parametrize(
    ("hook_point", "direction"),
    [
        ("resid_pre", "denoising"),
        pytest.param("resid_mid", "noising", marks=pytest.mark.whole),
        pytest.param("resid_post", "noising", marks=pytest.mark.whole),
    ],
)
def test_all_audio_tokens_cost_what_follows_them_and_give_what_one_by_one_gives(
    tiny, scenes, swept, direction, hook_point
):
    settings = {"over": ("layer", "role"), "hook_point": hook_point, "direction": direction, "layers": [0, 5]}
    found = activation_patching(tiny, scenes[:2], **settings)
    (_, here), (other, there) = swept
    batch = ma.prompt(tiny, scenes[:2])
    assert other == ("audio" if direction == "denoising" else "silence")
    assert len(there) == 2  # of the role audio, one per layer
    assert {len(positions) for positions in there[0]} == {batch.n_positions - 1 - batch.spans["audio"][0][-1]}
    assert len(here) == 2 * (len(found.axes["role"]) - 1)
    slow = activation_patching(tiny, scenes[:2], **settings, one_by_one=True)
    np.testing.assert_allclose(found.logits, slow.logits, atol=2e-4)
    np.testing.assert_allclose(found.clean_logits, slow.clean_logits, atol=2e-4)
    assert found.axes == slow.axes


def test_a_map_of_the_audio_alone_has_nothing_else_to_sweep(toy, asked, swept):
    settings = {"over": ("layer",), "positions": "audio"}
    found = activation_patching(toy, asked[:2], **settings)
    assert [len(variants) for _, variants in swept] == [0, 4]
    np.testing.assert_allclose(
        found.logits, activation_patching(toy, asked[:2], **settings, one_by_one=True).logits, atol=1e-4
    )


def test_what_begins_later_or_leaves_something_out_is_patched_where_it_is(toy, asked):
    assert set(behind(toy, asked, "layer", "role")) == {"audio"}
    assert not behind(toy, asked, "layer", "role", positions="question+choices")
    assert not behind(toy, asked, "layer", "event")  # what sounds has gaps
    assert not behind(toy, asked, "layer")  # all positions, with nothing behind them


def test_a_place_that_is_shorter_than_what_follows_it_is_patched_where_it_is(toy, asked):
    pair = contrast(toy, asked)
    n = pair.clean.n_positions
    for second, positions in behind(toy, asked, "layer", "second").items():
        assert all(len(own) <= (n - first) / 2 for own, first in zip(positions, pair.first, strict=True)), second


@pytest.mark.parametrize("name", ["attn_out", "mlp_out", "k", "embed"])
def test_other_hook_points_are_not_all_that_a_layer_hands_on(toy, asked, name):
    over = ("role",) if name == "embed" else ("layer", "role")
    assert not behind(toy, asked, *over, name=name)


def test_words_behind_the_prompt_have_met_its_own_residual_stream(tiny, scenes):
    assert behind(tiny, scenes[:2], "layer", "role", target=scenes[0].answer)
    assert not behind(tiny, scenes[:2], "layer", "role", target=scenes[0].answer, whole=True)


def test_where_variants_share_nothing_neither_do_these(tiny, scenes):
    hook = tiny.network.register_forward_hook(lambda *_: None)
    try:
        assert not behind(tiny, scenes[:2], "layer", "role")
    finally:
        hook.remove()

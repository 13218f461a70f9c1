"""Plans on paper: prompts of ten positions, a decoder of four layers, and no network anywhere."""

import pytest

import mechaudio as ma
from mechaudio.tracing.bind import Change
from mechaudio.tracing.sites import Site
from mechaudio.variants.plan import Chunk, Sizes, Variant, chunks_of, fitting, variant_of

SIZES = Sizes(n_rows=2, n_positions=10, n_layers=4, sound=(3, 2), keys=5, prompt=60, widest=50, logits=20)


def change(name, layer=None, positions=((9,), (9,))):
    """A bound change of a hook point in one layer, at these positions of each of two prompts."""
    layers = None if layer is None else [layer]
    edit = ma.Edit(ma.HookPoint(name, layers=layers), lambda value: value)
    site = Site(name, layer, f"{name} {layer}", take=lambda served: served, put=lambda _served, value: value)
    return Change(site, edit, positions, 0, edit)


def variant(index, start, layer):
    return Variant(index, (), start, layer)


@pytest.mark.parametrize(
    ("changes", "start", "layer"),
    [
        ([], 9, 4),
        ([("resid_post", 2)], 9, 2),
        ([("resid_post", 2), ("z", 1, ((9,), (7,)))], 7, 1),
        ([("resid_post", 3, None)], 0, 3),
        ([("final_norm",)], 9, 4),
        ([("resid_pre", 0, ((1, 2), (5,)))], 1, 0),
    ],
)
def test_a_variant_is_the_positions_and_layers_from_its_first_change_on(changes, start, layer):
    made = variant_of(3, [change(*one) for one in changes], SIZES)
    assert (made.index, made.start, made.layer, made.early) == (3, start, layer, ())
    assert len(made.changes) == len(changes)


@pytest.mark.parametrize(
    ("name", "layer", "positions", "why"),
    [
        ("logits", None, None, "logits lies outside the layers"),
        ("result", 1, ((9,), (9,)), "result is as wide as the residual stream"),
        ("resid_post", 0, None, "it changes the first position in the first layer"),
        ("final_norm", None, ((8,), (9,)), "final_norm is changed before the last position"),
        ("final_norm", None, None, "final_norm is changed before the last position"),
    ],
)
def test_what_shares_nothing_is_told_why(name, layer, positions, why):
    assert variant_of(0, [change(name, layer, positions)], SIZES).why.startswith(why)


def test_what_comes_before_the_decoder_waits_until_it_is_computed():
    tower, embed = change("audio.resid_post", 0, None), change("embed", positions=((6,), (4,)))
    later = change("resid_post", 1, ((8,), (8,)))
    made = variant_of(0, [tower, later], SIZES)
    assert (made.start, made.layer, made.early, made.changes) == (2, 0, (tower,), (later,))
    assert variant_of(0, [embed], SIZES).start == 4
    alone = variant_of(0, [tower, change("logits", positions=None)], SIZES)
    assert (alone.early, alone.why) == ((), "logits lies outside the layers")


def test_behind_a_clean_run_that_kept_the_last_position_no_other_may_change():
    last, two = [change("z", 1)], [change("z", 1, ((8, 9), (9,)))]
    assert variant_of(0, last, SIZES, kept=1).why is None
    assert variant_of(0, two, SIZES, kept=1).why == (
        "it changes more than the last position, and a clean run keeps that one only"
    )
    assert variant_of(0, two, SIZES, kept=2).why is None


def test_variants_of_about_as_many_positions_run_together_and_early_ones_come_first():
    variants = [variant(0, 9, 3), variant(1, 5, 2), variant(2, 9, 1), variant(3, 4, 0), variant(4, 8, 0)]
    chunks = list(chunks_of(variants, SIZES, 1e9))
    assert [([one.index for one in chunk.variants], chunk.n_positions) for chunk in chunks] == [
        ([2, 0], 1),  # the last position alone
        ([3, 1], 6),  # five and six positions
        ([4], 2),
    ]


@pytest.mark.parametrize(
    ("budget", "cached", "sizes"),
    [
        (139, False, [1, 1, 1]),  # a variant takes 2 prompts x (1 position x 50 + logits 20) = 140
        (280, False, [2, 1]),
        (419, False, [2, 1]),
        (420, False, [3]),
        (299, True, [1, 1, 1]),  # and 2 x 5 more, where its keys and values are kept
        (300, True, [2, 1]),
        (1, False, [1, 1, 1]),  # one at a time, however little there is
    ],
)
def test_as_many_variants_run_together_as_fit(budget, cached, sizes):
    chunks = chunks_of([variant(index, 9, 1) for index in range(3)], SIZES, budget, cached=cached)
    assert [len(chunk.variants) for chunk in chunks] == sizes


def test_a_chunk_is_as_wide_as_its_own_variants_need():
    chunks = list(chunks_of([variant(0, 4, 0), variant(1, 6, 1)], SIZES, budget=1))
    assert [chunk.n_positions for chunk in chunks] == [6, 4]


def test_variants_join_in_their_first_layer():
    chunk = Chunk((variant(0, 9, 0), variant(1, 9, 2), variant(2, 9, 2), variant(3, 9, 4)), 1)
    assert [chunk.joined(layer) for layer in (-1, 0, 1, 2, 3, 4)] == [0, 1, 1, 3, 3, 4]


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        (60, [[0], [1], [3]]),  # a prompt takes 60
        (120, [[0, 1], [3]]),
        (180, [[0, 1, 3]]),
        (1, [[0], [1], [3]]),
    ],
)
def test_prompts_run_in_parts_that_fit(budget, parts):
    assert list(fitting([0, 1, 3], SIZES.prompt, budget)) == parts

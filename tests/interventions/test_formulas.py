"""The formulas for attention scores, in float64: the identities they are chosen for, and plain loops."""

import math

import pytest
import torch

from mechaudio.tracing.formulas import (
    Block,
    Scale,
    ScaleAboutMean,
    ScaleKeepingMass,
    Shift,
    ShiftAsScaled,
    ShiftBySize,
    apply_to_chosen,
)
from tests.reference.score_formulas import edited, softmax

KINDS = {
    "plain": Scale,
    "centred": ScaleAboutMean,
    "mass_preserving": ScaleKeepingMass,
    "mass_matched": ShiftAsScaled,
    "constant": Shift,
    "pai": ShiftBySize,
    "block": Block,
}
AUDIO = [1, 2, 4, 5, 8]
CHOSEN = torch.zeros(1, 9, dtype=torch.bool).index_fill(1, torch.tensor(AUDIO), True)
ALL = torch.ones(6, 1, dtype=torch.bool)


def scores(seed=0):
    """Six rows of nine scores, the last two keys of which are masked for the first rows; row 5 sees no audio."""
    made = 3 * torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    made[:4, 7:] = -torch.inf
    made[5, AUDIO] = -torch.inf
    return made


def mass(weights):
    return weights[..., AUDIO].sum(-1)


@pytest.mark.parametrize("strength", [-0.5, 0.0, 0.3, 2.5])
@pytest.mark.parametrize("kind", KINDS)
def test_each_formula_is_that_of_the_papers(kind, strength):
    ours = apply_to_chosen(KINDS[kind](strength), scores(), CHOSEN & ALL)
    plain = torch.tensor([edited(kind, strength, row, AUDIO) for row in scores().tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours.isneginf() | CHOSEN, scores().isneginf() | CHOSEN)
    assert not ours[scores().isneginf()].isfinite().any(), "a masked key came back"


def test_a_shift_moves_the_log_odds_of_the_keys_by_itself_and_shares_attention_among_them_as_before():
    before = scores()[:5].softmax(-1)
    after = apply_to_chosen(Shift(0.7), scores(), CHOSEN & ALL)[:5].softmax(-1)
    moved = mass(after).logit() - mass(before).logit()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.7), rtol=0, atol=1e-12)
    inside = [weights[:, AUDIO] / mass(weights)[:, None] for weights in (before, after)]
    torch.testing.assert_close(*inside, rtol=0, atol=1e-12)


@pytest.mark.parametrize("formula", [Scale, ScaleAboutMean, ScaleKeepingMass])
def test_scaling_shares_attention_among_the_keys_as_its_power(formula):
    before = scores()[:5].softmax(-1)[:, AUDIO]
    after = apply_to_chosen(formula(1.6), scores(), CHOSEN & ALL)[:5].softmax(-1)[:, AUDIO]
    power = before**1.6
    torch.testing.assert_close(
        after / after.sum(-1, keepdim=True), power / power.sum(-1, keepdim=True), rtol=0, atol=1e-12
    )


def test_a_constant_added_to_all_scores_matters_to_scaling_and_to_the_mass_it_gives_alone():
    of_scaling = ((Scale, True), (ScaleAboutMean, False), (ScaleKeepingMass, False), (ShiftAsScaled, True))
    for formula, matters in (*of_scaling, (Shift, False)):
        weights = [apply_to_chosen(formula(1.6), scores() + c, CHOSEN & ALL)[:5].softmax(-1) for c in (0.0, 2.0)]
        assert torch.allclose(*weights, rtol=0, atol=1e-12) is not matters


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 3.0])
def test_mass_preserving_scaling_keeps_the_mass(factor):
    after = apply_to_chosen(ScaleKeepingMass(factor), scores(), CHOSEN & ALL)
    assert (mass(after.softmax(-1)) - mass(scores().softmax(-1))).abs().max() < 1e-12


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 3.0])
def test_a_matched_shift_gives_the_mass_of_scaling_and_shares_it_out_as_before(factor):
    clean, scaled, shifted = (
        edited.softmax(-1)[:5]
        for edited in (scores(), *(apply_to_chosen(f(factor), scores(), CHOSEN & ALL) for f in (Scale, ShiftAsScaled)))
    )
    assert (mass(shifted) - mass(scaled)).abs().max() < 1e-12
    assert (mass(shifted) - mass(clean)).abs().max() > 1e-3
    inside = [weights[:, AUDIO] / mass(weights)[:, None] for weights in (clean, shifted)]
    torch.testing.assert_close(*inside, rtol=0, atol=1e-12)


def test_on_negative_scores_multiplying_lowers_the_mass_and_adding_raises_it():
    low = -scores().abs()
    before = mass(low.softmax(-1))[:5]
    after = {
        kind: mass(apply_to_chosen(KINDS[kind](s), low, CHOSEN & ALL).softmax(-1))[:5]
        for kind, s in (("plain", 1.1), ("pai", 0.1), ("constant", 0.1))
    }
    assert (after["plain"] < before).all()
    assert (after["pai"] > before).all()
    assert (after["constant"] > before).all()


@pytest.mark.bits
def test_rows_that_are_not_meant_keep_their_bits_and_several_strengths_are_worked_out_at_once():
    some = torch.tensor([True, False, False, True, False, False])[:, None]
    one = apply_to_chosen(Scale(2.0), scores(), CHOSEN & some)
    assert torch.equal(one[[1, 2, 4, 5]], scores()[[1, 2, 4, 5]])
    strengths = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None]
    many = apply_to_chosen(Scale(strengths), scores().expand(2, 6, 9), CHOSEN & some)
    assert torch.equal(many[1], one)


def test_the_reference_gives_zeros_where_nothing_is_seen():
    assert softmax([-math.inf, -math.inf]) == [0.0, 0.0]
    assert softmax([0.0, -math.inf, 0.0]) == [0.5, 0.0, 0.5]

from dataclasses import replace

import numpy as np
import pytest

from mechaudio.experiments import choosing
from mechaudio.experiments.choosing import Halves
from mechaudio.metrics import answer_change, benjamini_hochberg, holm

ARMS = ("weak", "strong", "stronger", "strongest")
CLEAN = np.array([1, 0, 0, 1, 0, 1], dtype=bool)
CORRECT = np.array(
    [[1, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0], [1, 0, 1, 1, 0, 0]],
    dtype=bool,
)
CHOOSES, REPORTS = np.arange(6) < 3, np.array([0, 0, 0, 1, 1, 0], dtype=bool)  # the answer of the last is not known
MARGIN = np.array([[9.0] * 6, [0.5, 0.5, 0.5, 9, 9, 9], [0.0, 1.0, 2.0, 0, 0, 0], [1.0, 1.0, 1.0, 0, 0, 0]])


def halves(margin=MARGIN):
    return Halves(ARMS, CORRECT, CLEAN, CHOOSES, REPORTS, margin)


@pytest.mark.parametrize(
    ("arms", "margin", "best"),
    [
        (ARMS, MARGIN, {"stronger", "strongest"}),  # 2 of 3 as `strong`, and a mean margin of 1: either, by lot
        (ARMS, None, {"strong", "stronger", "strongest"}),
        (ARMS[:2], MARGIN, {"strong"}),  # most right answers come before a margin of 9
        (ARMS, np.where(np.arange(4)[:, None] == 2, np.nan, MARGIN), {"strongest"}),
    ],
)
def test_most_right_answers_then_the_largest_margin_then_by_lot(arms, margin, best):
    drawn = [replace(halves(margin), seed=seed).chosen(arms) for seed in range(30)]
    assert {choice.arm for choice in drawn} == best
    assert {choice.tied for choice in drawn} == {len(best) if len(best) > 1 else 0}


def test_a_change_says_how_many_answers_are_missing_with_and_without_it():
    lacks = np.zeros(CORRECT.shape, dtype=bool)
    lacks[1, [0, 3, 4]] = True
    given = replace(halves(), unanswered=lacks, clean_unanswered=np.arange(6) == 4)
    choice = given.choice("strong")
    assert (choice.chosen_on.before.unanswered, choice.chosen_on.after.unanswered) == (0, 1)
    assert (choice.held_out.before.unanswered, choice.held_out.after.unanswered) == (1, 2)
    assert [tested.change.after.unanswered for tested in given.tested(ARMS)] == [0, 3, 0, 0]
    assert halves().choice("strong").held_out.after.unanswered == 0


def test_the_half_that_reports_does_not_choose():
    other = Halves(ARMS, np.where(CHOOSES, CORRECT, ~CORRECT), CLEAN, CHOOSES, REPORTS, np.where(CHOOSES, MARGIN, 7.0))
    assert other.best(ARMS) == halves().best(ARMS)


def test_a_choice_is_told_on_either_half():
    choice = halves().choice("strong")
    assert choice.chosen_on == answer_change(CLEAN[:3], CORRECT[1, :3])
    assert choice.held_out == answer_change(CLEAN[3:5], CORRECT[1, 3:5])
    assert choice.p_holm is None


def test_p_values_are_corrected_over_the_arms_that_are_listed():
    arms = ["strongest", "weak"]
    found = halves().tested(arms)
    changes = [answer_change(CLEAN[:5], CORRECT[place, :5]) for place in (3, 0)]
    p_values = [change.test.p for change in changes]
    assert [one.arm for one in found] == arms
    assert [one.change for one in found] == changes
    assert [one.p_holm for one in found] == holm(p_values).tolist()
    assert [one.p_bh for one in found] == benjamini_hochberg(p_values).tolist()


def test_p_values_of_choices_are_those_of_the_half_that_reports():
    choices = [halves().choice(arm) for arm in ARMS]
    found = choosing.corrected(choices)
    assert [one.p_holm for one in found] == holm([one.held_out.test.p for one in choices]).tolist()
    assert [one.arm for one in found] == list(ARMS)


def test_an_arm_that_is_none_of_them_is_refused():
    with pytest.raises(ValueError, match=r"no arm weakest: those that it has are in \.arms"):
        halves().choice("weakest")

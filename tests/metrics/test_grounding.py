"""Scores of when: worked by hand."""

import json
import math

import numpy as np
import pytest

from mechaudio.metrics.grounding import Repairs, evaluate, interval_iou, ious, matched_iou, mean_iou, recall_at
from mechaudio.timeaudio import Markers


@pytest.mark.parametrize(
    ("predicted", "reference", "iou"),
    [
        ([(0, 2)], [(1, 3)], 1 / 3),
        ([(0, 2)], [(0, 2)], 1.0),
        ([(0, 1)], [(2, 3)], 0.0),
        ([], [(2, 3)], 0.0),
        ([(0, 1), (2, 3)], [(0, 3)], 2 / 3),
        ([(0, 2), (1, 3)], [(0, 3)], 1.0),
        ([(0, 1), (4, 5)], [(0.5, 4.5)], 1 / 5),
    ],
)
def test_it_is_shared_seconds_over_covered_seconds(predicted, reference, iou):
    assert interval_iou(predicted, reference) == pytest.approx(iou)


@pytest.mark.parametrize(
    ("predicted", "reference", "best", "order"),
    [
        ([(0, 2), (5, 6)], [(5, 6), (0, 1)], 3 / 4, 0.0),
        ([(0, 1), (5, 6)], [(0, 1), (5, 6)], 1.0, 1.0),
        ([(0, 1)], [(0, 1), (5, 6)], 1 / 2, 1 / 2),
        ([(0, 1), (2, 3), (5, 6)], [(5, 6)], 1 / 3, 0.0),
        ([], [(5, 6)], 0.0, 0.0),
        # The first answer suits both, and is worth most where the other has none.
        ([(0, 4), (3, 7)], [(2, 6), (0, 3)], (3 / 4 + 3 / 5) / 2, (2 / 6 + 0) / 2),
    ],
)
def test_pairs_are_the_best_or_in_order_and_those_left_over_count_nothing(predicted, reference, best, order):
    assert matched_iou(predicted, reference) == pytest.approx(best)
    assert matched_iou(predicted, reference, "order") == pytest.approx(order)


def test_means_and_recalls_are_over_questions_with_intervals_over_clips():
    rng = np.random.default_rng(0)
    reference = [[(0.0, 1.0)]] * 30
    predicted = [[(0.0, float(end))] for end in rng.uniform(0.2, 1.0, size=30)]
    scores = ious(predicted, reference)
    assert scores == pytest.approx([end for [(_, end)] in predicted])
    mean = mean_iou(predicted, reference)
    assert mean.value == pytest.approx(scores.mean())
    assert mean.low < mean.value < mean.high
    clips = [f"{i // 3}" for i in range(30)]
    assert mean_iou(predicted, reference, clips=clips).n_clips == 10
    at_half = recall_at(predicted, reference, 0.5)
    assert (at_half.count, at_half.n) == ((scores >= 0.5).sum(), 30)
    assert recall_at([[(0.0, 0.9)]], [[(0.0, 1.0)]], 0.9).count == 1, "a threshold that is reached exactly counts"
    assert math.isnan(mean_iou(predicted[:2], reference[:2]).low)


def test_answers_in_words_are_scored_and_their_repairs_counted():
    answers = [
        "The given query happens in 0.0 - 2.0 seconds.",
        "from 3.0 to 1.0",
        "nothing of the kind",
        "<a_0><f_0> - <a_1><a_2><f_0>",
    ]
    references = [[(0.0, 2.0)], [(1.0, 3.0)], [(4.0, 5.0)], [(0.0, 5.0)]]
    scores = evaluate(answers, references, durations=[10.0] * 4, markers=Markers())
    assert scores.per_question == (1.0, 1.0, 0.0, 0.5)
    assert scores.mean_iou.value == scores.best_iou.value == 0.625
    assert {threshold: each.count for threshold, each in scores.recall.items()} == {0.5: 3, 0.7: 2, 0.9: 2}
    assert scores.unparsed.count == 1
    assert scores.repairs == Repairs(reworded=1, swapped=1, clipped=1, unparsed=1)
    assert json.loads(json.dumps(scores.as_dict()))["recall"]["0.5"]["count"] == 3
    assert "mean IoU 62.5%" in str(scores)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no reference interval"):
        interval_iou([(0, 1)], [])
    with pytest.raises(ValueError, match=r"an interval ends after it begins, .* got 2 to 1"):
        interval_iou([(2, 1)], [(0, 1)])
    with pytest.raises(ValueError, match=r"reference\[1\] has no interval: a question whose sound never comes"):
        mean_iou([[(0, 1)]] * 2, [[(0, 1)], []])
    with pytest.raises(ValueError, match=r"references\[0\] ends at 12 s, its clip after 10 s"):
        evaluate(["1 - 2"], [[(1.0, 12.0)]], durations=[10.0])
    with pytest.raises(ValueError, match="answers has 2, references has 1"):
        evaluate(["1 - 2"] * 2, [[(1.0, 2.0)]])
    with pytest.raises(ValueError, match="a threshold"):
        recall_at([[(0, 1)]], [[(0, 1)]], 0.0)
    with pytest.raises(ValueError, match="there is no question"):
        mean_iou([], [])


@pytest.mark.parametrize("interval", [(0.0, math.inf), (-math.inf, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_intervals_that_are_not_in_a_clip_are_refused_on_both_sides(interval):
    for predicted, reference in [([interval], [(0.0, 1.0)]), ([(0.0, 1.0)], [interval])]:
        with pytest.raises(ValueError, match=r"from the start of the clip|finite"):
            interval_iou(predicted, reference)


def test_a_telephone_number_in_an_answer_is_no_time():
    assert evaluate([f"{'9' * 400} - 3"], [[(0.0, 1.0)]]).unparsed.count == 1


def test_the_overlap_of_many_spans_is_that_of_every_pair():
    rng = np.random.default_rng(0)
    for n_predicted, n_reference in ((1, 1), (7, 3), (40, 60)):
        predicted, reference = (
            [(float(onset), float(onset + length)) for onset, length in zip(*rng.random((2, n)), strict=True)]
            for n in (n_predicted, n_reference)
        )
        places = np.linspace(0, 2, 200_001)
        inside = [
            np.any([(onset <= places) & (places < offset) for onset, offset in spans], axis=0)
            for spans in (predicted, reference)
        ]
        expected = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
        assert interval_iou(predicted, reference) == pytest.approx(expected, abs=1e-3)
    steps = [(2.0 * step, 2.0 * step + 1.0) for step in range(20_000)]
    assert interval_iou(steps, [(onset, onset + 2.0) for onset, _ in steps]) == 0.5

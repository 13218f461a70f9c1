import numpy as np
import pytest

from mechaudio.analyses.probes.frame_tasks import (
    control_labels,
    intervals_of,
    labels_of,
    prior_of,
    thresholds,
    types_of,
    within_clip,
)
from tests.analyses.probes.scenes import clip

CLASSES = ("dog", "rain")
HEARD = clip(("dog", 0.5, 1.5), ("rain", 1.0, 2.0), ("bell", 0.0, 2.0))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("present", [[0, 0], [1, 0], [1, 1], [0, 1]]),  # by the middles 0.25, 0.75, 1.25, 1.75
        ("onset", [[1, 0], [1, 1], [0, 1], [0, 0]]),
        ("offset", [[0, 0], [0, 0], [1, 0], [1, 1]]),
    ],
)
def test_labels_by_hand(task, expected):
    assert labels_of(HEARD, CLASSES, task, tolerance=0.25).tolist() == expected


def test_a_type_is_what_sounds_and_at_an_onset_what_begins_and_what_goes_on():
    assert types_of(HEARD, "present", 0.1) == [("bell",), ("bell+dog",), ("bell+dog+rain",), ("bell+rain",)]
    assert types_of(HEARD, "onset", 0.25) == [("bell+dog", ""), ("dog+rain", "bell"), ("rain", "bell+dog"), ()]


def test_tokens_of_one_type_have_one_control_label_and_those_without_a_type_none():
    types = [("bell",), ("bell+dog",), ("bell",), ()]
    labels = control_labels(types, CLASSES, "onset", np.array([0.5, 1.0]), seed=0)
    assert labels[0].tolist() == labels[2].tolist()
    assert labels[:3, 1].tolist() == [1, 1, 1]
    assert labels[3].tolist() == [0, 0]


def test_a_class_that_is_everywhere_or_nowhere_has_no_area():
    labels = np.array([[0.0, 1.0], [1.0, 1.0]])
    assert within_clip(np.array([[0.0, 5.0], [1.0, 3.0]]), labels) == 1.0
    assert np.isnan(within_clip(labels, np.ones((2, 2))))


def test_the_baseline_is_how_often_a_label_occurs_at_this_time():
    other = clip(("dog", 0.0, 1.0))
    prior = prior_of([HEARD, other], [labels_of(one, CLASSES, "present", 0.1) for one in (HEARD, other)])
    assert prior(other).tolist() == [[0.5, 0], [1, 0], [0.5, 0.5], [0, 0.5]]


def test_intervals_are_the_stretches_above_the_score_that_as_many_tokens_exceed_as_are_labelled():
    scores = np.array([[0.1, 0.0], [0.9, 0.0], [0.8, 0.0], [0.2, 0.0]])
    threshold = thresholds(scores, np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert 0.2 < threshold[0] < 0.8
    assert intervals_of(HEARD, scores - threshold, CLASSES) == {"dog": (0.5, 1.5)}

"""F1 of events and of tags: worked by hand, and the numbers of sed_eval, which were recorded once."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import f1_score

import mechaudio as ma
from mechaudio.metrics.sound_events import classes_of, event_f1, tag_f1

RECORDED = json.loads((Path(__file__).parent / "sed_eval.json").read_text())


def events(rows):
    return [ma.Event(*row) for row in rows]


@pytest.mark.parametrize("number", range(len(RECORDED["cases"])))
def test_the_numbers_are_those_of_sed_eval(number):
    case = RECORDED["cases"][number]
    predicted = [events(clip["predicted"]) for clip in case["clips"]]
    reference = [events(clip["reference"]) for clip in case["clips"]]
    for told in case["scores"]:
        scores = event_f1(
            predicted,
            reference,
            collar=told["collar"],
            percentage_of_length=told["percentage_of_length"],
            offset=told["offset"],
        )
        assert [scores.right, scores.predicted, scores.reference] == told["counts"]
        assert scores.f1.value == pytest.approx(told["f1"], abs=1e-12)
        assert scores.precision == pytest.approx(told["precision"], abs=1e-12)
        assert scores.recall == pytest.approx(told["recall"], abs=1e-12)
        assert scores.macro_f1.value == pytest.approx(told["macro_f1"], abs=1e-12)
        assert scores.per_class == pytest.approx(told["per_class"], abs=1e-12)


def test_by_hand():
    reference = [events([("dog", 1.0, 2.0), ("dog", 4.0, 8.0), ("car", 0.0, 10.0)])]
    predicted = [events([("dog", 1.1, 2.1), ("dog", 4.0, 8.7), ("car", 0.0, 7.9), ("bell", 1.0, 2.0)])]
    scores = event_f1(predicted, reference)
    # The second dog may end 0.8 s late, a fifth of its 4 s; the car may end 2 s early, and ends 2.1 s early.
    assert (scores.right, scores.predicted, scores.reference) == (2, 4, 3)
    assert scores.f1.value == pytest.approx(4 / 7)
    assert scores.per_class == {"bell": 0.0, "car": 0.0, "dog": 1.0}
    assert event_f1(predicted, reference, percentage_of_length=0.0).right == 1
    assert event_f1(predicted, reference, percentage_of_length=0.5).right == 3


def test_as_many_pairs_are_made_as_can_be():
    """The first answer suits both dogs, the second only the first: taken in order, the second would be left over."""
    reference = [events([("dog", 1.0, 2.0), ("dog", 1.3, 2.3)])]
    predicted = [events([("dog", 1.15, 2.15), ("dog", 0.85, 1.85)])]
    assert event_f1(predicted, reference).right == 2


def test_pairs_of_equal_events_are_those_of_a_matching_event_by_event():
    rng = np.random.default_rng(0)
    for _ in range(40):
        onsets, lengths = rng.integers(0, 5, 24) / 5, rng.integers(1, 4, 24) / 5
        said, there = (
            [ma.Event("dog", onset, onset + length) for onset, length in zip(*side, strict=True)]
            for side in ((onsets[:15], lengths[:15]), (onsets[15:], lengths[15:]))
        )
        fits = [[_is_near(a, b) for a in said] for b in there]
        matched = maximum_bipartite_matching(csr_matrix(np.array(fits)), perm_type="column")
        assert event_f1([said], [there]).right == (matched >= 0).sum()


def _is_near(said, there):
    reach = max(0.2, 0.2 * (there.offset - there.onset))
    return abs(said.onset - there.onset) <= 0.2 and abs(said.offset - there.offset) <= reach


def test_an_answer_that_says_one_thing_over_and_over_is_scored_at_once():
    """Pair by pair, its 400 million pairs do not fit into memory."""
    over_and_over = [[ma.Event("dog", 0.0, 1.0)] * 20_000]
    scores = event_f1(over_and_over, over_and_over)
    assert (scores.right, scores.f1.value) == (20_000, 1.0)
    to_class = classes_of([f"sound {number}" for number in range(20_000)])
    assert to_class("a dog, " * 2000 + "sound 19999") == "sound 19999"


def test_tags_count_once_a_clip():
    reference = [events([("dog", 0, 1), ("dog", 2, 3), ("car", 0, 1)]), events([("car", 0, 1)])]
    predicted = [events([("dog", 5, 6)]), events([("dog", 0, 1), ("car", 3, 4)])]
    scores = tag_f1(predicted, reference)
    assert (scores.right, scores.predicted, scores.reference) == (2, 3, 3)
    assert scores.per_class == pytest.approx({"car": 2 / 3, "dog": 2 / 3})
    truth, said = np.array([[1, 1], [0, 1]]), np.array([[1, 0], [1, 1]])
    assert scores.macro_f1.value == pytest.approx(f1_score(truth, said, average="macro"))
    assert scores.f1.value == pytest.approx(f1_score(truth, said, average="micro"))


def test_captions_become_classes_by_a_callable_and_those_without_one_are_wrong():
    to_class = classes_of(["dog", "dog bark", "car"])
    assert [to_class(text) for text in ("A dog bark, loud", "The Dog.", "cardboard")] == ["dog bark", "dog", None]
    reference = [events([("dog", 1.0, 2.0)])]
    predicted = [events([("A dog barks", 1.0, 2.0), ("something else", 3.0, 4.0)])]
    scores = event_f1(predicted, reference, to_class=to_class)
    assert (scores.right, scores.predicted, scores.unmapped) == (1, 2, 1)
    assert scores.macro_f1.value == 1.0, "the unknown is no class to average over"
    assert event_f1(predicted, reference, to_class=lambda _: "dog").right == 1


def test_intervals_draw_clips_and_hold_the_value():
    rng = np.random.default_rng(0)
    reference = [events([("dog", 1.0, 2.0), ("car", 3.0, 4.0)]) for _ in range(20)]
    predicted = [clip if rng.random() < 0.6 else [] for clip in reference]
    scores = event_f1(predicted, reference)
    assert 0 < scores.f1.low < scores.f1.value < scores.f1.high < 1
    assert scores.macro_f1.low <= scores.macro_f1.value <= scores.macro_f1.high
    twice = event_f1(predicted * 2, reference * 2, clips=[f"{i}" for i in range(20)] * 2)
    assert (twice.f1.low, twice.f1.high) == pytest.approx((scores.f1.low, scores.f1.high))
    assert math.isnan(event_f1(predicted[:3], reference[:3]).f1.low), "three clips give no interval"
    assert json.dumps(scores.as_dict())


def test_perfect_and_empty_answers():
    reference = [events([("dog", 1.0, 2.0)])] * 8
    assert event_f1(reference, reference).f1.value == 1.0
    nothing = event_f1([[]] * 8, reference)
    assert (nothing.f1.value, nothing.precision, nothing.recall) == (0.0, 0.0, 0.0)


def test_what_cannot_be_scored_is_refused():
    dog = events([("dog", 1.0, 2.0)])
    with pytest.raises(ValueError, match="no event in the reference"):
        event_f1([dog], [[]])
    with pytest.raises(ValueError, match="predicted has 2, reference has 1"):
        tag_f1([dog, dog], [dog])
    with pytest.raises(ValueError, match="not negative"):
        event_f1([dog], [dog], collar=-1.0)
    with pytest.raises(ValueError, match="classes are different words"):
        classes_of(["dog", "The dog"])
    with pytest.raises(TypeError, match="a class or None, got 3"):
        event_f1([dog], [dog], to_class=lambda _: 3)


def test_a_caption_without_a_class_is_no_event_of_a_class_that_is_called_question_mark():
    found = event_f1([[ma.Event("hum", 0.0, 1.0)]], [[ma.Event("?", 0.0, 1.0)]], to_class=lambda _: None)
    assert (found.f1.value, found.unmapped) == (0.0, 1)


def test_resamples_that_no_memory_holds_are_refused():
    events = [[ma.Event("dog", 0.0, 1.0)]] * 8
    with pytest.raises(ValueError, match="at most 1,000,000"):
        event_f1(events, events, resamples=10**12)

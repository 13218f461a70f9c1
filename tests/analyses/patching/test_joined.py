"""Batches whose questions have unequally many choices, and whose prompts have other places, as one map."""

from dataclasses import replace

import numpy as np
import pytest

from mechaudio.analyses.patching.joined import PatchedPairs, join_labels, joined, spread, with_choices
from mechaudio.results import Provenance

NAN = np.nan
#: One layer, no heads; a pair of two choices with places `a` and `b`, and a pair of three choices with `b` alone.
FIRST = PatchedPairs(
    provenance=Provenance.collect(),
    logits=np.array([[[[[3.0, 1.0]], [[0.0, 2.0]]]]]),
    clean=np.array([[4.0, 0.0]]),
    corrupted=np.array([[0.0, 1.0]]),
    right=np.array([[True, False]]),
    texts=np.array([[0, 1]]),
    wrong=np.array([1]),
    ids=("one",),
    clip_keys=((("clip a",), ()),),
    ways=("shared prefix", "shared prefix"),
    labels=("a", "b"),
)
SECOND = replace(
    FIRST,
    logits=np.array([[[[[1.0, 0.0, 5.0]]]]]),
    clean=np.array([[0.0, 0.0, 2.0]]),
    corrupted=np.array([[1.0, 0.0, 0.0]]),
    right=np.array([[False, False, True]]),
    texts=np.array([[0, 0, 2]]),
    wrong=np.array([0]),
    ids=("two",),
    clip_keys=((("clip b",), ()),),
    ways=("one by one: as asked",),
    labels=("b",),
)


def test_what_a_batch_lacks_is_nan():
    found = joined([FIRST, SECOND], "margin", {"layer": (0,), "role": ("a", "b")}, ["a", "b"])
    np.testing.assert_array_equal(found["logits"][0, 0], [[3, 1, NAN], [NAN] * 3])
    np.testing.assert_array_equal(found["logits"][0, 1], [[0, 2, NAN], [1, 0, 5]])
    np.testing.assert_array_equal(found["clean_logits"], [[4, 0, NAN], [0, 0, 2]])
    assert found["right"].tolist() == [[True, False, False], [False, False, True]]
    np.testing.assert_array_equal(found["values"], [[[2, NAN], [-2, 4]]])
    np.testing.assert_array_equal([found["clean"], found["corrupted"]], [[4, 2], [-1, -1]])
    assert (found["ids"], found["ways"]) == (("one", "two"), ("shared prefix", "one by one: as asked"))


def test_places_that_are_not_told_apart_stay_in_their_order():
    part = replace(FIRST, labels=())
    found = joined([part, part], "margin", {"layer": (0,), "head": (0, 1)})
    np.testing.assert_array_equal(found["values"], [[[2, 2], [-2, -2]]])


def test_the_same_text_in_another_place_is_the_same_answer():
    found = joined([SECOND], "answer", {"layer": (0,)})
    np.testing.assert_array_equal(found["values"], [[1.0]])
    twice = replace(SECOND, logits=np.array([[[[[0.0, 1.0, -1.0]]]]]), clean=np.array([[1.0, 0.0, -2.0]]))
    np.testing.assert_array_equal(joined([twice], "answer", {"layer": (0,)})["values"], [[1.0]])
    other = replace(twice, texts=np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(joined([other], "answer", {"layer": (0,)})["values"], [[0.0]])


def test_marks_are_filled_up_with_false_and_numbers_with_nan():
    np.testing.assert_array_equal(with_choices(np.array([[1.0]]), 3), [[1, NAN, NAN]])
    assert with_choices(np.array([[True]]), 2).tolist() == [[True, False]]
    assert with_choices(np.array([[0, 0]]), 3).tolist() == [[0, 0, 0]]


def test_numbers_stand_at_their_places_labels():
    values = np.arange(2.0)[None, None, :, None]
    np.testing.assert_array_equal(spread(values, ("c", "a"), ["a", "b", "c"])[0, 0, :, 0], [1, NAN, 0])


def test_labels_come_in_the_order_of_their_axis():
    assert join_labels([(1.0, 0.0), (2.0, 0.0)], "second") == [0.0, 1.0, 2.0]
    assert join_labels([("last", "question"), ("audio",)], "role") == ["audio", "question", "last"]
    with pytest.raises(ValueError, match="the prompts of different batches have different lengths"):
        join_labels([(0, 1), (0, 1, 2)], "position")

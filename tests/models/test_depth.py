"""Layers that a network does not have are refused with those that lie in the same part of its depth."""

import pytest

import mechaudio as ma
from mechaudio.data.soundscapes import question
from mechaudio.models.depth import same_share_of_depth, which_layers
from mechaudio.tracing.load import load

PUBLISHED = (
    "layer 10, but this decoder has layers 0 to 5. Layers 10 to 20 of 28, from 36% to 75% of the depth, would be "
    r"layers 2 to 3 of 6: layers=range\(2, 4\)"
)


@pytest.fixture(scope="module")
def model():
    return load("tiny", prove=False)


@pytest.fixture(scope="module")
def questions():
    return [question(0, 1), question(1, 1)]


@pytest.mark.parametrize(
    "call",
    [
        lambda model, questions: ma.answer(model, ma.prompt(model, questions), interventions=[ma.mata()]),
        lambda model, questions: ma.generate(model, ma.prompt(model, questions), interventions=[ma.mata()]),
        lambda model, questions: ma.sweep(model, ma.prompt(model, questions), [[ma.mata()]]),
        lambda model, questions: ma.evaluate(model, questions, variants=[ma.mata()]),
    ],
    ids=["answer", "generate", "sweep", "evaluate"],
)
def test_mata_in_a_shallow_network_says_which_layers_to_name(model, questions, call):
    with pytest.raises(IndexError, match=PUBLISHED):
        call(model, questions)


def test_the_layers_that_it_says_are_taken(model, questions):
    batch = ma.prompt(model, questions)
    plain = ma.run(model, batch, logits="last").logits
    moved = ma.run(model, batch, logits="last", interventions=[ma.mata(layers=range(2, 4))]).logits
    assert (plain != moved).any()


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (range(9, 11), r"Layers 9 to 10 of 28, from 32% to 39% of the depth, would be layer 2 of 6: layers=\[2\]"),
        (range(24, 40), r"Layers 24 to 39 of 40, from 60% to 100% of the depth, would be layers 4 to 5 of 6"),
    ],
)
def test_whatever_names_layers_says_the_same(model, questions, layers, said):
    batch = ma.prompt(model, questions)
    with pytest.raises(IndexError, match=f"this decoder has layers 0 to 5. {said}"):
        ma.run(model, batch, record=[ma.HookPoint("resid_post", layers=layers)])
    with pytest.raises(IndexError, match=f"this decoder has layers 0 to 5. {said}"):
        ma.run(model, batch, interventions=[ma.KnockOutAttention(layers=layers)])


@pytest.mark.parametrize("layers", [[-9], [9]])
def test_one_layer_and_one_counted_from_the_last_have_no_counterpart_elsewhere(layers):
    assert which_layers(layers, 6) == "this decoder has layers 0 to 5"


@pytest.mark.parametrize(
    ("span", "depth", "there"),
    [
        ((10, 20), 28, (10, 20)),
        ((10, 20), 6, (2, 3)),
        ((10, 20), 56, (20, 41)),
        ((0, 27), 3, (0, 2)),
        ((3, 3), 2, (0, 0)),
    ],
)
def test_a_range_keeps_its_part_of_the_depth(span, depth, there):
    assert same_share_of_depth(span, range(depth), depth) == there

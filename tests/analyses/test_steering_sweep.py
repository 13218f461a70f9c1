"""Steering swept over strengths and controls: as one by one, and with the effect that the toy's arithmetic gives."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import steering_directions, steering_sweep
from mechaudio.data.toy_questions import questions
from mechaudio.models.toy import arithmetic
from mechaudio.models.toy.planted import PLANTED


@pytest.fixture(scope="module")
def asked():
    return questions(24, seed=0)


@pytest.fixture(scope="module")
def directions(toy, asked):
    return steering_directions(toy, asked)


def variants(own):
    return {
        "nothing": own.head_level([PLANTED.listening], 0.0),
        "specialist 1": own.head_level([PLANTED.listening], 1.0),
        "specialist 3": own.head_level([PLANTED.listening], 3.0),
        "decoy 3": own.head_level([PLANTED.decoy], 3.0),
        "random direction": own.random_direction(own.layer_guided([(3, 1)], 1.0)),
        "layer 1": own.single_layer(1, 1.0),
        "layer 3": own.single_layer(3, 1.0),
        "layer 3, behind the norm": own.single_layer(3, 1.0, norm="post"),
    }


@pytest.fixture(scope="module")
def swept(toy, asked, directions):
    return steering_sweep(toy, asked, directions=directions, variants=variants, batch_size=5)


def test_every_variant_is_as_one_by_one_and_shares_the_prompt(toy, asked, directions, swept):
    batch = ma.prompt(toy, asked)
    for place, (name, intervention) in enumerate(variants(directions).items()):
        answers = ma.answer(toy, batch, interventions=[intervention])
        assert swept.names[place] == name
        assert swept.correct[place].tolist() == [answered.correct for answered in answers]
        for column, (question, answered) in enumerate(zip(asked, answers, strict=True)):
            logits = dict(zip(question.choices, answered.choice_logits, strict=True))
            right = logits.pop(question.answer)
            assert swept.margin[place, column] == pytest.approx(right - max(logits.values()), abs=1e-3)
    assert swept.ids == tuple(question.id for question in asked)
    assert set(swept.ways) == {"shared prefix"}


def test_the_specialists_evidence_is_added_as_often_as_the_strength_says(asked, swept):
    """Silence gives the listening head no evidence, so strength s multiplies its evidence by 1 + s."""
    for name, strength in (("nothing", 0.0), ("specialist 1", 1.0), ("specialist 3", 3.0)):
        place = swept.names.index(name)
        for column, question in enumerate(asked):
            prior = np.array([1.0, 0.0, 0.0, 0.0])
            logits = (1 + strength) * (np.array(arithmetic.logits(question)) - prior) + prior
            right = question.choices.index(question.answer)
            margin = logits[right] - np.delete(logits, right).max()
            assert swept.margin[place, column] == pytest.approx(margin, abs=2e-3)


def test_the_specialist_fixes_answers_and_neither_decoy_nor_its_layers_own_direction_does(swept):
    assert swept.change("specialist 3").fix_rate.value > 0.3
    assert swept.change("decoy 3").change.n == len(swept.ids)
    for name in ("nothing", "decoy 3", "layer 1"):
        np.testing.assert_array_equal(swept.correct[swept.names.index(name)], swept.clean_correct)
    assert swept.best == "specialist 3"
    with pytest.raises(KeyError, match="no variant 'specialist 2'; there are nothing, specialist 1"):
        swept.change("specialist 2")


def test_answers_that_are_nan_are_counted_beside_the_accuracy(toy, asked, directions):
    overflow = ma.Edit(ma.HookPoint("logits"), lambda logits: logits * np.nan)
    with pytest.warns(UserWarning, match="5 of 5 questions have no answer"):
        broken = steering_sweep(
            toy, asked[:5], directions=directions, variants=lambda own: {"plain": [], "broken": overflow}
        )
    assert broken.unanswered.tolist() == [[False] * 5, [True] * 5]
    assert (broken.change("plain").after.unanswered, broken.change("broken").after.unanswered) == (0, 5)
    assert broken.best == "plain"


def test_of_equally_many_right_answers_the_larger_margin_is_best(swept):
    even = replace(swept, correct=np.ones_like(swept.correct))
    assert even.best == swept.names[swept.margin.mean(axis=1).argmax()]


def test_names_that_change_between_batches_and_questions_without_directions_are_refused(toy, asked, directions):
    def changing(own):
        return {own.ids[0]: own.single_layer(3)}

    with pytest.raises(ValueError, match=r"variants= gave \['toy-0-0'\] for the first questions, then \['toy-0-5'\]"):
        steering_sweep(toy, asked, directions=directions, variants=changing, batch_size=5)
    with pytest.raises(ValueError, match=r"no directions for 1 question\b"):
        steering_sweep(toy, questions(1, seed=9), directions=directions, variants=variants)
    with pytest.raises(ValueError, match="variants= is empty"):
        steering_sweep(toy, asked, directions=directions, variants=lambda own: {})


def test_a_sweep_survives_the_disk(swept, tmp_path):
    loaded = ma.Result.load(swept.save(tmp_path / "sweep"))
    assert loaded.best == swept.best
    np.testing.assert_array_equal(loaded.correct, swept.correct)

"""Choices that a model was never trained to hear: they are guesses, and it is said."""

import ast
from pathlib import Path

import pytest

import mechaudio as ma
from mechaudio.experiments.listen import listen
from mechaudio.models.hearing import guesses
from mechaudio.models.small import answers
from mechaudio.viz import choice_probabilities

RECIPE = Path(__file__).parents[2] / "recipes" / "small"


@pytest.fixture
def toy():
    model = ma.load("toy", prove=False)
    model.trained_choices = ("tenor", "bass", "alto")
    return model


@pytest.fixture
def asked():
    (question,) = ma.data.toy_questions.questions(1, seed=0)
    return question


def test_choices_that_were_not_trained_are_named_once_whatever_their_case():
    assert guesses(("dog", "Sunday"), ["Dog", "sunday", "car", "dog.", "car"]) == ("car",)
    assert guesses(("dog",), ["2.5 s", "3"]) == ()  # a number is no sound
    assert guesses((), ["car"]) == ()  # a model that says nothing of what it knows


def test_a_prompt_with_the_sound_warns_of_guesses_and_one_without_does_not(toy, asked):
    with pytest.warns(UserWarning, match="never trained to hear 'soprano': how probable .* is a guess.* It knows 3 "):
        ma.prompt(toy, [asked])
    with pytest.warns(UserWarning, match="never trained to hear 'soprano'"):
        ma.evaluate(toy, [asked])
    ma.prompt(toy, [asked], condition="caption")
    ma.prompt(toy, [asked], condition="silence")


def test_what_was_listened_to_says_which_bars_are_guesses(toy, asked):
    with pytest.warns(UserWarning, match="never trained to hear 'soprano'"):
        found = listen(toy, asked)
    assert found.guesses == ("soprano",)
    note = choice_probabilities(found).layout.title.subtitle.text
    assert note.endswith("guesses, as the model was never trained to hear it: soprano")
    toy.trained_choices = ()
    assert "guess" not in choice_probabilities(listen(toy, asked)).layout.title.subtitle.text


def test_the_small_model_declares_what_its_recipe_trained():
    constants = {}
    for file in ("bank.py", "scenes.py", "words.py"):
        for node in ast.parse((RECIPE / file).read_text(encoding="utf-8")).body:
            name = getattr(node.targets[0], "id", None) if isinstance(node, ast.Assign) else None
            if name in ("HITS", "SURROUNDINGS", "SPEAKERS"):
                constants[name] = ast.literal_eval(node.value)
            if name == "WORDS":
                constants["WORDS"] = ast.literal_eval(node.value.func.value).split()
    assert set(answers.RECORDED) == {*constants["HITS"], *constants["SURROUNDINGS"], *constants["SPEAKERS"]}
    assert list(answers.SPOKEN) == constants["WORDS"]
    assert not guesses(
        answers.TRAINED, [choice for q in ma.data.soundscapes.questions(5, seed=0) for choice in q.choices]
    )

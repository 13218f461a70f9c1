import re
from dataclasses import replace

import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.question import Answer, AudioQuestion

CHOICES = ("dog", "car", "rain", "bell")
TEXT = "Which sound has the earliest onset?"


def question(**changes) -> AudioQuestion:
    return AudioQuestion(**{"audio": "clip.wav", "text": TEXT, "choices": CHOICES} | changes)


def test_a_question_has_a_letter_for_every_choice_and_for_its_answer():
    asked = question(answer="rain", events=[Event("dog", 0, 1)])
    assert asked.letters == ("A", "B", "C", "D")
    assert asked.answer_letter == "C"
    assert asked.answer_letters == ("C",)
    assert asked.events == (Event("dog", 0.0, 1.0),)
    assert question().answer_letter is None
    assert question().answer_letters == ()


@pytest.mark.parametrize("choices", [["dog", "car"], (c for c in ("dog", "car")), np.array(["dog", "car"])])
def test_choices_become_a_tuple(choices):
    asked = question(choices=choices, answer="car")
    assert asked.choices == ("dog", "car")
    assert type(asked.choices) is tuple


def test_two_choices_of_the_same_text_are_right_either_way():
    asked = question(choices=("dog", "car", "dog"), answer="dog")
    assert asked.answer_letters == ("A", "C")
    assert asked.answer_letter == "A"


def test_twenty_six_choices_reach_from_a_to_z():
    letters = question(choices=tuple(f"sound {i}" for i in range(26))).letters
    assert (letters[0], letters[25], len(letters)) == ("A", "Z", 26)


@pytest.mark.parametrize("n", [1, 27])
def test_too_few_or_too_many_choices_are_refused_with_their_number(n):
    with pytest.raises(
        ValueError,
        match=f"question 'q7' needs 2 to 26 choices, one per letter, or none for an open question; got {n}: ",
    ):
        question(choices=tuple(f"sound {i}" for i in range(n)), id="q7")


@pytest.mark.parametrize("choices", ["ABCD", b"ABCD", {"A": "dog", "B": "car"}, None, 4])
def test_choices_that_are_no_list_of_texts_are_refused(choices):
    with pytest.raises(
        TypeError, match=re.escape(f"are a tuple of texts, got {choices!r}: write choices=('dog', 'car')")
    ):
        question(choices=choices)


def test_a_choice_that_is_blank_or_no_text_is_refused_by_its_place():
    with pytest.raises(ValueError, match=r"choices\[1\] of the question is blank, ' '"):
        question(choices=("dog", " "))
    with pytest.raises(TypeError, match=r"choices\[0\] of the question is text, got 3"):
        question(choices=(3, 4))


def test_an_answer_that_is_no_choice_is_refused_with_the_choices():
    with pytest.raises(
        ValueError, match=r"answer 'cat' of question 'q1' is not among .*'dog', 'car', 'rain', 'bell'.*: give one"
    ):
        question(answer="cat", id="q1")
    with pytest.raises(ValueError, match=r"answer 'E' .*: give one of them, or None"):
        question(answer="E")


def test_a_letter_for_an_answer_is_refused_with_the_text_it_stands_for():
    with pytest.raises(ValueError, match=r"answer 'B' .*give the text of the choice, answer='car', not its letter"):
        question(answer="B")


def test_a_letter_may_be_the_text_of_a_choice():
    assert question(choices=("B", "A"), answer="A").answer_letter == "B"


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_text_or_caption_is_refused(text):
    with pytest.raises(ValueError, match="text of the question is blank"):
        question(text=text)
    with pytest.raises(ValueError, match="caption of question 'q1' is blank"):
        question(caption=text, id="q1")


@pytest.mark.parametrize(
    ("field", "words"), [("text", "text of the question is text"), ("caption", "caption of .* is text")]
)
def test_texts_of_another_kind_are_refused(field, words):
    with pytest.raises(TypeError, match=f"{words}, got 3"):
        question(**{field: 3})
    with pytest.raises(TypeError, match="id of a question is text, got 3"):
        question(id=3)
    with pytest.raises(TypeError, match="meta of the question is a mapping, got 'earliest'"):
        question(meta="earliest")


def test_samples_in_the_place_of_a_recording_are_refused_with_the_remedy():
    with pytest.raises(
        TypeError,
        match=r"got a ndarray of shape .*write AudioClip\(samples, sample_rate\)",
    ):
        question(audio=np.zeros(16_000))
    with pytest.raises(ValueError, match=r"is a blank path, '': give the path of a file, or None"):
        question(audio="")


def test_events_of_another_kind_are_refused():
    with pytest.raises(TypeError, match=r"events\[0\] of question 'q1' is a tuple, \('dog', 0, 1\): write Event\("):
        question(events=[("dog", 0, 1)], id="q1")
    with pytest.raises(TypeError, match="events of the question are a tuple of Event, got None"):
        question(events=None)


def test_a_path_is_read_when_the_clip_is_asked_for_and_not_before(tmp_path):
    asked = question(audio=tmp_path / "later.wav")
    with pytest.raises(FileNotFoundError, match=r"later.wav"):
        asked.clip()
    AudioClip(np.linspace(0, 1, 16_000), 16_000).save(tmp_path / "later.wav")
    assert asked.clip().duration == 1.0


def test_a_clip_is_handed_on_and_a_missing_recording_is_said():
    clip = AudioClip(np.zeros(16_000), 16_000)
    assert question(audio=clip).clip() is clip
    with pytest.raises(ValueError, match="question 'q1' has no recording: give audio=, or ask it by caption alone"):
        question(audio=None, caption="A dog barks.", id="q1").clip()


def test_a_changed_copy_is_checked_like_any_question():
    asked = question(answer="dog", meta={"task": "onset"}, id="q1")
    changed = replace(asked, choices=CHOICES[::-1])
    assert (changed.answer_letter, changed.meta["task"], changed.id) == ("D", "onset", "q1")
    with pytest.raises(ValueError, match="not among its choices"):
        replace(asked, choices=("car", "rain"))


def test_meta_is_kept_apart_from_what_was_given_and_is_read_only():
    meta = {"task": "onset"}
    asked = question(meta=meta)
    meta["task"] = "offset"
    assert asked.meta["task"] == "onset"
    with pytest.raises(TypeError, match="does not support item assignment"):
        asked.meta["task"] = "offset"


def test_what_is_shown_of_a_question_names_the_clip_and_not_its_samples():
    clip = AudioClip(np.zeros(160_000), 16_000, "sounds/dog.wav")
    assert repr(question(audio=clip, choices=("dog", "car"), answer="dog", events=(Event("dog", 0, 1),), id="q1")) == (
        "AudioQuestion('Which sound has the earliest onset?', audio=AudioClip(10.00 s, 16000 Hz, mono, 'dog.wav'), "
        "choices=('dog', 'car'), answer='dog', id='q1', 1 event)"
    )


def test_an_answer_is_a_plain_value():
    answered = Answer("q1", ("dog", "car"), "dog", "A", (1.0, 0.0), (0.73, 0.27), True)
    assert answered == Answer("q1", ("dog", "car"), "dog", "A", (1.0, 0.0), (0.73, 0.27), True)
    assert answered.correct


def test_an_open_question_has_no_choices_and_any_text_for_an_answer():
    question = AudioQuestion(audio="clip.wav", text="What do you hear?", answer="a dog, then a car")
    assert (question.is_open, question.choices, question.letters) == (True, (), ())
    assert (question.answer_letter, question.answer_letters) == (None, ())
    assert repr(question) == "AudioQuestion('What do you hear?', audio='clip.wav', answer='a dog, then a car')"
    assert not AudioQuestion("clip.wav", "Which?", ("dog", "car")).is_open


def test_the_answer_of_an_open_question_is_not_blank_and_one_choice_is_none():
    with pytest.raises(ValueError, match="answer of the question is blank"):
        AudioQuestion(audio="clip.wav", text="What do you hear?", answer=" ")
    with pytest.raises(ValueError, match="2 to 26 choices, one per letter, or none for an open question; got 1"):
        AudioQuestion(audio="clip.wav", text="What do you hear?", choices=["dog"])

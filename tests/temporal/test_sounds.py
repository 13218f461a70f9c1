import pytest

from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.temporal.sounds import sound_key, sounds_of, token_overlap
from mechaudio.temporal.tasks import union


@pytest.mark.parametrize("text", ["A dog barks", "a dog  barks.", " A DOG\tbarks!? ", "a dog barks:;"])
def test_spellings_of_one_label_have_one_key(text):
    assert sound_key(text) == "a dog barks"


def test_a_label_of_nothing_but_punctuation_keeps_it():
    assert sound_key(" ?! ") == "?!"


def test_a_repeated_label_is_one_sound_called_as_it_first_is():
    clip = AnnotatedClip("a.wav", (Event("dog", 5, 6), Event("car", 2, 3), Event("Dog.", 1, 2)))
    sounds = sounds_of(clip)
    assert [(sound.key, sound.text, len(sound.segments)) for sound in sounds] == [("dog", "Dog.", 2), ("car", "car", 1)]


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("a dog barks", "A dog barks!", 1.0),
        ("dog", "cat", 0.0),
        ("a b", "b c", 1 / 3),
        ("?", "?", 1.0),
        ("?", "!", 0.0),
    ],
)
def test_overlap_is_the_share_of_common_words(one, other, share):
    assert token_overlap(one, other) == pytest.approx(share)


def test_time_that_is_covered_twice_counts_once():
    segments = [Event("x", 4, 6), Event("x", 0, 2), Event("x", 1, 3), Event("x", 1.5, 1.8)]
    assert union(segments) == 5.0

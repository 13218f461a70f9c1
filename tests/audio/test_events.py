from types import MappingProxyType

import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import AnnotatedClip, Event


def test_an_event_has_seconds_and_a_duration():
    event = Event("dog", 1, np.float32(2.5))
    assert (event.onset, event.offset, event.duration) == (1.0, 2.5, 1.5)
    assert type(event.offset) is float
    assert event == Event("dog", 1.0, 2.5)


@pytest.mark.parametrize(
    ("onset", "offset"), [(-0.1, 1.0), (1.0, 1.0), (2.0, 1.0), (np.nan, 1.0), (0.0, np.nan), (0.0, np.inf)]
)
def test_an_event_that_ends_before_it_begins_is_refused(onset, offset):
    with pytest.raises(ValueError, match=f"event 'dog' needs 0 <= onset < offset in seconds, got {onset} and {offset}"):
        Event("dog", onset, offset)


def test_times_and_labels_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="onset of event 'dog' is a number of seconds, got 'soon'"):
        Event("dog", "soon", 1.0)
    with pytest.raises(TypeError, match="an event's label is text, got 3"):
        Event(3, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"an event needs a label, got ' ' at 0.0 s"):
        Event(" ", 0.0, 1.0)


def test_an_annotated_clip_keeps_its_events_as_a_tuple_and_its_meta_read_only():
    meta = {"corpus": "toy"}
    annotated = AnnotatedClip("clip.wav", [Event("dog", 0, 1)], caption="A dog.", id="c1", meta=meta)
    meta["corpus"] = "other"
    assert annotated.events == (Event("dog", 0.0, 1.0),)
    assert isinstance(annotated.meta, MappingProxyType)
    assert annotated.meta["corpus"] == "toy"


def test_an_annotated_clip_reads_its_file_when_it_is_asked_to(tmp_path):
    clip = AudioClip(np.linspace(0, 1, 16_000), 16_000)
    clip.save(tmp_path / "clip.wav")
    assert AnnotatedClip(tmp_path / "clip.wav").clip().duration == 1.0
    assert AnnotatedClip(clip).clip() is clip
    with pytest.raises(FileNotFoundError, match=r"missing.wav"):
        AnnotatedClip("missing.wav").clip()


def test_what_is_not_an_event_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"events\[1\] of clip 'c1' is a tuple, \('car', 0, 1\): write Event\(label"):
        AnnotatedClip("clip.wav", (Event("dog", 0, 1), ("car", 0, 1)), id="c1")
    with pytest.raises(TypeError, match="events of clip '' are a tuple of Event, got Event"):
        AnnotatedClip("clip.wav", Event("dog", 0, 1))
    with pytest.raises(
        TypeError, match=r"audio of clip '': a recording is a path, an AudioClip, .* got a ndarray of shape \(3,\)"
    ):
        AnnotatedClip(np.zeros(3))

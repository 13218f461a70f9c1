import io

import numpy as np
import pytest
import soundfile

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import AnnotatedClip
from mechaudio.audio.stored import StoredClip, duration_of, opened
from mechaudio.question import AudioQuestion


def encoded(seconds: float = 0.5, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.linspace(0, 1, round(16_000 * seconds)), 16_000, format=format)
    return file.getvalue()


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_stored_bytes_are_decoded_when_the_clip_is_asked_for_and_not_before(format):
    fetched = []
    stored = StoredClip(lambda: fetched.append(1) or encoded(format=format), "a table, row 3")
    question = AudioQuestion(stored, "What?", ("dog", "car"))
    assert fetched == []
    clip = question.clip()
    assert (round(clip.duration, 1), clip.sample_rate, clip.source) == (0.5, 16_000, "a table, row 3")
    assert AnnotatedClip(stored).clip().duration == clip.duration
    assert len(fetched) == 2


def test_bytes_that_break_off_are_refused_by_where_they_are_kept():
    whole = encoded()
    with pytest.raises(ValueError, match=r"'a table, row 3' promises 16000 bytes of samples and has 15900"):
        StoredClip(lambda: whole[:-100], "a table, row 3").clip()
    with pytest.raises(ValueError, match=r"'a table, row 3' is empty"):
        StoredClip(lambda: b"", "a table, row 3").clip()
    with pytest.raises(ValueError, match=r"'a table, row 3' cannot be read as wav"):
        duration_of(StoredClip(lambda: b"<html>", "a table, row 3"))


def test_every_kind_of_recording_opens_and_has_a_length(tmp_path):
    clip = AudioClip(np.linspace(0, 1, 8_000), 16_000)
    clip.save(tmp_path / "a.wav")
    for recording in (clip, StoredClip(encoded, "row"), tmp_path / "a.wav", str(tmp_path / "a.wav")):
        assert opened(recording).duration == duration_of(recording) == 0.5


def test_the_length_of_a_file_that_ffmpeg_reads_is_told_and_that_of_a_missing_one_is_not(tmp_path):
    soundfile.write(tmp_path / "a.aiff", np.zeros(100), 16_000)
    assert duration_of(tmp_path / "a.aiff") == 100 / 16_000
    with pytest.raises(FileNotFoundError):
        duration_of(tmp_path / "b.wav")
    assert repr(StoredClip(encoded, "row")) == "StoredClip('row')"

"""A recording is known by the bytes that are read under its name, whatever stands there by now."""

import os

import pytest

from mechaudio.audio.files import opened_file
from mechaudio.data.clip_names import contents


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Names of files of different content, most of them relative, and a folder that is linked to."""
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    for name in ("far/clip.wav", "near/clip.wav", "near/~clip.wav"):
        (tmp_path / name).write_text(name)
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "folder")
    monkeypatch.chdir(tmp_path / "near")
    return "clip.wav", "link/../clip.wav", "~clip.wav"


def test_the_digest_of_a_file_is_of_the_bytes_that_are_read_under_its_name(names, tmp_path):
    digests = {}
    for name in names:
        with opened_file(name) as file:
            copy = tmp_path / "copy"
            copy.write_bytes(file.read())
        digests[name] = contents(name)
        assert digests[name] == contents(copy)
    assert len(set(digests.values())) == len(names)


def test_a_name_is_looked_up_anew_where_another_file_stands_there(names, tmp_path, monkeypatch):
    near = contents("clip.wav")
    monkeypatch.chdir(tmp_path / "far")
    far = contents("clip.wav")
    os.replace(tmp_path / "near" / "clip.wav", "clip.wav")
    assert contents("clip.wav") == near != far


@pytest.mark.usefixtures("names")
def test_a_file_that_was_written_over_in_its_size_and_time_is_another():
    os.utime("clip.wav", (1, 1))
    before, changed = contents("clip.wav"), os.stat("clip.wav").st_ctime_ns
    with open("clip.wav", "r+") as file:
        file.write("fare")
    os.utime("clip.wav", (1, 1))
    while os.stat("clip.wav").st_ctime_ns == changed:  # a clock of the system ticks every few milliseconds
        os.utime("clip.wav", (1, 1))
    assert contents("clip.wav") != before

"""A path that begins with `~` is the user's, wherever files are read or written, and no folder is called so."""

from pathlib import Path

import pytest

import mechaudio as ma
from mechaudio.cli import main


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture(scope="module")
def asked():
    return ma.data.toy_questions.questions(4, seed=0)


def test_what_is_written_there_is_read_from_there(home, toy, asked):
    found = ma.evaluate(toy, asked, out="~/runs/answers", progress=False)
    assert (home / "runs" / "answers" / "answers.jsonl").is_file()
    found.save(Path("~/runs/result"))
    assert ma.Result.load("~/runs/result").logits.tolist() == found.logits.tolist()
    ma.harvest(toy, asked, out="~/harvest", record=["resid_post"], progress=False)
    assert len(ma.Harvest.load("~/harvest")) == len(ma.Harvest(home / "harvest"))
    ma.AudioClip([0.5], 16_000).save("~/clip.wav")
    assert ma.AudioClip.load(Path("~/clip.wav")).duration == ma.AudioClip.load(home / "clip.wav").duration


def test_benchmarks_too(home):
    made = ma.temporal.build(ma.data.soundscapes.clips(2, seed=0), seed=0)
    made.save("~/benchmark")
    assert len(ma.temporal.load("~/benchmark")) == len(made)


def test_the_command_line_reads_what_the_shell_leaves(home):
    assert main(["evaluate", "--model", "toy", "--n", "2", "--out=~/runs"]) == 0
    assert (home / "runs" / "answers.jsonl").is_file()


def test_a_folder_of_somebody_that_there_is_not_is_a_name(home):
    for load in (ma.data.mmau.load, ma.temporal.load, ma.data.annotations.load, ma.data.tacos.load, ma.Result.load):
        with pytest.raises((FileNotFoundError, ValueError, NotADirectoryError), match="~nobody-of-this-name"):
            load("~nobody-of-this-name/rows.json")
    ma.AudioClip([0.5], 16_000).save(home / "~clip.wav")
    assert ma.AudioClip.load(home / "~clip.wav").duration == ma.AudioClip.load("~/~clip.wav").duration

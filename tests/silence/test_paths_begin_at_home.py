"""A path that begins with `~` is the user's, wherever files are read or written, and no folder is called so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
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
    return ma.data.toy_questions.questions(8, seed=0)


def test_what_is_written_there_is_read_from_there(home, toy, asked):
    found = ma.evaluate(toy, asked, out="~/runs/answers", progress=False)
    assert (home / "runs" / "answers" / "answers.jsonl").is_file()
    found.save(Path("~/runs/result"))
    assert ma.Result.load("~/runs/result").logits.tolist() == found.logits.tolist()
    ma.harvest(toy, asked, out="~/harvest", record=["resid_post"], progress=False)
    assert len(ma.Harvest.load("~/harvest")) == len(ma.Harvest(home / "harvest"))
    ma.AudioClip([0.5], 16_000).save("~/clip.wav")
    assert ma.AudioClip.load(Path("~/clip.wav")).duration == ma.AudioClip.load(home / "clip.wav").duration


def test_what_is_called_so_in_a_folder_is_meant_where_it_is_written_so(home, toy, asked, tmp_path):
    work = tmp_path / "work"
    (work / "~").mkdir(parents=True)
    ma.AudioClip([0.5], 16_000).save(work / "~" / "clip.wav")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        assert ma.AudioClip.load("./~/clip.wav").duration == ma.AudioClip.load(work / "~/clip.wav").duration
        settings = ma.experiments.MataSettings(alphas=(2.0,), n_measured=2, generate=False)
        ma.experiments.mata_study(toy, asked, settings=settings, out="./~/mata", progress=False)
    assert (work / "~" / "mata" / "result.json").is_file()
    assert (work / "~" / "mata" / "listens").is_dir()
    assert list(home.iterdir()) == []


def test_options_and_clips_of_questions_too(home):
    (home / "model.bin").write_bytes(b"no model")
    with pytest.raises(ValueError, match="it has 8 bytes"):
        ma.load("small", whisper="~/model.bin")
    ma.AudioClip(0.1 * np.ones(16_000), 16_000).save(home / "clip.wav")
    asked = ma.data.ftar.build([replace(clip, audio="~/clip.wav") for clip in ma.data.soundscapes.clips(6, seed=0)])
    ma.data.ftar.save(asked, "~/ftar")
    assert any((home / "ftar" / "audio").iterdir())


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

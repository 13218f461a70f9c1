"""What of many questions can be asked: the rest is listed with its reason; long recordings are cut as prompts cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import mechaudio as ma
from mechaudio.experiments.askable import Askable

RATE = 44_100


def question(audio, name, answer="hum"):
    return ma.AudioQuestion(
        audio=audio, text="Which sound starts first?", choices=("hum", "siren", "hum"), answer=answer, id=name
    )


@pytest.fixture
def some(tmp_path):
    rng = np.random.default_rng(0)
    for name, seconds in (("short", 2.0), ("long", 11.3)):
        samples = (3000 * rng.normal(size=round(seconds * RATE))).astype(np.int16)
        wavfile.write(tmp_path / f"{name}.wav", RATE, samples)
    (tmp_path / "damaged.wav").write_bytes((tmp_path / "short.wav").read_bytes()[:500])
    return [
        question(tmp_path / "gone.wav", "gone"),
        question(tmp_path / "short.wav", "short"),
        question(tmp_path / "damaged.wav", "damaged"),
        question(tmp_path / "long.wav", "long"),
        question(tmp_path / "short.wav", "withheld", answer=None),
        question(ma.AudioClip(np.zeros(10), 16_000), "ten samples"),
        replace(question(tmp_path / "short.wav", "eight"), choices=("hum", *"1234567")),
    ]


def test_what_cannot_be_asked_is_listed_with_its_place_and_reason(tiny, some):
    asked = Askable(tiny, some)
    assert [one.id for one in asked] == ["short", "long"]
    told = {failure.id: failure for failure in asked.failures}
    assert {name: failure.index for name, failure in told.items()} == {
        "gone": 0, "damaged": 2, "withheld": 4, "ten samples": 5, "eight": 6
    }  # fmt: skip
    assert "FileNotFoundError" in told["gone"].error
    assert "answer is not known" in told["withheld"].error
    assert "gives no audio token" in told["ten samples"].error
    assert asked.chance == [2 / 3, 2 / 3]
    assert [one.id for one in asked[:1]] == ["short"]


def test_a_recording_that_is_too_long_gives_the_prompt_that_cutting_it_gives(tiny, some):
    asked = Askable(tiny, some)
    assert asked.n_cut == 1
    own, cut = ma.prompt(tiny, [asked[1]]), ma.prompt(tiny, [some[3]], allow_cut=True)
    assert cut.cut[0] == pytest.approx(1.3, abs=0.01)
    assert own.cut == (0.0,)
    for name, value in cut.inputs.items():
        assert torch.equal(own.inputs[name], value), name
    with pytest.raises(ValueError, match="would be lost"):
        ma.prompt(tiny, [some[3]])

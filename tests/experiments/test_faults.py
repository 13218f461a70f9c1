"""What goes wrong in long runs: a GPU without memory, and a recording that the decoder hangs on."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.audio import files
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments.evaluate import evaluate
from tests.families import noise

HALVED = pytest.mark.filterwarnings("ignore:the GPU has no memory for")


@pytest.fixture
def memory(monkeypatch):
    """Has the network run out of memory, deep inside, where more prompts run at once than there is room for."""
    linear, room = torch.nn.functional.linear, [0]

    def limited(values, *weights):
        if values.ndim == 3 and values.shape[0] > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free.")
        return linear(values, *weights)

    def leave(rows):
        room[0] = rows
        monkeypatch.setattr(torch.nn.functional, "linear", limited)

    return leave


@HALVED
@pytest.mark.parametrize("scoring", ["letter_logit", "generate"])
def test_a_batch_that_does_not_fit_is_asked_in_halves_and_says_so(toy, memory, tmp_path, scoring):
    asked, options = toy_questions(5, seed=3), {"scoring": scoring, "batch_size": 5, "max_new_tokens": 3}
    whole = evaluate(toy, asked, **options)
    memory(2)
    with pytest.warns(UserWarning, match="no memory for 5 questions at once, so they are asked 3 at a time.*last bits"):
        halved = evaluate(toy, asked, out=tmp_path, **options)
    assert halved.ids == whole.ids
    assert halved.choices == whole.choices
    assert halved.texts == whole.texts
    if whole.logits is not None:
        np.testing.assert_allclose(halved.logits, whole.logits, atol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()[1:]]
    assert [(line["batch"], line["of"]) for line in lines] == [(0, 5)] * 5  # taken up, it is one batch as ever


@HALVED
def test_variants_that_do_not_fit_are_halved_with_their_questions(toy, memory):
    asked, variants = toy_questions(4, seed=3), [ma.ScaleAttention(0.0), ma.UpweightAttention(3.0)]
    whole = evaluate(toy, asked, variants=variants, batch_size=4)
    memory(2)
    halved = evaluate(toy, asked, variants=variants, batch_size=4)
    np.testing.assert_allclose(halved.logits, whole.logits, atol=1e-4)


@HALVED
def test_a_harvest_is_halved_into_the_same_shards(toy, memory, tmp_path):
    asked, options = toy_questions(5, seed=3), {"record": ["resid_post", "z"], "batch_size": 5, "positions": "audio"}
    whole = ma.harvest(toy, asked, out=tmp_path / "whole", **options)
    memory(2)
    halved = ma.harvest(toy, asked, out=tmp_path / "halved", **options)
    assert halved.positions().equals(whole.positions())
    assert [len(part) for part in halved.shards("z", 0)] == [len(whole)]
    torch.testing.assert_close(halved["resid_post", 3], whole["resid_post", 3])


@HALVED
def test_a_question_that_does_not_fit_by_itself_is_listed_and_asked_when_there_is_memory(toy, memory, tmp_path):
    asked = toy_questions(3, seed=3)
    memory(0)
    with pytest.raises(
        ValueError, match=r"none of the 3 .*MemoryError: the GPU has no memory for this question by its"
    ):
        evaluate(toy, asked, out=tmp_path)
    memory(3)
    assert evaluate(toy, asked, out=tmp_path).failures == ()


@pytest.fixture
def hanging(monkeypatch):
    """Has the decoder hang on recordings of one length, until the test is over."""
    end, read = threading.Event(), files.soundfile.SoundFile.read

    def hang(sound, *words, **options):
        if sound.frames == 16_001:
            end.wait()
            raise OSError("nobody waits for this any more")
        return read(sound, *words, **options)

    monkeypatch.setattr(files.soundfile.SoundFile, "read", hang)
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    yield
    end.set()


def test_a_recording_that_the_decoder_hangs_on_is_listed_and_the_others_are_asked(toy, hanging, tmp_path):
    asked = toy_questions(3, seed=3)
    for index, n_samples in enumerate((16_000, 16_001, 16_002)):
        path = tmp_path / f"{index}.wav"
        ma.AudioClip(noise(n_samples / 16_000, index), 16_000).save(path)
        asked[index] = replace(asked[index], audio=path)
    found = evaluate(toy, asked, batch_size=1)
    assert found.ids == ("toy-3-0", "toy-3-2")
    (failure,) = found.failures
    assert failure.index == 1
    assert failure.error.startswith("TimeoutError: ")
    assert "1.wav' is not decoded after 0.2 seconds: the decoder hangs on it" in failure.error
    with pytest.raises(ValueError, match="'toy-3-1': TimeoutError"):
        evaluate(toy, asked, batch_size=1, strict=True)

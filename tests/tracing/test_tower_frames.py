"""When the frames of a tower's layer are."""

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.run import run
from mechaudio.tracing.tower_frames import tower_frames
from tests.families import FAMILIES, audio_token_id, facts, model_inputs, network, processor, thinned

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")

#: Those whose processor splits a long clip into windows.
SPLIT = ("audioflamingo3", "musicflamingo", "voxtral", "glmasr", "dots3_note", "kimi_audio")


@pytest.mark.parametrize("family", thinned(family for family in FAMILIES if family != "vibevoice_asr"))
def test_frames_follow_one_another_from_the_start_of_each_clip(family):
    model, inputs = AudioLM(network(family), prove=False), model_inputs(family)
    batch = as_batch(model, inputs)
    resid = run(model, batch, record=["audio.resid_post"], logits=None).cache["audio.resid_post", 0]
    frames = tower_frames(model, batch, tuple(resid.shape[:2]))
    assert frames.row.shape == frames.middle.shape == resid.shape[:2]
    for row in range(batch.n_rows):
        onsets, offsets = frames.seconds[frames.row == row].T
        assert onsets[0] == 0
        np.testing.assert_allclose(onsets[1:], offsets[:-1], atol=1e-9)
        assert onsets[1] == pytest.approx(facts(family).frame_seconds)
        heard = batch.inputs[model.adapter.features].shape[model.adapter.frames_axis] * model.adapter.timing.hop / 16000
        assert offsets[-1] <= max(heard, 3.2) + facts(family).frame_seconds


def test_convolutions_have_frames_of_their_own_length_in_every_stage():
    model, inputs = AudioLM(network("vibevoice_asr"), prove=False), model_inputs("vibevoice_asr")
    batch = as_batch(model, inputs)
    cache = run(model, batch, record=["audio.resid_post"], logits=None).cache
    ends = [tower_frames(model, batch, tuple(value.shape[:2])).seconds[0, -1, 1] for value in cache.values()]
    np.testing.assert_allclose(ends, ends[0])


def noise(seconds, rate=16_000):
    return ma.AudioClip(np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype("float32"), rate)


def frames_of(model, batch):
    """The frames of the tower's first layer, and when the middles of the audio tokens of row 0 are."""
    resid = run(model, batch, record=["audio.resid_post"], logits=None).cache["audio.resid_post", 0]
    edges = batch.clocks[0][0].edges_seconds if batch.clocks[0] else np.zeros(0)
    return tower_frames(model, batch, tuple(resid.shape[:2])), (edges[1:] + edges[:-1]) / 2


@pytest.mark.parametrize(("seconds", "pieces"), [(20.0, 1), (45.0, 2), pytest.param(60.0, 2, marks=pytest.mark.whole)])
def test_the_pieces_of_a_long_clip_follow_one_another_as_its_tokens_do(seconds, pieces):
    """Phi-4 cuts a clip into pieces of 500 frames of 80 ms, and fills up the last."""
    model, family = AudioLM(network("phi4_multimodal"), prove=False), facts("phi4_multimodal")
    ids = torch.tensor([[20, *[audio_token_id("phi4_multimodal")] * family.tokens(round(16_000 * seconds)), 21]])
    frames, middles = frames_of(model, as_batch(model, {"input_ids": ids, **family.clip_features(seconds, 0)}))
    assert len(frames.middle) == pieces
    np.testing.assert_allclose(frames.middle.ravel()[: len(middles)], middles, atol=1e-9)
    np.testing.assert_allclose(np.diff(frames.middle.ravel()), 0.08, atol=1e-9)


@pytest.mark.parametrize("family", thinned(SPLIT, left=["dots3_note"]))
def test_windows_follow_one_another_as_their_tokens_do_whatever_their_length(family):
    """The processor's windows are 4 s here, those of the published networks 30 or 60 s."""
    model = AudioLM(network(family), processor(family), prove=False)
    question = ma.AudioQuestion(noise(10.0), "What?", choices=("dog", "rain"), answer="dog")
    frames, middles = frames_of(model, ma.prompt(model, [question]))
    np.testing.assert_allclose(frames.seconds[:, 0, 0], [0, 4, 8], atol=1e-9)
    per_token = round(facts(family).token_seconds / facts(family).frame_seconds)
    of_tokens = frames.middle.reshape(-1, per_token).mean(1)[: len(middles)]
    np.testing.assert_allclose(of_tokens, middles, atol=1e-9)


def test_clips_that_always_make_as_many_tokens_have_frames_of_their_own_length():
    model = AudioLM(network("gemma3n"), processor("gemma3n"), prove=False)
    question = ma.AudioQuestion(noise(20.0), "What?", choices=("dog", "rain"), answer="dog")
    frames, _ = frames_of(model, ma.prompt(model, [question]))
    np.testing.assert_allclose(np.diff(frames.middle[0]), 0.04, atol=1e-9)


@pytest.mark.parametrize("family", ["phi4_multimodal", "qwen3_omni_moe_thinker"])
def test_frames_of_several_clips_in_a_prompt_have_no_time_as_their_tokens_have_none(family):
    model = AudioLM(network(family), processor(family), prove=False)
    question = ma.AudioQuestion([noise(1.0), noise(2.0)], "Which?", choices=("dog", "rain"), answer="dog")
    frames, _ = frames_of(model, ma.prompt(model, [question]))
    assert np.unique(frames.row).tolist() == [0]
    with pytest.raises(ValueError, match="prompt 0 has several clips, and a second of one is not that of another"):
        _ = frames.middle


def test_frames_that_no_steps_make_have_no_time():
    model, inputs = AudioLM(network("vibevoice_asr"), prove=False), model_inputs("vibevoice_asr")
    batch = as_batch(model, inputs)
    width = batch.inputs[model.adapter.features].shape[model.adapter.frames_axis]
    uneven = next(frames for frames in range(7, 100) if width % frames)
    frames = tower_frames(model, batch, (batch.n_rows, uneven))
    assert frames.row.shape == (batch.n_rows, uneven)
    with pytest.raises(ValueError, match=f"{width} frames of the features do not divide evenly into {uneven}"):
        _ = frames.middle


def test_a_batch_without_audio_has_no_frames():
    model = AudioLM(network("qwen2_audio"), prove=False)
    inputs = {"input_ids": torch.full((1, 3), as_batch(model, model_inputs("qwen2_audio")).audio_token + 1)}
    with pytest.raises(ValueError, match="no row of this batch has audio"):
        tower_frames(model, as_batch(model, inputs), (1, 1))

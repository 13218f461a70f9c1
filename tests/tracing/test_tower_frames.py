"""When the frames of a tower's layer are."""

import numpy as np
import pytest
import torch

from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.run import run
from mechaudio.tracing.tower_frames import tower_frames
from tests.families import FAMILIES, facts, model_inputs, network, thinned

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")


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


def test_a_batch_without_audio_has_no_frames():
    model = AudioLM(network("qwen2_audio"), prove=False)
    inputs = {"input_ids": torch.full((1, 3), as_batch(model, model_inputs("qwen2_audio")).audio_token + 1)}
    with pytest.raises(ValueError, match="no row of this batch has audio"):
        tower_frames(model, as_batch(model, inputs), (1, 1))

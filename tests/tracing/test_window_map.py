"""The map of the audio tower's patterns: which frames see which, and whose sound they hear."""

import pytest
import torch

from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import NoSuchHookPoint
from mechaudio.tracing.window_map import WindowMap, window_map
from tests.families import FAMILIES, model_inputs, network, thinned

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
ATTENDING = [family for family in FAMILIES if family not in ("vibevoice_asr", "muse_spark")]


@pytest.mark.parametrize("family", thinned(ATTENDING))
def test_no_pattern_leaves_its_map_and_every_frame_has_a_row(family):
    model, inputs = AudioLM(network(family), prove=False), model_inputs(family)
    windows = window_map(model, inputs)
    patterns = run(model, inputs, record=["audio.pattern"]).cache.stack("audio.pattern")
    assert windows.visible.shape == (patterns.shape[1], *patterns.shape[3:])
    outside = ~windows.visible[None, :, None].expand(patterns.shape)
    assert outside.any() or windows.visible.all()
    assert patterns[outside].abs().sum() == 0
    assert windows.row.shape == windows.visible.shape[:2]
    assert set(windows.row.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("qwen2_5_omni_thinker", ((100, 60), (80,))),  # windows of 2 s, in frames of 20 ms
        ("qwen3_omni_moe_thinker", ((26, 16), (21,))),  # the same, 13 frames a second
        ("qwen3_asr", ((26, 16), (21,))),
    ],
)
def test_packed_clips_lie_in_windows_of_their_own(family, sizes):
    windows = window_map(AudioLM(network(family), prove=False), model_inputs(family))
    expected, at = [], 0
    for size in (size for clip in sizes for size in clip):
        expected += [[at, at + size]] * size
        at += size
    assert windows.windows[0].tolist() == expected
    assert windows.row[0].tolist() == [0] * sum(sizes[0]) + [1] * sum(sizes[1])


def test_granites_clips_lie_in_blocks():
    windows = window_map(AudioLM(network("granite_speech"), prove=False), model_inputs("granite_speech"))
    assert windows.windows[1, [0, 63, 64, 127, 128, 159]].tolist() == [[0, 64]] * 2 + [[64, 128]] * 2 + [[128, 160]] * 2
    assert windows.row.tolist() == [[0] * 160, [1] * 160]


@pytest.mark.parametrize(("family", "past"), [("gemma4", 11), ("gemma3n", 12)])
def test_gemmas_windows_slide(family, past):
    windows = window_map(AudioLM(network(family), prove=False), model_inputs(family))
    assert windows.windows[0, [0, 5, 30]].tolist() == [[0, 1], [0, 6], [30 - past, 31]]


def test_a_frame_that_sees_nothing_has_an_empty_window():
    visible = torch.tensor([[[False, True, True, False], [False, False, False, False]]])
    assert WindowMap(visible, torch.zeros(1, 2, dtype=torch.int64)).windows.tolist() == [[[1, 3], [0, 0]]]


def test_a_tower_without_attention_and_a_batch_without_audio_are_told():
    model = AudioLM(network("vibevoice_asr"), prove=False)
    with pytest.raises(NoSuchHookPoint, match="made of convolutions and has no attention"):
        window_map(model, model_inputs("vibevoice_asr"))
    model = AudioLM(network("qwen2_audio"), prove=False)
    with pytest.raises(ValueError, match="no row of this batch has audio"):
        window_map(model, {"input_ids": torch.tensor([[20, 21, 22]])})

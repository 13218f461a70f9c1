"""Networks of mechaudio's own classes over several devices, and on the disk: they answer as on one device."""

import copy

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.models.desta import network as desta
from tests.families import model_inputs, network, processor
from tests.families.salmonn import BANDS, POSITIONS
from tests.pretended_devices import on, spread

OWN = ("salmonn", "timeaudio", "desta25", "kimi_audio")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* holds no processor"),
    pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules"),  # parameters on top
]


def long_clips():
    """Two clips of two stretches, one of them shorter: TimeAudio merges their tokens, and BEATs hears a mask."""
    generator, frames = torch.Generator().manual_seed(0), 4 * POSITIONS
    real = torch.stack([(torch.arange(frames) < length).long() for length in (frames, frames - 160)])
    return {
        "input_features": torch.randn(2, BANDS, frames, generator=generator),
        "filterbank_features": torch.randn(2, 128, frames, generator=generator) * real[:, None],
        "input_features_mask": real,
        "audio_samples": 160 * real.sum(-1),
    }


@torch.no_grad()
def logits(net, inputs):
    return net(**inputs, use_cache=False).logits


def opened_from_disk(family, folder):
    network(family).save_pretrained(folder)
    where = {"device_map": {"": "disk"}, "offload_folder": folder / "offloaded"}
    net = ma.load(folder, **where, prove=False).network
    assert {parameter.device.type for parameter in net.parameters()} == {"meta"}
    return net


def test_pretended_devices_refuse_what_lies_apart():
    first, second = on("cpu:1", {"": torch.ones(2)})[""], on("cpu:2", {"": torch.ones(2)})[""]
    with pytest.raises(RuntimeError, match="several devices: cpu:1, cpu:2"):
        first + second
    moved = first.to(second.device) + second
    assert moved.device == torch.device("cpu:2")
    assert moved.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("family", OWN)
def test_every_piece_may_lie_on_a_device_of_its_own(family):
    net, inputs = copy.deepcopy(network(family)), model_inputs(family)
    want = logits(net, inputs)
    with spread(net) as where:
        assert len(set(where.values())) > 10
        assert torch.equal(logits(net, on("cpu:1", inputs)).content, want)


@pytest.mark.parametrize("mode", ["released", "paper"])
def test_tokens_are_merged_alike_over_several_devices(mode):
    net, clips = copy.deepcopy(network("timeaudio")), long_clips()
    net.config.merging = mode
    with torch.no_grad():
        given = {"audio_merging": net.merging_of(**clips)}  # of each clip alone, where `hear` reads all of them at once
        made, told = (torch.cat(net.hear(**clips, **each)) for each in ({}, given))
        with spread(net):
            placed, given_placed = on("cpu:1", clips), on("cpu:1", given)
            assert torch.equal(net.merging_of(**placed).content, given["audio_merging"])
            assert torch.equal(torch.cat(net.hear(**placed)).content, made)
            assert torch.equal(torch.cat(net.hear(**placed, **given_placed)).content, told)


@pytest.mark.parametrize("family", OWN)
def test_a_network_on_the_disk_answers_as_in_memory(family, tmp_path, monkeypatch):
    net, inputs = opened_from_disk(family, tmp_path), model_inputs(family)
    torch.testing.assert_close(logits(net, inputs), logits(network(family), inputs), atol=1e-5, rtol=1e-5)
    if family == "timeaudio":  # what is worked out beside the forward pass
        torch.testing.assert_close(net.merging_of(**long_clips()), network(family).merging_of(**long_clips()))
    if family == "desta25":
        monkeypatch.setattr(desta, "LONGEST_TRANSCRIPT", 2)  # every token reads the disk anew
        sound = np.random.default_rng(0).normal(0, 0.1, 8_000).astype("float32")
        with torch.no_grad():
            words = [each.transcribe(sound, processor(family)) for each in (net, network(family))]
        assert words[0] == words[1] != ""

"""The network that was meant: copies of it, its processor, torch's own settings, weights twice."""

import copy
import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechaudio as ma
from tests.families import FAMILIES, network, processor

TINY = Path(ma.__file__).parent / "models/tiny/weights"
PLAIN = {"metadata": {"format": "pt"}}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}
LOUDER = [ma.ScaleAttention(3.0, layers=None), ma.Edit(ma.HookPoint("resid_post", layers=[1]), lambda resid: 2 * resid)]


@pytest.fixture(scope="module")
def questions():
    return list(ma.data.soundscapes.questions(2, seed=1))


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "model")


def edited(model, questions):
    return ma.run(model, ma.prompt(model, questions), interventions=LOUDER, logits="last").logits


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_model_gives_its_numbers_and_takes_its_edits(tiny, questions, copied):
    other = copied(tiny)
    assert torch.equal(edited(other, questions), edited(tiny, questions))
    assert other.checkpoint == "tiny"


def test_what_is_done_to_a_copy_is_not_done_to_the_model(tiny, questions):
    before, other = edited(tiny, questions), copy.deepcopy(tiny)
    with torch.no_grad():
        other.network.get_submodule("model.language_model.layers.1.mlp.down_proj").weight.mul_(2)
    assert not torch.equal(edited(other, questions), before)
    assert torch.equal(edited(tiny, questions), before)


def test_a_model_is_not_taken_for_a_list(tiny):
    for call in (len, lambda model: model[0]):
        with pytest.raises(TypeError, match="an AudioLM is one model, not a list"):
            call(tiny)
    with pytest.raises(TypeError, match=r"questions= takes .* got an AudioLM"):
        ma.harvest(tiny, tiny, record=["resid_post"], out="nowhere")
    assert tiny


@pytest.mark.parametrize(
    ("enter", "named"),
    [
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), "torch.autocast is on"),
        (lambda: torch.device("meta"), "torch's default device is 'meta'"),
    ],
    ids=["autocast", "device"],
)
def test_settings_of_torch_that_change_numbers_are_refused_by_name(tiny, questions, enter, named):
    batch = ma.prompt(tiny, questions)
    for call in (
        lambda: ma.run(tiny, batch),
        lambda: ma.prompt(tiny, questions),
        lambda: ma.generate(tiny, batch),
        lambda: ma.sweep(tiny, batch, LOUDER),
    ):
        with enter(), pytest.raises(ValueError, match=re.escape(named)):
            call()


def test_prompts_are_not_made_in_another_default_type(tiny, questions):
    torch.set_default_dtype(torch.float16)
    try:
        with pytest.raises(ValueError, match=r"default type is torch.float16.*set_default_dtype\(torch.float32\)"):
            ma.prompt(tiny, questions)
    finally:
        torch.set_default_dtype(torch.float32)


FOREIGN = {
    "sampling_rate": (8000, "hears 16000 samples a second"),
    "feature_size": (80, "takes 128 numbers in a frame"),
    "hop_length": (320, "a frame every 160 samples"),
    "n_samples": (960_000, r"windows of 64000 samples \(4 s\)"),
    "padding_side": ("left", "what fills up a clip behind it"),
    "dither": (0.5, "the same call twice gives two answers"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("family", ["qwen2_audio", "audioflamingo3"])
def test_a_processor_with_other_settings_than_the_tower_takes_is_refused(family, name):
    net, foreign, (value, told) = network(family), processor(family), FOREIGN[name]
    model = ma.AudioLM(net, processor(family), prove=False)
    setattr(foreign.feature_extractor, name, value)
    with pytest.raises(ValueError, match=rf"does not belong to this .* {name}={value!r}, .*{told}"):
        ma.AudioLM(net, foreign, prove=False)
    model.processor = foreign
    question = ma.AudioQuestion(audio=ma.AudioClip(0.1 * torch.ones(16_000), 16_000), text="What?")
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        ma.prompt(model, [question])


@pytest.mark.parametrize("family", ["glmasr", "dots3_note"])
def test_windows_that_hold_no_whole_number_of_audio_tokens_are_refused(family):
    net, foreign = network(family), processor(family)
    foreign.feature_extractor = type(foreign.feature_extractor)(feature_size=128, chunk_length=1)
    with pytest.raises(ValueError, match="n_samples=16000, and a window is filled up to whole audio tokens of 1280"):
        ma.AudioLM(net, foreign, prove=False)


def test_windows_of_whole_audio_tokens_are_heard_whole_whatever_their_length():
    for seconds in (2, 6, 30):
        foreign = processor("glmasr")
        foreign.feature_extractor = type(foreign.feature_extractor)(feature_size=128, chunk_length=seconds)
        clip = ma.AudioClip(0.1 * torch.ones(7 * 16_000), 16_000)
        batch = ma.prompt(ma.AudioLM(network("glmasr"), foreign, prove=False), [ma.AudioQuestion(audio=clip, text="?")])
        assert batch.clock[0].seconds(len(batch.spans["audio"][0]) - 1)[1] == pytest.approx(7.0, abs=0.08)
        foreign.feature_extractor.n_samples *= 1.0
        with pytest.raises(ValueError, match=r"n_samples=\d+\.0, and a window is a whole number of samples"):
            ma.AudioLM(network("glmasr"), foreign, prove=False)


def test_features_made_with_other_settings_than_usual_are_named():
    unusual = processor("qwen2_audio")
    unusual.feature_extractor = type(unusual.feature_extractor)(feature_size=128, chunk_length=4, n_fft=512)
    with pytest.warns(UserWarning, match=r"other settings than a WhisperFeatureExtractor .*: n_fft=512 \(400\)"):
        ma.AudioLM(network("qwen2_audio"), unusual, prove=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_class_takes_its_own_processor_and_refuses_another_placeholder(family):
    net, reader = network(family), processor(family)
    model = ma.AudioLM(net, reader, prove=False)
    tower = model.adapter.encoder.own_config(net.config)
    holder = net.config if hasattr(net.config, "audio_token_id") else tower
    holder.audio_token_id = 7
    with pytest.raises(ValueError, match=r"audio_token=.* and the placeholder in the network's config .* is 7"):
        ma.AudioLM(net, reader, prove=False)


@pytest.mark.parametrize("value", [None, -1, 10**6, "<|AUDIO|>", 3.0, True])
def test_a_placeholder_that_is_no_token_is_refused_where_the_network_is_opened(value):
    net = network("qwen2_audio")
    net.config.audio_token_id = value
    for given in (None, processor("qwen2_audio")):
        with pytest.raises(ValueError, match=r"gives audio_token_id=.*, and the placeholder .* audio_token_index"):
            ma.AudioLM(net, given, prove=False)


def test_two_sets_of_weights_in_a_folder_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model-00001-of-00001.safetensors", **PLAIN)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"two sets of weights, model.safetensors and .*00001-of-00001"):
        ma.load(folder)
    (folder / "model.safetensors").unlink()
    assert ma.load(folder, prove=False).n_layers == 6


def test_a_tensor_in_two_parts_is_refused_by_name(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    twice = next(iter(weights))
    parts = {"a.safetensors": {twice: -weights[twice]}, "b.safetensors": weights}
    for name, tensors in parts.items():
        save_file(tensors, folder / name, **PLAIN)
    places = {name: "a.safetensors" if name == twice else "b.safetensors" for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(ValueError, match=rf"1 tensor twice \({re.escape(twice)} in a.safetensors and b.safetensors"):
        ma.load(folder)


def test_two_heads_for_one_place_are_refused_unless_they_are_the_same(folder):
    weights = load_file(folder / "model.safetensors")
    name = "language_model.lm_head.weight"
    save_file(weights | {"lm_head.weight": weights[name].clone()}, folder / "model.safetensors", **PLAIN)
    assert ma.load(folder, prove=False).n_layers == 6
    save_file(weights | {"lm_head.weight": -weights[name]}, folder / "model.safetensors", **PLAIN)
    with pytest.raises(ValueError, match=r"lm_head.weight and .*lm_head.weight, with different numbers, for 1 place"):
        ma.load(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{}", "is no index of weights, .*KeyError: 'weight_map'"),
        ("", "is no index of weights"),
        ('{"weight_map": []}', "is no index of weights"),
        ('{"weight_map": {"lm_head.weight": 1}}', "is no index of weights"),
        ('{"weight_map": {"lm_head.weight": "../other/model.safetensors"}}', r"files outside its folder \(\.\./other"),
    ],
)
def test_an_index_that_is_damaged_or_leads_out_of_its_folder_is_named(folder, content, told):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=rf"index\.json' .*{told}"):
        ma.load(folder, prove=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, value):
    weights = load_file(folder / "model.safetensors")
    name = "language_model.model.model.embed_tokens.weight"
    weights[name][50, 3] = value  # of a token that no question has
    save_file(weights, folder / "model.safetensors", **PLAIN)
    with pytest.raises(ValueError, match=r"1 of 144 tensors that hold NaN or infinity \(model.*embed_tokens.weight\)"):
        ma.load(folder, prove=False)


def test_a_matrix_of_zeros_alone_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("layers.1.mlp.down_proj.weight"))
    save_file(weights | {name: torch.zeros_like(weights[name])}, folder / "model.safetensors", **PLAIN)
    with pytest.warns(UserWarning, match=r"zeros alone for 1 of \d+ matrices \(model.language_model.layers.1.mlp.down"):
        ma.load(folder, prove=False)

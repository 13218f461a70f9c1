"""Opening checkpoints: real `from_pretrained`, real folders, no network."""

import json
from importlib import import_module

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto import image_processing_auto
from transformers.models.granite_speech import feature_extraction_granite_speech
from transformers.utils import import_utils
from transformers.utils.import_utils import requires_backends

import mechaudio as ma
from mechaudio.models.registry import adapter_for
from tests.families import FAMILIES, KINDS, model_inputs, network, processor, thinned

load = import_module("mechaudio.tracing.load")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* holds no processor"),
    pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths"),
]


def in_turns(turn):
    """A class of every kind; of the others, each is opened whole or in part on the disk, as both read its folder."""
    return [family for index, family in enumerate(FAMILIES) if family in KINDS or index % 2 == turn]


def assert_the_same_network(opened, net, inputs):
    """The same weights to the last bit, and their answer up to rounding.

    Weights of a file may begin anywhere in memory, and a kernel may sum in another order where they do.
    """
    weights = opened.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    torch.testing.assert_close(
        ma.run(opened, inputs).logits, ma.run(ma.AudioLM(net, prove=False), inputs).logits, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "family", thinned(in_turns(0), left=("qwen2_audio", "qwen3_omni_moe_thinker", "phi4_multimodal"))
)
def test_a_saved_network_and_processor_open_as_they_were(family, tmp_path):
    net = network(family)
    net.save_pretrained(tmp_path)
    model = ma.load(tmp_path, prove=family == "qwen2_audio")
    assert model.checkpoint == str(tmp_path)
    assert_the_same_network(model, net, model_inputs(family))


@pytest.mark.parametrize("family", ["qwen2_audio", "audioflamingo3", "musicflamingo", "glmasr", "qwen3_asr"])
def test_a_folder_with_a_processor_takes_questions(family, tmp_path):
    network(family).save_pretrained(tmp_path)
    processor(family).save_pretrained(tmp_path)
    assert type(ma.load(tmp_path, prove=False).processor) is type(processor(family))


def test_a_folder_without_a_processor_says_what_that_means(tmp_path):
    network("qwen2_audio").save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds no processor .* takes dicts of its own inputs"):
        assert ma.load(tmp_path, prove=False).processor is None


def test_a_granite_processor_without_torchaudio_says_what_is_missing(tmp_path, monkeypatch):
    network("granite_speech").save_pretrained(tmp_path)
    processor("granite_speech").save_pretrained(tmp_path)
    monkeypatch.setattr(feature_extraction_granite_speech, "requires_backends", requires_backends)  # no stand-in
    monkeypatch.setitem(import_utils.BACKENDS_MAPPING, "torchaudio", (lambda: False, "{0} requires torchaudio"))
    with pytest.raises(ImportError, match=r"torchaudio.*pip install torchaudio.*AudioLM\(network\) takes dicts"):
        ma.load(tmp_path)


def test_a_processor_of_images_that_cannot_be_imported_counts_as_a_missing_package(tmp_path, monkeypatch):
    network("nemotron_h_omni").save_pretrained(tmp_path)
    images = {"image_processor_type": "NemotronH_Omni_Reasoning_V3ImageProcessor"}
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"processor_class": "NemotronH_Omni_Reasoning_V3Processor", "image_processor": images})
    )
    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: False)
    monkeypatch.setattr(image_processing_auto, "get_image_processor_class_from_name", lambda _name: None)
    with pytest.raises(ImportError, match=r"dependencies: torchvision.*pip install 'mechaudio\[omni\]'.*takes dicts"):
        ma.load(tmp_path)


def test_dtype_and_device_are_passed_on(tmp_path):
    network("qwen2_audio").save_pretrained(tmp_path)
    model = ma.load(tmp_path, dtype=torch.bfloat16, device="cpu", prove=False)
    assert model.network.dtype is torch.bfloat16
    with pytest.raises(ValueError, match="give device or device_map, not both"):
        ma.load(tmp_path, device="cpu", device_map="auto")


@pytest.mark.parametrize(
    ("rank", "n", "devices", "expected"),
    [
        (1, 2, ["cpu", "cuda:0", "cuda:1"], "cuda:1"),
        (5, 8, ["cpu", "cuda:0", "cuda:1", "cuda:2", "cuda:3"], "cuda:1"),
        (3, 4, ["cpu", "cuda:0"], "cuda:0"),  # a scheduler may show each process its own GPU alone
        (1, 2, ["cpu"], None),
        (0, 1, ["cpu", "cuda:0", "cuda:1"], None),
    ],
)
def test_each_of_several_processes_opens_the_model_on_a_gpu_of_its_own(monkeypatch, rank, n, devices, expected):
    for name, value in (("RANK", rank), ("WORLD_SIZE", n), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(load, "_devices", lambda: devices)
    assert load._device_of_process() == expected


def test_a_device_map_is_passed_on(tmp_path):
    network("qwen2_audio").save_pretrained(tmp_path)
    model = ma.load(tmp_path, device_map={"": "cpu"}, prove=False)
    assert_the_same_network(model, network("qwen2_audio"), model_inputs("qwen2_audio"))


def device_map(net, offloaded, path=""):
    """These modules on the disk, every other one on the CPU."""
    if path in offloaded:
        return {path: "disk"}
    if path and not any(one.startswith(f"{path}.") for one in offloaded):
        return {path: "cpu"}
    inside = f"{path}." if path else ""
    placed = {f"{inside}{name}": "cpu" for name, _ in net.get_submodule(path).named_parameters(recurse=False)}
    for name, _ in net.get_submodule(path).named_children():
        placed |= device_map(net, offloaded, f"{inside}{name}")
    return placed


def test_a_gate_on_the_disk_is_proven_where_it_runs(tmp_path):
    network("muse_spark").save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds no processor"):
        model = ma.load(tmp_path, device_map={"": "disk"}, offload_folder=tmp_path / "offloaded")
    inputs, whole = model_inputs("muse_spark"), ma.AudioLM(network("muse_spark"), prove=False)
    torch.testing.assert_close(ma.run(model, inputs).logits, ma.run(whole, inputs).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")  # parameters on top
@pytest.mark.parametrize("family", thinned(in_turns(1), left=("qwen2_audio", "nemotron_h_omni")))
def test_an_offloaded_network_answers_as_it_does_in_memory(family, tmp_path):
    net = network(family)
    net.save_pretrained(tmp_path)
    decoder = adapter_for(net).decoder.layers
    embeddings = next(name for name, module in net.named_modules() if module is net.get_input_embeddings())
    offloaded = [f"{decoder}.1"] if family == "gemma4" else [f"{decoder}.1", embeddings]  # transformers cannot do more
    where = {"device_map": device_map(net, offloaded), "offload_folder": tmp_path / "offloaded"}
    model = ma.load(tmp_path, **where, prove=family == "qwen2_audio")  # proofs read the disk some forty times
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cpu", "meta"}
    plain, inputs = ma.AudioLM(net, prove=False), model_inputs(family)
    louder = ma.Edit(ma.HookPoint("resid_post", layers=[1]), lambda resid: 1.5 * resid)
    record = ["resid_post", ma.HookPoint("pattern", queries="last")]
    got, want = (ma.run(one, inputs, record=record, interventions=[louder]) for one in (model, plain))
    close = {"atol": 1e-4, "rtol": 1e-4}  # weights from the disk lie elsewhere in memory, as above
    torch.testing.assert_close(got.logits, want.logits, **close)
    for key in want.cache:
        torch.testing.assert_close(got.cache[key], want.cache[key], **close)
    tokens = [ma.generate(one, inputs, max_new_tokens=3, interventions=[louder]).tokens for one in (model, plain)]
    assert torch.equal(*tokens)


WHOLE = {
    "qwen2_5_omni_thinker": ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration"),
    "qwen3_omni_moe_thinker": ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration"),
}


@pytest.mark.parametrize("family", WHOLE)
def test_the_thinker_opens_out_of_a_whole_omni_checkpoint(family, tmp_path):
    thinker = network(family)
    thinker.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {f"thinker.{name}": value for name, value in weights.items()},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    inner = json.loads((tmp_path / "config.json").read_text())
    whole = {
        "model_type": WHOLE[family][0],
        "architectures": [WHOLE[family][1]],
        "thinker_config": inner,
    }
    (tmp_path / "config.json").write_text(json.dumps(whole))
    assert_the_same_network(ma.load(tmp_path, prove=False), thinker, model_inputs(family))


def test_a_name_that_leads_nowhere_says_what_can_be_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"no checkpoint at .*Give 'tiny' .*Qwen/Qwen2-Audio-7B-Instruct"):
        ma.load(tmp_path / "nothing")


def test_a_class_without_an_adapter_is_refused_with_the_list(tmp_path):
    transformers.Qwen2Config(hidden_size=8).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"holds a 'qwen2'; mechaudio opens: qwen2_audio .*adding_a_model/ shows"):
        ma.load(tmp_path)


def test_code_from_checkpoints_is_never_run(tmp_path):
    with pytest.raises(ValueError, match="trust_remote_code must stay False"):
        ma.load(tmp_path, trust_remote_code=True)


def test_only_safetensors_are_read(tmp_path):
    net = network("qwen2_audio")
    net.save_pretrained(tmp_path)
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        ma.load(tmp_path)

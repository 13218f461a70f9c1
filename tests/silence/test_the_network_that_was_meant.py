"""The network that was loaded is the network that was meant: whole, plain, by itself, and the same at every call."""

import importlib
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.registry import adapter_for
from mechaudio.tracing.sites import HookPointError
from tests.families import FAMILIES, model_inputs, network, thinned

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* holds no processor"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated"),  # torch.compile imports it
]
TINY = Path(ma.__file__).parent / "models/tiny/weights"
HEAD = "language_model.lm_head.weight"
DOUBLED = [ma.Edit(ma.HookPoint("resid_post", layers=[1]), lambda resid: 2 * resid)]


@pytest.fixture
def folder(tmp_path):
    """The shipped checkpoint, to be spoilt."""
    return shutil.copytree(TINY, tmp_path / "model")


@pytest.fixture
def net():
    return network("qwen2_audio")


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


def rewritten(folder, change):
    """The folder with other tensors in its file."""
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(part):
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def renamed(old, new):
    return lambda weights: {name.replace(old, new, 1): value for name, value in weights.items()}


def with_also(**tensors):
    return lambda weights: weights | {name.replace("__", "."): value for name, value in tensors.items()}


def cut_short(name):
    return lambda weights: {key: value[:-1].clone() if key == name else value for key, value in weights.items()}


def in_type(name, dtype):
    return lambda weights: weights | {name: weights[name].to(dtype)}


def doubled_logits(model, inputs):
    return ma.run(model, inputs, interventions=DOUBLED, logits="last").logits


# A checkpoint lacks its weights, or has them under other names or in other shapes.

SPOILT = {
    "a layer is missing": (
        without("language_model.model.model.layers.1."),
        r"12 of 144 tensors are missing \(model.language_",
    ),
    "the unembedding is missing": (without("lm_head"), r"1 of 144 tensors are missing \(lm_head.weight\)"),
    "the projector is missing": (without("multi_modal_projector"), r"2 of 144 tensors are missing"),
    "all but one are missing": (lambda weights: dict([*weights.items()][:1]), r"143 of 144 .* and 140 more"),
    "weights are renamed": (
        renamed("q_proj", "query"),
        r"20 of 144 tensors are missing .*; 20 have names that the netw",
    ),
    "a wrapped network was saved": (
        renamed("", "module."),
        r"144 of 144 .* begin with 'module.': .* save network.module",
    ),
    "a row is missing": (cut_short(HEAD), r"1 has another shape \(lm_head.weight \[103, 128\] instead of"),
    "an adapter was not merged": (
        with_also(lm_head__lora_A__weight=torch.ones(2)),
        r"lm_head.lora_A.weight.* merge it",
    ),
    "a bias too many": (with_also(lm_head__bias=torch.ones(104)), r"1 has a name that the network does not know"),
    "numbers are quantised": (in_type(HEAD, torch.int8), rf"holds quantised or other numbers .* \({HEAD} as I8\)"),
    "weights are whole numbers": (in_type(HEAD, torch.int32), rf"other numbers than weights are \({HEAD} as I32\)"),
    "weights are true or false": (in_type(HEAD, torch.bool), rf"other numbers than weights are \({HEAD} as BOOL\)"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_checkpoint_that_is_not_the_network_is_refused_with_its_file(folder, how):
    change, told = SPOILT[how]
    with pytest.raises(ValueError, match=rf"{re.escape(str(folder / 'model.safetensors'))}.*{told}"):
        ma.load(rewritten(folder, change), prove=False)


def test_weights_of_another_float_type_are_weights(folder):
    rewritten(folder, in_type(HEAD, torch.float64))
    assert ma.load(folder, prove=False).network.lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_in_every_class_one_tensor_less_is_refused(family, tmp_path):
    network(family).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = sorted(weights)[FAMILIES.index(family) * len(weights) // len(FAMILIES)]  # another part of every class
    save_file(without(name)(weights), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not hold the weights of this .*(are missing|ha(s|ve) another shape)"):
        ma.load(tmp_path, prove=False)


def test_a_part_that_the_class_does_not_have_is_left_out_with_a_word(folder):
    rewritten(folder, with_also(talker__weight=torch.ones(2)))
    with pytest.warns(UserWarning, match=r"holds 1 tensor of parts that .* does not have, .*: talker.weight"):
        ma.load(folder, prove=False)


def test_a_checkpoint_in_shards_is_read_whole_or_refused(folder):
    whole = ma.load(folder, prove=False).network
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="1MB")
    again = ma.load(folder, prove=False).network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.state_dict().items())
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"{shard.name}' \(5,000 bytes\) is no whole safetensors file"):
        ma.load(folder)
    shard.unlink()
    with pytest.raises(OSError, match=shard.name):
        ma.load(folder)


@pytest.mark.parametrize(("held", "told"), [(b"", "header too small"), (b"x" * 99, "header too large")])
def test_a_file_that_is_no_safetensors_is_named(folder, held, told):
    (folder / "model.safetensors").write_bytes(held)
    with pytest.raises(ValueError, match=rf"model.safetensors' \({len(held)} bytes\) is no whole .*{told}"):
        ma.load(folder)


def test_pickled_weights_and_no_weights_are_refused_with_the_remedy(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no safetensors, only pytorch_model.bin, .* AudioLM\(network, processor\)"):
        ma.load(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(OSError, match=r"holds a config.json and no weights"):
        ma.load(folder)


@pytest.mark.skipif(find_spec("peft") is not None, reason="peft is installed, and takes the adapter")
def test_an_adapter_without_its_network_and_one_that_would_be_left_out_are_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Base"}')
    with pytest.raises(ImportError, match=r"holds an adapter of peft beside its weights .*pip install peft"):
        ma.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"an adapter of peft .*, not a network.*'Qwen/Base'.*merge_and_unload"):
        ma.load(folder)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('{"auto_mapping": {"base_model_class": "VoxtralForConditionalGeneration"}}', "in a VoxtralForConditionalGen"),
        ('{"base_model_name_or_path": "mistralai/Voxtral-Mini-3B-2507"}', r"in a Voxtral\w+ \(mistralai/Voxtral-Mini"),
        ('{"base_model_name_or_path": "BESIDE"}', r"in a Voxtral\w+ \(.*beside\), and .* holds a Qwen2Audio"),
        ('{"auto_mapping": 3}', r"adapter_config.json' cannot be read as the config of an adapter \(AttributeError"),
        ("[]", "cannot be read as the config of an adapter"),
        ("", "cannot be read as the config of an adapter"),
    ],
)
def test_an_adapter_that_was_trained_in_a_network_of_another_class_is_refused(
    folder, tmp_path, monkeypatch, settings, told
):
    monkeypatch.setattr(importlib.import_module("mechaudio.tracing.load"), "is_peft_available", lambda: True)
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "config.json").write_text('{"model_type": "voxtral"}')
    (folder / "adapter_config.json").write_text(settings.replace("BESIDE", str(beside)))
    with pytest.raises(ValueError, match=told):
        ma.load(folder)


def test_an_adapter_that_was_trained_in_another_checkpoint_is_named(folder, monkeypatch):
    load = importlib.import_module("mechaudio.tracing.load")
    monkeypatch.setattr(load, "is_peft_available", lambda: True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2-Audio-7B"}')
    with pytest.warns(UserWarning, match="trained in 'Qwen/Qwen2-Audio-7B'; nothing says that the weights in"):
        load._refuse_adapter(str(folder), {}, adapter_for(network("qwen2_audio")))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_hidden_layers": -1}, "config.json' cannot be read as the config of a network"),
        ({"num_hidden_layers": "six"}, "expected int, got str"),
        ({"hidden_size": 96}, "ha(s|ve) another shape"),
    ],
)
def test_a_config_that_the_weights_do_not_fit_is_refused(folder, fields, told):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= fields
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=told):
        ma.load(folder)


def test_an_unknown_quantisation_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "unheard"}}))
    with pytest.raises(ValueError, match=r"says that its weights are quantised \('unheard'\), in a way"):
        ma.load(folder)


def test_a_processor_that_cannot_be_read_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the processor in '.*model' cannot be read: KeyError"):
        ma.load(folder, prove=False)


def test_check_counts_the_tensors_and_refuses_with_exit_code_2(folder, capsys):
    assert main(["check", str(folder)]) == 0
    assert "ok   weights: all 144 tensors accounted for" in capsys.readouterr().out
    assert main(["check", str(rewritten(folder, without("layers.1.")))]) == 2
    assert "tensors are missing" in capsys.readouterr().err
    assert main(["evaluate", "--model", str(folder), "--n", "2"]) == 2


# Keywords are honoured or refused.


def test_keywords_of_transformers_are_honoured(folder):
    assert ma.load(folder, torch_dtype=torch.bfloat16, prove=False).network.dtype == torch.bfloat16
    assert ma.load("toy", dtype="float64", prove=False).network.dtype == torch.float64
    model = ma.load(folder, attn_implementation="eager", device="cpu", use_safetensors=True, prove=False)
    assert model.network.config._attn_implementation == "eager"


def test_where_to_read_from_holds_for_config_weights_and_processor_alike(folder):
    inside = folder.parent / "all"
    shutil.copytree(folder, inside / "inner")
    assert ma.load(inside, subfolder="inner", local_files_only=True, prove=False).processor is not None


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"banana": 1}, TypeError, "ma.load knows no option banana="),
        ({"devise": "cpu"}, TypeError, r"did you mean device=\?"),
        ({"load_in_8bit": True}, TypeError, r"give quantization_config=transformers.BitsAndBytesConfig"),
        ({"ignore_mismatched_sizes": True}, TypeError, "would stay random numbers"),
        ({"output_loading_info": True}, TypeError, "ma.load looks at it"),
        ({"output_attentions": True}, TypeError, "record hook points"),
        ({"low_cpu_mem_usage": True}, TypeError, "knows no option low_cpu_mem_usage="),
        ({"use_safetensors": False}, ValueError, "reads safetensors only"),
        ({"dtype": "bf16"}, ValueError, "dtype='bf16' is no type for weights"),
        ({"dtype": torch.float32, "torch_dtype": torch.float16}, ValueError, "two names of one thing"),
        ({"device": "banana"}, ValueError, "device='banana' cannot be used here"),
        ({"revision": "main"}, ValueError, "is a folder|not revision"),
    ],
)
def test_other_keywords_of_load_are_refused(options, error, told):
    for name in ("tiny", "toy"):
        with pytest.raises(error, match=told):
            ma.load(name, **options)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"banana": 1}, TypeError, "ma.trace knows no option banana="),
        ({"use_cach": False}, TypeError, r"did you mean use_cache=\?"),
        ({"input_ids": 1}, TypeError, "takes 'input_ids' from the prompts"),
        ({"output_attentions": True}, ValueError, "ask for the hook point 'pattern'"),
        ({"max_new_tokens": 2, "do_sample": True}, ValueError, "takes the likeliest token"),
        ({"max_new_tokens": 2, "eos_token": 2}, TypeError, r"did you mean eos_token_id=\?"),
    ],
)
def test_other_keywords_of_trace_are_refused(net, inputs, options, error, told):
    with pytest.raises(error, match=told):
        ma.trace(ma.AudioLM(net, prove=False), inputs, **options)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"banana": 1}, TypeError, "ma.generate knows no option banana="),
        ({"do_sample": True}, ValueError, "takes the likeliest token"),
        ({"temperature": 0.5}, ValueError, "takes the likeliest token"),
        ({"num_beams": 2}, ValueError, "a prompt has one continuation"),
        ({"max_length": 9}, ValueError, "give max_new_tokens="),
        ({"prefill_chunk_size": 8}, ValueError, "hook points are of whole prompts"),
        ({"past_key_values": None}, ValueError, "give the whole prompt"),
        ({"use_cache": False}, ValueError, "edits of it would be lost"),
        ({"assistant_model": None}, TypeError, "knows no option assistant_model="),
        ({"cache_implementation": "paged"}, ValueError, "in a thread of its own"),
        ({"cache_implementation": "static", "cache_config": {"nbits": 4}}, ValueError, "with .*'quantized' alone"),
        ({"cache_config": {"nbits": 4}}, ValueError, "with .*'quantized' alone, got None"),
        ({"cache_implementation": "quantized", "cache_config": 4}, TypeError, "cache_config= takes a Mapping"),
        ({"cache_implementation": "quantized"}, ImportError, "optimum-quanto"),
    ],
)
def test_other_keywords_of_generate_are_refused(net, inputs, options, error, told):
    with pytest.raises(error, match=told):
        ma.generate(ma.AudioLM(net, prove=False), inputs, max_new_tokens=2, **options)


def test_inputs_that_the_network_would_drop_are_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)
    with pytest.raises(TypeError, match=r"knows no input attention_masks=: did you mean attention_mask=\?"):
        ma.run(model, inputs | {"attention_masks": 1})
    with pytest.raises(ValueError, match=r"row 1 begins with the padding token .*, and there is no 'attention_mask'"):
        ma.run(model, {name: value for name, value in inputs.items() if name != "attention_mask"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("past_key_values", DynamicCache(), "grows with every run, so that the same call twice .*give the whole"),
        ("inputs_embeds", torch.zeros(2, 89, 64), r"ma.Edit\(ma.HookPoint\('embed'\), change\)"),
        ("labels", torch.zeros(2, 89), r"ma.trace\(model, inputs, labels=labels\)"),
        ("position_ids", torch.zeros(3, 89, dtype=torch.long), r"\(3, 89\) .* as many as 'input_ids' \(2, 89\)"),
        ("position_ids", "0", "is a tensor, got str"),
        ("input_ids", torch.zeros(2, 89), "whole numbers; got shape .*float32"),
        ("input_ids", torch.full((2, 89), 400), "hold 400, and .* knows the token ids 0 to 399"),
        ("attention_mask", [[1] * 89] * 2, "is a tensor, got list: .*return_tensors='pt'"),
        ("input_features", np.zeros((2, 128, 400)), "is a tensor, got ndarray"),
        ("input_features", torch.zeros(128, 400), r"\(128, 400\) and .* takes features of 3 axes"),
        ("input_features", torch.full((2, 128, 400), torch.nan), "hold NaN or infinity"),
        ("feature_attention_mask", torch.ones(3, 400), r"\(3, 400\): .* as many entries of their mask"),
    ],
)
def test_inputs_that_are_no_part_of_a_prompt_or_no_tensors_are_refused(net, inputs, name, value, told):
    with pytest.raises((TypeError, ValueError), match=f"'{name}' .*{told}"):
        ma.run(ma.AudioLM(net, prove=False), inputs | {name: value})


# States in which the same call twice gives two answers, or edits land elsewhere.


def test_training_mode_is_refused_wherever_it_is_left_on(net, inputs):
    model = ma.AudioLM(net, prove=False)
    net.train()
    with pytest.raises(ValueError, match="this Qwen2AudioForConditionalGeneration is in training mode"):
        ma.run(model, inputs)
    with pytest.raises(ValueError, match="in training mode"):
        ma.AudioLM(net)
    net.eval()
    net.get_submodule("model.language_model.layers.1.mlp").train()
    for call in (ma.run, ma.generate, partial(ma.sweep, variants=[[]], progress=False)):
        with pytest.raises(ValueError, match=r"layers.1.mlp \(Qwen2MLP\) is in training mode.*network.eval\(\)"):
            call(model, inputs)


class Adapted(nn.Module):
    """A linear layer with an adapter of low rank, that drops its inputs whatever mode it is in."""

    def __init__(self, base, rate):
        super().__init__()
        self.base_layer, self.rate = base, rate
        self.lora_A, self.lora_B = (nn.Linear(*size, bias=False) for size in ((64, 2), (2, base.out_features)))

    def forward(self, hidden):
        return self.base_layer(hidden) + self.lora_B(self.lora_A(nn.functional.dropout(hidden, self.rate)))


def adapted(net, rate):
    attention = net.get_submodule("model.language_model.layers.1.self_attn")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention.q_proj = Adapted(attention.q_proj, rate).eval()
    return net


def test_an_adapter_is_read_as_it_stands_and_refused_where_it_draws_random_numbers(inputs):
    plain = adapted(network("qwen2_audio"), 0.0)
    with torch.no_grad():
        expected = plain(**inputs).logits
    assert torch.equal(ma.run(ma.AudioLM(plain), inputs).logits, expected)
    with pytest.raises(ma.tracing.HookPointError, match=r"the same call twice gives two answers: .* a dropout"):
        ma.AudioLM(adapted(network("qwen2_audio"), 0.5))
    trained = adapted(network("qwen2_audio"), 0.0)
    trained.get_submodule("model.language_model.layers.1.self_attn.q_proj.lora_A").train()
    assert torch.equal(ma.run(ma.AudioLM(trained), inputs).logits, expected)  # a linear layer does as always
    trained.get_submodule("model.language_model.layers.1.self_attn.q_proj").add_module("drop", nn.Dropout(0.1))
    with pytest.raises(ValueError, match=r"q_proj.drop \(Dropout\) is in training mode"):
        ma.AudioLM(trained)


class PeftModel(nn.Module):
    """Named as peft's class, which is known by its name."""

    def __init__(self, net):
        super().__init__()
        self.base_model = net


@pytest.mark.parametrize(
    ("wrap", "remedy"),
    [(torch.compile, "_orig_mod"), (nn.DataParallel, ".module"), (PeftModel, r"get_base_model\(\).*merge_and_unload")],
)
def test_a_wrapped_network_is_refused_with_what_to_open_instead(net, wrap, remedy):
    with pytest.raises(TypeError, match=f"wrapped in a .*: open what is inside, .*{remedy}"):
        ma.AudioLM(wrap(net))


def test_a_wrapped_or_compiled_part_is_refused(net):
    layers = net.get_submodule("model.language_model.layers")
    whole = layers[1]
    layers[1] = torch.compile(whole)
    with pytest.raises(ValueError, match=r"layers.1 of this .* is wrapped in a OptimizedModule.*_orig_mod"):
        ma.AudioLM(net)
    layers[1] = whole
    whole.compile()
    with pytest.raises(ValueError, match=r"layers.1 \(Qwen2DecoderLayer\) is compiled"):
        ma.AudioLM(net)


def test_a_part_that_is_replaced_after_opening_is_refused_until_it_is_opened_again(net, inputs):
    model = ma.AudioLM(net, prove=False)
    net.lm_head = nn.Linear(64, net.lm_head.out_features, bias=False).eval()
    with pytest.raises(ValueError, match=r"lm_head of this .* was put in, replaced or taken .* open it again"):
        ma.run(model, inputs)
    net.add_module("{new}", nn.Identity())
    with pytest.raises(ValueError, match=r"lm_head, \{new\} of this .* was put in, replaced or taken"):
        ma.run(model, inputs)
    del net._modules["{new}"]
    again = ma.AudioLM(net)
    banned = ma.Edit(ma.HookPoint("logits"), lambda logits: 0 * logits)
    assert ma.run(again, inputs, interventions=[banned]).logits.eq(0).all()
    layer = net.get_submodule("model.language_model.layers.0")
    layer.forward = lambda hidden, **_: hidden
    with pytest.raises(ValueError, match=r"the forward of .*layers.0 .* was replaced after the network was opened"):
        ma.run(again, inputs)


def test_a_network_without_numbers_is_refused():
    with torch.device("meta"):
        empty = type(network("qwen2_audio"))(network("qwen2_audio").config).eval()
    with pytest.raises(ValueError, match=r"has no numbers .*: load the weights before"):
        ma.AudioLM(empty)


@pytest.mark.parametrize(
    ("keyword", "what"),
    [("s_aux", "sinks"), ("softcap", "a cap of its scores"), ("position_bias", "a bias of positions")],
)
def test_attention_that_has_more_than_scores_and_a_mask_is_refused_by_what_it_has(net, inputs, keyword, what):
    attention = net.get_submodule("model.language_model.layers.1.self_attn")
    told = rf"the attention of Qwen2Attention has {what} \(`{keyword}`\), which mechaudio does not serve"
    given = attention.register_forward_pre_hook(
        lambda _module, args, kwargs: (args, {**kwargs, keyword: torch.zeros(4)}), with_kwargs=True
    )
    with pytest.raises(HookPointError, match=told):
        ma.AudioLM(net)
    model = ma.AudioLM(net, prove=False)
    with pytest.raises(HookPointError, match=told):
        ma.run(model, inputs)
    given.remove()
    ma.run(model, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_whose_own_attention_gives_other_logits_is_named_or_refused(net, inputs, monkeypatch, dtype):
    sharper = {"by": 1.0001}  # as much as kernels may differ by

    def own_attention(*args, scaling, **kwargs):
        return sdpa_attention_forward(*args, scaling=scaling * sharper["by"], **kwargs)

    AttentionInterface.register("own", own_attention)
    AttentionMaskInterface.register("own", sdpa_mask)
    net.to(dtype).set_attn_implementation({"text_config": "own"})
    ma.AudioLM(net)
    sharper["by"] = 4.0
    with pytest.warns(UserWarning, match="is set to attention of the kind 'own', .* gives the logits of 'sdpa'"):
        ma.AudioLM(net)
    monkeypatch.setattr(type(net.model.language_model), "_supports_sdpa", False)  # its own is the only one it has
    with pytest.raises(HookPointError, match="gives other logits by itself than with its hook points: they differ by"):
        ma.AudioLM(net)
    ma.run(ma.AudioLM(net, prove=False), inputs)


def test_a_hook_point_shows_what_goes_on_behind_a_hook_of_somebody_elses(net, inputs):
    model = ma.AudioLM(net, prove=False)
    layer = net.get_submodule("model.language_model.layers.1")
    handle = layer.register_forward_hook(lambda _layer, _args, out: 1.5 * out)
    with torch.no_grad():
        expected = net(**inputs).logits
    out = ma.run(model, inputs, record=["resid_post", "resid_pre"])
    assert torch.equal(out.logits, expected)
    assert torch.equal(out.cache["resid_post", 1], out.cache["resid_pre", 2])
    twice = [ma.Edit(ma.HookPoint("resid_post", layers=[1]), lambda resid: resid / 1.5)]
    edited = ma.run(model, inputs, interventions=twice).logits
    assert handle.id in layer._forward_hooks
    handle.remove()
    torch.testing.assert_close(edited, ma.run(model, inputs).logits, atol=1e-5, rtol=1e-5)


def test_a_hook_that_may_change_z_behind_its_hook_point_is_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)
    projection = net.get_submodule("model.language_model.layers.1.self_attn.o_proj")
    handle = projection.register_forward_pre_hook(lambda _module, args: (2 * args[0],))
    with pytest.raises(
        ValueError, match=r"a hook in front of .*layers.1.self_attn.o_proj .* ma.Edit\(ma.HookPoint\('z'"
    ):
        ma.run(model, inputs)
    handle.remove()
    assert ma.run(model, inputs).logits.isfinite().all()


@pytest.mark.parametrize("part", ["self_attn", "self_attn.o_proj"])
def test_head_results_that_a_hook_keeps_from_adding_up_are_refused(net, inputs, part):
    model = ma.AudioLM(net, prove=False)
    layer = "model.language_model.layers.1"
    module = net.get_submodule(f"{layer}.{part}")
    double = lambda _module, _args, out: (2 * out[0], *out[1:]) if isinstance(out, tuple) else 2 * out  # noqa: E731
    handle = module.register_forward_hook(double)
    each_head = [ma.HookPoint("result", layers=[0, 1]), "attn_out"]
    for record in (each_head, [ma.HookPoint("result", layers=[1], positions="last")]):
        with pytest.raises(ValueError, match=rf"a forward hook is on {layer}.{part} \(.*add up to attn_out"):
            ma.run(model, inputs, record=record)
    with pytest.raises(ValueError, match=rf"a forward hook is on {layer}.{part} \("):
        ma.analyses.direct_logit_attribution(model, inputs, between=(1, 2))
    with torch.no_grad():
        expected = net(**inputs).logits
    assert torch.equal(ma.run(model, inputs, record=["attn_out"]).logits, expected)
    handle.remove()
    kept = ma.run(model, inputs, record=each_head).cache
    torch.testing.assert_close(kept["result", 1].sum(2), kept["attn_out", 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("before", [True, False])
def test_weights_are_not_read_past_a_hook_on_the_unembedding(net, inputs, before):
    model = ma.AudioLM(net, prove=False)
    head = net.get_submodule(model.adapter.unembed)
    register = head.register_forward_pre_hook if before else head.register_forward_hook
    handle = register(lambda _module, args, *out: 2 * out[0] if out else (2 * args[0],))
    with pytest.raises(ValueError, match=r"a forward hook is on lm_head \(.*the unembedding is taken by its weights"):
        ma.analyses.direct_logit_attribution(model, inputs, between=(1, 2))
    handle.remove()
    parts = ma.analyses.direct_logit_attribution(model, inputs, between=(1, 2))
    np.testing.assert_allclose(parts.explained, parts.logit_difference, atol=1e-4)


def test_a_hook_that_hides_the_stream_from_its_hook_point_is_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)
    norm = net.get_submodule("model.language_model.layers.1.post_attention_layernorm")
    handle = norm.register_forward_pre_hook(lambda _module, args: (2 * args[0],))
    with pytest.raises(ValueError, match=r"in front of .*layers.1.post_attention_layernorm .* hook point resid_mid"):
        ma.run(model, inputs, record=["resid_mid"])
    handle.remove()
    assert ma.run(model, inputs).logits.isfinite().all()


def test_hooks_for_all_modules_at_once_are_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(lambda *_: None)
        try:
            with pytest.raises(ValueError, match=r"a hook is registered for all modules at once \(.*<lambda>"):
                ma.run(model, inputs)
        finally:
            handle.remove()
    assert ma.run(model, inputs).logits.isfinite().all()


def test_edits_that_were_left_on_with_nnsight_are_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)
    with model.edit(inplace=True):
        model.lm_head.output = model.lm_head.output * 2
    with pytest.raises(ValueError, match=r"edits were left on this model .*model.clear_edits\(\)"):
        ma.run(model, inputs)
    model.clear_edits()
    assert ma.run(model, inputs).logits.isfinite().all()


def test_gradient_checkpointing_changes_nothing(net, inputs):
    model = ma.AudioLM(net, prove=False)
    expected = doubled_logits(model, inputs)
    getattr(net, "activation_checkpointing_enable", net.gradient_checkpointing_enable)()
    assert torch.equal(doubled_logits(model, inputs), expected)


@pytest.mark.parametrize("family", ["qwen2_audio", "gemma3n", "voxtral"])
def test_a_static_cache_gives_the_tokens_and_tensors_of_the_usual_one(family):
    model, inputs = ma.AudioLM(network(family), prove=False), model_inputs(family)
    changes = [ma.ScaleAttention(3.0, layers=[0, 1]), ma.KnockOutAttention(layers=[2]), *DOUBLED]
    ask = partial(
        ma.generate,
        model,
        inputs,
        max_new_tokens=4,
        interventions=changes,
        record=[ma.HookPoint("pattern", queries="last")],
    )
    usual, other = ask(min_new_tokens=4), ask(min_new_tokens=4, cache_implementation="static")
    assert torch.equal(other.tokens, usual.tokens)
    for step, kept in zip(other.steps, usual.steps, strict=True):
        torch.testing.assert_close(step["pattern", 1], kept["pattern", 1], atol=1e-5, rtol=1e-4)


def test_settings_of_a_checkpoint_that_draw_or_cut_are_switched_off(net, inputs):
    model = ma.AudioLM(net, prove=False)
    usual = ma.generate(model, inputs, max_new_tokens=4, interventions=DOUBLED).tokens
    net.generation_config.use_cache = False
    net.generation_config.update(do_sample=True, temperature=3.0, prefill_chunk_size=8, cache_implementation="static")
    assert torch.equal(ma.generate(model, inputs, max_new_tokens=4, interventions=DOUBLED).tokens, usual)


@pytest.mark.parametrize("kind", ["static", "sliding_window", "quantized", "paged"])
def test_the_kind_of_cache_of_a_checkpoint_changes_no_token(kind, net, inputs):
    model = ma.AudioLM(net, prove=False)
    expected = [ma.generate(model, inputs, max_new_tokens=4, interventions=change).tokens for change in ([], DOUBLED)]
    net.generation_config.cache_implementation = kind
    written = ma.generate_variants(model, inputs, [DOUBLED], max_new_tokens=4)
    assert torch.equal(written.clean_tokens, expected[0])
    assert torch.equal(written.tokens[0], expected[1])
    assert torch.equal(ma.generate(model, inputs, max_new_tokens=4, interventions=DOUBLED).tokens, expected[1])


def test_a_cache_that_moves_off_an_accelerator_is_refused_where_there_is_none(net, inputs, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for kind in ("offloaded", "offloaded_static"):
        with pytest.raises(ValueError, match=f"'{kind}' moves keys and values off an accelerator"):
            ma.generate(ma.AudioLM(net, prove=False), inputs, cache_implementation=kind)


# Threads, and several models on one network.

FACTORS = (0.25, 0.5, 2.0, 4.0)


def answers_of(call, expected):
    """What a call in a thread gave: right numbers, or a refusal that says why."""
    try:
        return "right" if torch.equal(call(), expected) else "wrong"
    except RuntimeError as error:
        return "refused" if "thread" in str(error) else str(error)


def test_runs_in_many_threads_are_right_or_refused_and_leave_the_network_as_it_was(net, inputs):
    models = [ma.AudioLM(net, prove=False) for _ in range(2)]
    scaled = [[ma.ScaleAttention(factor)] for factor in FACTORS]
    with torch.no_grad():
        clean = net(**inputs).logits
    expected = [ma.run(models[0], inputs, interventions=one).logits for one in scaled]

    def job(number):
        model, which = models[number % 2], number % len(scaled)
        if number % 3 == 2:
            return answers_of(torch.no_grad()(lambda: net(**inputs).logits), clean)
        return answers_of(lambda: ma.run(model, inputs, interventions=scaled[which]).logits, expected[which])

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(job, range(60)))
    assert set(told) <= {"right", "refused"}
    assert [config._attn_implementation_internal for config, _ in models[0]._configs] == ["sdpa", "sdpa"]
    assert torch.equal(ma.run(models[1], inputs, interventions=scaled[0]).logits, expected[0])


def while_it_runs(model, inputs, call):
    """What a call in another thread gave while the model was in the middle of a run."""
    told = []

    def look(value):
        thread = threading.Thread(target=lambda: told.append(call()))
        thread.start()
        thread.join()
        return value

    out = ma.run(model, inputs, interventions=[ma.Edit(ma.HookPoint("resid_post", layers=[1]), look)])
    return told[0], out.logits


def test_whatever_comes_from_another_thread_during_a_run_is_refused_at_once(net, inputs):
    model, other = (ma.AudioLM(net, prove=False) for _ in range(2))
    with torch.no_grad():
        clean = net(**inputs).logits

    def traced():
        with torch.no_grad(), ma.trace(model, inputs):
            saved = model.logits.save()
        return saved.clone()

    calls = (
        lambda: ma.run(model, inputs).logits,
        lambda: ma.run(other, inputs).logits,
        lambda: ma.generate(other, inputs, max_new_tokens=2).tokens,
        traced,
        torch.no_grad()(lambda: net(**inputs).logits),
    )
    for call in calls:
        told, logits = while_it_runs(model, inputs, partial(answers_of, call, clean))
        assert told == "refused"
        assert torch.equal(logits, clean)
    assert torch.equal(traced(), clean)
    assert [config._attn_implementation_internal for config, _ in model._configs] == ["sdpa", "sdpa"]


def test_a_network_opened_twice_does_not_run_inside_its_own_run(net, inputs):
    model, other = (ma.AudioLM(net, prove=False) for _ in range(2))
    inner = ma.Edit(ma.HookPoint("resid_post", layers=[1]), lambda resid: ma.run(other, inputs).logits and resid)
    with pytest.raises(RuntimeError, match="running already, opened as another AudioLM"):
        ma.run(model, inputs, interventions=[inner])


def test_a_plain_call_inside_a_run_is_refused(net, inputs):
    model = ma.AudioLM(net, prove=False)

    def change(resid):
        net(**inputs)
        return resid

    with pytest.raises(RuntimeError, match="the network was called inside its own run, by an edit"):
        ma.run(model, inputs, interventions=[ma.Edit(ma.HookPoint("resid_post", layers=[1]), change)])
    assert ma.run(model, inputs).logits.isfinite().all()


@pytest.mark.parametrize("family", ["qwen2_audio", "granite_speech", "gemma3n", "qwen2_5_omni_thinker"])
@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_two_networks_of_one_class_run_in_two_threads_even_with_one_config(family):
    first, inputs = network(family), model_inputs(family)
    second = type(first)(first.config).eval()
    second.load_state_dict(first.state_dict())
    models = [ma.AudioLM(one, prove=False) for one in (first, second)]
    assert second.config is first.config
    before = [config._attn_implementation_internal for config, _ in models[0]._configs]
    changes = [ma.Edit(ma.HookPoint("audio.resid_post", layers=[0]), lambda resid: 2 * resid), ma.ScaleAttention(2.0)]
    expected = ma.run(models[0], inputs, interventions=changes).logits
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda number: ma.run(models[number % 2], inputs, interventions=changes).logits, (0, 1))
        for logits in runs:
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert [config._attn_implementation_internal for config, _ in models[1]._configs] == before


@pytest.mark.parametrize("families", [("granite_speech", "granite_speech"), ("granite_speech", "granite_speech_plus")])
def test_two_networks_that_choose_a_kernel_for_the_process_leave_torch_its_choice(families):
    in_first, in_second, behind_first = (threading.Event() for _ in range(3))

    def begin_first(scores):
        in_first.set()
        in_second.wait(60)
        return scores

    def end_last(scores):
        in_second.set()
        behind_first.wait(60)
        return scores

    def run(model, change):
        edit = ma.Edit(ma.HookPoint("audio.scores", layers=[1]), change)
        ma.run(model, model_inputs(model.adapter.family), interventions=[edit])

    models = [ma.AudioLM(network(family), prove=False) for family in families]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, models[0], begin_first)
        in_first.wait(60)
        second = pool.submit(run, models[1], end_last)
        first.result()
        behind_first.set()
        second.result()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()

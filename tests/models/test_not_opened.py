"""Every class of transformers that takes sound and text has an adapter, or a reason why it is not opened."""

import inspect
import json
from importlib import import_module

import pytest
import torch
import transformers
from transformers.models.auto import modeling_auto

import mechaudio as ma
from mechaudio.models.not_opened import NOT_OPENED
from mechaudio.models.registry import ADAPTERS

TABLES = (
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)


def tabled():
    """Return the classes of both tables, some of which hold several in one place."""
    named = [[entry] if isinstance(entry, str) else entry for table in TABLES for entry in table.values()]
    return {name for names in named for name in names}


def takes_sound(network_class):
    """Return whether a class says so, or its forward takes features or samples."""
    inputs = inspect.signature(network_class.forward).parameters
    named = any(name in ("input_features", "input_values") or name.startswith("audio_") for name in inputs)
    return named or "audio" in (network_class.input_modalities or ())


def classes_that_take_sound():
    return {name for name in tabled() if hasattr(transformers, name) and takes_sound(getattr(transformers, name))}


def test_every_class_that_takes_sound_and_text_is_opened_or_has_a_reason():
    opened = {adapter.network_class for adapter in ADAPTERS}
    classes = classes_that_take_sound()
    assert {"Qwen2AudioForConditionalGeneration", "MuseSparkForConditionalGeneration"} < classes
    assert classes - opened - set(NOT_OPENED) == set()


def test_what_is_not_opened_is_a_class_of_transformers_without_an_adapter():
    assert not {adapter.network_class for adapter in ADAPTERS} & set(NOT_OPENED)
    there = {name for name in NOT_OPENED if hasattr(transformers, name)}
    assert there <= tabled()
    assert len(there) > 5


@pytest.mark.parametrize("name", NOT_OPENED)
def test_a_network_that_is_not_opened_is_refused_with_the_reason(name):
    network = type(name, (torch.nn.Module,), {})()
    with pytest.raises(TypeError, match=f"{name} is not opened: it ") as refused:
        ma.AudioLM(network)
    assert NOT_OPENED[name] in str(refused.value)


def test_a_checkpoint_that_is_not_opened_is_refused_with_the_reason(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "voxtral_realtime"}))
    name = "VoxtralRealtimeForConditionalGeneration"
    with pytest.raises(TypeError, match=f"holds a 'voxtral_realtime', and {name} is not opened: it ") as refused:
        ma.load(tmp_path)
    assert NOT_OPENED[name] in str(refused.value)


def test_a_checkpoint_that_needs_a_newer_transformers_says_so(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_audio"}))
    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "CONFIG_MAPPING", {})
    message = (
        r"holds a 'qwen2_audio', and this transformers .* has no Qwen2AudioForConditionalGeneration: install a newer"
    )
    with pytest.raises(TypeError, match=message):
        ma.load(tmp_path)

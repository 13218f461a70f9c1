"""Names and folders that people try first, of networks that do not open as they are: the truth, and the way."""

import json

import pytest

import mechaudio as ma
from mechaudio.cli import main


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("tsinghua-ee/SALMONN-7B", "salmonn"),
        ("tsinghua-ee/SALMONN", "salmonn"),
        ("lysanderism/TimeAudio", "timeaudio"),
        ("DeSTA-ntu/DeSTA2.5-Audio-Llama-3.1-8B", "desta"),
        ("moonshotai/Kimi-Audio-7B-Instruct", "kimi"),
        ("moonshotai/Kimi-Audio-7B", "kimi"),
    ],
)
def test_a_release_of_parts_says_how_to_put_them_together(name, family, capsys):
    said = rf"'{name}' holds parts of a .*the rest lies elsewhere.*`mechaudio assemble {family} --.*ma\.load\(FOLDER"
    with pytest.raises(ValueError, match=said):
        ma.load(name)
    assert main(["check", name]) == 2
    assert f"mechaudio assemble {family}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "family"),
    [
        ({"model_type": "kimi_audio", "kimia_token_offset": 152064, "auto_map": {"AutoConfig": "own.Config"}}, "kimi"),
        ({"model_type": "desta25", "prompt_size": 64}, "desta"),
    ],
)
def test_a_folder_as_it_was_published_says_how_to_put_the_parts_together(tmp_path, settings, family, capsys):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"as it was published, which holds parts.*`mechaudio assemble {family} --"):
        ma.load(tmp_path)
    assert main(["check", str(tmp_path)]) == 2
    assert f"mechaudio assemble {family}" in capsys.readouterr().err


@pytest.mark.parametrize("mapped", [True, False])
def test_a_model_type_that_nobody_has_is_named(tmp_path, mapped, capsys):
    config = {"model_type": "own_audio", "hidden_size": 8}
    code = {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}} if mapped else {}
    (tmp_path / "config.json").write_text(json.dumps({**config, **code}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        TypeError, match=r"holds a 'own_audio', which neither this transformers \(.*\) nor mechaudio"
    ) as e:
        ma.load(tmp_path)
    assert ("names code of its own (auto_map), which mechaudio does not run" in str(e.value)) == mapped
    assert "trust_remote_code" not in str(e.value)
    assert "qwen2_audio (Qwen2AudioForConditionalGeneration)" in str(e.value)
    assert main(["check", str(tmp_path)]) == 2
    assert "holds a 'own_audio'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file", ["salmonn_7b_v0.pth", "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt", "weights.bin"]
)
def test_a_folder_of_loose_weights_is_no_checkpoint(tmp_path, file):
    (tmp_path / file).write_bytes(b"weights")
    with pytest.raises(ValueError, match=rf"holds {file} and no config\.json: parts of a network, not a checkpoint"):
        ma.load(tmp_path)


def test_a_class_of_transformers_without_an_adapter_is_told_apart_from_one_that_nobody_has(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(TypeError, match=r"holds a 'bert'; mechaudio opens: qwen2_audio"):
        ma.load(tmp_path)

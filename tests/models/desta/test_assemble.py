"""DeSTA2.5-Audio's parts as they are published become one folder that opens, or nothing."""

import json

import pytest
import torch

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.assembling import MANIFEST
from mechaudio.models.desta.assemble import assemble
from tests.families import noise
from tests.models.desta.parts import change, write_parts
from tests.models.desta.released import network, processor


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("desta"))


@pytest.fixture
def own_parts(tmp_path):
    """Parts that a test may spoil."""
    return write_parts(tmp_path / "parts")


def test_an_assembled_folder_opens_as_the_network_it_is_made_of(parts, tmp_path, capsys):
    out = tmp_path / "made"
    words = [f"--{name}={path}" for name, path in parts.items()]
    assert main(["assemble", "desta", *words, "--out", str(out), "--dtype", "float32", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    model = ma.load(out)
    assert (document["verb"], document["folder"]) == ("assemble", str(out))
    assert document["n_tensors"] == len(model.network.state_dict())
    assert [row["part"] for row in document["rows"]] == list(parts)
    assert model.adapter.family == "desta25"
    reference = network()
    assert {name: value.shape for name, value in model.network.state_dict().items()} == {
        name: value.shape for name, value in reference.state_dict().items()
    }
    question = ma.AudioQuestion(
        audio=ma.AudioClip(noise(2.0), 16_000), text="What is this?", meta={"transcript": "Hello there"}
    )
    own = ma.AudioLM(reference, processor(), prove=False)
    batch, wanted = ma.prompt(model, [question]), ma.prompt(own, [question])
    assert torch.equal(batch.inputs["input_ids"], wanted.inputs["input_ids"])
    torch.testing.assert_close(ma.run(model, batch).logits, ma.run(own, wanted).logits, atol=1e-6, rtol=0)
    settings = model.network.perception.whisper.generation_config
    assert (settings.decoder_start_token_id, settings.max_length) == (1, 100), "those of Whisper's folder"
    samples = noise(2.0)
    assert model.network.transcribe(samples, model.processor) == reference.transcribe(samples, own.processor)


def test_the_manifest_says_which_files_it_was_made_of(parts, tmp_path):
    made = assemble(**parts, out=tmp_path / "made", dtype="float16")
    manifest = json.loads((made.folder / MANIFEST).read_text())
    assert (manifest["family"], manifest["dtype"]) == ("desta", "float16")
    assert {part: len(files) for part, files in manifest["parts"].items()} == dict.fromkeys(parts, 1)
    assert ma.load(made.folder, prove=False).network.dtype == torch.float16


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("llama", "model.norm.weight", None, "no part holds llm_model.model.norm.weight"),
        ("whisper", "strange.weight", torch.zeros(1), r"whisper: .* holds tensors that have no place .*strange"),
        ("checkpoint", "perception.connector.proj.1.bias", torch.zeros(7), r"is \[7\], and the other parts make it \["),
        ("checkpoint", "perception.connector.layer_prompts.0", None, "it lacks perception.connector.layer_prompts.0"),
    ],
)
def test_every_tensor_is_accounted_for(own_parts, tmp_path, part, name, value, said):
    change(own_parts[part], name, value)
    with pytest.raises(ValueError, match=said):
        assemble(**own_parts, out=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_decoder_without_the_token_for_audio_is_told(own_parts, tmp_path):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        path = own_parts["llama"] / file
        path.write_text(path.read_text().replace("reserved_special_token_87", "reserved_special_token_86"))
    with pytest.raises(ValueError, match=r"has no token '<\|reserved_special_token_87\|>': is it Llama 3\.1's"):
        assemble(**own_parts, out=tmp_path / "made")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--llama", "a"], "takes --llama --whisper --checkpoint: it lacks --whisper, --checkpoint"),
        (
            ["--llama", "a", "--whisper", "b", "--checkpoint", "c", "--beats", "d", "--lora-alpha", "3"],
            "it has no --beats, --lora-alpha",
        ),
        (["--llama", "a", "--whisper", "b", "--checkpoint", "c"], "llama: there is nothing at 'a'"),
    ],
)
def test_the_command_says_which_parts_it_takes(words, said, tmp_path, capsys):
    assert main(["assemble", "desta", *words, "--out", str(tmp_path / "made")]) == 2
    assert said in capsys.readouterr().err


def test_a_llama_without_a_chat_template_is_another_one(own_parts, tmp_path):
    (own_parts["llama"] / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"llama: the tokenizer in .* has no chat template: is it the Instruct model"):
        assemble(**own_parts, out=tmp_path / "made")

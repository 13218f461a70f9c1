"""Parts as they are published become one folder that opens, or nothing."""

import json
import pickle
from hashlib import sha256

import pytest
import torch
from safetensors import SafetensorError

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.assembling import MANIFEST
from mechaudio.models.salmonn.assemble import assemble
from tests.families import noise
from tests.models.salmonn.parts import write_parts
from tests.models.salmonn.released import network, processor


@pytest.fixture(scope="module", params=["salmonn", "timeaudio"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def parts(family, tmp_path_factory):
    return write_parts(family, tmp_path_factory.mktemp(family))


@pytest.fixture
def own_parts(tmp_path):
    """Parts that a test may spoil."""
    return write_parts("salmonn", tmp_path / "parts")


def again(path, change):
    """Change what a pickled part holds."""
    content = torch.load(path, weights_only=True)
    change(content["model"])
    torch.save(content, path)


def test_an_assembled_folder_opens_as_the_network_it_is_made_of(family, parts, tmp_path, capsys):
    out = tmp_path / "made"
    words = [f"--{name}={path}" for name, path in parts.items()]
    assert main(["assemble", family, *words, "--out", str(out), "--qformer-heads", "3"]) == 0
    said = capsys.readouterr().out
    assert "all from the parts" in said
    assert "left out of whisper, as they have no use here: 1 tensor, such as model.decoder.layer_norm.bias" in said
    assert "left out of beats, as they have no use here: 2 tensors, such as predictor." in said
    model = ma.load(out, prove=False)  # `check` proves it, below
    assert model.adapter.family == family
    reference = network(family)
    inputs = processor(family)(text=["USER: <Speech><SpeechHere></Speech> ?\nASSISTANT:"], audio=[noise(2.0)])
    with torch.no_grad():
        given, wanted = model.network(**inputs).logits, reference(**inputs).logits
    new = slice(None, 600) if family == "salmonn" else slice(None)  # of SALMONN, no part holds the row of [PAD]
    assert torch.equal(given[..., new], wanted[..., new])
    question = ma.AudioQuestion(audio=ma.AudioClip(noise(2.0), 16_000), text="What is this?")
    batch = ma.prompt(model, [question])
    own = ma.AudioLM(reference, processor(family), prove=False)
    assert torch.equal(batch.inputs["input_ids"], ma.prompt(own, [question]).inputs["input_ids"])
    assert main(["check", str(out)]) == 0


def test_the_manifest_says_which_files_it_was_made_of(family, parts, tmp_path):
    made = assemble(family, **parts, out=tmp_path / "made", qformer_heads=3, dtype="float16")
    manifest = json.loads((made.folder / MANIFEST).read_text())
    assert (manifest["family"], manifest["dtype"], manifest["lora_alpha"]) == (family, "float16", 32)
    for part in ("beats", "checkpoint"):
        (file,) = manifest["parts"][part]
        assert file["file"] == str(parts[part])
        assert file["sha256"] == sha256(parts[part].read_bytes()).hexdigest()
    assert [len(manifest["parts"][part]) for part in ("llama", "whisper")] == [1, 1]
    assert manifest["left_out"] == {part: list(names) for part, names in made.left_out.items()}
    assert ma.load(made.folder, prove=False).network.dtype == torch.float16


def test_an_interrupted_run_leaves_nothing_half(own_parts, tmp_path, monkeypatch):
    def full(error):
        def save(*_args, **_options):
            raise error("no space left on device")

        return save

    written = {"processor.SalmonnProcessor": OSError, "network.SalmonnForConditionalGeneration": SafetensorError}
    for name, error in written.items():
        with monkeypatch.context() as patched:
            patched.setattr(f"mechaudio.models.salmonn.{name}.save_pretrained", full(error))
            with pytest.raises(OSError, match="no space left"):
                assemble("salmonn", **own_parts, out=tmp_path / "made", qformer_heads=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]
    killed = tmp_path / ".made.unfinished"
    killed.mkdir()
    (killed / "model.safetensors").write_bytes(b"half")
    assert assemble("salmonn", **own_parts, out=tmp_path / "made", qformer_heads=3).folder.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "parts"], "nor does one that was killed"
    with pytest.raises(FileExistsError, match="is there already: give out= a new folder"):
        assemble("salmonn", **own_parts, out=tmp_path / "made", qformer_heads=3)


class Runs:
    """Pickled, it would run a function where it is read."""

    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_file_that_would_run_code_is_refused(own_parts, tmp_path, capsys):
    with own_parts["checkpoint"].open("wb") as file:
        pickle.dump({"model": Runs()}, file, protocol=2)
    with pytest.raises(ValueError, match="without running code from it, print, which is not done"):
        assemble("salmonn", **own_parts, out=tmp_path / "made")
    assert "this must not run" not in capsys.readouterr().out
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("beats", lambda model: model.pop("layer_norm.bias"), "no part holds beats.layer_norm.bias"),
        ("beats", lambda model: model.update(strange=torch.zeros(1)), "beats: the network has no place for beats.str"),
        (
            "beats",
            lambda model: model.update({"layer_norm.bias": torch.zeros(16, dtype=torch.int8)}),
            "beats.layer_norm.bias is of type int8, as in quantised copies",
        ),
        ("beats", lambda model: model.update(note="hello"), "holds 'note', which is no tensor"),
        ("checkpoint", lambda model: model.pop("ln_audio.bias"), "no part holds ln_audio.bias"),
        (
            "checkpoint",
            lambda model: model.update({"ln_audio.bias": torch.zeros(7)}),
            r"ln_audio.bias is \[7\], and the other parts make it \[24\]: do the parts belong together",
        ),
        (
            "checkpoint",
            lambda model: [model.pop(name) for name in list(model) if "Qformer" in name],
            "it lacks speech_Qformer.*which every release has: is it the right file",
        ),
    ],
)
def test_every_tensor_is_accounted_for(own_parts, tmp_path, part, change, said):
    again(own_parts[part], change)
    with pytest.raises(ValueError, match=said):
        assemble("salmonn", **own_parts, out=tmp_path / "made", qformer_heads=3)
    assert not (tmp_path / "made").exists()


def test_parts_of_another_kind_are_told(own_parts, tmp_path, capsys):
    wrong = {**own_parts, "whisper": own_parts["llama"]}
    with pytest.raises(ValueError, match=r"whisper: .* holds tensors that have no place .*: lm_head\.weight"):
        assemble("salmonn", **wrong, out=tmp_path / "made")
    with pytest.raises(FileNotFoundError, match=r"holds neither tokenizer\.json nor tokenizer\.model"):
        assemble("salmonn", **{**own_parts, "llama": own_parts["whisper"]}, out=tmp_path / "made")
    with pytest.raises(ValueError, match=r"beats is a file, and .* is a folder: name the file in it"):
        assemble("salmonn", **{**own_parts, "beats": own_parts["whisper"]}, out=tmp_path / "made")
    with pytest.raises(FileNotFoundError, match="whisper: there is nothing at"):
        assemble("salmonn", **{**own_parts, "whisper": tmp_path / "no"}, out=tmp_path / "made")
    with pytest.raises(ValueError, match=r"checkpoint: it lacks .*embed_tokens.weight.* TimeAudio's marker tokens"):
        assemble("timeaudio", **own_parts, out=tmp_path / "made", qformer_heads=3)
    words = [f"--{name}={path}" for name, path in {**own_parts, "beats": tmp_path / "no.pt"}.items()]
    assert main(["assemble", "salmonn", *words, "--out", str(tmp_path / "made")]) == 2
    assert "there is nothing at" in capsys.readouterr().err


def test_a_folder_of_parts_says_that_they_are_to_be_put_together(own_parts):
    with pytest.raises(ValueError, match=r"holds beats.pt, released.pth and no config.json.*`mechaudio assemble"):
        ma.load(own_parts["beats"].parent)

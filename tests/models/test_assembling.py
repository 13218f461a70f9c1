"""Files of weights that are not what they should be are told, by their part and name."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mechaudio.models.assembling import read_weights, settings_in, tokenizer_in


def cut_off(file):
    whole = {"weight": torch.zeros(1000)}
    save_file(whole, file) if file.suffix == ".safetensors" else torch.save(whole, file)
    file.write_bytes(file.read_bytes()[:-500])


def pointer(file):
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n")


@pytest.mark.parametrize("name", ["model.safetensors", "released.pth"])
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (cut_off, "is no whole file of weights"),
        (lambda file: file.write_bytes(b""), "is no whole file of weights"),
        (lambda file: file.write_text("not found\n" * 20), "is no whole file of weights"),
        (pointer, "is a pointer of Git LFS and no file of weights: fetch what it points to"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, write, said):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=rf"llama: .*{name}' {said}"):
        read_weights("llama", [tmp_path / name])


@pytest.mark.parametrize("held", [[1, 2], torch.zeros(3)])
def test_a_file_without_names_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "beats.pt")
    with pytest.raises(ValueError, match=rf"beats: .* holds a {type(held).__name__}, and no tensors by name"):
        read_weights("beats", [tmp_path / "beats.pt"])


def test_settings_and_tokenizers_that_cannot_be_read_are_named(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=r"checkpoint: .*config\.json' is no JSON .*: fetch it again"):
        settings_in("checkpoint", tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"llama: the tokenizer in .* cannot be read"):
        tokenizer_in("llama", tmp_path)

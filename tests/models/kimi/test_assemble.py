"""Kimi-Audio's parts as they are published become one folder that opens, or nothing."""

import json

import pytest
import torch

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.assembling import MANIFEST
from mechaudio.models.kimi.assemble import assemble
from mechaudio.models.kimi.tiktoken import fast_tokenizer
from tests.families import noise
from tests.models.kimi.parts import IDS, write_parts, write_tokenizer
from tests.models.kimi.released import network, weights


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("kimi"))


def test_an_assembled_folder_opens_as_the_network_it_is_made_of(parts, tmp_path, capsys):
    out = tmp_path / "made"
    words = [f"--{name.replace('_', '-')}={path}" for name, path in parts.items()]
    assert main(["assemble", "kimi", *words, "--out", str(out), "--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert "left out of checkpoint, as they have no use here" in said
    assert "left out of speech_tokenizer, as they have no use here: 3 tensors, such as e" in said
    model = ma.load(out, prove=False)
    assert (model.adapter.family, model.network.config.mimo_layers) == ("kimi_audio", 0)
    reference = network()
    given = model.network.state_dict()
    assert set(reference.state_dict()) - set(given) == {name for name in reference.state_dict() if "mimo" in name}
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in given.items())
    assert model.network.generation_config.eos_token_id == IDS["<|im_kimia_text_eos|>"]
    question = ma.AudioQuestion(audio=ma.AudioClip(noise(1.0), 16_000), text="the thing there?")
    batch = ma.prompt(model, [question])
    ids = batch.inputs["input_ids"][0].tolist()
    assert ids[0] == IDS["<|im_kimia_user_msg_start|>"]
    assert len(batch.spans["audio"][0]) == 13
    assert ma.run(model, batch).logits.isfinite().all()


def test_the_branch_is_kept_where_it_is_asked_for_and_codes_keep_full_precision(parts, tmp_path):
    made = assemble(**parts, out=tmp_path / "made", dtype="bfloat16", audio_branch=True)
    manifest = json.loads((made.folder / MANIFEST).read_text())
    assert (manifest["family"], manifest["dtype"], manifest["audio_branch"]) == ("kimi", "bfloat16", True)
    built = ma.load(made.folder, prove=False).network
    assert (built.config.mimo_layers, built.config.mimo_from, built.config.codes_offset) == (2, 3, 640)
    assert built.mimo_output.weight.dtype == torch.bfloat16
    assert built.audio_tokenizer.codebook.weight.dtype == torch.float32
    assert torch.equal(built.audio_tokenizer.codebook.weight, weights("codes_weights_half")["codebook.weight"])


def test_parts_that_are_not_there_are_told(parts, tmp_path, capsys):
    words = ["--checkpoint", str(parts["checkpoint"]), "--out", str(tmp_path / "made")]
    assert main(["assemble", "kimi", *words]) == 2
    assert "takes --checkpoint --speech-tokenizer: it lacks --speech-tokenizer" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="whisper: there is nothing at"):
        assemble(**parts, whisper=tmp_path / "no", out=tmp_path / "made")
    with pytest.raises(ValueError, match=r"speech_tokenizer: the network has no place for audio_tokenizer\.model\.enc"):
        assemble(
            checkpoint=parts["checkpoint"],
            speech_tokenizer=parts["checkpoint"] / "whisper-large-v3",
            out=tmp_path / "made",
        )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the", [b"the"]),
        (" the thing", [b" the", b" ", b"th", b"ing"]),
        ("ababab", [b"abab", b"ab"]),
        ("é", [b"\xc3\xa9"]),
        ("ering", [b"er", b"ing"]),
        ("it's 12", [b"i", b"t", b"'", b"s", b" ", b"1", b"2"]),
    ],
)
def test_ranks_merge_bytes_lowest_rank_first(tmp_path, text, tokens):
    """Worked out by hand from the ranks: the pair whose merge has the lowest rank is merged first."""
    write_tokenizer(tmp_path)
    tokenizer = fast_tokenizer(tmp_path)
    ids = tokenizer(text)["input_ids"]
    assert [
        tokenizer.decode([i]).encode() if len(t) > 1 or t < b"\x80" else t for i, t in zip(ids, tokens, strict=True)
    ] == tokens
    assert tokenizer.decode(ids) == text


def test_control_tokens_have_the_ids_of_the_release(tmp_path):
    write_tokenizer(tmp_path)
    tokenizer = fast_tokenizer(tmp_path)
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in IDS} == IDS
    assert tokenizer("<|im_msg_end|>the<|im_msg_end|>")["input_ids"] == [
        IDS["<|im_msg_end|>"],
        257,
        IDS["<|im_msg_end|>"],
    ]
    assert tokenizer.pad_token == "<|pad|>"


def test_ranks_that_cannot_be_read_are_told(tmp_path):
    write_tokenizer(tmp_path)
    ranks = tmp_path / "tiktoken.model"
    whole = ranks.read_bytes()
    ranks.write_bytes(whole + b"!! 400\n")
    with pytest.raises(ValueError, match="is no token and its rank"):
        fast_tokenizer(tmp_path)
    ranks.write_bytes(whole + b"cXF4eg== 400\n")
    with pytest.raises(ValueError, match="b'qqxz' of rank 400 is not merged of tokens of lower ranks"):
        fast_tokenizer(tmp_path)
    ranks.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tiktoken\.model, of which its tokenizer is made"):
        fast_tokenizer(tmp_path)

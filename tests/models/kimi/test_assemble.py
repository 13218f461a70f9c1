"""Kimi-Audio's parts as they are published become one folder that opens, or nothing."""

import json
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiktoken
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.assembling import MANIFEST
from mechaudio.models.kimi.assemble import assemble
from mechaudio.models.kimi.processor import BLANK, IN_AUDIO, TEXT_END
from mechaudio.models.kimi.tiktoken import control_tokens, fast_tokenizer
from tests.families import noise
from tests.models.kimi.parts import IDS, write_parts, write_tokenizer
from tests.models.kimi.released import OFFSET, network, weights


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
    model = ma.load(out)
    assert (model.adapter.family, model.network.config.mimo_layers) == ("kimi_audio", 0)
    reference = network()
    held = model.network.state_dict()
    assert set(reference.state_dict()) - set(held) == {name for name in reference.state_dict() if "mimo" in name}
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in held.items())
    assert model.network.generation_config.eos_token_id == IDS["<|im_kimia_text_eos|>"]
    question = ma.AudioQuestion(audio=ma.AudioClip(noise(1.0), 16_000), text="the thing there?")
    batch = ma.prompt(model, [question])
    ids = batch.inputs["input_ids"][0].tolist()
    assert ids[0] == IDS["<|im_kimia_user_msg_start|>"]
    assert len(batch.spans["audio"][0]) == 13
    assert ma.run(model, batch).logits.isfinite().all()


@pytest.mark.whole
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


def tokenizer_of(folder):
    write_tokenizer(folder)
    return fast_tokenizer(folder, OFFSET, 704)


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
    tokenizer = tokenizer_of(tmp_path)
    ids = tokenizer(text)["input_ids"]
    assert [
        tokenizer.decode([i]).encode() if len(t) > 1 or t < b"\x80" else t for i, t in zip(ids, tokens, strict=True)
    ] == tokens
    assert tokenizer.decode(ids) == text


#: How the release's own code cuts text.
CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = "abTs'\u017f\u2019.,01\n\r\t \xa0é\u0301你न\u093f\u2028😀"
#: Any two of them merge, so that another cut is another id.
PAIRS = tuple(dict.fromkeys("".join(pair).encode() for pair in product("abTs'.,01\n\r\t ", repeat=2)))


@given(st.text(st.sampled_from(LETTERS) | st.characters(exclude_categories=["Cs"]), max_size=30))
def test_every_text_has_the_ids_that_the_releases_library_gives_it(text):
    ranks = {token: rank for rank, token in enumerate([*(bytes([number]) for number in range(256)), *PAIRS])}
    released = tiktoken.Encoding("kimi", pat_str=CUT, mergeable_ranks=ranks, special_tokens={})
    assert _tokenizer_of_pairs()(text)["input_ids"] == released.encode(text)


@cache
def _tokenizer_of_pairs():
    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), PAIRS)
        return fast_tokenizer(Path(folder), 1000, 1001)


def test_control_tokens_have_the_ids_of_the_release():
    """Of 151,643 ranks, in front of codes from 152,064 on."""
    ids = control_tokens(151_643, 152_064)
    told = {"<|im_msg_end|>": 151_645, "<|im_media_begin|>": 151_661, "<|im_media_end|>": 151_663}
    told |= {BLANK: 151_666, TEXT_END: 151_667}
    told |= {"<|im_kimia_user_msg_start|>": 151_670, "<|im_kimia_assistant_msg_start|>": 151_671}
    told |= {"<|im_kimia_speech_ct_id|>": 151_675, "<|im_kimia_speech_ctd_id|>": 151_676}
    assert {name: ids[name] for name in told} == told
    assert {name: ids[name] for name in IN_AUDIO}.keys() <= told.keys()
    assert list(ids.values()) == list(range(151_643, 152_064))
    assert list(ids)[-1] == "<|reserved_token_406|>"


def test_control_tokens_are_read_as_such_and_the_placeholder_lies_behind_all_that_was_trained(tmp_path):
    tokenizer = tokenizer_of(tmp_path)
    end = IDS["<|im_msg_end|>"]
    assert tokenizer("<|im_msg_end|>the<|im_msg_end|>")["input_ids"] == [end, 257, end]
    assert tokenizer.convert_tokens_to_ids([*IDS, "<|mechaudio_audio|>"]) == [*IDS.values(), 704]
    assert tokenizer.pad_token_id == OFFSET - 1
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("<|mechaudio_audio|>the")["input_ids"] == [704, 257]


def test_ranks_that_cannot_be_read_are_told(tmp_path):
    write_tokenizer(tmp_path)
    ranks = tmp_path / "tiktoken.model"
    whole = ranks.read_bytes()
    with pytest.raises(ValueError, match=r"has 265 ranks, and codes begin at 280: there is no room for the 34 control"):
        fast_tokenizer(tmp_path, 280, 704)
    ranks.write_bytes(whole + b"!! 400\n")
    with pytest.raises(ValueError, match="is no token and its rank"):
        fast_tokenizer(tmp_path, OFFSET, 704)
    ranks.write_bytes(whole + b"cXF4eg== 400\n")
    with pytest.raises(ValueError, match="b'qqxz' of rank 400 is not merged of tokens of lower ranks"):
        fast_tokenizer(tmp_path, OFFSET, 704)
    ranks.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tiktoken\.model, of which its tokenizer is made"):
        fast_tokenizer(tmp_path, OFFSET, 704)

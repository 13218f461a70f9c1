"""Markers in a vocabulary: their rows are what digits mean, all other rows stay, and other tokenizers are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2AudioForConditionalGeneration,
)

import mechaudio as ma
from mechaudio.timeaudio import MARKERS, Markers, add_markers
from tests.families import network as families_network
from tests.families import processor

ORACLES = Path(__file__).parents[1] / "models/salmonn/oracles"
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module")
def told():
    return load_file(ORACLES / "timeaudio/ate_merging_head.safetensors")


@pytest.fixture
def tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(ORACLES / "tokenizer")
    tokenizer.add_special_tokens({"pad_token": AddedToken("[PAD]", normalized=False, special=True)})
    return tokenizer


def network(vocabulary: int, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=tied, **SIZES))


def test_rows_are_the_authors_after_the_released_initialisation(told, tokenizer):
    llama = network(600)
    with torch.no_grad():
        llama.model.embed_tokens.weight.copy_(told["head_embed"][:600])
        llama.lm_head.weight.copy_(told["head_lm_head"][:600])
    ids = add_markers(llama, tokenizer, head="embed")
    assert list(ids) == told["head_new_ids"].tolist() == list(range(601, 621))
    # The authors' means were taken in half precision.
    torch.testing.assert_close(llama.model.embed_tokens.weight[601:], told["head_embed"][601:], atol=2e-4, rtol=0)
    torch.testing.assert_close(llama.lm_head.weight[601:], told["head_lm_head"][601:], atol=2e-4, rtol=0)
    assert torch.equal(llama.model.embed_tokens.weight[601:611], told["head_embed"][told["head_digit_ids"]])
    assert torch.equal(llama.lm_head.weight[:600], told["head_lm_head"][:600])


def test_the_papers_head_begins_as_its_own_digits_and_only_twenty_rows_differ(tokenizer):
    paper, released, before = network(640), network(640), network(640)
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    point = tokenizer.convert_tokens_to_ids(".")
    other = AutoTokenizer.from_pretrained(ORACLES / "tokenizer")
    other.add_special_tokens({"pad_token": AddedToken("[PAD]", normalized=False, special=True)})
    ids = add_markers(paper, tokenizer)
    assert add_markers(released, other, head="embed") == ids
    head, first = paper.lm_head.weight, before.lm_head.weight
    assert torch.equal(head[list(ids[:10])], first[digits])
    assert torch.equal(head[list(ids[10:])], (first[digits] + first[point]) / 2)
    assert torch.equal(paper.model.embed_tokens.weight, released.model.embed_tokens.weight)
    for one, two in ((paper.lm_head, released.lm_head), (paper.lm_head, before.lm_head)):
        assert (one.weight != two.weight).any(1).nonzero()[:, 0].tolist() == list(ids)
    assert len(head) == 640, "tables with room for the markers do not grow"


def test_a_text_with_times_becomes_the_markers_ids_and_comes_back(tokenizer):
    ids = add_markers(network(600), tokenizer)
    marked = Markers().encode("12.3 - 100.0")
    written = tokenizer(marked, add_special_tokens=False)["input_ids"]
    assert [i for i in written if i in ids] == [ids[1], ids[2], ids[13], ids[1], ids[0], ids[0], ids[10]]
    assert Markers().decode(tokenizer.decode(written)) == "12.3 - 100.0"


def test_a_table_that_is_both_embedding_and_head_stays_one(tokenizer):
    llama = network(600, tied=True)
    add_markers(llama, tokenizer)
    assert llama.lm_head.weight is llama.model.embed_tokens.weight


def test_a_network_that_hears_takes_markers_too(tokenizer):
    config = ma.load("tiny").network.config.to_dict()
    config["text_config"]["vocab_size"] = 600
    config["text_config"]["pad_token_id"] = None
    torch.manual_seed(0)
    hears = Qwen2AudioForConditionalGeneration(type(ma.load("tiny").network.config).from_dict(config))
    ids = add_markers(hears, tokenizer)
    assert len(hears.get_input_embeddings().weight) == len(hears.get_output_embeddings().weight) == ids[-1] + 1
    assert hears.config.text_config.vocab_size == ids[-1] + 1


def test_tokenizers_that_do_not_write_digits_are_refused(tokenizer):
    words = Tokenizer(models.WordLevel({"<unk>": 0, "0.5": 1, "dog": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    of_words = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    with pytest.raises(ValueError, match=r"does not write '0' as a token of its own: '101' is"):
        add_markers(network(600), of_words)
    add_markers(network(600), tokenizer)
    with pytest.raises(ValueError, match="has 20 of the markers already"):
        add_markers(network(621), tokenizer)


@pytest.mark.parametrize("family", ["gemma3n", "gemma4"])
def test_a_network_with_a_second_table_of_words_is_refused_before_it_is_changed(family):
    tokenizer = processor(family).tokenizer
    with pytest.raises(ValueError, match=r"looks words up in .*embed_tokens_per_layer too"):
        add_markers(families_network(family), tokenizer)
    assert not set(MARKERS) & set(tokenizer.get_vocab())


def test_a_network_without_the_tokenizers_digits_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"and the network has 4 embeddings: give its own tokenizer"):
        add_markers(network(4), tokenizer)
    assert not set(MARKERS) & set(tokenizer.get_vocab()), "the tokenizer is as it was"

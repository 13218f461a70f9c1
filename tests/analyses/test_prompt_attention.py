"""The whole pattern of one prompt in a byte per weight: what is kept, how exactly, and what each position hears."""

import sys

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import prompt_attention
from mechaudio.analyses.prompt_attention import PromptAttention, quantised
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, noise, processor


@pytest.fixture(scope="module")
def batch(tiny):
    return ma.prompt(tiny, ma.data.soundscapes.questions(1, seed=3, duration=4.0))


@pytest.fixture(scope="module")
def found(tiny, batch):
    return prompt_attention(tiny, batch)


def exact(model, batch, **options):
    cache = ma.run(model, batch, record=["pattern"], logits="last", **options).cache
    return np.moveaxis(cache.stack("pattern")[:, 0].numpy(), 2, 0)  # [query, layer, head, key]


def bound(weights):
    largest = weights.max(-1, keepdims=True)
    return largest * (np.sqrt(weights / largest) / 255 + 1 / 260_100) + 1e-8  # and a float's rounding


def test_every_row_is_kept_within_the_bound_that_the_module_promises(tiny, batch, found):
    weights = exact(tiny, batch)
    assert found.weights.shape == weights.shape == (139, 6, 8, 139)
    assert np.all(np.abs(found.weights - weights) <= bound(weights))
    assert np.abs(found.weights - weights).max() > 1e-4  # so the bound says something


def test_a_byte_is_the_root_of_the_share_of_the_largest_weight():
    cells, largest = quantised(np.array([[0.64, 0.16, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0], [np.nan] * 4]))
    assert cells.tolist() == [[255, 128, 143, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(largest, np.float32([0.64, 0.0, np.nan]))


def test_rows_are_chosen_by_position_from_either_end_and_interventions_act(tiny, batch, found):
    last = prompt_attention(tiny, batch, queries=[-1, 120])
    assert last.queries == (120, 138)
    assert np.abs(last.cells.astype(int) - found.cells[[120, 138]]).max() <= 1  # where a half is rounded either way
    deaf = prompt_attention(tiny, batch, queries=[-1], interventions=[ma.KnockOutAttention()])
    audio = [position for position, role in enumerate(deaf.roles) if role == "audio"]
    assert len(audio) == 100
    assert not deaf.weights[..., audio].any()
    assert deaf.weights.sum() == pytest.approx(48, rel=0.01)


def test_of_a_large_model_the_last_rows_are_kept(tiny, batch, monkeypatch):
    monkeypatch.setattr(sys.modules[PromptAttention.__module__], "LARGEST", 3 * 48 * 139)
    assert prompt_attention(tiny, batch).queries == (136, 137, 138)


def test_padding_is_named_and_has_no_row(tiny):
    short, long = (
        ma.AudioQuestion(ma.AudioClip(noise(s), 16_000), "Which sound?", ("chirp", "hum")) for s in (1.0, 2.0)
    )
    padded = ma.prompt(tiny, [short, long])[0]
    found = prompt_attention(tiny, padded)
    n_padding = found.roles.count("padding")
    assert n_padding == 25
    assert found.queries == tuple(range(n_padding, padded.n_positions))
    assert not found.weights[..., :n_padding].any()


def test_audio_tokens_hear_their_seconds_and_text_hears_nothing(found):
    first = found.roles.index("audio")
    assert found.heard[first : first + 2] == (((0.0, 0.04),), ((0.04, 0.08),))
    assert {heard for heard, role in zip(found.heard, found.roles, strict=True) if role != "audio"} == {()}
    assert found.clips == (4.0,)
    assert found.tokens[first - 1] == "<|audio_bos|>"


def test_clips_of_a_question_follow_one_another():
    model = AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)
    clips = [ma.AudioClip(noise(seconds), 16_000) for seconds in (1.0, 2.0)]
    found = prompt_attention(model, ma.prompt(model, [ma.AudioQuestion(clips, "Which?", ("first", "second"))]))
    onsets = [heard[0][0] for heard in found.heard if heard]
    assert found.clips == (1.0, 2.0)
    assert onsets == pytest.approx([0.04 * token for token in range(75)])


def test_layers_without_attention_are_nan():
    model = AudioLM(network("nemotron_h_omni"), processor("nemotron_h_omni"), prove=False)
    question = ma.AudioQuestion(ma.AudioClip(noise(1.0), 16_000), "Which?", ("dog", "rain"))
    batch = ma.prompt(model, [question])
    found = prompt_attention(model, batch, queries=[-1])
    with_attention = [layer for _, layer in ma.run(model, batch, record=["pattern"]).cache]
    assert np.flatnonzero(~np.isnan(found.largest[0]).all(-1)).tolist() == with_attention
    assert 0 < len(with_attention) < len(model.blocks)


def test_several_prompts_are_refused(tiny):
    batch = ma.prompt(tiny, ma.data.soundscapes.questions(2, seed=3, duration=4.0))
    with pytest.raises(ValueError, match=r"one prompt is read at a time, got 2: take one, batch\[0\]"):
        prompt_attention(tiny, batch)


def test_it_is_saved_and_loaded_and_comes_as_a_table(found, tmp_path):
    loaded = PromptAttention.load(found.save(tmp_path / "pattern"))
    np.testing.assert_array_equal(loaded.cells, found.cells)
    assert loaded.heard == found.heard
    assert repr(loaded) == "<PromptAttention of 139 queries, 6 layers, 8 heads, 139 keys>"
    assert len(loaded.to_pandas()) == 139 * 6 * 8

"""Shares of attention against loops over the whole pattern; and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import mechaudio as ma
from tests.families import ASKED, KINDS, network, noise, processor, thinned

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")

QUESTIONS = [
    ma.AudioQuestion(
        audio=ma.AudioClip(noise(3.0, seed=1), 16_000),
        text="Which sound has the earliest onset?",
        choices=("dog", "car", "rain"),
        answer="car",
        events=(ma.Event("dog", 1.0, 2.0), ma.Event("car", 0.0, 0.5)),
        id="a",
    ),
    ma.AudioQuestion(
        audio=ma.AudioClip(noise(1.5, seed=2), 16_000),
        text="Which event has the latest offset of these?",
        choices=("dog", "car"),
        answer="dog",
        id="b",
    ),
]


@pytest.fixture(scope="module")
def opened():
    made = {}

    def get(family):
        if family not in made:
            model = ma.AudioLM(network(family), processor(family), prove=False)
            made[family] = (model, ma.prompt(model, QUESTIONS))
        return made[family]

    return get


@pytest.mark.parametrize("family", thinned(ASKED))
def test_shares_are_sums_over_the_whole_pattern_and_make_one(opened, family):
    model, batch = opened(family)
    found = ma.analyses.audio_attention(model, batch)
    cache = ma.run(model, batch, record=["pattern"]).cache
    attending = sorted({layer for _, layer in cache})
    assert found.mass.shape == (2, model.n_layers, 4, len(found.roles))
    np.testing.assert_allclose(found.mass.sum(-1)[:, attending], 1, atol=1e-5)
    for question, layer, head in np.ndindex(found.mass.shape[:3]):
        if layer not in attending:
            for measured in (found.mass, found.entropy, found.peak):
                assert np.isnan(measured[question, layer, head]).all()
            continue
        row = cache["pattern", layer][question, head, -1]
        for index, role in enumerate(found.roles):
            expected = sum(row[position].item() for position in batch.spans[role][question])
            assert found.mass[question, layer, head, index] == pytest.approx(expected, abs=1e-5)
        heard = [row[position].item() for position in batch.spans["audio"][question]]
        assert found.over_time[question, layer, head, : len(heard)] == pytest.approx(heard, abs=1e-5)
        assert found.over_time[question, layer, head, len(heard) :].sum() == 0
        timeless = not batch.clock[question].intervals(0)
        middles = [0.0 if timeless else sum(batch.clock[question].seconds(at)) / 2 for at in range(len(heard))]
        ends = found.duration[question]
        heard = [w if middle < ends else 0.0 for w, middle in zip(heard, middles, strict=True)]
        if sum(heard) == 0:  # a sliding window, or padding alone
            assert math.isnan(found.entropy[question, layer, head])
            continue
        shares = [weight / sum(heard) for weight in heard]
        entropy = -sum(share * math.log(share) for share in shares if share > 0)
        assert found.entropy[question, layer, head] == pytest.approx(entropy, abs=1e-4)
        if timeless:
            assert math.isnan(found.peak[question, layer, head])
            continue
        begin, end = batch.clock[question].seconds(max(range(len(heard)), key=heard.__getitem__))
        assert found.peak[question, layer, head] == pytest.approx((begin + end) / 2)


@pytest.mark.parametrize("family", [family for family in KINDS if family in ASKED])
def test_the_tower_ran_and_another_recording_gives_another_result(opened, family):
    model, batch = opened(family)
    first = ma.analyses.audio_attention(model, batch)
    assert model.exchange.tower_calls >= 1
    clips = [ma.AudioClip(noise(question.clip().duration, seed=9), 16_000) for question in QUESTIONS]
    others = [replace(question, audio=clip) for question, clip in zip(QUESTIONS, clips, strict=True)]
    second = ma.analyses.audio_attention(model, ma.prompt(model, others))
    assert not np.allclose(first.mass, second.mass, atol=1e-4, equal_nan=True)
    masses = [ma.analyses.attention_mass(model, ma.prompt(model, asked)).mass for asked in (QUESTIONS, others)]
    assert model.exchange.tower_calls >= 1
    assert not np.allclose(*masses, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("family", ["qwen2_audio", "voxtral"])
def test_questions_in_several_batches_give_what_one_batch_gives(opened, family):
    model, _ = opened(family)
    questions = [QUESTIONS[0], QUESTIONS[1], replace(QUESTIONS[1], id="c", caption="a dog barks")]
    for analysis in (ma.analyses.audio_attention, ma.analyses.attention_mass):
        together = analysis(model, questions, condition="silence", batch_size=3)
        apart = analysis(model, questions, condition="silence", batch_size=1, progress=False)
        for name, value in vars(together).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(apart, name), value, atol=1e-5, err_msg=name)
            elif name != "provenance":
                assert getattr(apart, name) == value, name
        assert apart.provenance.settings == together.provenance.settings
        assert together.provenance.settings["condition"] == "silence"


def test_a_role_that_only_some_batches_have_is_measured_in_all(opened):
    model, _ = opened("qwen2_audio")
    open_question = ma.AudioQuestion(QUESTIONS[0].audio, "What is heard?", id="open")
    for analysis in (ma.analyses.audio_attention, ma.analyses.attention_mass):
        attention = analysis(model, [open_question, *QUESTIONS], batch_size=1)
        assert "choices" in attention.roles
        choices = attention.mass[..., attention.roles.index("choices")]
        last = choices if analysis is ma.analyses.audio_attention else choices[..., -1]  # [question, layer, head]
        assert np.nanmax(choices[0]) == 0 < last[1:].max((1, 2)).min()


@pytest.mark.parametrize("family", thinned(ASKED))
def test_the_mass_of_every_query_is_that_of_the_whole_pattern(opened, family):
    model, batch = opened(family)
    found = ma.analyses.attention_mass(model, batch)
    cache = ma.run(model, batch, record=["pattern"]).cache
    for index, role in enumerate(found.roles):
        there = batch.span_mask(role).float()
        expected = torch.einsum("lbhqk,bk->blhq", cache.stack("pattern", missing=math.nan), there).numpy()
        real = ~np.isnan(found.mass[..., index])
        np.testing.assert_allclose(found.mass[..., index][real], expected[real], atol=1e-5)
    assert np.isnan(found.mass).any(), "the shorter prompt is padded"
    flows = found.between()
    attending = sorted({layer for _, layer in cache})
    np.testing.assert_allclose(flows[0][attending].sum(-1)[..., found.roles.index("question")], 1, atol=1e-5)


def test_rows_of_a_span_are_averaged_however_many_each_prompt_has(opened):
    model, batch = opened("qwen2_audio")
    lengths = [len(positions) for positions in batch.spans["question"]]
    assert len(set(lengths)) == 2
    found = ma.analyses.audio_attention(model, batch, queries="question")
    pattern = ma.run(model, batch, record=["pattern"]).cache["pattern", 1]
    for question in range(2):
        rows = pattern[question][:, list(batch.spans["question"][question])]
        expected = rows[:, :, list(batch.spans["audio"][question])].sum(-1).mean(-1)
        np.testing.assert_allclose(found.share("audio")[question, 1], expected, atol=1e-5)


def test_attention_per_second_adds_up_to_the_audio_attention(opened):
    model, batch = opened("qwen2_audio")
    found = ma.analyses.audio_attention(model, batch)
    seconds = found.per_second(0)
    assert seconds.shape == (3, 4, 3)
    np.testing.assert_allclose(seconds.sum(-1), found.share("audio")[0], atol=1e-5)
    np.testing.assert_allclose(seconds[..., 0], found.over_time[0, :, :, :25].sum(-1), atol=1e-5)


def test_attention_inside_an_event_is_compared_with_what_chance_gives(opened):
    model, batch = opened("qwen2_audio")
    found = ma.analyses.audio_attention(model, batch)
    focus = found.inside_events()
    assert focus.label == ("dog", "car")
    assert focus.question.tolist() == [0, 0]
    np.testing.assert_allclose(focus.chance, [25 / 75, 12 / 75], atol=0.02)
    inside = found.over_time[0, :, :, 25:50].sum(-1) / found.share("audio")[0]
    np.testing.assert_allclose(focus.inside[0], inside, atol=1e-5)


def test_a_result_survives_the_disk(opened, tmp_path):
    model, batch = opened("qwen2_audio")
    found = ma.analyses.audio_attention(model, batch)
    loaded = ma.Result.load(found.save(tmp_path / "attention"))
    np.testing.assert_array_equal(loaded.mass, found.mass)
    assert loaded.events == found.events


def test_prompts_without_audio_have_no_audio_attention(opened):
    model, _ = opened("qwen2_audio")
    told = [replace(question, caption="a dog barks") for question in QUESTIONS]
    batch = ma.prompt(model, told, condition="caption")
    with pytest.raises(ValueError, match=r"rows \[0, 1\] of this batch hold no audio \(condition 'caption'\)"):
        ma.analyses.audio_attention(model, batch)


def test_unknown_and_empty_query_spans_and_every_query_are_refused(opened):
    model, batch = opened("qwen2_audio")
    with pytest.raises(KeyError, match="no span 'questions'"):
        ma.analyses.audio_attention(model, batch, queries="questions")
    with pytest.raises(ValueError, match=r"span 'caption' is empty in rows \[0, 1\]"):
        ma.analyses.audio_attention(model, batch, queries="caption")
    with pytest.raises(ValueError, match=r"ma\.analyses\.attention_mass"):
        ma.analyses.audio_attention(model, batch, queries="all")
    with pytest.raises(KeyError, match="no role 'keyword'"):
        ma.analyses.audio_attention(model, batch).share("keyword")


@pytest.mark.parametrize("family", ["qwen2_audio", "voxtral"])
def test_evenly_spread_attention_is_at_chance_whether_or_not_padding_becomes_tokens(opened, family):
    model, batch = opened(family)
    found = ma.analyses.audio_attention(model, batch)
    real = np.arange(found.over_time.shape[-1]) < found.n_tokens[:, None]
    even = replace(found, over_time=np.broadcast_to(0.01 * real[:, None, None], found.over_time.shape).copy())
    focus = even.inside_events()
    np.testing.assert_allclose(focus.inside[:, 0, 0], focus.chance, atol=1e-5)
    np.testing.assert_allclose(focus.chance, [1.0 / 3.0, 0.5 / 3.0], atol=1e-5)


def test_durations_are_of_the_sound_that_was_given_even_if_the_recording_is_gone(opened, tmp_path):
    model, _ = opened("qwen2_audio")
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(6.0), 16_000)
    batch = ma.prompt(model, [replace(QUESTIONS[1], audio=path)], allow_cut=True)
    path.unlink()
    assert ma.analyses.audio_attention(model, batch).duration.tolist() == [4.0]
    assert ma.analyses.audio_attention(model, batch.inputs).duration.tolist() == [100 * 0.04]


def test_rows_with_several_clips_have_shares_but_no_common_time(opened):
    model, batch = opened("qwen2_audio")
    rows = [batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row].bool()] for row in range(2)]
    ids = torch.cat(rows)[None]
    both = {**batch.inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    both.pop("position_ids")
    with pytest.raises(ValueError, match=r"rows \[0\] of this batch hold several clips each"):
        ma.analyses.audio_attention(model, both)
    np.testing.assert_allclose(ma.analyses.attention_mass(model, both).mass.sum(-1), 1, atol=1e-5)


def test_a_plain_dict_of_inputs_is_measured_too(opened):
    model, batch = opened("qwen2_audio")
    found = ma.analyses.audio_attention(model, batch.inputs)
    assert found.roles == ("audio", "text")
    np.testing.assert_allclose(
        found.share("audio"), ma.analyses.audio_attention(model, batch).share("audio"), atol=1e-5
    )
    assert ma.analyses.attention_mass(model, batch.inputs).roles == ("audio", "text")

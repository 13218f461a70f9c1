"""Attention knock-out over windows of layers: the toy's planted way, and the same by ordinary runs."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import AttentionFlow, attention_flow
from mechaudio.analyses.attention_flow import EDGES
from mechaudio.data import toy_questions
from mechaudio.models.toy import arithmetic
from mechaudio.models.toy.planted import PLANTED
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, noise, processor, unchecked_types


@pytest.fixture(scope="module")
def asked():
    return toy_questions.questions(10, seed=0, level=(0.0, 0.0))


@pytest.fixture(scope="module")
def flow(toy, asked):
    return attention_flow(toy, asked, window=1, batch_size=4, progress=False)


def test_sound_goes_straight_to_the_last_row_and_then_to_the_letters(flow, asked):
    needed = {(("audio", "last"), PLANTED.listening[0]), (("choices", "last"), PLANTED.collecting[0])}
    changes = flow.change("margin")
    for index, edge in enumerate(flow.edges):
        for layer in range(PLANTED.n_layers):
            if (edge, layer) in needed:
                assert (flow.probability[index, layer] < flow.clean_probability).all()
            else:
                assert np.allclose(changes[index, layer], 0.0, atol=1e-4)
    assert flow.clean_correct.all()
    deaf = flow.edges.index(("audio", "last")), PLANTED.listening[0]
    guessed = [question.answer_letter == "A" for question in asked]  # the toy's prior, all that is left
    assert flow.correct[deaf].tolist() == guessed
    assert np.allclose(flow.margin[deaf], np.where(guessed, 1.0, -1.0), atol=1e-4)


def test_the_tests_of_answers_are_mcnemars_and_know_their_number(flow):
    edge, layer = ("audio", "last"), PLANTED.listening[0]
    found = flow.mcnemar(edge, layer)
    broken = int((~flow.correct[flow.edges.index(edge), layer]).sum())
    assert (found.n, found.fixed, found.broken) == (10, 0, broken)
    assert found.p == pytest.approx(2 * 0.5**broken)
    assert flow.p()[flow.edges.index(edge), layer] == found.p
    assert flow.p().shape == (5, 4)
    assert (flow.p_holm() >= flow.p()).all()
    with pytest.raises(KeyError, match="no edge"):
        flow.mcnemar(("last", "audio"), 0)
    with pytest.raises(KeyError, match="no window around layer 9"):
        flow.mcnemar(edge, 9)


def test_intervals_hold_the_mean_and_there_is_none_where_nothing_changes(flow):
    low, high = flow.interval("margin")
    mean = flow.mean("margin")
    given = ~np.isnan(low)
    assert ((low <= mean + 1e-9) & (mean <= high + 1e-9))[given].all()
    assert (high - low)[flow.edges.index(("audio", "last")), 1] > 0.1
    unmoved = (high - low)[flow.edges.index(("audio", "question"))]
    assert (np.isnan(unmoved) | (unmoved < 1e-4)).all()


def test_a_window_is_what_a_run_with_those_layers_cut_gives(toy, asked):
    flow = attention_flow(toy, asked[:3], edges=[("audio", "last")], window=2, layers=[0, 2, -1], progress=False)
    assert flow.centres == (0, 2, 3)
    assert flow.windows == ((0,), (1, 2), (2, 3))
    batch = ma.prompt(toy, asked[:3])
    for index, window in enumerate(flow.windows):
        cut = ma.KnockOutAttention(layers=window, queries="last", keys="audio")
        for row, answered in enumerate(ma.answer(toy, batch, interventions=[cut])):
            right = answered.choices.index(asked[row].answer)
            assert flow.probability[0, index, row] == pytest.approx(answered.probabilities[right], abs=1e-5)
            assert flow.correct[0, index, row] == answered.correct


def test_seconds_of_sound_are_roles_too(toy):
    question = toy_questions.ask([toy_questions.sung("tenor", 1), toy_questions.sung("alto", 3)], ["tenor", "alto"])
    edges = [(f"audio[{second}:{second + 1}]", "last") for second in range(4)]
    flow = attention_flow(toy, [question], edges=edges, window="all", progress=False)
    assert flow.windows == ((0, 1, 2, 3),)
    change = flow.change("margin")[:, 0, 0]
    logits = arithmetic.logits(question)
    assert flow.clean_margin[0] == pytest.approx(logits[0] - logits[1], abs=1e-4)
    assert change[1] < -2
    assert change[3] > 0.1
    assert np.allclose(change[[0, 2]], 0.0, atol=0.01)


def test_what_was_cut_is_the_share_of_attention(flow, toy, asked):
    run = ma.run(toy, ma.prompt(toy, asked), record=[ma.HookPoint("mass", keys=["audio"])])
    for layer in range(toy.n_layers):
        share = run.cache["mass", layer][:, :, -1, 0].mean(1)
        assert np.allclose(flow.attention[flow.edges.index(("audio", "last")), layer], share, atol=1e-5)


def test_it_is_kept_and_labelled(flow, tmp_path):
    flow.save(tmp_path / "flow")
    again = AttentionFlow.load(tmp_path / "flow")
    assert again.edges == flow.edges == EDGES
    assert np.array_equal(again.probability, flow.probability)
    data = flow.to_xarray()
    assert data.probability.sel(edge="audio → last", layer=1).shape == (10,)
    assert np.array_equal(data.clean_correct, flow.clean_correct)
    assert "5 edges x 4 windows of 1 layer on 10 questions, 100% right without a cut" in repr(flow)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"edges": []}, ValueError, "edges= is a list of"),
        ({"edges": ["audio"]}, TypeError, "edges= takes a list of pairs of spans, such as .*; got"),
        ({"edges": [("audio", "last")] * 2}, ValueError, "an edge is named twice"),
        ({"edges": [("caption", "last")]}, ValueError, "has no position of 'caption' in condition 'audio'"),
        ({"edges": [("voice", "last")]}, KeyError, "no span 'voice' in this batch"),
        (
            {"window": 0},
            ValueError,
            "window= is a number of layers, at least 1 and at most the decoder's 4, or 'all'; got 0",
        ),
        ({"window": 5}, ValueError, "at most the decoder's 4, or 'all'; got 5"),
        ({"window": "all", "layers": [1]}, ValueError, "leave out layers="),
        ({"layers": []}, ValueError, "layers= is empty"),
        ({"layers": [4]}, IndexError, "there is no layer 4: this decoder has layers 0 to 3"),
    ],
)
def test_what_cannot_be_cut_is_refused(toy, asked, settings, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        attention_flow(toy, asked[:1], progress=False, **settings)


def test_questions_need_answers_and_measures_their_names(toy, flow):
    question = ma.AudioQuestion(toy_questions.render([], 0.0), "Which voice comes first?", ("alto", "bass"), id="open")
    with pytest.raises(ValueError, match="question 'open' has no known answer"):
        attention_flow(toy, [question], progress=False)
    with unchecked_types(), pytest.raises(ValueError, match="measure= is one of 'probability', 'margin', 'accuracy'"):
        flow.mean("loss")


def test_a_question_without_a_wrong_choice_has_no_margin_and_is_refused(toy, asked):
    same = replace(asked[1], choices=(asked[1].answer,) * 3)
    with pytest.raises(ValueError, match=f"all 3 choices of question '{same.id}' are right"):
        attention_flow(toy, [asked[0], same], edges=[("audio", "last")], window="all")


def test_layers_without_attention_have_nothing_to_cut():
    model = AudioLM(network("nemotron_h_omni"), processor("nemotron_h_omni"), prove=False)
    clips = [ma.AudioClip(noise(1.0, seed), 16_000) for seed in range(2)]
    asked = [ma.AudioQuestion(clip, "Which sound comes first?", ("dog", "car"), "dog") for clip in clips]
    flow = attention_flow(model, asked, edges=[("audio", "last")], window=1)
    attends = ["pattern" in sites for sites in model.site_map.layers["decoder"]]
    assert 0 < sum(attends) < len(attends)
    changes, cut = flow.change("margin")[0], flow.attention[0]
    for layer, has in enumerate(attends):
        assert (changes[layer] != 0).all() if has else (changes[layer] == 0).all()
        assert np.isfinite(cut[layer]).all() if has else np.isnan(cut[layer]).all()

"""Rows in front of the last are read in their mean: attention of heads, and directions from silence to audio."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio import analyses
from mechaudio.models.positions import select
from mechaudio.models.silence import silenced
from mechaudio.models.toy.planted import BY_LISTENER
from tests.families import unchecked_types

pytestmark = pytest.mark.filterwarnings("ignore:.*heads give the audio the same share")
LAYER, HEAD = BY_LISTENER["choices"].listening


@pytest.fixture(scope="module")
def toy():
    return ma.load("toy", listens="choices", prove=False)


@pytest.fixture(scope="module")
def asked():
    some = ma.data.toy_questions.questions(24, seed=1)
    fewer = [
        replace(question, choices=question.choices[:3])
        for question in some[:2]
        if question.answer in question.choices[:3]
    ]
    return [*fewer, *some[len(fewer) :]]  # of prompts that have other numbers of rows


@pytest.mark.parametrize("queries", ["choices", "keyword+last", "last"])
def test_attention_is_the_mean_over_the_rows(toy, asked, queries):
    found = analyses.attention_and_answers(toy, asked, queries=queries, batch_size=7, progress=False)
    assert found.queries == queries
    expected = analyses.audio_attention(toy, asked, queries=queries).share("audio")
    np.testing.assert_allclose(found.audio_attention, expected, atol=1e-5)
    alone = analyses.attention_and_answers(toy, asked, batch_size=7, progress=False)
    assert found.choices == alone.choices, "the answer is read at the last row"


def test_the_planted_head_is_found_where_it_listens(toy, asked):
    scores = analyses.specialist_heads(toy, asked, queries="listening", progress=False)
    assert scores.measured.queries == "choices"
    assert scores.top(1) == ((LAYER, HEAD),)


def test_the_rows_that_listen_are_those_that_the_measured_words_need(toy, asked, monkeypatch):
    module, calls = importlib.import_module("mechaudio.analyses.where_it_listens"), []
    find = module.where_it_listens
    monkeypatch.setattr(
        module, "where_it_listens", lambda *given, **named: calls.append(named) or find(*given, **named)
    )
    right = [question.answer for question in asked]
    wrong = [next(choice for choice in question.choices if choice != question.answer) for question in asked]
    with pytest.raises(ValueError, match="no rows are known to listen"):  # it never writes the words themselves
        analyses.attention_and_answers(toy, asked, target=right, foil=wrong, queries="listening", progress=False)
    assert [(named["target"], named["foil"]) for named in calls] == [(right, wrong)]


def test_directions_that_a_sweep_measures_are_of_the_rows_that_listen(toy, asked):
    def swept(queries):
        return analyses.steering_sweep(
            toy,
            asked,
            directions=None,
            queries=queries,
            variants=lambda own: {"head": own.head_level([(LAYER, HEAD)], 3.0)},
            progress=False,
        )

    assert np.array_equal(swept("listening").margin, swept("choices").margin)


def test_open_questions_find_their_rows_on_the_words_that_they_are_measured_on(toy, asked):
    letters = ["ABCD"[question.choices.index(question.answer)] for question in asked]
    others = ["BCDA"["ABCD".index(letter)] for letter in letters]
    unknown = [replace(question, answer=None) for question in asked]
    found = analyses.attention_and_answers(
        toy, unknown, target=letters, foil=others, queries="listening", progress=False
    )
    assert found.queries == "choices"
    among_all = analyses.attention_and_answers(toy, asked, progress=False).correct
    assert found.correct[among_all].all(), "the best of all letters is better than one of them"


def test_a_score_is_made_of_the_rows_that_its_heads_were_chosen_by(toy, asked):
    calibration, held_out = analyses.attention_and_answers(toy, asked, queries="choices", progress=False).split(seed=0)
    other = replace(held_out, queries="last")
    with pytest.raises(ValueError, match="chosen by the attention of the rows 'choices', and that of 'last' was"):
        analyses.listening_score(analyses.score_heads(calibration), other, k=1)
    assert analyses.listening_score(analyses.score_heads(calibration), held_out, k=1, draws=5).heads == ((LAYER, HEAD),)


@pytest.mark.parametrize("queries", ["choices", "last"])
def test_directions_are_the_mean_difference_at_the_rows_and_heads_are_steered_there(toy, asked, queries):
    found = analyses.steering_directions(toy, asked[:4], queries=queries, batch_size=3, progress=False)
    batch = ma.prompt(toy, asked[:4])
    caches = [ma.run(toy, one, record=["resid_post", "z"], logits=None).cache for one in (batch, silenced(toy, batch))]
    for row, positions in enumerate(select(batch, queries)):
        apart = [caches[0][name, 1][row] - caches[1][name, 1][row] for name in ("resid_post", "z")]
        residual, z = (one[list(positions)].mean(0).numpy() for one in apart)
        np.testing.assert_allclose(found.residual[row, 1], residual, atol=1e-4)
        np.testing.assert_allclose(found.z[1][row], z, atol=1e-4)
    assert found.queries == found.head_level([(LAYER, HEAD)]).positions == queries
    assert found.layer_guided([(LAYER, HEAD)]).positions == "last"


def test_steering_the_rows_that_listen_moves_the_answer_and_the_last_row_does_not(toy, asked):
    batch = ma.prompt(toy, asked[:6])
    clean = torch.tensor([one.choice_logits[:3] for one in ma.answer(toy, batch)])
    for queries, moves in (("choices", True), ("last", False)):
        directions = analyses.steering_directions(toy, asked[:6], queries=queries, progress=False)
        steered = ma.answer(toy, batch, interventions=[directions.head_level([(LAYER, HEAD)], 3.0)])
        moved = (torch.tensor([one.choice_logits[:3] for one in steered]) - clean).abs().amax(-1)
        assert (moved > 0.01).any() if moves else (moved < 1e-4).all()


def test_paired_passes_read_the_same_rows(toy, asked):
    passes = analyses.paired_passes(toy, asked[:6], queries="choices", batch_size=4, progress=False)
    alone = analyses.attention_and_answers(toy, asked[:6], queries="choices", progress=False)
    np.testing.assert_allclose(passes.heard.audio_attention, alone.audio_attention, atol=1e-5)
    directions = analyses.steering_directions(toy, asked[:6], queries="choices", progress=False)
    np.testing.assert_allclose(passes.directions.residual, directions.residual, atol=1e-3)


def test_rows_that_a_prompt_does_not_have_are_refused(toy, asked):
    with pytest.raises(ValueError, match="span 'caption' is empty in rows"):
        analyses.attention_and_answers(toy, asked[:2], queries="caption", progress=False)
    with unchecked_types(), pytest.raises(KeyError, match="no span 'voice'"):
        analyses.steering_directions(toy, asked[:2], queries="voice", progress=False)


def test_rows_behind_the_sound_are_all_that_can_hear(toy, asked):
    batch = ma.prompt(toy, asked[:3], condition="audio+caption")
    for row, behind in enumerate(select(batch, "behind")):
        audio = batch.spans["audio"][row]
        assert set(behind) == set(range(min(audio), batch.n_positions)) - set(audio)
    assert select(batch, "words") == ((),) * 3
    deaf = ma.answer(toy, batch, interventions=[ma.KnockOutAttention(queries="behind")])
    told = ma.answer(toy, ma.prompt(toy, asked[:3], condition="caption"))
    for own, other in zip(deaf, told, strict=True):
        np.testing.assert_allclose(own.choice_logits, other.choice_logits, atol=1e-4)

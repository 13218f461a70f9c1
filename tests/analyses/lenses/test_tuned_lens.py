from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import logit_lens, tuned_lens
from mechaudio.data.toy_questions import questions as toy_questions
from tests.families import unchecked_types

HOW = {"steps": 12, "batch_size": 4, "rows": 64, "positions": "audio+last", "progress": False}


@pytest.fixture(scope="module")
def questions():
    return ma.data.soundscapes.questions(10, seed=2, duration=2.0)


@pytest.fixture(scope="module")
def lens(tiny, questions):
    return tuned_lens(tiny, questions, **HOW)


@pytest.mark.whole
def test_on_questions_it_was_not_trained_on_it_is_closer_to_the_output_than_the_plain_lens(lens):
    assert not set(lens.held_out) & set(lens.trained_on)
    assert lens.depths == ("embed", "0", "1", "2", "3", "4")
    assert (lens.tuned_kl.mean(0) < lens.plain_kl.mean(0)).all()
    assert lens.tuned_kl[:, 0].mean() < 0.5 * lens.plain_kl[:, 0].mean()


def test_both_divergences_are_those_that_the_lens_reports(tiny, questions, lens):
    held_out = [question for question in questions if question.id in lens.held_out]
    for own, given in ((lens.plain_kl, None), (lens.tuned_kl, lens)):
        seen = logit_lens(tiny, held_out, positions=HOW["positions"], lens=given)
        np.testing.assert_allclose(own, seen.kl.mean(2)[:, :-1], rtol=1e-3, atol=1e-5)
        assert seen.lens == ("plain" if given is None else "tuned")


def test_before_the_first_step_it_is_the_plain_lens(tiny, questions, lens):
    untrained = replace(lens, weight=np.zeros_like(lens.weight), bias=np.zeros_like(lens.bias))
    batch = ma.prompt(tiny, questions[:2])
    np.testing.assert_array_equal(
        logit_lens(tiny, batch, lens=untrained).choice_logits, logit_lens(tiny, batch).choice_logits
    )

    first = tuned_lens(tiny, questions, **{**HOW, "steps": 1, "batch_size": 10, "rows": 10_000})
    trained_on = [question for question in questions if question.id in first.trained_on]
    plain = logit_lens(tiny, trained_on, positions=HOW["positions"]).kl[:, :-1]
    np.testing.assert_allclose(first.loss[0], plain.mean((0, 2)), rtol=1e-3)


def test_the_last_depth_is_the_output_and_has_no_translator(tiny, questions, lens):
    batch = ma.prompt(tiny, questions[:2])
    np.testing.assert_array_equal(
        logit_lens(tiny, batch, lens=lens).choice_logits[:, -1], logit_lens(tiny, batch).choice_logits[:, -1]
    )


def test_the_same_seed_trains_the_same_lens_and_leaves_the_network_alone(tiny, questions):
    before = {name: value.clone() for name, value in tiny.network.state_dict().items()}
    how = {**HOW, "steps": 2}
    first, other, third = (tuned_lens(tiny, questions[:6], seed=seed, **how) for seed in (0, 0, 3))
    np.testing.assert_array_equal(first.weight, other.weight)
    assert not np.array_equal(first.weight, third.weight)
    for name, value in tiny.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in tiny.network.parameters())


def test_a_translator_is_the_formula(lens):
    states = torch.randn(3, 5, 128, generator=torch.Generator().manual_seed(0))
    by_hand = states.numpy() + states.numpy() @ lens.weight[2].T + lens.bias[2]
    np.testing.assert_allclose(lens.translate(2, states).numpy(), by_hand, atol=1e-4)
    assert lens.translate(2, states.bfloat16()).dtype == torch.bfloat16


def test_what_is_saved_is_loaded(lens, tmp_path):
    loaded = ma.Result.load(lens.save(tmp_path / "lens"))
    np.testing.assert_array_equal(loaded.weight, lens.weight)
    assert loaded.held_out == lens.held_out


def test_a_lens_of_another_model_is_refused(lens):
    toy = ma.load("toy", prove=False)
    with pytest.raises(
        ValueError, match=r"this lens was trained on '.*tiny.*' with 6 depths of width 128, and the model is"
    ):
        logit_lens(toy, toy_questions(1, seed=0), lens=lens)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"steps": 0}, "steps is at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"held_out": 1.5}, "held_out is a share of the clips between 0 and 1, such as 0.2, got 1.5"),
        ({"held_out": 0.0}, "held_out is .* got 0.0$"),
    ],
)
def test_settings_that_make_no_sense_say_why(tiny, questions, how, told):
    with pytest.raises(ValueError, match=told):
        tuned_lens(tiny, questions, progress=False, **how)


def test_numbers_that_are_not_whole_are_refused(tiny, questions):
    with unchecked_types(), pytest.raises(TypeError, match=r"rows= takes a whole number; got 2\.5"):
        tuned_lens(tiny, questions, rows=2.5, progress=False)


def test_too_few_questions_are_refused(tiny, questions):
    with pytest.raises(ValueError, match=r"of 1 question\b"):
        tuned_lens(tiny, questions[:1], progress=False)

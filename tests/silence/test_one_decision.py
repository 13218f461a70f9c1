"""The likeliest choice, the best wrong one, and what a logit that is not finite means, are decided in one place."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses.patching.scale import METRICS, value
from mechaudio.experiments.log_lines import Row
from mechaudio.experiments.run_log import RunLog
from mechaudio.metrics.choices import NO_ANSWER, are_right, best_wrong, likeliest, margin, refuse_nan
from mechaudio.metrics.multiple_choice import best_rows
from mechaudio.report.wording import lacking, percent

INF, NAN = math.inf, math.nan


@pytest.fixture(scope="module")
def model():
    return ma.load("tiny", prove=False)


@pytest.fixture(scope="module")
def questions():
    return ma.data.soundscapes.questions(8, seed=0, duration=4.0)


def spoiling(ids, value, rows=None):
    """Write a value in the place of some logits, of all prompts or of some."""

    def spoil(logits):
        spoilt = logits.clone()
        for row in range(len(logits)) if rows is None else rows:
            spoilt[row, :, ids] = value
        return spoilt

    return ma.Edit(ma.HookPoint("logits"), spoil)


@pytest.mark.parametrize(
    ("logits", "chosen"),
    [
        ([1.0, 3.0, 2.0], 1),
        ([2.0, 2.0, 1.0], 0),  # the first of several alike
        ([-INF, 0.0, -1.0], 1),  # a banned letter is not chosen
        ([-INF, -INF, -5.0], 2),
        ([-INF, -INF, -INF], NO_ANSWER),  # all are banned
        ([NAN, 5.0, 1.0], NO_ANSWER),  # nothing can be said of which is the largest
        ([NAN, NAN, NAN], NO_ANSWER),
        ([INF, 5.0, 1.0], 0),
        ([INF, INF, 1.0], NO_ANSWER),  # both overflowed
    ],
)
def test_the_likeliest_choice_is_the_highest_logit_and_nan_is_no_answer(logits, chosen):
    assert likeliest(np.array([logits]), [3]).tolist() == [chosen]


def test_what_stands_behind_a_questions_own_choices_is_not_looked_at():
    logits = np.array([[1.0, 3.0, NAN, NAN], [1.0, NAN, 0.0, 9.0], [1.0, 2.0, 9.0, 9.0]])
    assert likeliest(logits, [2, 4, 2]).tolist() == [1, NO_ANSWER, 1]
    assert likeliest(np.stack([logits, -logits]), [2, 4, 2]).tolist() == [[1, NO_ANSWER, 1], [0, NO_ANSWER, 0]]


def test_no_answer_is_never_right_and_the_best_wrong_choice_is_always_a_wrong_one():
    right = np.array([[True, False, False], [False, False, True]])
    assert are_right(np.array([0, NO_ANSWER]), right).tolist() == [True, False]
    assert are_right(np.array([[1, 2], [0, 0]]), right).tolist() == [[False, True], [True, False]]
    assert best_wrong(np.array([[9.0, 1.0, 2.0], [5.0, 1.0, 9.0]]), right).tolist() == [2, 0]
    assert best_wrong(np.array([[9.0, NAN, -INF], [-INF, -INF, 9.0]]), right).tolist() == [1, 0]


@pytest.mark.parametrize("logits", list(itertools.product((NAN, -INF, 0.0, INF), repeat=3)))
def test_a_question_has_a_margin_where_it_has_an_answer_and_it_is_positive_where_that_is_right(logits):
    row, right = np.array([logits]), np.array([[True, False, False]])
    (chosen,), (lead,) = likeliest(row, [3]), margin(row, right, [3])
    assert np.isnan(lead) == (chosen == NO_ANSWER)
    assert (lead > 0) <= (chosen == 0) <= (lead >= 0 or chosen == NO_ANSWER)
    for metric in METRICS:
        measured = value(metric, row, right, np.array([1]), np.array([[3.0, 2.0, 1.0]]))
        assert chosen != NO_ANSWER or np.isnan(measured).all()
        assert metric != "probability" or chosen == NO_ANSWER or 0 <= measured[0] <= 1


def test_nan_behind_a_questions_own_choices_is_none_of_its_logits():
    row, right = np.array([[1.0, 3.0, NAN]]), np.array([[True, False, False]])
    assert margin(row, right, [2]).tolist() == margin(row, right).tolist() == [-2.0]
    assert np.isnan(margin(row, right, [3])).all()
    assert np.isnan(margin(row[:, ::-1], right)).all()


def test_of_settings_that_are_right_equally_often_one_without_a_mean_margin_is_not_the_best():
    margins = np.array([[INF, -INF], [NAN, 9.0], [0.5, 0.5]])
    assert best_rows(np.ones((3, 2), dtype=bool), margins) == (2,)


def test_with_one_letter_banned_every_path_gives_the_same_answers(model, questions):
    batch = ma.prompt(model, questions)
    ban = spoiling([batch.choice_ids[0][3]], -INF)
    answered = ma.answer(model, batch, interventions=[ban])
    assert all(answer.letter != "D" for answer in answered)
    right = [answer.correct for answer in answered]
    assert ma.sweep(model, batch, [ban], progress=False).correct[0].tolist() == right
    evaluated = ma.evaluate(model, questions, interventions=[ban])
    assert evaluated.correct.tolist() == right
    assert list(evaluated.choices) == [answer.choice for answer in answered]
    compared = ma.evaluate(model, questions, variants=[ban])
    assert compared.correct[0].tolist() == right
    assert (compared[0].margin > 0).tolist() == right


def test_a_nan_is_no_answer_on_any_path_and_every_path_names_the_question(model, questions):
    batch, ids = ma.prompt(model, questions), [question.id for question in questions]
    spoilt = spoiling([batch.choice_ids[0][2]], NAN, rows=[1, 4])
    told = rf"2 of 8 questions have no answer.*\('{ids[1]}', '{ids[4]}'\)"
    with pytest.warns(UserWarning, match=told):
        answered = ma.answer(model, batch, interventions=[spoilt])
    assert [row for row, answer in enumerate(answered) if answer.choice is None] == [1, 4]
    assert answered[1].correct is False
    swept = ma.sweep(model, batch, [spoilt], progress=False)
    assert swept.margin[0].isnan().nonzero()[:, 0].tolist() == [1, 4]
    assert "2 answers are NaN" in repr(swept)
    assert swept.unanswered[0].nonzero()[:, 0].tolist() == [1, 4]
    with pytest.warns(UserWarning, match=told):
        assert swept.correct[0].tolist() == [bool(answer.correct) for answer in answered]


def test_an_evaluation_says_how_many_answers_are_nan_beside_every_accuracy(model, questions):
    ids = list(ma.prompt(model, questions).choice_ids[0])
    overflow = spoiling(ids[:2], NAN)
    with pytest.warns(UserWarning, match="8 of 8 questions have no answer"):
        evaluated = ma.evaluate(model, questions, interventions=[overflow])
    assert evaluated.choices == (None,) * 8
    assert np.isnan(evaluated.logits[:, :2]).all()
    assert evaluated.overall.unanswered == 8
    assert np.isnan(evaluated.margin).all()
    assert "0 of 8 questions of" in str(evaluated.overall) or "0 of 8; 8 without" in str(evaluated.overall)
    assert "8 without an answer" in str(evaluated.overall)
    assert "8 without an answer" in repr(evaluated)
    with pytest.warns(UserWarning, match="8 of 8 questions"):
        compared = ma.evaluate(model, questions, variants=[[], [overflow]])
    assert (compared.change(1).before.unanswered, compared.change(1).after.unanswered) == (0, 8)
    assert compared.unanswered.tolist() == [[False] * 8, [True] * 8]
    (sentence,) = lacking(compared.unanswered)
    assert sentence.startswith("8 answers are missing, because logits of their choices are NaN or overflow (1 of 2")
    assert percent(compared[1].overall).endswith("(8 of 8 have no answer: NaN)")
    assert all(score.unanswered for score in evaluated.by_task().values())
    assert json.loads(json.dumps(evaluated.overall.as_dict()))["unanswered"] == 8


def test_a_run_that_is_taken_up_keeps_what_was_not_finite(tmp_path):
    row = Row(0, "q0", "digest", "", ("a", "b", "c"), "a", logits=((NAN, INF, -INF), (0.5, 1.0, 2.0)))
    with RunLog(tmp_path, {"run": {}}) as log:
        log.add([row])
    with RunLog(tmp_path, {"run": {}}) as log:
        np.testing.assert_array_equal(log.known[0].logits, row.logits)
    assert '[[null, "inf", "-inf"], [0.5, 1.0, 2.0]]' in (tmp_path / "answers.jsonl").read_text(encoding="utf-8")


def test_nothing_is_measured_against_a_run_whose_logits_are_nan(model, questions):
    with pytest.raises(ValueError, match="1 of 2 questions have logits that are NaN in the clean run, 'b' first"):
        refuse_nan(["a", "b"], np.array([[1.0, 2.0, NAN], [1.0, NAN, 3.0]]), [2, 3], "the clean run")
    broken = ma.load("tiny", prove=False)
    with torch.no_grad():
        broken.network.lm_head.weight[:] = NAN
    for measure in (
        lambda: ma.analyses.activation_patching(broken, questions[:2], over=("layer",)),
        lambda: ma.analyses.attribution_patching(broken, questions[:2], over=("layer",)),
        lambda: ma.analyses.attention_flow(broken, questions[:2]),
        lambda: ma.analyses.direct_logit_attribution(broken, questions[:2]),
        lambda: ma.analyses.attention_and_answers(broken, questions[:2]),
        lambda: ma.experiments.listen(broken, questions[0]),
    ):
        with pytest.raises(ValueError, match="logits that are NaN"):
            measure()


@pytest.mark.parametrize("hook_point", ["resid_post", "attn_out"])
def test_zero_stays_zero_when_a_direction_is_projected_out(model, hook_point):
    questions = ma.data.soundscapes.questions(8, seed=5, duration=(2.0, 4.0), margin=0.5)
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    steer = ma.Steer(
        direction, 1.0, mode="project_out", keep_norm=True, layers=[2], positions=None, hook_point=hook_point
    )
    alone = [ma.answer(model, ma.prompt(model, [q]), interventions=[steer])[0].correct for q in questions]
    assert ma.evaluate(model, questions, interventions=[steer]).correct.tolist() == alone
    assert ma.evaluate(model, questions, variants=[steer])[0].correct.tolist() == alone
    deaf = ma.KnockOutAttention(layers=[0], queries="last", keys="audio+question+choices+template")
    blind = ma.Steer(direction, 1.0, mode="project_out", keep_norm=True, layers=[0], hook_point="attn_out")
    batch = ma.prompt(model, questions[:2])
    assert ma.run(model, batch, interventions=[deaf, blind], logits="last").logits.isfinite().all()


def test_a_row_that_is_all_direction_is_zero_without_it_and_a_small_direction_is_one_too():
    direction = 1e-5 * torch.ones(4)
    without = ma.Steer(direction, 1.0, layers=[0], mode="project_out", keep_norm=True)._change(direction)
    rows = torch.tensor([[[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]])
    for dtype in (torch.float32, torch.float16):
        moved = without(rows.to(dtype))
        torch.testing.assert_close(moved, torch.tensor([[[0.0] * 4, [0.0] * 4, [1.0, -1.0, 0.0, 0.0]]], dtype=dtype))

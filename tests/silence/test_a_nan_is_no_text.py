"""One decision, one place: a NaN is no text and no measurement, on any path; it is counted, and named."""

import math
from functools import partial

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.metrics.choices import NO_TEXT
from mechaudio.tracing.decoding import NO_TOKEN, Unclear
from tests.shorter import shorter

NAN = math.nan


def of_row(row, value):
    def change(tensor):
        return tensor.index_fill(0, torch.tensor([row]), value)

    return change


LOST = ma.Edit(ma.HookPoint("resid_post", layers=[3]), lambda resid: resid * NAN)
ONE_LOST = ma.Edit(ma.HookPoint("resid_post", layers=[3]), of_row(1, NAN))
ALL_INFINITE = ma.Edit(ma.HookPoint("logits"), lambda logits: logits.fill_(math.inf).clone())


@pytest.fixture(scope="module")
def tiny():
    return shorter()


@pytest.fixture(scope="module")
def questions():
    return list(ma.data.soundscapes.questions(3, seed=1, duration=(2.0, 3.0)))


@pytest.fixture(scope="module")
def batch(tiny, questions):
    return ma.prompt(tiny, questions)


def test_one_row_without_a_text_leaves_the_others_theirs(tiny, batch):
    clean = ma.generate(tiny, batch, max_new_tokens=3)
    with pytest.warns(UserWarning, match=r"1 of 3 texts were not written \('soundscapes-1-1'\): they are '\[NaN\]'"):
        written = ma.generate(tiny, batch, max_new_tokens=3, interventions=[ONE_LOST])
    assert written.texts == (clean.texts[0], NO_TEXT, clean.texts[2])
    assert (written.tokens[1] == NO_TOKEN).all()
    assert NO_TEXT not in clean.texts


@pytest.mark.parametrize("change", [LOST, ALL_INFINITE], ids=["NaN", "overflow"])
def test_every_path_that_writes_says_so_and_counts_them(tiny, questions, batch, change):
    expected = pytest.warns(UserWarning, match="3 of 3 texts were not written")
    with expected:
        assert ma.generate(tiny, batch, max_new_tokens=2, interventions=[change]).texts == (NO_TEXT,) * 3
    with expected:
        written = ma.generate_variants(tiny, batch, [[change], []], max_new_tokens=2)
    assert written.texts == ((NO_TEXT,) * 3, written.clean_texts)
    with expected:
        alone = ma.evaluate(tiny, questions, scoring="generate", max_new_tokens=2, interventions=[change])
    with expected:
        compared = ma.evaluate(tiny, questions, scoring="generate", max_new_tokens=2, variants=[change])
    for evaluation in (alone, compared[0]):
        assert evaluation.unanswered.all()
        assert "3 without an answer: NaN" in str(evaluation.overall)
    assert not compared.clean.unanswered.any()


def test_a_run_that_is_taken_up_keeps_which_texts_there_are_none_of(tiny, questions, tmp_path):
    for _ in range(2):
        with pytest.warns(UserWarning, match="3 of 3 texts were not written"):
            evaluation = ma.evaluate(
                tiny,
                questions,
                scoring="generate",
                max_new_tokens=2,
                variants=[ma.Steer(np.full(128, 3e38), 1e9)],
                out=tmp_path,
            )
        assert evaluation[0].unanswered.tolist() == [True] * 3


def test_what_stands_behind_the_end_of_an_answer_is_not_looked_at():
    unclear = Unclear(ends=9)
    prompt, lost, said = torch.zeros(2, 4, dtype=torch.long), torch.full((2, 12), NAN), torch.eye(12)[:2]
    unclear(prompt, said)
    step = torch.cat([prompt, torch.tensor([[9], [1]])], dim=1)
    assert unclear(step, lost).argmax(-1).tolist() == [9, 9]
    assert unclear.mark(torch.tensor([[9, 0], [1, 1]])).tolist() == [[9, 0], [1, NO_TOKEN]]


def test_one_infinite_logit_is_the_highest_and_several_tell_nothing():
    first = torch.tensor([[math.inf, 1.0, 2.0], [math.inf, math.inf, 0.0], [-math.inf, -math.inf, 0.0]])
    unclear = Unclear(ends=())
    unclear(torch.zeros(3, 1, dtype=torch.long), first)
    assert unclear.mark(torch.tensor([[0], [0], [2]])).tolist() == [[0], [NO_TOKEN], [2]]


def test_a_run_names_what_it_kept_that_is_nan_and_whose_it_is(tiny, batch):
    with pytest.warns(
        UserWarning, match=r"resid_post of layer 3 holds NaN in 1 of 3 prompts \('soundscapes-1-1' first"
    ):
        ma.run(tiny, batch, record=["resid_post"], interventions=[ONE_LOST])


@pytest.mark.filterwarnings("ignore:.* holds NaN")
def test_analyses_of_a_network_that_gives_nan_say_so_or_refuse(questions):
    model = shorter()
    with torch.no_grad():
        model.network.get_submodule("model.language_model.layers.3.mlp.down_proj").weight[0, 0] = NAN
    for measure in (
        ma.analyses.audio_attention,
        ma.analyses.attention_mass,
        ma.analyses.logit_lens,
        ma.analyses.steering_directions,
    ):
        with pytest.warns(UserWarning, match="holds NaN in 3 of 3 prompts"):
            measure(model, questions)
    for measure in (ma.analyses.direct_logit_attribution, ma.analyses.attention_flow, ma.analyses.where_it_listens):
        with pytest.raises(ValueError, match="3 of 3 questions have logits that are NaN"):
            measure(model, questions)
    lens = partial(ma.analyses.tuned_lens, model, questions, held_out=0.5, steps=1)
    clips = [ma.AnnotatedClip(question.audio, question.events, id=question.id) for question in questions]
    probes = partial(ma.analyses.encoder_probes, model, clips, places=["blocks.3.resid_post"])
    for measure, refusal in (
        (lens, "in step 1 the KL divergence at depth embed is no number"),
        (probes, "states of 'soundscapes-1-0' at blocks.3.resid_post are NaN"),
    ):
        with pytest.raises(ValueError, match=refusal):
            measure()

"""Sweeps: every variant is what it is alone, whichever way it was computed."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.interventions.sweep_result import SHARED
from mechaudio.models.grouping import padding_groups
from mechaudio.models.inputs import as_batch
from mechaudio.models.toy.planted import PLANTED
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.formulas import Shift
from mechaudio.tracing.score_edit import ScoreEdit
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned, unchecked_types
from tests.interventions.kinds import ALONE, having


@pytest.fixture(scope="module")
def opened():
    return cache(lambda family: (AudioLM(network(family), prove=False), model_inputs(family)))


def attending(model):
    return having(model, "pattern")


def variants_of(model, inputs):
    """One variant of every kind, alone and combined, at the last position and at a suffix."""
    first, *_, last = attending(model)
    behind = "mlp_out" if having(model, "mlp_out") else "attn_out"
    middle = "resid_mid" if having(model, "resid_mid") else "resid_post"
    at_last = {"queries": "last", "keys": "audio"}
    n_rows = len(inputs["input_ids"])
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(model.d_model, generator=generator)
    per_question = torch.randn(n_rows, model.d_model, generator=generator)
    clean = ma.run(model, inputs, record=["z", "pattern", "v"]).cache
    uniform = [ma.ScaleAttention(factor, layers=attending(model), **at_last) for factor in (0.5, 1.0, 3.0)]
    return [
        [],
        *([one] for one in uniform),
        [ma.ScaleAttention(2.0, layers=[first], heads=[1], queries=[-2, -1])],
        [ma.ScaleAttention(2.0, layers=[last], mode="mass_preserving")],
        [ma.ScaleAttention(-1.5, layers=[last], mode="centred")],
        [ma.UpweightAttention(2.0, layers=[first]), ma.ScaleAttention(2.0, layers=[first])],
        [ma.ScaleAttention(2.0, layers=[first]), ma.UpweightAttention(2.0, layers=[first])],
        [ma.UpweightAttention(0.5, mode="pai", layers=[first, last])],
        [ma.KnockOutAttention(layers=[last]), ma.Steer(direction, layers=[first], strength=0.5)],
        [ma.KnockOutAttention(queries=[-3], layers=[first])],
        [ma.Steer(direction, layers=having(model, behind)[-1:], hook_point=behind)],
        [ma.Steer(per_question, layers=[first], hook_point="resid_pre", per="question")],
        [ma.Steer(direction, layers=having(model, middle)[:1], hook_point=middle, mode="project_out", keep_norm=True)],
        [ma.Steer(direction, hook_point="final_norm")],
        [ma.Patch("z", layer=first, value=clean["z", last], heads=[0], positions="last")],
        [ma.Patch("pattern", layer=last, value=clean["pattern", first].flip(1), positions=[-2, -1])],
        [ma.Patch("v", layer=first, value=clean["v", last].flip(1), positions=[-2])],
        [ma.Steer(direction, layers=[first], positions="audio")],
        [ma.Patch("z", layer=last, value=clean["z", first], heads=[1])],
        [ma.Edit(ma.HookPoint("k", layers=[first], positions="audio"), torch.neg, by_position=True)],
        [ma.UpweightAttention(3.0, layers=[last], heads=[0], queries=None)],
        [ma.Edit(ma.HookPoint("scores", layers=[first], queries="last"), lambda scores: scores.roll(1, 1))],
        [ma.Edit(ma.HookPoint("resid_post", layers=[last], positions=[-3, -1]), lambda resid: resid.flip(1))],
    ]


def one_by_one(model, inputs, variants):
    batch = as_batch(model, inputs)
    return torch.stack([ma.run(model, batch, interventions=edits, logits="last").logits[:, -1] for edits in variants])


@pytest.mark.parametrize("family", thinned(FAMILIES, left=("qwen2_audio", "phi4_multimodal")))
def test_a_sweep_gives_what_its_variants_give_one_by_one(opened, family):
    model, inputs = opened(family)
    every = variants_of(model, inputs)
    unmoved = (0, 2, 19) if family == "gemma3n" else (0, 2)  # its window has left the clip behind, not its padding
    moving = [index for index in range(len(every)) if index not in unmoved]
    if family not in KINDS:  # a class of every kind has them all; of the others, each has every third
        moving = moving[FAMILIES.index(family) % 3 :: 3]
    variants = [every[index] for index in (*unmoved, *moving)]
    found = ma.sweep(model, inputs, variants, progress=False)
    expected = one_by_one(model, inputs, variants)
    scale = expected.abs().amax()
    assert ((found.logits - expected).abs().amax() / scale) < 5e-5
    if family in KINDS:
        in_pieces = ma.sweep(model, inputs, variants, memory=1, progress=False)  # a prompt and a variant at a time
        assert ((in_pieces.logits - expected).abs().amax() / scale) < 5e-5
    moved = (expected - expected[0]).abs().amax((1, 2))
    assert (moved[len(unmoved) :] > 1e-4 * scale).all()
    if family in ALONE:
        assert all(ALONE[family] in way for way in found.ways)
    else:
        assert set(found.ways) == {SHARED}


def toy_batch(toy, n=6, **settings):
    return ma.prompt(toy, ma.data.toy_questions.questions(n, seed=0, **settings))


def mixed(toy):
    """Variants that begin at the last position, at the keyword and in between; one acts twice, one does nothing."""
    direction = torch.randn(toy.d_model, generator=torch.Generator().manual_seed(0))
    return [
        ma.ScaleAttention(0.5, layers=[1]),
        ma.ScaleAttention(2.0, layers=[0, 1], queries="keyword+last", mode="centred"),
        [ma.UpweightAttention(-3.0, layers=[1], queries=[-5]), ma.Steer(direction, layers=[2], strength=0.3)],
        ma.KnockOutAttention(layers=[1, 3], heads=[2]),
        ma.Steer(direction, layers=[0], positions="keyword"),
        ma.KnockOutAttention(layers=[3], queries="choices", keys="choices"),
        [],
    ]


def alone(model, batch, variants):
    lists = [one if isinstance(one, list) else [one] for one in variants]
    return torch.stack([ma.run(model, batch, interventions=one, logits="last").logits[:, -1] for one in lists])


def of_choices(logits, batch):
    return torch.stack([logits[:, row, list(ids)] for row, ids in enumerate(batch.choice_ids)], dim=1)


def test_variants_that_begin_at_different_positions_share_a_sweep(toy):
    batch = toy_batch(toy)
    found = ma.sweep(toy, batch, mixed(toy), progress=False)
    expected = of_choices(alone(toy, batch, mixed(toy)), batch)
    torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-5)
    assert set(found.ways) == {SHARED}
    assert (found.logits - found.clean).abs().amax((1, 2))[[0, 1, 2, 3, 4]].min() > 1e-2
    torch.testing.assert_close(found.logits[-1], found.clean, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("memory", [1.0, 2e6, 2e7])
def test_little_memory_takes_longer_and_gives_the_same(toy, memory):
    batch = toy_batch(toy)
    whole = ma.sweep(toy, batch, mixed(toy), progress=False)
    parts = ma.sweep(toy, batch, mixed(toy), memory=memory, progress=False)
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(parts.clean, whole.clean, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(parts.mass_before, whole.mass_before, atol=1e-5, rtol=1e-4, equal_nan=True)
    torch.testing.assert_close(parts.mass_after, whole.mass_after, atol=1e-5, rtol=1e-4, equal_nan=True)
    assert parts.ways == whole.ways


def test_every_question_keeps_its_own_direction_when_prompts_run_in_parts(toy):
    batch = toy_batch(toy, 4)
    directions = torch.randn(4, toy.d_model, generator=torch.Generator().manual_seed(1))
    variants = [ma.Steer(directions, layers=[layer], per="question", strength=3.0) for layer in range(toy.n_layers)]
    found = ma.sweep(toy, batch, variants, memory=1.0, progress=False)
    torch.testing.assert_close(found.logits, of_choices(alone(toy, batch, variants), batch), atol=1e-4, rtol=1e-5)
    swapped = [ma.Steer(directions.flip(0), layers=[0], per="question", strength=3.0)]
    assert (ma.sweep(toy, batch, swapped, progress=False).logits[0] - found.logits[0]).abs().max() > 1e-2


def test_padded_questions_together_are_the_questions_alone():
    model = ma.load("tiny", prove=False)
    asked = ma.data.soundscapes.questions(3, seed=3)
    wrong = next(choice for choice in asked[2].choices if choice != asked[2].answer)
    questions = [*asked[:2], replace(asked[2], choices=(wrong, asked[2].answer))]
    batch = ma.prompt(model, questions)
    assert len(set(batch.inputs["attention_mask"].sum(1).tolist())) > 1
    variants = ma.grid(ma.ScaleAttention, layers=[0, 3], factor=[0.5, 2.0], queries=["last", "choices+last"])
    together = ma.sweep(model, batch, variants, progress=False)
    for row, question in enumerate(questions):
        single = ma.sweep(model, ma.prompt(model, [question]), variants, progress=False)
        n = len(question.choices)
        torch.testing.assert_close(together.logits[:, row, :n], single.logits[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.mass_after[:, row], single.mass_after[:, 0], atol=1e-5, rtol=1e-4)


def test_questions_with_fewer_choices_have_no_logits_for_the_others(toy):
    few = ma.data.toy_questions.questions(2, seed=0, n_choices=2)
    many = ma.data.toy_questions.questions(2, seed=1, n_choices=4)
    found = ma.sweep(toy, ma.prompt(toy, [*few, *many]), [ma.ScaleAttention(2.0, layers=[1]), []], progress=False)
    missing = torch.zeros(4, 4, dtype=torch.bool)
    missing[:2, 2:] = True
    assert torch.equal(found.logits.isnan(), missing.expand(2, -1, -1))
    assert torch.equal(found.clean.isnan(), missing)
    assert found.margin.isfinite().all()
    answered = ma.answer(toy, found.batch, interventions=[ma.ScaleAttention(2.0, layers=[1])])
    assert found.correct[0].tolist() == [answer.correct for answer in answered]


def test_a_right_choice_that_stands_twice_is_right_both_times(toy):
    question, *_ = ma.data.toy_questions.questions(1, seed=0, level=(0, 0))
    others = [choice for choice in question.choices if choice != question.answer][:2]
    twice = ma.data.toy_questions.ask(
        question.events, [others[0], question.answer, others[1], question.answer], name="twice"
    )
    found = ma.sweep(toy, ma.prompt(toy, [twice]), [[], ma.KnockOutAttention(layers=[1])], progress=False)
    for row in range(2):
        logits = found.logits[row, 0]
        assert float(found.margin[row, 0]) == float(logits[[1, 3]].max() - logits[[0, 2]].max())
        assert bool(found.correct[row, 0]) == (int(logits.argmax()) in (1, 3))
    assert found.correct[:, 0].tolist() == [True, False]
    assert torch.equal(found.clean_margin, found.margin[0])
    assert torch.equal(found.clean_correct, found.correct[0])


def test_a_question_without_a_wrong_choice_has_answers_and_no_margin(toy):
    (asked,) = ma.data.toy_questions.questions(1, seed=0)
    swept = ma.sweep(toy, ma.prompt(toy, [replace(asked, choices=(asked.answer,) * 2)]), [[]], progress=False)
    assert swept.correct.all()
    with pytest.raises(ValueError, match=f"all 2 choices of question '{asked.id}' are right"):
        _ = swept.margin


def test_plain_inputs_give_logits_over_the_vocabulary_and_no_right_answers(opened):
    model, inputs = opened("qwen2_audio")
    found = ma.sweep(model, inputs, ma.grid(ma.ScaleAttention, factor=[0.5, 2.0]), progress=False)
    assert found.logits.shape == (2, 2, model.network.get_input_embeddings().weight.shape[0])
    for name in ("correct", "clean_correct", "margin", "clean_margin"):
        with pytest.raises(ValueError, match=r"these are plain inputs, so there is no right choice; use \.logits"):
            getattr(found, name)
    dataset = found.to_xarray()
    assert dataset.logits.dims == ("factor", "row", "token")
    assert "correct" not in dataset


def test_a_question_without_an_answer_has_logits_and_no_margin(toy):
    question = replace(ma.data.toy_questions.questions(1, seed=0)[0], answer=None)
    found = ma.sweep(toy, ma.prompt(toy, [question]), [[]], progress=False)
    assert found.logits.isfinite().all()
    assert "margin" not in found.to_xarray()
    with pytest.raises(ValueError, match=r"question 'toy-0-0' has no known answer"):
        _ = found.margin


@pytest.mark.parametrize("kind", ["upweight", "scale", "centred", "mass_preserving", "mass_matched", "knock_out"])
@pytest.mark.parametrize("where", [{}, {"queries": "keyword+last", "layers": [0, 2]}, {"heads": [2, 3], "layers": [1]}])
def test_the_share_of_attention_is_that_of_the_effects_of_a_run(toy, kind, where):
    batch = toy_batch(toy, 3)
    made = {
        "upweight": lambda: ma.UpweightAttention(1.5, **where),
        "scale": lambda: ma.ScaleAttention(0.7, **where),
        "centred": lambda: ma.ScaleAttention(0.7, mode="centred", **where),
        "mass_preserving": lambda: ma.ScaleAttention(0.7, mode="mass_preserving", **where),
        "mass_matched": lambda: ma.ScaleAttention(0.7, mode="mass_matched", **where),
        "knock_out": lambda: ma.KnockOutAttention(**where),
    }[kind]()
    found = ma.sweep(toy, batch, [made], progress=False)
    assert found.ways == (SHARED,)
    (effects,) = ma.run(toy, batch, interventions=[made], logits="last").effects
    heads = list(where.get("heads", range(toy.n_heads)))
    for ours, theirs in ((found.mass_before, effects.mass_before), (found.mass_after, effects.mass_after)):
        torch.testing.assert_close(ours[0], theirs[:, :, heads].mean((0, 2)), atol=1e-5, rtol=1e-4)


def test_variants_that_leave_scores_alone_have_no_share_of_attention(toy):
    found = ma.sweep(toy, toy_batch(toy, 2), [[], ma.Steer(torch.ones(toy.d_model), layers=[0])], progress=False)
    assert found.mass_before.isnan().all()
    assert found.mass_after.isnan().all()


ALONE_BECAUSE = {
    "logits": (
        lambda model: ma.Edit(ma.HookPoint("logits"), lambda logits: 2 * logits),
        "logits lies outside the layers",
    ),
    "embeddings": (
        lambda model: ma.Edit(ma.HookPoint("embed"), lambda vectors: 1.5 * vectors),
        "it changes the first position, and begins before the layers",
    ),
    "everything": (
        lambda model: ma.Steer(torch.ones(model.d_model), layers=[0], positions=None),
        "it changes the first position in the first layer",
    ),
}


@pytest.mark.parametrize("why", ALONE_BECAUSE)
def test_what_cannot_share_a_prefix_runs_alone_says_why_and_is_right(toy, why):
    make, reason = ALONE_BECAUSE[why]
    batch = toy_batch(toy, 3)
    variants = [ma.ScaleAttention(0.5, layers=[1]), make(toy)]
    found = ma.sweep(toy, batch, variants, progress=False)
    assert found.ways[0] == SHARED
    assert found.ways[1].startswith("one by one: ")
    assert reason in found.ways[1]
    torch.testing.assert_close(found.logits, of_choices(alone(toy, batch, variants), batch), atol=1e-4, rtol=1e-5)
    assert repr(found) == "<Sweep of 2 variants on 3 prompts: 1 with a shared prefix, 1 one by one>"
    only = ma.sweep(toy, batch, variants[1:], progress=False)
    assert torch.equal(only.logits[0], found.logits[1])
    torch.testing.assert_close(only.clean, found.clean, atol=1e-4, rtol=1e-5)


EARLY = {
    "every position": lambda model: ma.Steer(torch.ones(model.d_model), layers=[1], positions=None),
    "every row": lambda model: ma.ScaleAttention(2.0, layers=[1], queries=None),
    "every row of some heads": lambda model: ma.KnockOutAttention(layers=[2], heads=[1], queries=None),
    "from an early row on": lambda model: ma.ScaleAttention(2.0, layers=[1, 3], queries=[30]),
    "audio tokens in the first layer": lambda model: ma.Steer(torch.ones(model.d_model), layers=[0], positions="audio"),
    "keys and values": lambda model: [
        ma.Edit(ma.HookPoint(name, layers=[1], positions="audio"), lambda value: 0.5 * value) for name in ("k", "v")
    ],
    "a pattern": lambda model: ma.Edit(ma.HookPoint("pattern", layers=[2]), lambda pattern: 0.5 * pattern),
    "the last layer": lambda model: ma.Steer(torch.ones(model.d_model), layers=[model.n_layers - 1], positions=None),
}


@pytest.mark.parametrize("memory", [None, 3e6])
@pytest.mark.parametrize("n_choices", [(4, 4, 4), (2, 4, 3)], ids=["of one length", "padded"])
def test_variants_that_change_early_positions_start_at_their_layer(toy, memory, n_choices):
    questions = ma.data.toy_questions.questions
    batch = ma.prompt(toy, [question for n in n_choices for question in questions(1, seed=n, n_choices=n)])
    variants = [make(toy) for make in EARLY.values()] + [ma.ScaleAttention(0.5, layers=[1])]
    found = ma.sweep(toy, batch, variants, memory=memory, progress=False)
    assert set(found.ways) == {SHARED}
    by_prompt = alone(toy, batch, variants).unbind(1)
    for row, (logits, ids) in enumerate(zip(by_prompt, batch.choice_ids, strict=True)):
        expected = logits[:, list(ids)]
        torch.testing.assert_close(found.logits[:, row, : expected.shape[1]], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vectors_that_many_variants_add_are_added_as_one_by_one(dtype):
    model = AudioLM(network("qwen2_audio", dtype=dtype), prove=False)
    inputs = model_inputs("qwen2_audio")
    n, generator = len(inputs["input_ids"]), torch.Generator().manual_seed(0)
    one, own = (torch.randn(*size, model.d_model, generator=generator) for size in ((), (n,)))
    by_head = torch.randn(n, 3, 16, generator=generator)
    layers = [1]
    variants = [
        *([ma.Steer(one, strength, layers=layers)] for strength in (0.3, 1.0, -2.0)),
        *([ma.Steer(own.numpy(), strength, layers=layers, per="question")] for strength in (0.3, 1.0)),
        [ma.Steer(one, 0.5, layers=layers), ma.Steer(one, 0.25, layers=layers)],
        [ma.Steer(one, layers=layers, positions=[-2])],
        [ma.Steer(one, layers=layers, positions=[-2, -1])],
        [ma.Steer(one, layers=layers, keep_norm=True)],
        [ma.Steer(one, layers=layers), ma.Edit(ma.HookPoint("resid_post", layers=layers, positions="last"), torch.neg)],
        *([ma.SteerHeads(by_head, [(0, 1), (1, -1), (1, 0)], s, per_question=True)] for s in (0.3, 2.0)),
        [ma.SteerHeads(by_head[0], [(1, 2), (1, 3), (1, 0)])],
        *([ma.Steer(one, s, hook_point="final_norm")] for s in (0.3, 2.0)),
    ]
    found = ma.sweep(model, inputs, variants, progress=False)
    assert set(found.ways) == {SHARED}
    expected = one_by_one(model, inputs, variants)
    tolerance = 1e-5 if dtype is torch.float32 else 3e-2
    assert (found.logits - expected).abs().amax() < tolerance * expected.abs().amax()
    wrong = [[ma.SteerHeads(by_head, [(0, 1), (1, 9), (1, 0)], s, per_question=True)] for s in (0.3, 2.0)]
    with pytest.raises(IndexError, match="there is no head 9"):
        ma.sweep(model, inputs, wrong, progress=False)


@pytest.mark.parametrize("family", ["qwen3_omni_moe_thinker", "phi4_multimodal"])
def test_prompts_whose_padding_leaks_are_swept_in_groups(opened, family):
    model, _ = opened(family)
    inputs = model_inputs(family, seconds=(0.56, 2.4, 0.56, 0.68), words=(9, 5, 7, 6))
    assert padding_groups(model.adapter, as_batch(model, inputs)) == [[0, 2], [1], [3]]
    directions = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(0))
    variants = [
        *ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[0.5, 3.0]),
        ma.Steer(directions, layers=[0], per="question"),
        ma.UpweightAttention(1.0, layers=[1], queries=[[-2, -1], [-3, -1], [-1, -2], [-2, -1]]),
    ]
    with pytest.warns(UserWarning, match="3 groups of rows"):
        found = ma.sweep(model, inputs, variants, progress=False)
    with pytest.warns(UserWarning, match="3 groups of rows"):
        expected = alone(model, inputs, variants)
    assert (found.logits - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_bar_is_drawn_on_stderr_where_it_is_asked_for(toy, capsys):
    batch = toy_batch(toy, 2)
    ma.sweep(toy, batch, mixed(toy), progress=True)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert "sweep: 100%" in drawn.err
    assert "7/7" in drawn.err
    ma.sweep(toy, batch, mixed(toy))
    assert capsys.readouterr().err == ""


def test_nothing_to_sweep_and_what_is_no_intervention_are_refused(toy):
    batch = toy_batch(toy, 1)
    with pytest.raises(ValueError, match="there is nothing to run: variants= is empty"):
        ma.sweep(toy, batch, [], progress=False)
    with unchecked_types(), pytest.raises(TypeError, match=r"variants= takes .*Intervention.*; got \[2\.0\]"):
        ma.sweep(toy, batch, [2.0], progress=False)
    with pytest.raises((IndexError, ValueError), match="layer"):
        ma.sweep(toy, batch, [ma.ScaleAttention(2.0, layers=[99])], progress=False)
    with pytest.raises(KeyError, match="no such span"):
        ma.sweep(toy, batch, [ma.ScaleAttention(2.0, queries="no such span")], progress=False)


def test_a_grid_has_a_labelled_axis_for_every_parameter(toy):
    batch = toy_batch(toy, 3)
    variants = ma.grid(ma.ScaleAttention, layers=[0, range(1, 3)], factor=[0.5, 1.0, 2.0], mode=["plain", "centred"])
    found = ma.sweep(toy, batch, variants, progress=False)
    data = found.to_xarray()
    assert data.logits.dims == ("layers", "factor", "mode", "question", "choice")
    assert data.correct.dims == data.margin.dims == data.mass_after.dims == ("layers", "factor", "mode", "question")
    assert data.clean.dims == ("question", "choice")
    assert data.clean_correct.dims == data.clean_margin.dims == ("question",)
    assert list(data.factor.values) == [0.5, 1.0, 2.0]
    assert list(data["mode"].values) == ["plain", "centred"]
    assert list(data.layers.values) == ["0", "range(1, 3)"]
    assert list(data.question.values) == ["toy-0-0", "toy-0-1", "toy-0-2"]
    assert list(data.choice.values) == ["A", "B", "C", "D"]
    index = list(variants).index(ma.ScaleAttention(2.0, layers=range(1, 3), mode="centred"))
    cell = data.sel(layers="range(1, 3)", factor=2.0, mode="centred")
    np.testing.assert_array_equal(cell.logits, found.logits[index])
    np.testing.assert_array_equal(cell.mass_after, found.mass_after[index])
    np.testing.assert_array_equal(cell.margin, found.margin[index])


def test_a_list_has_one_axis_of_variants_in_words(toy):
    data = ma.sweep(
        toy, toy_batch(toy, 2), [[], ma.ScaleAttention(2.0, layers=[1]), mixed(toy)[2]], progress=False
    ).to_xarray()
    assert data.logits.dims == ("variant", "question", "choice")
    clean, single, double = data.variant.values
    assert clean == "clean"
    assert single == "ScaleAttention(factor=2.0, layers=[1])"
    assert double.startswith("UpweightAttention(")
    assert " + Steer(" in double


def test_knocking_out_every_head_singles_out_the_one_that_listens(toy):
    batch = toy_batch(toy, 12, level=(-10, 0))
    heads = ma.grid(ma.KnockOutAttention, layers=range(toy.n_layers), heads=range(toy.n_heads))
    data = ma.sweep(toy, batch, heads, progress=False).to_xarray()
    moved = np.abs(data.margin - data.clean_margin).max("question").values
    assert np.argwhere(moved > 1e-3).tolist() == [list(PLANTED.listening)]


@pytest.mark.parametrize("family", ["qwen2_audio", "voxtral"])
def test_a_sweep_in_bfloat16_is_as_near_to_one_by_one_as_bfloat16_allows(family):
    model = AudioLM(network(family, dtype=torch.bfloat16), prove=False)
    inputs = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in model_inputs(family).items()
    }
    variants = list(ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[0.5, 3.0], queries=["last", (-3, -1)]))
    found = ma.sweep(model, inputs, variants, progress=False)
    expected = alone(model, inputs, variants)
    assert found.logits.dtype == torch.bfloat16
    assert (found.logits - expected).abs().max() <= 0.05 * expected.abs().max()


def test_a_hook_of_somebody_elses_acts_as_it_does_when_variants_run_alone(opened):
    model, inputs = opened("qwen2_audio")
    variants = [[], [ma.ScaleAttention(2.0, layers=[2])]]
    layer = model.network.get_submodule(model.adapter.decoder.path(1))
    before = one_by_one(model, inputs, variants)
    handle = layer.register_forward_hook(lambda _layer, _args, out: out + 3.0 * (out == out[:, -1:]))
    try:
        found = ma.sweep(model, inputs, variants, progress=False)
        expected = one_by_one(model, inputs, variants)
    finally:
        handle.remove()
    assert (before - expected).abs().max() > 0.1
    torch.testing.assert_close(found.logits, expected, rtol=1e-5, atol=1e-5)
    assert all("layers.1 has a forward hook" in way for way in found.ways)
    model.network(**inputs, output_hidden_states=True)  # transformers leaves hooks behind that do nothing
    assert ma.sweep(model, inputs, variants, progress=False).ways == (SHARED, SHARED)


def test_what_mixes_prompts_is_given_all_of_them_however_short_memory_is(opened):
    model, inputs = opened("qwen2_audio")
    heard = ma.run(model, inputs, record=["projector_out"]).cache["projector_out"]
    variants = [
        [ma.Edit(ma.HookPoint("resid_post", layers=[1], positions="last"), lambda resid: resid.flip(0))],
        [ma.Patch("projector_out", heard.flip(0))],
        [ma.ScaleAttention(2.0, layers=[2])],
    ]
    found = ma.sweep(model, inputs, variants, memory=1, progress=False)
    torch.testing.assert_close(found.logits, one_by_one(model, inputs, variants), rtol=1e-4, atol=1e-4)
    assert ["all prompts at once" in way for way in found.ways] == [True, True, False]


def test_one_intervention_is_not_a_list(opened):
    with pytest.raises(TypeError, match="got a ScaleAttention: put it into a list"), unchecked_types():
        ma.sweep(*opened("qwen2_audio"), ma.ScaleAttention(2.0))


@pytest.mark.parametrize("queries", [[2, -1], [-2, -1]])
def test_a_kind_of_the_users_own_may_write_places_as_lists(opened, queries):
    class Own:
        def edits(self, model, batch):
            point = ma.HookPoint("scores", layers=[1], queries=queries)
            return (ScoreEdit(point, [3, 4], None, Shift(1.0)),)

    model, inputs = opened("qwen2_audio")
    found = ma.sweep(model, inputs, [[Own()]], progress=False)
    assert found.ways == (SHARED,)
    torch.testing.assert_close(found.logits, one_by_one(model, inputs, [[Own()]]), rtol=1e-5, atol=1e-5)
    effects = ma.run(model, inputs, interventions=[Own()]).effects[0]
    torch.testing.assert_close(found.mass_after[0], effects.mass_after.mean((0, 2)), rtol=1e-5, atol=1e-5)


def test_networks_in_double_precision_stay_there():
    model = AudioLM(network("qwen2_audio", dtype=torch.float64), prove=False)
    inputs = model_inputs("qwen2_audio")
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    by_rows, fused = (
        ma.run(model, inputs, record=["z"], interventions=[ma.ScaleAttention(2.0, layers=[1], queries=queries)]).cache[
            "z", 1
        ][:, -1]
        for queries in ("last", None)
    )
    torch.testing.assert_close(by_rows, fused, rtol=1e-12, atol=1e-12)
    variants = [[ma.ScaleAttention(2.0, layers=[1])], [ma.KnockOutAttention(layers=[1, 2], queries=[-2, -1])]]
    swept = ma.sweep(model, inputs, variants, progress=False).logits
    torch.testing.assert_close(swept, one_by_one(model, inputs, variants), rtol=1e-10, atol=1e-10)


def test_changes_of_one_site_act_in_the_order_given_whether_or_not_they_name_the_same_rows(opened):
    model, inputs = opened("qwen2_audio")
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    negated = ma.Edit(ma.HookPoint("resid_post", layers=[0], positions=[-3, -2, -1]), torch.neg, by_position=True)
    steered = [ma.Steer(direction, strength, layers=[0]) for strength in (1.0, 3.0)]
    out = ma.Steer(direction, mode="project_out", layers=[0], positions=[-2, -1])
    variants = [*([negated, one] for one in steered), *([one, negated] for one in steered), [out, steered[0]], steered]
    found = ma.sweep(model, inputs, variants, progress=False)
    assert found.ways == (SHARED,) * len(variants)
    for variant, logits in zip(variants, found.logits, strict=True):
        alone = ma.run(model, inputs, interventions=variant, logits="last").logits[:, -1]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)


def test_heads_along_directions_of_unequal_width_are_added_together(opened):
    model, inputs = opened("qwen2_audio")
    own = torch.randn(1, model.d_model // model.n_heads, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.pad(own, (0, 8))
    variants = [[ma.SteerHeads(directions, heads=[(1, head)])] for head, directions in enumerate((own, wide))]
    found = ma.sweep(model, inputs, variants, progress=False)
    for variant, logits in zip(variants, found.logits, strict=True):
        alone = ma.run(model, inputs, interventions=variant, logits="last").logits[:, -1]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)


def test_a_layer_that_is_named_twice_is_refused_as_in_a_run(opened):
    model, inputs = opened("qwen2_audio")
    twice = ma.Edit(ma.HookPoint("resid_post", layers=[model.n_layers - 1, -1], positions="last"), torch.neg)
    for call in (lambda: ma.run(model, inputs, interventions=[twice]), lambda: ma.sweep(model, inputs, [twice])):
        with pytest.raises(ValueError, match="names a layer twice"):
            call()


def test_an_intervention_that_runs_the_model_while_it_runs_is_told_so(opened):
    model, inputs = opened("qwen2_audio")

    class Looking:
        def edits(self, model, batch):
            return ma.Patch("z", ma.run(model, batch, record=["z"]).cache["z", 0], layer=0).edits(model, batch)

    with pytest.raises(RuntimeError, match="the model cannot run while it runs already"):
        ma.sweep(model, inputs, [Looking()], progress=False)
    ma.sweep(model, inputs, [[]], progress=False)


def test_prompts_without_sound_are_swept_in_parts_beside_those_with_it(opened):
    model, inputs = opened("qwen2_audio")
    spoken = {name: value[:1] for name, value in inputs.items()}
    ids = spoken["input_ids"].clone()
    token = model.network.config.audio_token_id
    other = int(ids[ids != token].max())
    mixed = spoken | {
        "input_ids": torch.cat([spoken["input_ids"], ids.masked_fill(ids == token, other)]),
        "attention_mask": spoken["attention_mask"].repeat(2, 1),
    }
    variants = [ma.ScaleAttention(2.0, layers=[1], keys=[0, 1]), []]
    whole, parts = (ma.sweep(model, mixed, variants, memory=memory, progress=False) for memory in (None, 1))
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-5, rtol=1e-5)


def test_logits_that_overflowed_choose_nothing(opened):
    toy = ma.load("toy", prove=False)
    asked = ma.data.toy_questions.questions(3, seed=0)
    found = ma.sweep(toy, ma.prompt(toy, asked), [[]], progress=False)
    overflowed = replace(found, logits=torch.full_like(found.logits, torch.nan))
    with pytest.warns(UserWarning, match="3 of 3 questions have no answer, .* they count as not right"):
        assert not overflowed.correct.any()

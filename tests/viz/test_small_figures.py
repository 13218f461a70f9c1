"""Figures that results draw by themselves and that no study has: their numbers are those of the result."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.results import Result
from mechaudio.viz import (
    accuracy_by_task,
    attention_between_roles,
    direction_lengths,
    figure_of,
    next_tokens,
    recorded_sizes,
    tuned_lens_kl,
    variant_effects,
    written_texts,
)
from tests.viz.studies import evaluation


@pytest.fixture(scope="module")
def asked():
    return ma.data.toy_questions.questions(6, seed=11)


@pytest.fixture(scope="module")
def batch(tiny):
    return ma.prompt(tiny, ma.data.soundscapes.questions(3, seed=11))


def test_accuracies_stand_by_task_with_their_intervals():
    right = evaluation("audio", [0, 0, 0, 0, 1, 0, 1, 1])  # 2 of 4 right in one task, 3 of 4 in the other
    figure = accuracy_by_task({"with sound": right, "without": evaluation("silence", [1] * 8)})
    assert [bars.name for bars in figure.data] == ["with sound", "without"]
    assert list(figure.data[0].x) == ["earliest onset", "latest offset", "all tasks"]
    assert figure.data[0].y.tolist() == [50.0, 75.0, 62.5]
    assert figure.data[1].y.tolist() == [0.0, 0.0, 0.0]
    low, high = (right.overall.low, right.overall.high)
    assert figure.data[0].error_y.array[2] == pytest.approx(100 * high - 62.5)
    assert figure.data[0].error_y.arrayminus[2] == pytest.approx(62.5 - 100 * low)


def test_of_questions_without_answers_the_choices_are_counted():
    unknown = replace(evaluation("audio", [0, 0, 1, 3, 3, 3, -1, 1]), answers=(None,) * 8)
    assert accuracy_by_task(unknown).data[0].y.tolist() == [2, 2, 0, 3]
    with pytest.raises(ValueError, match="evaluations is empty"):
        accuracy_by_task({})


def test_variants_stand_one_below_the_other_beside_what_the_model_does_without(toy, asked):
    cuts = [[], [ma.KnockOutAttention()], [ma.ScaleAttention(0.0, layers=[1])]]
    swept, compared = (ma.sweep(toy, ma.prompt(toy, asked), cuts), ma.evaluate(toy, asked, variants=cuts))
    for result in (swept, compared):
        figure = variant_effects(result)
        np.testing.assert_allclose(figure.data[0].x, 100 * np.asarray(result.correct, dtype=float).mean(1))
        assert figure.data[0].y[0] == "0: clean"
        assert figure.layout.shapes[0].x0 == pytest.approx(100 * swept.clean_correct.float().mean().item())
    many = replace(compared, variants=compared.variants * 30, chosen=np.tile(compared.chosen, (30, 1)), logits=None)
    assert len(variant_effects(many).data[0].x) == 60
    assert "left out in the middle: 30 variants" in variant_effects(many).layout.title.subtitle.text.replace(
        " <br>", " "
    )


def test_attention_between_roles_is_the_mean_over_heads_questions_and_layers(toy, asked):
    mass = ma.analyses.attention_mass(toy, asked)
    flows = mass.between()
    for layer, chosen in ((None, flows), (1, flows[:, [1]])):
        shown = attention_between_roles(mass, layer=layer).data[0].z
        np.testing.assert_allclose(shown, 100 * np.nanmean(chosen, axis=(0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(shown.sum(1), 100, rtol=1e-4)
    with pytest.raises(IndexError, match="layer must be among 0 to 3, got 4"):
        attention_between_roles(mass, layer=4)


def test_lines_over_layers_are_means_over_questions(toy, asked):
    lens = ma.analyses.tuned_lens(toy, asked, steps=1, batch_size=2, rows=8, positions="last", held_out=0.5)
    lines = [line for line in tuned_lens_kl(lens).data if line.mode == "lines+markers"]
    assert [line.name for line in lines] == ["plain", "tuned"]
    np.testing.assert_allclose(lines[0].y, lens.plain_kl.mean(0), rtol=1e-5)
    np.testing.assert_allclose(lines[1].y, lens.tuned_kl.mean(0), rtol=1e-5)
    directions = ma.analyses.steering_directions(toy, asked)
    (line,) = (line for line in direction_lengths(directions).data if line.mode == "lines+markers")
    np.testing.assert_allclose(line.y, np.linalg.norm(directions.residual, axis=-1).mean(0), rtol=1e-5)


def test_the_most_probable_tokens_come_first_and_choices_are_coloured(tiny, batch):
    run = ma.run(tiny, batch, logits="last")
    figure = next_tokens(run, 1, k=6)
    best = run.logits[1, -1].softmax(-1).topk(6)
    np.testing.assert_allclose(figure.data[0].x, 100 * best.values.numpy(), rtol=1e-5)
    assert list(figure.layout.yaxis.ticktext) == [tiny.processor.tokenizer.decode([token]) for token in best.indices]
    green = [colour == "#009e73" for colour in figure.data[0].marker.color]
    assert green == [token in batch.choice_ids[1] for token in best.indices.tolist()]
    with pytest.raises(IndexError, match="question must be among 0 to 2, got 3"):
        next_tokens(run, 3)
    with pytest.raises(ValueError, match="this run has no logits"):
        next_tokens(ma.run(tiny, batch, record=["z"], logits=None))


def test_sizes_of_what_was_recorded_are_root_mean_squares(tiny, batch):
    points = ["resid_post", ma.HookPoint("z", positions="last"), "final_norm", "projector_out"]
    run = ma.run(tiny, batch, record=points, logits=None)
    figure = recorded_sizes(run, 2)
    by_name = dict(zip([note.text for note in figure.layout.annotations], figure.data, strict=True))
    assert set(by_name) == {"resid_post", "z", "final_norm"}, "the tower has clips, not prompts"
    axes = [figure.layout[trace.xaxis.replace("x", "xaxis")].title.text for trace in figure.data]
    assert axes == [None, None, "position"]
    assert figure.data[2].type == "heatmap"
    resid = run.cache.stack("resid_post")[:, 2]
    np.testing.assert_allclose(by_name["resid_post"].z, resid.square().mean(-1).sqrt().numpy(), rtol=1e-4)
    last = run.cache.stack("z")[:, 2]
    np.testing.assert_allclose(by_name["z"].y, last.square().mean((1, 2, 3)).sqrt().numpy(), rtol=1e-4)


def test_scores_that_are_masked_do_not_make_a_size_infinite(tiny, batch):
    run = ma.run(tiny, batch, record=[ma.HookPoint("scores", layers=[1], queries=[[5, -1]] * 3)], logits=None)
    rows = run.cache["scores", 1][0].movedim(1, 0).flatten(1)
    finite = [row[row.isfinite()].square().mean().sqrt().item() for row in rows]
    np.testing.assert_allclose(recorded_sizes(run).data[0].z[0], finite, rtol=1e-4)


def test_texts_stand_in_a_table_and_what_a_variant_changed_is_in_bold(tiny, batch):
    change = ma.KnockOutAttention(queries="behind")
    written = ma.generate_variants(tiny, batch, [[], [change]], max_new_tokens=3)
    header, cells = written_texts(written).data[0].header.values, written_texts(written).data[0].cells.values
    assert list(header)[:3] == ["<b>question</b>", "<b>clean</b>", "<b>clean</b>"]
    assert list(cells[1]) == list(cells[2]) == list(written.clean_texts)
    for cell, text, clean in zip(cells[3], written.texts[1], written.clean_texts, strict=True):
        assert cell == (f"<b>{text}</b>" if text != clean else text)
    assert header[3].startswith("<b>KnockOutAttention(<br>queries="), "a column cuts off what it cannot break"
    one = written_texts(ma.generate(tiny, batch, max_new_tokens=3), at_most=2)
    assert list(one.data[0].cells.values[1]) == list(written.clean_texts[:2])


def test_a_class_without_a_figure_says_what_to_do_and_can_be_given_one():
    class Whispers(Result):
        """Made up here."""

    loud = Whispers(provenance=evaluation("audio", [0] * 8).provenance)
    with pytest.raises(TypeError, match=r"no figure is made for a Whispers: .*ma.viz.figure_of.register\(Whispers"):
        loud.plot()
    figure_of.register(Whispers, lambda result, **options: accuracy_by_task(evaluation("audio", [0] * 8), **options))
    assert loud.plot(title="so loud").layout.title.text == "so loud"
    del Result.kinds["Whispers"]

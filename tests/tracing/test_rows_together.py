"""Edits and records of different rows of one layer see one another, in the order given."""

import pytest
import torch

from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.generation import generate
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.parts import union
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from tests.families import model_inputs, network, unchecked_types


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


def pattern(rows=None):
    return HookPoint("pattern", layers=[1], queries=rows)


def half(point):
    return Edit(point, lambda value: 0.5 * value)


@pytest.mark.parametrize("first", [pattern(), pattern("last"), pattern([-2, -1])])
@pytest.mark.parametrize("second", [pattern(), pattern([-3, -1]), pattern("last")])
def test_two_edits_of_one_row_both_act(model, inputs, first, second):
    clean = run(model, inputs, record=[HookPoint("z", layers=[1])]).cache["z", 1]
    twice = run(model, inputs, record=[HookPoint("z", layers=[1])], interventions=[half(first), half(second)]).cache[
        "z", 1
    ]
    torch.testing.assert_close(twice[:, -1], 0.25 * clean[:, -1])


def test_an_edit_of_scores_and_one_of_the_pattern_at_other_rows_both_act(model, inputs):
    double = Edit(HookPoint("scores", layers=[1], queries="last"), lambda scores: 2 * scores)
    alone = run(model, inputs, record=[HookPoint("z", layers=[1])], interventions=[double]).cache["z", 1]
    both = run(
        model, inputs, record=[HookPoint("z", layers=[1])], interventions=[double, half(pattern([-2, -1]))]
    ).cache["z", 1]
    torch.testing.assert_close(both[:, -1], 0.5 * alone[:, -1])


@pytest.mark.parametrize(
    ("edited", "recorded"), [(None, "last"), ("last", None), ([-2, -1], "last"), ("last", [-3, -1])]
)
def test_what_is_recorded_is_what_went_on(model, inputs, edited, recorded):
    gone = Edit(pattern(edited), torch.zeros_like)
    kept = run(model, inputs, record=[pattern(recorded)], interventions=[gone]).cache["pattern", 1]
    assert kept[:, :, -1].abs().max() == 0
    if edited == "last" and recorded is None:
        assert kept[0, :, -2].sum() > 0


def test_the_mass_is_measured_after_the_edits(model, inputs):
    audio = HookPoint("mass", layers=[1], keys=("audio", "text"))
    batch = run(model, inputs).batch
    hidden = batch.span_mask("audio")[:, None, None]
    deaf = Edit(HookPoint("scores", layers=[1], queries="last"), lambda scores: scores.masked_fill(hidden, -torch.inf))
    clean = run(model, inputs, record=[audio]).cache["mass", 1]
    mass = run(model, inputs, record=[audio], interventions=[deaf]).cache["mass", 1]
    assert mass[:, :, -1, 0].abs().max() == 0
    torch.testing.assert_close(mass[:, :, -1, 1], torch.ones_like(mass[:, :, -1, 1]))
    assert torch.equal(mass[:, :, :-1], clean[:, :, :-1])


def test_masses_of_different_groups_in_different_layers_stay_apart(model, inputs):
    points = [HookPoint("mass", layers=[0], keys="audio"), HookPoint("mass", layers=[1], keys="text")]
    mass = run(model, inputs, record=points).cache
    alone = run(model, inputs, record=points[:1]).cache
    assert torch.equal(mass["mass", 0], alone["mass", 0])


def test_an_edit_at_positions_changes_those_and_no_others(model, inputs):
    five = Edit(HookPoint("resid_post", layers=[1], positions="last"), lambda rows: rows * 0 + 5)
    clean = run(model, inputs, record=["resid_post"]).cache["resid_post", 1]
    changed = run(model, inputs, record=["resid_post"], interventions=[five]).cache["resid_post", 1]
    assert changed[:, -1].eq(5).all()
    assert torch.equal(changed[:, :-1], clean[:, :-1])


def test_while_generating_rows_of_the_prompt_are_left_behind_and_the_last_goes_along(model, inputs):
    record = [HookPoint("pattern", layers=[0], queries="last"), HookPoint("resid_post", layers=[0], positions="last")]
    seen = []
    there = Edit(HookPoint("pattern", layers=[0], queries=[-3]), lambda rows: seen.append(rows.shape) or rows)
    steps = generate(model, inputs, max_new_tokens=3, interventions=[there], record=record).steps
    assert len(seen) == 1
    assert [step["pattern", 0].shape[2] for step in steps] == [1, 1, 1]
    assert [step["resid_post", 0].shape[1] for step in steps] == [1, 1, 1]


def test_several_rows_of_one_layer_are_read_in_one_block(model, inputs):
    whole = run(model, inputs, record=["pattern"]).cache["pattern", 1]
    with torch.no_grad(), trace(model, inputs):
        everything = model.blocks[1].attn.pattern.save()
        last = model.blocks[1].attn.at("last").pattern.save()
        third = model.blocks[1].attn.at(-3).pattern.save()
    assert torch.equal(everything, whole)
    torch.testing.assert_close(last, whole[:, :, -1:])
    torch.testing.assert_close(third, whole[:, :, -3:-2])


def test_rows_after_an_edit_of_the_whole_are_the_edited_ones(model, inputs):
    with torch.no_grad(), trace(model, inputs):
        model.blocks[1].attn.pattern[:] = 0
        last = model.blocks[1].attn.at("last").pattern.save()
        z = model.blocks[1].attn.z.save()
    assert last.abs().max() == 0
    assert z.abs().max() == 0


def test_overlapping_rows_in_a_block_are_refused(model, inputs):
    with pytest.raises(ValueError, match=r"rows that overlap .*ask once, for all of them"):
        with torch.no_grad(), trace(model, inputs):
            model.blocks[1].attn.at("last").pattern.save()
            model.blocks[1].attn.at([-2, -1]).pattern.save()


def test_the_tower_has_no_prompt_positions(model, inputs):
    for wrong in ({"name": "audio.pattern", "queries": -2}, {"name": "audio.resid_post", "positions": "last"}):
        with pytest.raises(ValueError, match="has frames of the tower: record it whole"):
            HookPoint(**wrong)
    with pytest.raises(ValueError, match="has frames of the tower: read it whole"):
        with torch.no_grad(), trace(model, inputs):
            model.audio_blocks[0].attn.at(-2).pattern.save()


def test_a_positional_prompt_without_its_audio_is_refused(model, inputs):
    with pytest.raises(ValueError, match="audio placeholders but no 'input_features'"):
        with model.trace(inputs["input_ids"]):
            model.output.save()


def test_what_is_no_intervention_and_what_makes_no_tensor_are_refused(model, inputs):
    with unchecked_types(), pytest.raises(TypeError, match=r"interventions= takes .*; got an Edit: put it into a list"):
        run(model, inputs, interventions=half(pattern()))
    with pytest.raises(ValueError, match=r"made None out of \[2, 4,"):
        run(model, inputs, interventions=[Edit(pattern(), lambda _value: None)])


def test_the_union_of_rows_has_each_once_and_is_equally_long_in_every_prompt():
    first, second = [[5], [5]], [[4, 5], [3, 4]]
    assert union([first, second], 6).tolist() == [[0, 4, 5], [3, 4, 5]]
    assert union([second], 6).tolist() == [[4, 5], [3, 4]]


def test_single_rows_that_are_the_last_one_in_some_prompts_only_get_a_second_one():
    assert union([[[5], [4]]], 6).tolist() == [[0, 5], [0, 4]]
    assert union([[[5], [5]]], 6).tolist() == [[5], [5]]
    assert union([[[3], [4]]], 6).tolist() == [[3], [4]]

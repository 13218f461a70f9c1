import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments import (
    Arm,
    PairedComparison,
    TemporalSettings,
    TemporalStudy,
    asking,
    evaluate,
    temporal_study,
)
from mechaudio.experiments.text_keys import OnTextKeys
from mechaudio.metrics import answer_change, benjamini_hochberg, holm, mcnemar, paired_difference
from mechaudio.models.grouping import part_of
from mechaudio.models.prompt import prompt
from mechaudio.results import Result
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, processor

SHIFTED = ma.ScaleAttention(0.2, mode="mass_matched", queries="keyword+last")
SMALL = TemporalSettings(biases=(3.0,), factors=(0.2, 3.0), queries=("last", "keyword+last"), n_attention=5, seed=4)


@pytest.fixture(scope="module")
def asked():
    found = toy_questions(21, seed=6)
    return [replace(one, meta=dict(one.meta) | {"task": ("a", "b")[place % 3 == 0]}) for place, one in enumerate(found)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of the study, which stays as it is."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(toy, asked, written):
    return temporal_study(toy, asked, settings=SMALL, out=written)


def test_every_condition_is_as_evaluated_alone(toy, asked, study):
    assert tuple(study.conditions) == ("audio", "caption", "audio+caption", "silence")
    for condition, found in study.conditions.items():
        assert found.choices == evaluate(toy, asked, condition=condition).choices
    assert study.conditions["silence"].overall.count < study.conditions["audio"].overall.count


def test_the_arms_are_every_way_of_changing_and_its_controls(toy, study):
    assert len(study.arms) == len(set(study.arms)) == 2 * (2 + 5 * 2) + toy.n_layers * 2
    assert [str(arm) for arm in study.arms[:6:2]] == [
        "upweighting 3, last, all layers",
        "scaling 0.2, last, all layers",
        "scaling 0.2, mass preserving, last, all layers",
    ]
    assert [tested.arm for tested in (*study.uniform, *study.controls, *study.targeted)] == sorted(
        study.arms, key=lambda arm: (arm.layer is not None, bool(arm.control))
    )


@pytest.mark.parametrize(
    ("arm", "changed"),
    [
        (Arm("upweighting", 3.0, "last"), ma.UpweightAttention(3.0)),
        (Arm("scaling", 3.0, "keyword+last"), ma.ScaleAttention(3.0, queries="keyword+last")),
        (Arm("scaling", 0.2, "last", "centred"), ma.ScaleAttention(0.2, mode="centred")),
        (Arm("scaling", 3.0, "last", "mass_preserving"), ma.ScaleAttention(3.0, mode="mass_preserving")),
        (Arm("scaling", 0.2, "keyword+last", "mass_matched"), SHIFTED),
        (Arm("scaling", 3.0, "last", layer=1), ma.ScaleAttention(3.0, layers=[1])),
        (Arm("upweighting", 3.0, "last", "text keys"), OnTextKeys(ma.UpweightAttention(3.0), 4)),
    ],
    ids=str,
)
def test_an_arm_does_what_it_says(toy, asked, study, arm, changed):
    place = study.arms.index(arm)
    assert study.compared.variants[place] == (changed,)
    alone = evaluate(toy, asked, interventions=[changed])
    np.testing.assert_allclose(study.compared[place].logits, alone.logits, rtol=1e-4, atol=1e-4)
    assert abs(alone.logits - study.compared.clean.logits).max() > 1e-3, "the arm changes nothing"


def test_p_values_are_corrected_within_their_step(study):
    for step in (study.uniform, study.controls, study.targeted):
        p_values = [tested.change.test.p for tested in step]
        assert [tested.p_holm for tested in step] == holm(p_values).tolist()
        assert [tested.p_bh for tested in step] == benjamini_hochberg(p_values).tolist()
    assert min(tested.change.test.p for tested in study.uniform) < 0.05


def test_attention_is_that_of_the_last_position(toy, asked, study):
    found = ma.analyses.audio_attention(toy, prompt(toy, asked[:5]))
    assert study.roles == found.roles
    np.testing.assert_allclose(study.attention, found.mass.mean(2), atol=1e-5)


def test_the_clips_of_one_half_choose_and_the_others_report(asked, study):
    chooses = ma.analyses.in_calibration(ma.analyses.clips_of(asked), seed=SMALL.seed)
    np.testing.assert_array_equal(study.chooses, chooses)
    assert 0 < study.chooses.sum() < len(asked)
    held, clean, correct = ~study.chooses, study.compared.clean.correct, study.compared.correct
    layered = [place for place, arm in enumerate(study.arms) if arm.layer is not None]
    accuracies = {place: correct[place][study.chooses].mean() for place in layered}
    best = study.arms.index(study.best_layer.arm)
    assert accuracies[best] == max(accuracies.values())
    assert study.best_layer.held_out == answer_change(clean[held], correct[best][held])
    assert study.best_layer.chosen_on == answer_change(clean[study.chooses], correct[best][study.chooses])
    uniform = study.arms.index(study.best_uniform.arm)
    assert study.arms[uniform].queries == "last"
    assert study.arms[uniform].layer is None
    upweighting, scaling = (study.arms.index(choice.arm) for choice in (study.best_upweighting, study.best_scaling))
    for kind, place, choice in (
        ("upweighting", upweighting, study.best_upweighting),
        ("scaling", scaling, study.best_scaling),
    ):
        same_kind = [i for i, a in enumerate(study.arms) if a.kind == kind and a.layer is None and not a.control]
        right = {i: correct[i][study.chooses].sum() for i in same_kind}
        assert place in same_kind
        assert right[place] == max(right.values())
        assert (choice.tied or 1) == list(right.values()).count(right[place])  # drawn by lot from those
    both = ((uniform, best), (upweighting, scaling))
    tests = [mcnemar(correct[a][held], correct[b][held]) for a, b in both]
    p_holm = holm([test.p for test in tests]).tolist()
    changes = [paired_difference(correct[a][held], correct[b][held]) for a, b in both]
    expected = [PairedComparison(int(held.sum()), *row) for row in zip(changes, tests, p_holm, strict=True)]
    assert [study.layer_against_uniform, study.scaling_against_upweighting] == expected
    same = [place for place in layered if study.arms[place].strength == study.arms[best].strength]
    assert len(same) == max(arm.layer for arm in study.arms if arm.layer is not None) + 1
    assert study.random_layer == pytest.approx(
        np.mean([correct[place][held].mean() for place in same]) - clean[held].mean()
    )


def test_it_reads_as_tables_with_the_answers_at_random_beside_the_fix_rates(study):
    said = str(study)
    assert "  silence        all " in said
    assert f"{'answers at random':60s}  25.0%" in said
    assert re.search(rf"in one drawn at random +{re.escape(f'{100 * study.random_layer:+.1f}')} points", said)
    assert said.count(", all layers ") == len(study.uniform) + len(study.controls) + 3


def test_it_is_kept_and_taken_up(toy, asked, study, written, tmp_path, monkeypatch):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(asking, "prompt", None)  # nothing is asked again
    again = temporal_study(toy, asked, settings=SMALL, out=tmp_path)
    back = Result.load(tmp_path)
    assert isinstance(back, TemporalStudy)
    for other in (again, back):
        assert str(other) == str(study)
        assert other.compared.logits.tobytes() == study.compared.logits.tobytes()
    assert back.arms == study.arms
    assert back.settings == SMALL
    assert back.provenance.settings["factors"] == (0.2, 3.0)
    with pytest.raises(ValueError, match="is of another run: seed was 4 and is 5"):
        temporal_study(toy, asked, settings=replace(SMALL, seed=5), out=tmp_path)


def test_conditions_are_compared_question_by_question(asked, study):
    assert list(study.against_audio) == ["caption", "audio+caption", "silence"]
    heard = study.conditions["audio"].correct
    tests = [mcnemar(heard, study.conditions[name].correct) for name in study.against_audio]
    assert [contrast.test for contrast in study.against_audio.values()] == tests
    assert [contrast.p_holm for contrast in study.against_audio.values()] == holm([t.p for t in tests]).tolist()
    assert study.against_audio["silence"].n == len(asked)


def test_questions_of_one_id_are_still_told_apart(toy, asked, tmp_path):
    named = [replace(one, id="the same") for one in asked]
    few = [replace(named[0], audio=tmp_path / "missing.wav"), *named[1:]]
    found = temporal_study(toy, few, settings=replace(SMALL, queries=("last",), conditions=("audio", "caption")))
    alone = evaluate(toy, asked[1:])
    contrast = found.against_audio["caption"]
    assert contrast.n == len(asked) - 1  # the caption needs no recording, the comparison does
    assert len(found.conditions["caption"].ids) == len(asked)
    assert contrast.test == mcnemar(alone.correct, evaluate(toy, asked[1:], condition="caption").correct)


def test_without_captions_their_conditions_are_left_out_and_what_cannot_be_asked_too(toy, asked, tmp_path):
    few = [replace(one, caption=None) for one in asked[:5]]
    few[0] = replace(few[0], audio=tmp_path / "missing.wav")
    found = temporal_study(toy, few, settings=replace(SMALL, queries=("keyword",)))
    assert tuple(found.conditions) == ("audio", "silence")
    assert len(found.compared.clean.failures) == 1
    assert len(found.attention) == 4
    assert found.best_uniform.arm.queries == "last"  # added, to compare with one layer


def test_layers_without_attention_are_not_among_the_layers_to_choose_from(asked):
    hybrid = AudioLM(network("nemotron_h_omni"), processor("nemotron_h_omni"), prove=False)
    found = temporal_study(
        hybrid, asked[:4], settings=TemporalSettings((1.0,), (2.0,), ("last",), conditions=("audio",))
    )
    shares = found.attention.mean((0, 2))
    with_attention = {layer for layer in range(hybrid.n_layers) if not np.isnan(shares[layer])}
    assert {tested.arm.layer for tested in found.targeted} == with_attention
    assert len(with_attention) < hybrid.n_layers


def test_one_question_cannot_both_choose_and_report(toy, asked):
    with pytest.raises(ValueError, match="needs two questions with a known answer"):
        temporal_study(toy, asked[:1], settings=SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": ()}, "factors is empty"),
        ({"factors": (1.0, 2.0)}, "a factor of 1 and a bias of 0 change nothing"),
        ({"conditions": ("silence",)}, "'audio' among them"),
        ({"conditions": ("audio", "noise")}, "conditions are of"),
        ({"n_attention": 0}, "n_attention= must be at least 1"),
    ],
)
def test_settings_that_make_no_study_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TemporalSettings(**changes)


def drawn(edit, row, batch):
    keys = edit.keys[row]
    text = [position for role in ("question", "choices", "template") for position in batch.spans[role][row]]
    assert set(keys) <= set(text)
    return [key - min(text) for key in keys]


def test_keys_of_text_are_drawn_for_each_question_whatever_its_batch(toy, asked):
    made = OnTextKeys(ma.UpweightAttention(2.0, queries="last"), seed=1)
    batch = prompt(toy, asked[:3])
    (edit,) = made.edits(toy, batch)
    n_audio = len(batch.spans["audio"][0])
    n_text = sum(len(batch.spans[role][0]) for role in ("question", "choices", "template"))
    assert len(edit.keys[0]) == min(n_audio, n_text)
    part = part_of(toy.adapter, batch, [2])
    (alone,) = made.of_rows([2]).edits(toy, part)
    assert drawn(alone, 0, part) == drawn(edit, 2, batch)


def test_fewer_keys_than_there_is_text_are_another_draw_for_another_seed(toy, asked):
    batch = prompt(toy, asked[:1])
    short = replace(batch, spans=dict(batch.spans) | {"audio": (batch.spans["audio"][0][:6],)})
    draws = [OnTextKeys(ma.UpweightAttention(2.0), seed).edits(toy, short)[0].keys[0] for seed in range(4)]
    assert {len(keys) for keys in draws} == {6}
    assert len(set(draws)) > 1
    assert OnTextKeys(ma.UpweightAttention(2.0), 0).edits(toy, short)[0].keys[0] == draws[0]

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import attention_and_answers, clips_of, in_calibration, steering_directions, streaming
from mechaudio.data import toy_questions
from mechaudio.experiments.steering_arms import CONTROLS, SteeringArm, SteeringSettings, steering_arms
from mechaudio.experiments.steering_study import SteeringStudy, steering_study
from mechaudio.metrics import answer_change, holm
from mechaudio.models.toy.planted import PLANTED
from mechaudio.progress import bar
from mechaudio.report.changes import UNANSWERED
from mechaudio.report.steering_tables import steering_tables

steering_sweep = import_module("mechaudio.analyses.steering_sweep")
SETTINGS = SteeringSettings(strengths=(1.0, 3.0), ks=(1, 2, 999), norms=("pre",), draws=2, seed=1)
pytestmark = pytest.mark.filterwarnings("ignore:.*heads give the audio the same share")


@pytest.fixture(scope="module")
def asked():
    return toy_questions.questions(44, seed=11)


@pytest.fixture(scope="module")
def bars():
    """Name and total of every bar of the study."""
    return []


@pytest.fixture(scope="module")
def counted(toy):
    """Runs a study, and says how many questions its forward passes had."""

    def run(questions, **options):
        rows, interleave = [], type(toy).interleave

        def interleaved(model, call, *args, **inputs):
            rows.append(len(inputs.get("input_ids", ())))
            return interleave(model, call, *args, **inputs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(toy), "interleave", interleaved)
            return steering_study(toy, questions, settings=SETTINGS, batch_size=20, **options), sum(rows)

    return run


@pytest.fixture(scope="module")
def studied(asked, bars, counted):
    def spy(*items, **options):
        bars.append((options["what"], options["total"], options["progress"]))
        return bar(*items, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "bar", spy)
        return counted(asked)


@pytest.fixture(scope="module")
def study(studied):
    return studied[0]


def test_every_bar_says_how_many_questions_there_will_be(study, bars):
    choose = int(study.chooses.sum())
    drawn = [(what, total) for what, total, progress in bars if progress is None]
    assert drawn == [
        ("where it listens", choose),
        ("audio and silence", choose),
        ("steering", choose),
        ("steering", 44 - choose),
    ]


def test_the_halves_are_disjoint_and_heads_are_of_the_half_that_chooses(asked, study):
    ids = [question.id for question in asked]
    assert study.ids == tuple(ids)
    np.testing.assert_array_equal(study.chooses, in_calibration(clips_of(asked), 0.5, 1))
    assert set(study.scores.measured.ids) == {own for own, chooses in zip(ids, study.chooses, strict=True) if chooses}


@pytest.mark.whole
def test_a_question_runs_twice_and_a_third_time_where_its_keys_and_values_do_not_fit(asked, studied, counted):
    study, n_run = studied
    first = study.chooses.sum()  # a run of those that choose, to find where it listens
    assert n_run == 2 * len(asked) + first
    forgetful, n_run = counted(asked, memory=0)
    assert n_run == 2 * len(asked) + 2 * first
    np.testing.assert_array_equal(forgetful.correct, study.correct)
    np.testing.assert_allclose(forgetful.margin, study.margin, rtol=1e-4, atol=1e-4)


def test_a_study_that_was_stopped_is_taken_up_without_running_anything_twice(toy, asked, study, tmp_path, monkeypatch):
    done, swept = [], steering_sweep.sweep

    def stopped(model, batch, *words, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append([question.id for question in getattr(batch, "batch", batch).questions])
        return swept(model, batch, *words, **options)

    monkeypatch.setattr(steering_sweep, "sweep", stopped)
    with pytest.raises(KeyboardInterrupt):
        steering_study(toy, asked, settings=SETTINGS, batch_size=20, out=tmp_path)
    first, again = [*done], []
    monkeypatch.setattr(
        steering_sweep,
        "sweep",
        lambda model, batch, *words, **options: (
            again.append([question.id for question in getattr(batch, "batch", batch).questions])
            or swept(model, batch, *words, **options)
        ),
    )
    taken_up = steering_study(toy, asked, settings=SETTINGS, batch_size=20, out=tmp_path)
    assert sorted(name for batch in (*first, *again) for name in batch) == sorted(one.id for one in asked)
    np.testing.assert_array_equal(taken_up.correct, study.correct)
    np.testing.assert_allclose(taken_up.margin, study.margin, rtol=1e-4, atol=1e-4)
    again.clear()
    kept = steering_study(toy, asked, settings=SETTINGS, batch_size=20, out=tmp_path)
    assert again == []
    assert kept.margin.tobytes() == taken_up.margin.tobytes()
    with pytest.raises(ValueError, match=r"is of another run: strengths was \(1.0, 3.0\) and is \(2.0,\)"):
        steering_study(toy, asked, settings=replace(SETTINGS, strengths=(2.0,)), batch_size=20, out=tmp_path)


def test_answers_with_and_without_sound_are_those_of_all_questions_in_their_order(toy, asked, study):
    for condition, found in (("audio", study.heard), ("silence", study.silent)):
        alone = attention_and_answers(toy, asked, condition=condition, batch_size=20)
        assert (found.condition, found.ids, found.choices) == (condition, alone.ids, alone.choices)
        np.testing.assert_allclose(found.audio_attention, alone.audio_attention, atol=1e-5)
        assert found.provenance.settings["n"] == len(asked)
    np.testing.assert_array_equal(study.heard.correct, study.clean_correct)


def test_arms_are_every_kind_control_place_and_strength_with_as_many_heads_as_there_are(toy, study):
    assert study.arms == steering_arms(SETTINGS, [1, 2], range(toy.n_layers))
    assert len(set(study.arms)) == len(study.arms) == 2 * (2 * (1 + 2 + 1 + 1) * 2 + toy.n_layers)
    assert {arm.control for arm in study.arms} == {"", *CONTROLS["head by head"]}


def test_every_arm_is_what_steering_each_question_alone_gives(toy, asked, study):
    some = [place for place, arm in enumerate(study.arms) if arm.control == "" and arm.strength == 3.0]
    for question in (0, 7, 31):
        own = steering_directions(toy, [asked[question]])
        batch = ma.prompt(toy, [asked[question]])
        for place in some:
            arm = study.arms[place]
            heads = study.scores.top(arm.k) if arm.k else ()
            if arm.kind == "single layer":
                made = own.single_layer(arm.layer, 3.0)
            else:
                made = own.layer_guided(heads, 3.0) if arm.kind == "layer-guided" else own.head_level(heads, 3.0)
            (answered,) = ma.answer(toy, batch, interventions=[made])
            assert answered.correct == study.correct[place, question], str(arm)


def test_the_planted_head_helps_on_the_half_that_did_not_choose(study):
    chosen = {choice.arm.kind: choice for choice in study.choices}["head by head"]
    assert PLANTED.listening in study.scores.top(chosen.arm.k)
    assert chosen.held_out.n == (~study.chooses).sum()
    assert chosen.held_out.test.fixed > 0 == chosen.held_out.test.broken
    beside = next(
        one for one in study.against_controls if (one.kind, one.control) == ("head by head", "another question")
    )
    assert beside.gain.value > 0
    assert beside.p < 0.05


def test_every_control_is_compared_by_one_family_of_tests(study):
    held = ~study.chooses
    accuracy = {(one.arm.kind, one.arm.control): one.held_out.after.value for one in (*study.choices, *study.controls)}
    for one in study.against_controls:
        of = ("single layer", "") if one.control == "best single layer" else (one.kind, one.control)
        steered = accuracy[one.kind, ""]
        assert one.gain.n == held.sum()
        assert one.gain.value == pytest.approx(steered - np.mean(one.accuracies))
        if len(one.accuracies) == 1:
            assert one.accuracies == (accuracy[of],)
            assert one.gain.method == "Bonett-Price"
    tests = [one.p for one in study.against_controls]
    assert [one.p_holm for one in study.against_controls] == pytest.approx(holm(tests))


def test_a_gain_of_a_few_questions_over_random_heads_is_not_called_sure(study):
    """By a bootstrap interval of the mean alone it would be: nothing that can be drawn is below zero."""
    control = [
        place for place, arm in enumerate(study.arms) if (arm.kind, arm.control) == ("head by head", "random heads")
    ]
    own = [place for place, arm in enumerate(study.arms) if (arm.kind, arm.control) == ("head by head", "")]
    correct = np.ones_like(study.correct)
    few = np.flatnonzero(~study.chooses)[:4]
    correct[np.ix_(control, few)] = False
    correct[np.ix_(own, few)] = True
    (one,) = (
        one
        for one in replace(study, correct=correct).against_controls
        if (one.kind, one.control) == ("head by head", "random heads")
    )
    assert one.gain.low > 0
    assert one.p == pytest.approx(0.125)


def test_a_choice_is_the_best_of_the_half_that_chooses_and_reported_on_the_other(study):
    for choice in (*study.choices, *study.controls):
        arm = choice.arm
        rivals = [
            row
            for row, other in zip(study.correct, study.arms, strict=True)
            if (other.kind, other.control, other.draw) == (arm.kind, arm.control, arm.draw)
        ]
        row = study.correct[study.arms.index(arm)]
        assert row[study.chooses].sum() == max(rival[study.chooses].sum() for rival in rivals)
        assert choice.held_out == answer_change(study.clean_correct[~study.chooses], row[~study.chooses])
    corrected = holm([choice.held_out.test.p for choice in study.choices])
    assert [choice.p_holm for choice in study.choices] == pytest.approx(corrected)


def test_what_the_half_that_reports_answers_does_not_touch_the_choice(study):
    worse = study.correct.copy()
    worse[:, ~study.chooses] = False
    other = replace(study, correct=worse)
    assert [choice.arm for choice in other.choices] == [choice.arm for choice in study.choices]


def test_lines_over_strength_are_the_chosen_arms_and_random_heads_their_mean(study):
    lines = {line.name.partition(", K")[0]: line for line in study.over_strength.lines}
    arm = next(choice.arm for choice in study.choices if choice.arm.kind == "layer-guided")
    rows = [study.correct[study.arms.index(replace(arm, strength=strength))] for strength in (1.0, 3.0)]
    line = lines["layer-guided"]
    np.testing.assert_array_equal(line.correct, rows)
    assert (line.strengths[line.chosen], line.control) == (arm.strength, False)
    random = lines["layer-guided, random heads (mean of 2)"]
    assert random.control
    assert set(np.unique(random.correct)) <= {0.0, 0.5, 1.0}


def test_a_study_is_kept_whole(study, tmp_path):
    study.save(tmp_path)
    again = SteeringStudy.load(tmp_path)
    assert str(again) == str(study)
    assert again.arms == study.arms


def test_a_study_says_how_many_of_its_answers_are_nan(study):
    margin = study.margin.copy()
    margin[0, :3] = np.nan
    assert "NaN" not in str(study)
    told = f"3 of the {margin.size} answers with steering are NaN, and count as not right"
    assert told in str(replace(study, margin=margin))


def test_tables_of_steering_say_how_many_answers_are_missing(study):
    choice = study.choices[0]
    place, reports = study.arms.index(choice.arm), np.flatnonzero(~study.chooses)
    margin = study.margin.copy()
    margin[place, reports[:2]] = np.nan
    lacks = replace(study, margin=margin)
    assert lacks.change(choice.arm, ~study.chooses).after.unanswered == 2
    assert lacks.change(choice.arm, study.chooses).after.unanswered == 0
    assert sum(change.after.unanswered for change in lacks.by_task(choice.arm).values()) == 2
    chosen, _, _, arms = steering_tables(lacks)
    assert chosen.rows[0][chosen.columns.index(UNANSWERED)] == 2
    assert [column.name for column in chosen.shown_columns].count("unanswered") == 1
    row = dict(zip([column.name for column in arms.columns], arms.rows[place], strict=True))
    assert (row["unanswered chooses"], row["unanswered reports"]) == (0, 2)
    assert lacks.to_pandas()["unanswered"].sum() == 2
    whole, *_ = steering_tables(study)
    assert "unanswered" not in [column.name for column in whole.shown_columns]
    assert {row[whole.columns.index(UNANSWERED)] for row in whole.rows} == {0}


def test_what_cannot_be_studied_is_refused(toy, asked, study):
    with pytest.raises(ValueError, match="three that choose and one that reports"):
        steering_study(toy, asked[:2], settings=SETTINGS)
    with pytest.raises(ValueError, match=r"too few for any of K = \(999,\)"):
        steering_study(toy, asked[:20], settings=replace(SETTINGS, ks=(999,)), batch_size=20)
    with pytest.raises(ValueError, match="the study has no arm"):
        study.by_task(SteeringArm("layer-guided", 77.0, 1, norm="pre"))
    for wrong, message in (
        ({"strengths": (0.0, 1.0)}, "a strength of 0 changes nothing"),
        ({"ks": (1, 1)}, "ks takes each value once"),
        ({"draws": 0}, "at least 1, got 0"),
        ({"share": 1.0}, "between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            SteeringSettings(**wrong)

"""The study of who listens: on the toy, whose truth is planted, and on files of the shapes of MMAU and MMAR."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

import mechaudio as ma
from mechaudio.analyses import attention_and_answers, clips_of, in_calibration, listening_score, score_heads
from mechaudio.data import mmar, mmau
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments.specialists_study import (
    SpecialistsSettings,
    SpecialistsStudy,
    specialists_study,
    steering_settings,
)
from mechaudio.experiments.steering_study import SteeringStudy, steering_study
from mechaudio.metrics import answer_change, holm, roc_auc
from mechaudio.models.toy.planted import PLANTED
from mechaudio.report import specialists_findings, specialists_tables
from tests.data.files import write_json, write_lines
from tests.families import network, processor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*heads give the audio the same share"),
    pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths"),
]
SMALL = SpecialistsSettings(ks=(1, 2), strengths=(1.0, 3.0), norms=("pre",), draws=20, steering_draws=1)


@pytest.fixture(scope="module")
def asked():
    drawn = toy_questions(44, seed=0)
    tasks = ("loud", "faint")
    return [replace(one, meta=dict(one.meta) | {"task": tasks[one.meta["level"] < -15]}) for one in drawn]


@pytest.fixture(scope="module")
def study(toy, asked):
    return specialists_study(toy, asked, settings=SMALL, batch_size=20)


def test_the_planted_head_is_found_and_steering_by_it_helps(study):
    assert study.scores.top(1) == (PLANTED.listening,)
    assert study.score.heads == (PLANTED.listening,)
    assert study.score.auc.low > 0.7
    (chosen,) = (choice for choice in study.steering.choices if choice.arm.kind == "head by head")
    assert chosen.held_out.change.value > 0
    assert chosen.held_out.test.broken == 0


def test_questions_are_on_one_side_by_their_clips_and_every_step_keeps_to_the_sides(toy, asked, study):
    ids = tuple(one.id for one in asked)
    np.testing.assert_array_equal(study.chooses, in_calibration(clips_of(asked), 0.5, 0))
    assert study.heard.ids == study.silent.ids == study.steering.ids == ids
    calibration, held_out = set(study.scores.measured.ids), set(study.score.ids)
    assert calibration | held_out == set(ids)
    assert not calibration & held_out
    np.testing.assert_array_equal(study.steering.chooses, study.chooses)
    for condition, found in (("audio", study.heard), ("silence", study.silent)):
        alone = attention_and_answers(toy, asked, condition=condition, batch_size=20)
        np.testing.assert_allclose(found.audio_attention, alone.audio_attention, atol=1e-5)
        assert found.choices == alone.choices
    again = listening_score(
        score_heads(study.heard.part(study.chooses)), study.heard.part(~study.chooses), k=1, draws=20
    )
    np.testing.assert_allclose(study.score.score, again.score)
    np.testing.assert_allclose(study.score.random_auc, again.random_auc)


def test_steering_is_the_study_of_its_own(toy, asked, study):
    alone = steering_study(toy, asked, settings=steering_settings(SMALL), batch_size=20)
    assert alone.arms == study.steering.arms
    np.testing.assert_array_equal(study.steering.correct, alone.correct)


def test_groups_are_those_of_the_questions(asked, study):
    loud = np.array([one.meta["task"] == "loud" for one in asked])
    rows = {(row.by, row.name): row.change for row in study.hearing}
    assert set(rows) == {("all", "all"), ("task", "loud"), ("task", "faint")}
    assert rows["task", "loud"] == answer_change(study.silent.correct[loud], study.heard.correct[loud])
    choice, held_out = study.steering.choices[-1], ~study.chooses
    after = study.steering.correct[study.steering.arms.index(choice.arm)]
    steered = {row.name: row.change for row in study.steered(choice)}
    own = held_out & loud
    assert steered["loud"] == answer_change(study.steering.clean_correct[own], after[own])
    tasks = ["loud" if one else "faint" for one in loud[held_out]]
    assert list(study.tasks) == tasks
    if study.auc_within_tasks is not None:
        within = roc_auc(study.score.score, study.score.correct, strata=tasks)
        assert study.auc_within_tasks.value == within.value
    assert {row.name: row.n for row in study.auc_by_group} == {
        "loud": (held_out & loud).sum(), "faint": (held_out & ~loud).sum()
    }  # fmt: skip


def test_it_is_kept_and_reads_the_same(study, tmp_path):
    back = SpecialistsStudy.load(study.save(tmp_path))
    assert str(back) == str(study)
    assert repr(back) == f"<SpecialistsStudy of 44 questions ({study.chooses.sum()} choose, " + (
        f"{(~study.chooses).sum()} report), 0 not asked>"
    )
    assert [table.to_json() for table in specialists_tables(back)] == [
        table.to_json() for table in specialists_tables(study)
    ]
    assert specialists_findings(back) == specialists_findings(study)


def test_every_p_value_of_its_tables_stands_beside_one_that_is_corrected(study):
    for table in specialists_tables(study):
        tests = [column.name for column in table.columns if column.kind == "p"]
        assert sum("Holm" in name or name == "q" for name in tests) * 2 == len(tests), table.name


def test_areas_are_corrected_over_the_rows_of_their_table(study):
    tables = {table.name: pd.DataFrame(table.held) for table in specialists_tables(study)}
    checks = tables["checks"].dropna(subset="p")
    assert len(checks) > 2
    assert checks["p Holm"].tolist() == holm(checks["p"].to_numpy()).tolist()
    by_k = tables["listening"]
    assert by_k[["p Holm", "p random Holm"]].to_numpy().tolist() == holm(by_k[["p", "p random"]].to_numpy()).tolist()
    assert tables["checks"]["p Holm"].isna().tolist() == tables["checks"]["p"].isna().tolist()


def test_findings_say_which_way_the_numbers_fall(study):
    told = " ".join(specialists_findings(study))
    layer, head = PLANTED.listening
    assert f"The strongest of those that give audio 1% of its attention or more is head {head} of layer {layer}" in told
    assert "tells right answers from wrong ones" in told
    assert "The share of attention on audio is the same in every question for 14 heads" in told
    assert "Steering head by head (K = " in told


def test_more_heads_than_vary_are_refused_by_name(toy, asked):
    with pytest.raises(
        ValueError, match=r"2 heads whose audio attention varies, too few for any of K = \(10, 20, 30\)"
    ):
        specialists_study(toy, asked[:20])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": ()}, "ks lists numbers of heads"),
        ({"ks": (0,)}, "ks lists numbers of heads"),
        ({"draws": 0}, "draws is a number of sets"),
        ({"share": 1.0}, "share is the part of the questions"),
        ({"strengths": (0.0,)}, "a strength of 0 changes nothing"),
    ],
)
def test_settings_that_make_no_study_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SpecialistsSettings(**changes)


def write_sounds(folder, names):
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ma.audio.soundscape.soundscape(place, 2.0 + place % 2, 2).audio.save(path)


def options(place):
    """2 to 8 of them; where there are many, one stands there twice now and then."""
    found = [f"sound {letter}" for letter in "abcdefgh"[: 2 + place % 7]]
    return [*found[:-1], found[0]] if place % 7 > 3 and place % 2 == 0 else found


@pytest.fixture(scope="module")
def mmau_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mmau")
    rows = [
        {
            "id": f"item-{place}",
            "audio_id": f"./test-mini-audios/item-{place}.wav",
            "question": "Which sound is it?",
            "choices": options(place),
            "answer": options(place)[place % 2],
            "dataset": "made up",
            "task": ("sound", "music", "speech")[place % 3],
            "split": "test-mini",
            "category": "Reasoning" if place % 4 else ["Reasoning"],
            "sub-category": ("Counting", "Instrumentation")[place % 2],
            "difficulty": ("easy", "hard")[place % 2],
        }
        for place in range(28)
    ]
    write_sounds(folder, [row["audio_id"] for row in rows[:-1]])  # the last recording is missing
    return write_json(folder / "mmau-test-mini.json", rows)


@pytest.fixture(scope="module")
def mmar_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mmar")
    rows = [
        {
            "id": f"x_{place}",
            "audio_path": f"./audio/x_{place}.wav",
            "question": "Which sound is it?",
            "choices": options(place)[:6],
            "answer": options(place)[place % 2],
            "modality": ("sound", "mix-sound-speech")[place % 2],
            "category": ("Signal Layer", "Semantic Layer")[place % 3 == 0],
            "sub-category": "Speaker",
            "language": "en",
        }
        for place in range(24)
    ]
    write_sounds(folder, [row["audio_path"] for row in rows])
    return write_lines(folder / "MMAR-meta.jsonl", rows)


@pytest.fixture(scope="module")
def guessing():
    """A Qwen2-Audio with random weights: it answers anything."""
    return ma.AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)


def of_corpus(model, corpus, seed):
    few = SpecialistsSettings(ks=(2,), strengths=(1.0,), norms=("pre",), draws=5, steering_draws=1, seed=seed)
    return specialists_study(model, corpus, settings=few, batch_size=14)


@pytest.mark.whole
def test_mmau_runs_through_it_with_2_to_8_choices_and_tables_by_domain_and_skill(guessing, mmau_file):
    corpus = mmau.load(mmau_file)
    assert {len(one.choices) for one in corpus} == {2, 3, 4, 5, 6, 7, 8}
    study = of_corpus(guessing, corpus, seed=0)
    assert len(study.heard.ids) == 27
    by_id = {one.id: one for one in corpus}
    for name, choice, correct in zip(study.heard.ids, study.heard.choices, study.heard.correct, strict=True):
        assert correct == (choice == by_id[name].answer), "the text decides, whichever letter it stands under"
    assert by_id["item-4"].answer_letters == ("A", "F")
    assert study.chance[study.heard.ids.index("item-4")] == 2 / 6
    groups = {(row.by, row.name): row.change.n for row in study.hearing}
    assert {by for by, _ in groups} == {"all", "task", "sub-category", "difficulty"}
    assert [groups["task", name] for name in ("sound", "music", "speech")] == [9, 9, 9]
    tables = {table.name: table for table in specialists_tables(study)}
    for name in ("hearing", "listening_by_group", "steering_by_group"):
        assert {"task", "sub-category", "difficulty"} <= {cell for row in tables[name].rows for cell in row[:2]}


def test_mmar_runs_through_it_with_tables_by_modality_and_layer(guessing, mmar_file):
    study = of_corpus(guessing, mmar.load(mmar_file), seed=1)
    groups = {(row.by, row.name): row.change.n for row in study.hearing}
    assert groups == {
        ("all", "all"): 24, ("task", "sound"): 12, ("task", "mix-sound-speech"): 12,
        ("category", "Semantic Layer"): 8, ("category", "Signal Layer"): 16,
    }  # fmt: skip
    assert not study.failures


def test_what_was_found_is_kept_where_the_listening_score_cannot_be_judged(toy, asked, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise ValueError("an AUC needs at least 2 right and 2 wrong answers")

    monkeypatch.setattr(import_module("mechaudio.experiments.specialists_study"), "listening_score", refuse)
    few = replace(SMALL, ks=(1,), strengths=(1.0,), draws=2)
    with pytest.raises(ValueError, match=r"wrong answers; answers and steering are kept in .*steering"):
        specialists_study(toy, asked[:30], settings=few, batch_size=20, out=tmp_path)
    assert SteeringStudy.load(tmp_path / "steering").ids == tuple(one.id for one in asked[:30])
    with pytest.raises(ValueError, match=r"2 wrong answers$"):
        specialists_study(toy, asked[:30], settings=few, batch_size=20)

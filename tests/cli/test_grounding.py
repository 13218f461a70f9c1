"""`mechaudio grounding`: result, tables, figures and page, and what it prints."""

import json
from argparse import Namespace

import pytest

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.cli.grounding import GroundingVerb
from mechaudio.cli.questions import Source
from mechaudio.experiments import GroundingStudy
from mechaudio.report import figures
from tests.cli.pages import command_on

WORDS = ["grounding", "--n", "6", "--seed", "5", "--max-new-tokens", "60"]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(figures, "browser", lambda: None)


def test_it_leaves_result_tables_figures_and_page_and_goes_on_where_it_stopped(capsys, tmp_path):
    assert main([*WORDS, "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    study = GroundingStudy.load(tmp_path / "results")
    assert told["dense"]["events"]["f1"]["value"] == study.dense.events.f1.value > 0.4
    assert told["grounding"] is told["timelines"] is None
    assert len(told["rows"]) == 6
    assert {place.stem for place in (tmp_path / "figures").glob("*.html")} == {"spans", "sound"}
    scores = json.loads((tmp_path / "tables" / "scores.json").read_text(encoding="utf-8"))["rows"]
    assert {row["score"]: row["value"] for row in scores}["event F1"] == study.dense.events.f1.value
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "mechaudio grounding --model tiny --data soundscapes --n 6 --seed 5" in command_on(page)
    assert "What the paper reports" in page
    assert 'src="http' not in page
    assert main([*WORDS, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Dense captions: event F1")
    assert said[-1] == str(tmp_path / "index.html")


def test_files_of_ftar_are_asked_with_a_query_in_the_instruction(capsys, tmp_path):
    clips = ma.data.soundscapes.clips(2, seed=5)
    folder = ma.data.ftar.save(ma.data.ftar.build(clips, ["dac", "tag"], splits={"test": 1.0}), tmp_path / "ftar")
    words = ["--data", f"ftar:{folder / 'test'}", "--tasks", "tag", "--instruction", "When does the hum start?"]
    assert main(["grounding", *words, "--out", str(tmp_path / "out"), "--json", "--max-new-tokens", "8"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dense"] is None
    assert told["grounding"]["unparsed"]["value"] == 1.0, "one time is no span"
    assert len(told["tables"]["answers"]) == sum(len({e.label for e in clip.events}) for clip in clips)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "toy"], "--data is soundscapes, or ftar:FOLDER"),
        (["--data", "ftar"], "hf download lysanderism/FTAR"),
        (["--data", "ftar:nowhere"], "nowhere"),
        (["--instruction", " "], "--instruction is blank"),
        (["--tasks", "tss"], "soundscapes has no question of tss"),
        (["--audio", "recordings"], "soundscapes brings its own sound"),
    ],
)
def test_a_mistake_is_one_message(words, said, capsys, tmp_path):
    assert main(["grounding", *words, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_n_counts_questions_where_a_clip_gives_several():
    given = {"data": Source("soundscapes"), "audio": None, "seed": 5, "model": "tiny", "instruction": None}
    questions = GroundingVerb().questions(Namespace(**given, n=7, tasks=["dac", "tag"]))
    assert len(questions) == 7
    assert {question.meta["task"] for question in questions} == {"dac", "tag"}


def test_a_task_without_a_question_is_named():
    given = {"data": Source("soundscapes"), "audio": None, "seed": 5, "model": "tiny", "instruction": None}
    with pytest.warns(UserWarning, match="soundscapes has no question of tss among the first 3, and none is scored"):
        questions = GroundingVerb().questions(Namespace(**given, n=3, tasks=["dac", "tss"]))
    assert {question.meta["task"] for question in questions} == {"dac"}

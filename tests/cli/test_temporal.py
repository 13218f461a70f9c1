"""`mechaudio temporal`: results, tables, figures and a page, of one study."""

import json
from dataclasses import replace

import pytest

import mechaudio as ma
from mechaudio.cli import main, parser
from mechaudio.cli.temporal import TemporalVerb, as_published
from mechaudio.experiments import PAPER_SETTINGS, TemporalSettings, TemporalStudy
from mechaudio.report import figures
from tests.cli.pages import command_on
from tests.families import network

WORDS = [
    "temporal",
    "--model",
    "toy",
    "--data",
    "toy",
    "--n",
    "6",
    "--seed",
    "3",
    "--split-seed",
    "3",
    "--factors",
    "0.5",
    "--biases",
    "2",
    "--queries",
    "choices",
]


VERB = TemporalVerb()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("temporal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "browser", lambda: None)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


@pytest.mark.whole
def test_the_tables_hold_what_the_result_says(folder):
    study = TemporalStudy.load(folder / "results")
    told = json.loads((folder / "tables" / "accuracies.json").read_text(encoding="utf-8"))
    shown = {row["condition"]: row["accuracy"] for row in told["rows"] if row["task"] == "all"}
    assert shown == {condition: found.overall.value for condition, found in study.conditions.items()}
    changes = json.loads((folder / "tables" / "all_layers.json").read_text(encoding="utf-8"))
    assert len(changes["rows"]) == len(study.uniform)
    for name in ("accuracies", "all_layers", "attention", "controls"):
        assert {place.suffix for place in (folder / "tables").glob(f"{name}.*")} == {".json", ".csv", ".md", ".tex"}


def test_rows_that_are_named_are_those_that_every_step_changes(folder):
    arms = TemporalStudy.load(folder / "results").arms
    assert {arm.queries for arm in arms if not arm.control} == {"choices"}
    assert {arm.kind for arm in arms if arm.layer is not None} == {"scaling"}


@pytest.mark.parametrize(
    ("queries", "targeted"),
    [(["choices"], "choices"), (["keyword+last", "last"], "keyword+last"), (["last", "listening"], "listening")],
)
def test_single_layers_are_changed_at_the_first_rows_or_at_those_that_listen(queries, targeted):
    settings = VERB.settings(parser().parse_args(["temporal", "--queries", *queries]))
    assert (settings.queries, settings.targeted) == (tuple(queries), targeted)


def test_the_figures_are_html_where_there_is_no_browser(folder):
    names = {place.name for place in (folder / "figures").iterdir()}
    assert {"accuracies.html", "attention.html", "fixes.html", "layers.html"} < names
    assert not any(name.endswith(".png") for name in names)


def test_the_page_is_whole_and_tells_the_papers_numbers_from_ours(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert (
        "mechaudio temporal --model toy --data toy --n 6 --seed 3 --factors 0.5 --biases 2.0 "
        "--queries choices --split-seed 3" in command_on(page)
    )
    assert 'src="http' not in page
    assert "the paper's" in page.lower() or "the paper&#39;s" in page.lower()
    assert "suspect" in page


@pytest.mark.whole
def test_a_study_that_was_made_is_taken_up_and_gives_the_same(folder, capsys):
    before = (folder / "tables" / "controls.json").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "browser", lambda: None)
        assert main([*WORDS, "--out", str(folder)]) == 0
    assert (folder / "tables" / "controls.json").read_bytes() == before
    told = capsys.readouterr()
    assert "PNG is left out" in told.err
    assert told.out.rstrip().endswith("index.html")


def test_what_is_varied_is_said_on_the_command_line_and_stands_in_the_command():
    words = ["temporal", "--n", "4", "--factors", "0.5", "2", "--biases", "-1", "--queries", "last", "--seed", "3"]
    arguments = parser().parse_args(words)
    assert VERB.settings(arguments) == TemporalSettings((-1.0,), (0.5, 2.0), ("last",))
    assert " ".join(VERB.words(arguments)) == "--factors 0.5 2.0 --biases -1.0 --queries last --split-seed 0"
    assert VERB.settings(parser().parse_args(["temporal"])) == TemporalSettings()


def test_the_papers_settings_go_by_the_class_of_the_model(tmp_path, capsys):
    arguments = parser().parse_args(["temporal", "--model", "desta-8b", "--paper", "--split-seed", "3"])
    settings = as_published(VERB.settings(arguments), ma.AudioLM(network("desta25"), prove=False))
    assert settings == replace(PAPER_SETTINGS["desta25"].settings, seed=3)
    assert " ".join(VERB.words(arguments)) == "--paper --split-seed 3"
    out = ["--out", str(tmp_path / "out")]
    assert main(["temporal", "--paper", "--factors", "2", *out]) == 2
    assert "leave out --scale, --upweight and --queries, or --paper" in capsys.readouterr().err
    assert main(["temporal", "--model", "tiny", "--n", "4", "--paper", *out]) == 2
    assert "the paper has no settings for 'qwen2_audio'" in capsys.readouterr().err


def test_strengths_go_by_the_names_that_they_have_in_evaluate_too():
    as_in_evaluate = parser().parse_args(["temporal", "--scale", "0.5", "2", "--upweight", "-1"])
    assert as_in_evaluate == parser().parse_args(["temporal", "--factors", "0.5", "2", "--biases", "-1"])


def test_the_split_has_a_seed_of_its_own():
    arguments = parser().parse_args(["temporal", "--seed", "3", "--split-seed", "5"])
    assert VERB.settings(arguments) == TemporalSettings(seed=5)
    assert " ".join(VERB.words(arguments)) == "--split-seed 5"


def test_the_help_tells_the_strengths_that_are_taken(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["temporal", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for values in (TemporalSettings().factors, TemporalSettings().biases):
        assert f"(default: {' '.join(f'{value:g}' for value in values)})" in told
    assert f"(default: {' '.join(TemporalSettings().queries)})" in told


def test_the_study_says_its_seed_and_settings(folder):
    provenance = TemporalStudy.load(folder / "results").provenance
    assert provenance.seed == provenance.settings["seed"] == 3
    assert (provenance.settings["data"], provenance.settings["data_seed"]) == ("toy", 3)


def test_strengths_that_change_nothing_are_a_mistake(capsys, tmp_path):
    assert main(["temporal", "--model", "toy", "--data", "toy", "--factors", "1", "--out", str(tmp_path)]) == 2
    assert "a factor of 1 and a bias of 0 change nothing" in capsys.readouterr().err

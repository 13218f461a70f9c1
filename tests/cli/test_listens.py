"""`mechaudio listens`: result, tables, figures and page, and what it prints."""

import json
import re

import pytest

from mechaudio.analyses import WhereItListens
from mechaudio.cli import main, parser
from mechaudio.report import figures
from tests.cli.pages import command_on

WORDS = ["listens", "--model", "toy", "--data", "toy", "--n", "12", "--seed", "3"]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(figures, "browser", lambda: None)


def test_it_prints_the_sentence_and_leaves_result_tables_figures_and_page(capsys, tmp_path):
    assert main([*WORDS, "--out", str(tmp_path)]) == 0
    found = WhereItListens.load(tmp_path / "results")
    said = capsys.readouterr().out.splitlines()
    assert said == [found.sentence, str(tmp_path / "index.html")]
    assert found.rows == ("last",)
    assert found.layers is None
    assert (found.provenance.settings["data"], found.provenance.settings["data_seed"]) == ("toy", 3)
    edges = json.loads((tmp_path / "tables" / "edges.json").read_text(encoding="utf-8"))["rows"]
    assert [row["change"] for row in edges] == pytest.approx(found.change)
    assert {place.stem for place in (tmp_path / "figures").glob("*.html")} == {"rows"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "mechaudio listens --model toy --data toy --n 12 --seed 3 --condition audio" in command_on(page)
    assert "The last row listens" in page
    assert 'src="http' not in page


def test_as_json_it_names_the_rows(capsys, tmp_path):
    words = [*WORDS, "--condition", "audio+caption", "--window", "2", "--each-layer", "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows_that_listen"] == ["last"]
    assert {row["scope"] for row in told["rows"]} == {"all layers", "window", "layer"}
    assert "caption → last" in {row["edge"] for row in told["rows"]}
    assert {place.stem for place in (tmp_path / "figures").glob("*.html")} == {"rows", "layers"}


def test_evaluate_says_where_the_model_listens_before_what_changes_do(capsys):
    assert main(["evaluate", *WORDS[1:5], "--n", "40", "--scale", "0.2", "--queries", "listening"]) == 0
    said = capsys.readouterr().out
    chose = re.search(r"These rows were chosen on (\d+) questions, .* among the 40 counted here", said)
    assert 0 < int(chose[1]) < 40
    assert f"(n = {chose[1]} questions)" in said
    assert said.index("The last row listens.") < chose.start() < said.index("ScaleAttention")


def test_the_toy_is_asked_its_own_questions_wherever_its_name_stands():
    for verb in ("listens", "evaluate", "patch", "specialists", "temporal", "mata"):
        data = parser().parse_args([verb, "--model", "toy"]).data
        assert (data.name, parser().parse_args([verb]).data.name) == ("toy", "soundscapes")
    for words in (["--model", "toy", "--data", "soundscapes"], ["--data", "soundscapes", "--model", "toy"]):
        assert parser().parse_args(["listens", *words]).data.name == "soundscapes"
    assert parser().parse_args(["listens", "--model", "toy", "--model", "tiny"]).data.name == "soundscapes"


def test_words_are_measured_in_the_place_of_letters(capsys, tmp_path):
    words = ["listens", "--model", "toy", "--n", "8", "--target", "A", "--foil", "B", "--out", str(tmp_path)]
    assert main(words) == 0
    found = WhereItListens.load(tmp_path / "results")
    assert found.measure == "margin"
    assert found.provenance.settings["data"] == "toy"
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "--target A --foil B" in command_on(page)

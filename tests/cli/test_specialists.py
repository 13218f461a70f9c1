"""`mechaudio specialists`: results, tables, figures and a page, of one study."""

import json

import pytest

from mechaudio.cli import main
from mechaudio.experiments.specialists_study import SpecialistsStudy
from mechaudio.report import specialists_findings, specialists_tables
from tests.cli.pages import assert_json_has_the_tables, command_on, made_in

COMMAND = ["specialists", "--model", "toy", "--data", "toy", "--n", "26", "--seed", "3", "--k", "1"]

pytestmark = pytest.mark.whole  # the commands of the other studies make tables, figures and a page in less time


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.warns(UserWarning, match="the same share of attention"):
        return made_in(tmp_path_factory.mktemp("specialists"), COMMAND)


def test_as_json_it_has_the_tables_that_it_writes(folder):
    assert_json_has_the_tables(folder)


def test_the_tables_hold_what_the_result_says(folder):
    study = SpecialistsStudy.load(folder / "results")
    assert (study.provenance.settings["data"], study.provenance.settings["data_seed"]) == ("toy", 3)
    assert study.provenance.seed == 0
    for table in specialists_tables(study):
        written = (folder / "tables" / f"{table.name}.json").read_text(encoding="utf-8")
        assert written == table.to_json()
        assert {place.suffix for place in (folder / "tables").glob(f"{table.name}.*")} == {
            ".json", ".csv", ".md", ".tex"
        }  # fmt: skip
    (all_questions,) = json.loads((folder / "tables" / "hearing.json").read_text(encoding="utf-8"))["rows"]
    assert (all_questions["group"], all_questions["n"]) == ("all", 26)
    assert all_questions["after"] == study.heard.correct.mean()


def test_there_is_a_figure_for_every_step(folder):
    names = {place.name for place in (folder / "figures").iterdir()}
    assert {"heads.html", "listening.html", "layers.html", "strengths.html"} < names


def test_the_page_is_whole_and_says_what_was_found_and_how_it_was_made(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert (
        "mechaudio specialists --model toy --data toy --n 26 --seed 3 --k 1 --queries last --split-seed 0"
        in command_on(page)
    )
    assert 'src="http' not in page
    assert "Nothing here was computed by mechaudio." in page
    for sentence in specialists_findings(SpecialistsStudy.load(folder / "results")):
        assert sentence.split("'")[0].split("<")[0] in page


def test_more_heads_than_there_are_end_in_one_message(capsys, tmp_path):
    with pytest.warns(UserWarning, match="the same share of attention"):
        assert main([*COMMAND[:-1], "9", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("mechaudio specialists: the model has 2 heads whose audio attention varies")

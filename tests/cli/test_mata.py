"""`mechaudio mata`: results, tables, figures and a page, of one study."""

import json
from typing import get_args

import numpy as np
import pytest

from mechaudio.cli import main
from mechaudio.cli.mata import MAPPINGS
from mechaudio.experiments.mata_arms import Mapping
from mechaudio.experiments.mata_study import MataStudy
from mechaudio.viz import mata_attention, mata_layers
from tests.cli.pages import assert_json_has_the_tables, command_on, made_in

WORDS = ["mata", "--model", "toy", "--data", "toy", "--n", "12", "--seed", "3", "--max-new-tokens", "2", "--out"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_in(tmp_path_factory.mktemp("mata"), WORDS[:-1])


@pytest.fixture(scope="module")
def study(folder):
    return MataStudy.load(folder / "results")


def table(folder, name):
    return json.loads((folder / "tables" / f"{name}.json").read_text(encoding="utf-8"))["rows"]


def test_as_json_it_has_the_tables_that_it_writes(folder):
    assert_json_has_the_tables(folder)


@pytest.mark.whole
def test_the_tables_hold_what_the_result_says(folder, study):
    for row, tested in zip(table(folder, "readings"), study.readings, strict=True):
        assert (row["reading"], row["after"]) == (tested.arm.mode, tested.change.after.value)
    for row, choice in zip(table(folder, "choices"), study.choices, strict=True):
        assert (row["what"], row["change"]) == (choice.name, choice.held_out.change.value)
    assert len(table(folder, "strengths")) == len(study.over_alphas)
    assert len(table(folder, "layers")) == len(study.over_ranges)
    assert len(table(folder, "written")) == len(study.written_arms)
    names = ("attention", "choices", "groups", "layers", "published_mata", "readings", "strengths", "written")
    for name in names:
        assert {place.suffix for place in (folder / "tables").glob(f"{name}.*")} == {".json", ".csv", ".md", ".tex"}


def test_the_study_keeps_its_questions_beside_the_seed_of_the_split(study):
    assert (study.provenance.settings["data"], study.provenance.settings["data_seed"]) == ("toy", 3)
    assert study.provenance.seed == 0


def test_the_page_is_whole_and_tells_the_papers_numbers_from_ours(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "mechaudio mata --model toy --data toy --n 12 --seed 3 --queries last --mapping proportional" in command_on(
        page
    )
    assert 'src="http' not in page
    assert "2509.18816" in page
    assert {"attention.html", "layers.html", "strengths.html"} < {
        place.name for place in (folder / "figures").iterdir()
    }


def test_figures_draw_what_was_measured(study):
    bars, *lines = mata_attention(study.scores).data
    np.testing.assert_allclose(bars.y, 100 * study.scores.negative)
    for line, after in zip(lines, study.scores.after, strict=False):
        np.testing.assert_allclose(line.y, 100 * (after - study.scores.before))
    figure = mata_layers(study)
    left, right = [trace for trace in figure.data if trace.type == "heatmap"]
    first, last = study.published
    published, best = [trace for trace in figure.data if trace.type == "scatter"][:2]
    assert (published.x, published.y) == ((str(last),), (str(first),))
    assert (best.x, best.y) == ((str(study.choices[1].arm.last),), (str(study.choices[1].arm.first),))
    assert left.z[list(left.y).index(best.y[0])][list(left.x).index(best.x[0])] == np.nanmax(left.z)
    held = study.choices[0].held_out.change.value
    assert right.z[list(right.y).index(str(first))][list(right.x).index(str(last))] == pytest.approx(100 * held)


def test_the_command_knows_the_mappings_that_the_study_has():
    assert get_args(Mapping) == MAPPINGS


def test_a_mistake_is_told_in_one_message(tmp_path, capsys):
    words = ["mata", "--model", "toy", "--data", "toy", "--n", "12", "--mapping", "numbered", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "none of which is 10 to 20: use --mapping proportional" in capsys.readouterr().err

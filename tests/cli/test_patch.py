"""`mechaudio patch`: result, tables, figures and page of one map."""

import csv
import json
from typing import get_args

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses.patching.activation_patching import Axis, PatchingMap
from mechaudio.analyses.patching.scale import Metric
from mechaudio.cli import main
from mechaudio.cli.patch import AXES, METRICS
from mechaudio.report import figures
from tests.cli.pages import command_on

WORDS = ["patch", "--model", "toy", "--data", "toy", "--n", "4", "--seed", "3"]


def patch(*words):
    with pytest.MonkeyPatch.context() as without:
        without.setattr(figures, "browser", lambda: None)
        return main([*WORDS, *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("patch")
    assert patch("--corrupted", "clip", "--out", str(out)) == 0
    return out


def test_the_tables_hold_what_the_result_says(folder):
    found = PatchingMap.load(folder / "results")
    assert (found.provenance.settings["data"], found.provenance.settings["data_seed"]) == ("toy", 3)
    assert tuple(found.axes) == ("layer", "second")
    told = json.loads((folder / "tables" / "all_places.json").read_text(encoding="utf-8"))["rows"]
    assert [row["on the scale"] for row in told] == pytest.approx(found.mean().ravel())
    low, high = found.interval()
    for side, values in (("low", low), ("high", high)):
        written = [row[f"interval {side}"] for row in told]
        assert [np.nan if each is None else each for each in written] == pytest.approx(values.ravel(), nan_ok=True)
    with (folder / "tables" / "top_places.csv").open(encoding="utf-8") as file:
        top = list(csv.DictReader(file))
    places = [(int(row["layer"]), float(row["second"])) for row in top]
    assert places == [(place["layer"], place["second"]) for place, _ in found.top()]
    for name in ("top_places", "all_places"):
        assert {place.suffix for place in (folder / "tables").glob(f"{name}.*")} == {".json", ".csv", ".md", ".tex"}


def test_a_map_over_seconds_is_drawn_under_the_sound_too(folder):
    assert {place.stem for place in (folder / "figures").glob("*.html")} == {"map", "sound"}


def test_the_page_is_whole_and_says_how_to_make_it_again(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "mechaudio patch --model toy --data toy --n 4 --seed 3 --over layer,second --corrupted clip" in command_on(
        page
    )
    assert 'src="http' not in page
    assert "With the clean prompts 4 of 4 answers are right" in page


def test_the_planted_head_is_what_the_command_finds(tmp_path, capsys):
    assert patch("--over", "layer,head", "--positions", "last", "--out", str(tmp_path)) == 0
    assert "Patching z in layer 1, head 2 brings the answer back most" in capsys.readouterr().out


def test_words_are_measured_in_the_place_of_letters_and_stand_in_the_command(tmp_path, capsys):
    words = ["--over", "layer", "--target", "A", "--foil", "B", "--whole", "--window-seconds", "1", "--batch-size", "2"]
    assert patch(*words, "--out", str(tmp_path), "--json") == 0
    written = PatchingMap.load(tmp_path / "results")
    questions = ma.data.toy_questions.questions(4, seed=3)
    expected = ma.analyses.activation_patching(
        ma.load("toy", prove=False), questions, over="layer", target="A", foil="B", whole=True, progress=False
    )
    np.testing.assert_allclose(written.logits, expected.logits, atol=1e-5)
    assert written.provenance.settings["targets"] == expected.provenance.settings["targets"]
    assert json.loads(capsys.readouterr().out)["results"] == str(tmp_path / "results")
    command = command_on((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "--over layer --corrupted silence" in command
    assert command.endswith("--target A --foil B --whole --window-seconds 1")


def test_a_map_without_any_effect_is_told_as_one(tmp_path, capsys):
    assert patch("--over", "layer,role", "--hook-point", "pattern", "--out", str(tmp_path)) == 0  # looks at silence
    assert "Patching pattern does nothing to the answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--over", "second,role"), "at most one of position, role, second, event"),
        (("--over", "layer,head", "--positions", "audio[20:30]"), "names no position of question 'toy-3-0'"),
        (("--over", "head"), "'z' exists in every layer: --over has to name 'layer'"),
        (("--over", "layer,role", "--hook-point", "embed"), "leave 'layer' out of --over"),
        (("--window-seconds", "0"), "--window-seconds is the length of a window in seconds, above 0"),
        (("--hook-point", "audio.z", "--over", "layer,role"), "has frames of the audio tower"),
        (("--data", "mmau", "--corrupted", "events"), "--corrupted events makes a clip anew"),
    ],
)
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, capsys):
    assert patch(*words, "--out", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_hook_point_that_exists_once_makes_a_map_without_layers(tmp_path):
    assert patch("--over", "role", "--hook-point", "embed", "--out", str(tmp_path)) == 0
    assert tuple(PatchingMap.load(tmp_path / "results").axes) == ("role",)


@pytest.mark.parametrize("over", ["layer,head,second", "layer,speaker"])
def test_axes_that_no_figure_shows_are_refused_before_any_work(over, capsys):
    with pytest.raises(SystemExit, match="2"):
        patch("--over", over)
    assert (
        f"takes one axis or two of layer, head, position, role, second, event, got '{over}'" in capsys.readouterr().err
    )


def test_the_command_knows_the_axes_and_metrics_that_the_analysis_has():
    assert get_args(Axis) == AXES
    assert get_args(Metric) == METRICS

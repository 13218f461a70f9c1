"""The recorded answers of three seeds of `small` say what their page says, and the recipe gives such answers."""

import importlib
import json
import runpy
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mechaudio.metrics import holm

REPOSITORY = Path(__file__).parents[2]
SAME = "random heads of the same layers"
SEEDS = ("seed 2, shipped", "seed 0", "seed 1")


@pytest.fixture(scope="module")
def page():
    """The functions that make the tables of the page."""
    return runpy.run_path(str(REPOSITORY / "docs" / "real_parts.py"))


@pytest.fixture(scope="module")
def told(page):
    return page["answers"]()


@pytest.fixture(scope="module")
def recipe():
    """The modules of the recipe, which import each other as they do where one of them is run."""
    names, before = ("asking", "heads", "questions"), list(sys.path)
    sys.path.insert(0, str(REPOSITORY / "recipes" / "small"))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path[:] = before
    for name in names:
        del sys.modules[name]


def changes(section):
    """All rows of a section that say what became of right answers."""
    if isinstance(section, dict):
        return [section] if "fixed" in section and "after" in section else list(chain(*map(changes, section.values())))
    return list(chain(*map(changes, section))) if isinstance(section, list) else []


def test_the_choices_of_small_listen_in_every_seed_and_the_last_row_of_tiny(told):
    assert {name: model["listens"]["rows"] for name, model in told.items()} == {
        **{seed: ["choices"] for seed in SEEDS},
        "tiny": ["last"],
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_decides_at_the_choices_and_nowhere_else(told, seed):
    changed = [row for row in told[seed]["sides"]["conflict"] if "p_holm" in row]
    assert all((row["p_holm"] < 0.05) == row["variant"].endswith("at choices") for row in changed)


def test_no_change_of_attention_steering_or_mata_gains_anything_that_is_sure(told):
    for model in told.values():
        rows = [*model["attention"]["chosen"], *model["mata"]["settings"]]
        for found in model["specialists"].values():
            rows += found["steering"]
        assert not [row for row in rows if row["change"] > 0 and row["p_holm"] < 0.05]


@pytest.mark.parametrize("seed", SEEDS)
def test_specialists_are_no_more_than_random_heads_of_their_layers(told, seed):
    for found in told[seed]["specialists"].values():
        (random,) = (row for row in found["cut"] if row["heads"].startswith("random"))
        assert found["heads with q < 0.05"] == 0
        assert found["random heads of the same layers, p"] >= 0.05
        assert random["p"] >= 0.04  # of 20 sets, one beside the specialists' own
    last = {row["heads"]: row for row in told[seed]["specialists"]["last"]["cut"]}
    assert last["specialists"]["answers changed"] <= 1
    assert 3 <= last["all heads"]["answers changed"] <= 7


def test_scores_and_cuts_of_specialists_are_corrected_over_the_rows_and_beat_no_random_heads(page, told):
    for name in SEEDS:
        corrected = page["_beside_random"](told[name])
        assert {rows for rows, _ in corrected} == {"last", "choices"}
        plain = [found[f"{kind}, p"] for found in told[name]["specialists"].values() for kind in ("random heads", SAME)]
        scores = {key: p for key, p in corrected.items() if key[1] != "cut"}
        assert list(scores.values()) == holm(plain).tolist()
        assert min(corrected.values()) >= 0.05


def test_what_was_right_before_is_right_or_broken_afterwards(told):
    rows = list(chain(*map(changes, told.values())))
    assert len(rows) > 300
    assert all(row["before"] + row["fixed"] - row["broken"] == row["after"] for row in rows)


def test_random_sets_have_as_many_heads_in_each_layer(recipe):
    class Scores:
        varies = np.ones((4, 9), bool)

    drawn = recipe.heads._random_sets(Scores, [(0, 1), (2, 3), (2, 4)], 5)
    assert len(drawn) == 5
    assert all(sorted(layer for layer, _ in heads) == [0, 2, 2] and len(set(heads)) == 3 for heads in drawn)
    assert len({tuple(heads) for heads in drawn}) > 1


def test_heads_of_a_layer_are_cut_together(recipe):
    cut = recipe.heads._without_sound([(3, 1), (0, 2), (3, 0)], "choices")
    assert [(one.layers, one.heads, one.queries) for one in cut] == [((0,), (2,), "choices"), ((3,), (1, 0), "choices")]


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore:.*carries nothing", "ignore:.*have the same correlation")
def test_the_recipe_asks_tiny_and_the_tables_can_be_made_of_it(recipe, page, told, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe.asking, "N_WINDOWS", 1)
    monkeypatch.setattr(recipe.heads, "RANDOM_SETS", 2)
    monkeypatch.setattr(recipe.asking.Asked, "rows", ("last", "question", "choices"))  # those of the tables
    made = recipe.asking.ma.data.soundscapes.questions
    monkeypatch.setattr(
        recipe.asking.ma.data.soundscapes, "questions", lambda *words, **how: made(*words, duration=5.0, **how)
    )
    sizes = dict.fromkeys(recipe.asking.SIZES, 8) | {"specialists": 14, "attention": 14}
    monkeypatch.setattr(recipe.questions, "SIZES", sizes)
    sections = [name for name in recipe.questions.SECTIONS if name != "mata"]  # a study that has tests of its own
    arguments = ["questions.py", "--model", "tiny", "--out", str(tmp_path / "tiny.json"), "--sections", *sections]
    monkeypatch.setattr(sys, "argv", arguments)
    recipe.questions.main()
    answered = json.loads((tmp_path / "tiny.json").read_text())
    assert answered["listens"]["rows"] == ["last"]
    assert set(sections) <= set(answered)
    answered["mata"] = told["tiny"]["mata"]
    answered["seconds"]["mata"] = 1.0
    for name, lines in page["tables"]({"tiny": answered}).items():
        assert len(lines) > 3, name

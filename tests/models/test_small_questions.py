"""The recorded answers of three seeds of `small` say what their page says, and the recipe gives such answers."""

import importlib.util
import json
import runpy
import sys
from itertools import chain
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
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
    spec = importlib.util.spec_from_file_location("questions", REPOSITORY / "recipes" / "small" / "questions.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["questions"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["questions"]


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


def test_what_was_right_before_is_right_or_broken_afterwards(told):
    rows = list(chain(*map(changes, told.values())))
    assert len(rows) > 300
    assert all(row["before"] + row["fixed"] - row["broken"] == row["after"] for row in rows)


def test_random_sets_have_as_many_heads_in_each_layer(recipe):
    class Scores:
        varies = recipe.np.ones((4, 9), bool)

    drawn = recipe._random_sets(Scores, [(0, 1), (2, 3), (2, 4)], 5)
    assert len(drawn) == 5
    assert all(sorted(layer for layer, _ in heads) == [0, 2, 2] and len(set(heads)) == 3 for heads in drawn)
    assert len({tuple(heads) for heads in drawn}) > 1


def test_heads_of_a_layer_are_cut_together(recipe):
    cut = recipe._without_sound([(3, 1), (0, 2), (3, 0)], "choices")
    assert [(one.layers, one.heads, one.queries) for one in cut] == [((0,), (2,), "choices"), ((3,), (1, 0), "choices")]


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore:.*carries nothing", "ignore:.*have the same correlation")
def test_the_recipe_asks_tiny_and_the_tables_can_be_made_of_it(recipe, page, told, monkeypatch, tmp_path):
    for name, value in {"N_WINDOWS": 1, "RANDOM_SETS": 2}.items():
        monkeypatch.setattr(recipe, name, value)
    monkeypatch.setattr(recipe, "SIZES", dict.fromkeys(recipe.SIZES, 8) | {"specialists": 14, "attention": 14})
    sections = [name for name in recipe.SECTIONS if name != "mata"]  # a study that has tests of its own
    arguments = ["questions.py", "--model", "tiny", "--out", str(tmp_path / "tiny.json"), "--sections", *sections]
    monkeypatch.setattr(sys, "argv", arguments)
    recipe.main()
    answered = json.loads((tmp_path / "tiny.json").read_text())
    assert answered["listens"]["rows"] == ["last"]
    assert set(sections) <= set(answered)
    answered["mata"] = told["tiny"]["mata"]
    answered["seconds"]["mata"] = 1.0
    for name, lines in page["tables"]({"tiny": answered}).items():
        assert len(lines) > 3, name

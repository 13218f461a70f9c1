import json

import pytest

from mechaudio.report import temporal_published, temporal_tables
from tests.viz.studies import study


@pytest.fixture(scope="module")
def found():
    return study()


@pytest.fixture(scope="module")
def tables(found):
    return {table.name: table for table in temporal_tables(found)}


def test_files_hold_every_column_and_readers_see_those_that_vary(found, tables):
    table = tables["all_layers"]
    rows = json.loads(table.to_json())["rows"]
    first = found.uniform[0]
    assert rows[0] == {
        "kind": "upweighting", "queries": "last", "control": "none", "layer": "all", "strength": 1.0, "n": 8,
        "before": 0.625, "after": first.change.after.value, "change": first.change.change.value,
        "interval low": first.change.change.low, "interval high": first.change.change.high,
        "fixed": first.change.fix_rate.value, "broken": first.change.break_rate.value, "unanswered": 0,
        "p": first.change.test.p, "p Holm": first.p_holm, "p BH": first.p_bh,
    }  # fmt: skip
    assert [column.name for column in table.shown_columns] == [
        "kind", "queries", "strength", "after", "change", "interval", "fixed", "broken", "p Holm",
    ]  # fmt: skip
    assert "Before: 62.5% of 8 right." in table.note
    assert {column.name for column in tables["one_layer"].shown_columns} >= {"layer", "strength"}
    assert {column.name for column in tables["controls"].shown_columns} >= {"control", "kind"}


def test_no_table_is_wider_than_a_page(tables):
    for table in (*tables.values(), *temporal_published()):
        assert len(table.shown_columns) <= 10, table.name


def test_the_half_that_was_held_out_speaks_for_every_choice(found, tables):
    rows = {row["what"]: row for row in json.loads(tables["held_out"].to_json())["rows"]}
    assert rows["best in one layer"]["change"] == found.best_layer.held_out.change.value
    assert rows["best upweighting, all layers"]["chosen"] == str(found.best_upweighting.arm)
    assert rows["layer drawn at random"]["change"] == pytest.approx(found.random_layer)
    against = rows["scaling minus upweighting"]
    scaled, upweighted = found.best_scaling.held_out.after.value, found.best_upweighting.held_out.after.value
    assert against["change"] == pytest.approx(scaled - upweighted)
    assert against["p Holm"] == found.scaling_against_upweighting.p_holm


def test_what_the_paper_reports_is_there_and_its_suspect_rows_are_marked():
    tables = {table.name: table for table in temporal_published()}
    suspect = [row for row in tables["published_accuracies"].rows if "suspect" in row[0]]
    assert [row[0] for row in suspect] == ["Qwen2-Audio (suspect)"] * 3
    assert tables["published_layers"].rows == (("Audio Flamingo 3", 20, 2.0), ("DeSTA2.5", 9, 0.2))
    assert "55.9 to 59.1%" in tables["published_layers"].note
    assert all("not computed here" in table.note for table in tables.values())

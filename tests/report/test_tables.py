"""Tables: the same numbers four times, and no cell lost."""

import csv
import json

import pytest

from mechaudio.report.tables import Column, Table, column_list, write_tables

TABLE = Table(
    name="rates",
    title="Rates & more",
    note="95% intervals",
    columns=(Column("arm"), Column("n", "count"), Column("fixed", "share"), Column("gain", "change"), Column("p", "p")),
    rows=(("a|b", 3, 0.25, -0.125, 0.00001), ("c_d", 0, None, float("nan"), 0.5)),
)


def test_json_and_csv_hold_the_numbers_as_they_are(tmp_path):
    write_tables([TABLE], tmp_path)
    told = json.loads((tmp_path / "rates.json").read_text(encoding="utf-8"))
    assert told["rows"][0] == {"arm": "a|b", "n": 3, "fixed": 0.25, "gain": -0.125, "p": 0.00001}
    assert told["rows"][1] == {"arm": "c_d", "n": 0, "fixed": None, "gain": None, "p": 0.5}
    with (tmp_path / "rates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fixed"] for row in rows] == ["0.25", ""]


def test_markdown_and_latex_show_shares_in_percent_and_escape_what_they_must():
    markdown, latex = TABLE.to_markdown(), TABLE.to_latex()
    assert r"| a\|b | 3 | 25.0 | -12.5 | < 0.0001 |" in markdown
    assert "| c_d | 0 | – | – | 0.5 |" in markdown
    assert r"c\_d & 0 & -- & -- & 0.5 \\" in latex
    assert r"\caption{Rates \& more. 95\% intervals}" in latex


def test_a_count_that_should_be_zero_is_shown_where_one_is_not():
    columns = (Column("arm"), Column("unanswered", "count", shown="unless zero"))
    assert Table("t", "T", "", columns, (("a", 0), ("b", 0))).shown == (("a",), ("b",))
    table = Table("t", "T", "", columns, (("a", 0), ("b", 2)))
    assert table.shown == (("a", "0"), ("b", "2"))
    assert [column.name for column in table.shown_columns] == ["arm", "unanswered"]
    assert json.loads(Table("t", "T", "", columns, (("a", 0),)).to_json())["rows"] == [{"arm": "a", "unanswered": 0}]


def test_a_score_is_shown_with_three_decimals_and_kept_whole():
    table = Table("t", "", "", (Column("AUC", "score"),), ((0.71456,), (None,)))
    assert table.shown == (("0.715",), ("–",))
    assert json.loads(table.to_json())["rows"][0] == {"AUC": 0.71456}


def test_an_interval_is_two_numbers_for_programs_and_one_cell_for_people():
    columns = (Column("arm"), Column("gain", "interval"), Column("q", "p", shown=False))
    table = Table("t", "T", "", columns, (("a", (-0.125, 0.5), 0.25), ("b", None, None)))
    assert table.to_csv().splitlines() == ["arm,gain low,gain high,q", "a,-0.125,0.5,0.25", "b,,,"]
    rows = json.loads(table.to_json())["rows"]
    assert rows[0] == {"arm": "a", "gain low": -0.125, "gain high": 0.5, "q": 0.25}
    assert "| arm | gain (95%) |" in table.to_markdown()
    assert r"a & [-12.5, +50.0] \\" in table.to_latex()
    assert "| b | – |" in table.to_markdown()
    none = Table("t", "T", "", columns, (("a", (float("nan"), float("nan")), 0.25),))
    assert (none.shown, none.to_csv().splitlines()[1]) == ((("a", "–"),), "a,,,0.25")


def test_rows_that_do_not_fit_and_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="has 1 column, and a row of 2"):
        Table("t", "", "", (Column("a"),), ((1, 2),))
    with pytest.raises(ValueError, match="two columns of one name: a, a"):
        Table("t", "", "", (Column("a"), Column("a")), ())


def test_columns_are_written_as_headings_with_kinds_and_a_kind_that_there_is_not_is_refused():
    assert column_list("arm, n: count, fixed: share, gain: change, p: p") == TABLE.columns
    with pytest.raises(ValueError, match=r"a column is one of text, count, .* got 'n: counts'"):
        column_list("arm, n: counts")


def test_a_change_that_rounds_to_nothing_is_not_minus_zero():
    columns = (Column("change", "change"), Column("ends", "interval"))
    assert Table("t", "T", "", columns, ((-0.0004, (-0.0004, 0.1)),)).shown == (("+0.0", "[+0.0, +10.0]"),)

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from mechaudio.report import Part, Report, Table, report_of, write_study_page
from mechaudio.report.tables import Column
from tests.browser import needs_browser, rendered
from tests.report.test_page import ATTACK, Elements
from tests.viz.made_up import provenance

COUNTS = Table("counts", "Counts", "Of ten.", (Column("what"), Column("share", "share")), (("a", 0.25), ("b", None)))
LINE = go.Figure(go.Scatter(y=[1, 2]), {"height": 200, "title": {"text": "A line"}})
LINES = {"line": "Up is more."}


def report(**options):
    given = {
        "lead": "Something was asked.",
        "findings": ["It rises."],
        "tables": [COUNTS],
        "figures": {"line": LINE},
        "parts": [Part("First", ("counts",), LINES)],
        "provenance": provenance(),
    }
    return Report(**(given | options))


def write(tmp_path, *, title="A study", command="mechaudio study", **options):
    return write_study_page(report(**options), tmp_path / "out" / "index.html", title=title, command=command)


def test_findings_come_first_then_every_step_and_how_it_was_made(tmp_path):
    page = Elements(write(tmp_path, parts=[Part("First", ("counts",)), Part("Second", figures=LINES)]))
    places = [
        page.text.index(words)
        for words in ("Something was asked.", "It rises.", "First", "Counts", "25.0", "Second", "Up is more.")
    ]
    assert places == sorted(places)
    assert page.text.rstrip().endswith("mechaudio study")
    assert "paper" not in page.text


def test_a_part_holds_what_there_is_of_it_and_is_left_out_if_that_is_nothing():
    parts = [Part("First", ("counts", "gone"), LINES), Part("Second", ("gone",), {"gone": "Down."})]
    (first,) = report(parts=parts).steps()
    assert (first.heading, first.tables) == ("First", (COUNTS,))
    assert [(each.kind, each.heading, each.how) for each in first.panels] == [("line", "A line", "Up is more.")]


def test_a_figure_that_stands_on_a_page_keeps_its_title():
    made = report()
    made.steps()
    assert made.figures["line"].layout.title.text == "A line"


def test_long_tables_are_folded(tmp_path):
    long = replace(COUNTS, name="many", title="Many counts", rows=COUNTS.rows * 11)
    parts = [Part("First", ("counts", "many"))]
    page = write(tmp_path, tables=[COUNTS, long], parts=parts).read_text(encoding="utf-8")
    assert page.count("<details>") == 1
    assert "<summary>Many counts (22 rows)</summary>" in page


def test_what_a_paper_reports_is_marked_as_its_own(tmp_path):
    page = Elements(write(tmp_path, paper="A Paper (2026)", published=[replace(COUNTS, title="Its counts")]))
    assert page.text.index("Nothing here was computed by mechaudio.") < page.text.index("Its counts")
    assert "A Paper (2026)" in page.text


def test_no_text_from_outside_becomes_markup(tmp_path):
    table = replace(COUNTS, title=ATTACK, note=ATTACK, rows=((ATTACK, 1.0),) * 2)
    options = {"title": ATTACK, "command": ATTACK, "lead": ATTACK, "findings": [ATTACK], "paper": ATTACK}
    parts = [Part(ATTACK, ("counts",), LINES)]
    page = Elements(write(tmp_path, tables=[table], parts=parts, published=[table], **options))
    plain = Elements(write(tmp_path / "plain", paper="A Paper", published=[COUNTS]))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert page.text.count(ATTACK) >= 10


def test_a_study_of_nothing_and_numbers_of_nobody_are_refused():
    with pytest.raises(ValueError, match="needs at least one part with a table or a figure, got none"):
        report(parts=[Part("First", ("gone",))])
    with pytest.raises(ValueError, match="need the name of their paper"):
        report(published=[COUNTS])


def test_a_class_of_which_nothing_is_told_says_how_to_tell_it():
    with pytest.raises(
        TypeError, match=r"no report is made of a Provenance: .*report_of.register\(Provenance, function\)"
    ):
        report_of(provenance())


@needs_browser
def test_a_browser_draws_it_without_a_word_of_complaint(tmp_path):
    dom, console = rendered(write(tmp_path, paper="A Paper", published=[COUNTS]))
    assert console == []
    assert dom.count('class="plot js-plotly-plot') == 1

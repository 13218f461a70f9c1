"""What a study's page says first: what is sure, largest first, each with the picture it stands on."""

import plotly.graph_objects as go
import pytest

from mechaudio.report.panels import panel
from mechaudio.report.study_page import Part, Report, write_study_page
from mechaudio.report.tables import Column, Table
from mechaudio.report.wording import LEADING, Finding, leading
from mechaudio.results import Provenance

CHANCE = Finding("May be chance.", "map", sure=False, size=0.9)
SMALL = Finding("Small but sure.", "map", sure=True, size=-0.1)
LARGE = Finding("Large and sure.", "bars", sure=True, size=-0.5)
BESIDE = Finding("Nearly as large.", "map", sure=True, size=0.4)


@pytest.fixture
def report():
    def made(*findings):
        return Report(
            provenance=Provenance.__new__(Provenance),
            lead="What was studied.",
            findings=findings,
            tables=[Table("numbers", "Numbers", "", (Column("n", "count"),), ((1,),))],
            figures={name: go.Figure(layout={"title": {"text": name}}) for name in ("map", "bars", "other")},
            parts=[Part("A part", ("numbers",), {"map": "Read it.", "bars": "Read them.", "other": "Read on."})],
        )

    return made


def test_what_is_sure_stands_first_the_largest_of_it_before_the_rest_whatever_its_sign():
    assert leading([CHANCE, SMALL, LARGE]) == (LARGE, SMALL)


def test_no_more_than_five_sentences_stand_first():
    many = [Finding(f"{n}", sure=True, size=float(n)) for n in range(9)]
    assert leading(many) == ("8", "7", "6", "5", "4")
    assert LEADING == 5


def test_nothing_stands_first_where_all_may_be_chance():
    assert leading([CHANCE]) == ()


def test_plain_sentences_of_which_nothing_is_known_keep_their_order():
    assert leading(["b", "a"]) == ("b", "a")


def test_a_picture_is_drawn_once_behind_all_that_stands_on_it_and_not_again_in_its_part(report):
    made = report(SMALL, CHANCE, LARGE, BESIDE)
    assert [(lead.findings, lead.panel.heading) for lead in made.first()] == [
        ((LARGE,), "bars"),
        ((BESIDE, SMALL), "map"),
    ]
    (step,) = made.steps()
    assert [each.heading for each in step.panels] == ["other"]
    assert made.others() == (CHANCE,)


def test_a_finding_without_a_picture_stands_by_itself(report):
    (lead,) = report(Finding("Of a table.", sure=True, size=1.0)).first()
    assert lead.panel is None


def test_the_page_has_the_sure_sentences_before_the_fold_and_the_others_in_it(report, tmp_path, monkeypatch):
    monkeypatch.setattr("mechaudio.report.study_page.facts", lambda *_: [])
    page = write_study_page(report(CHANCE, LARGE), tmp_path / "a.html", title="A", command="x").read_text("utf-8")
    first, _, rest = page.partition("Everything else that was asked (1)")
    assert "Large and sure." in first
    assert "May be chance." not in first
    assert "May be chance." in rest


def test_a_page_on_which_nothing_is_sure_says_so(report, tmp_path, monkeypatch):
    monkeypatch.setattr("mechaudio.report.study_page.facts", lambda *_: [])
    page = write_study_page(report(CHANCE), tmp_path / "a.html", title="A", command="x").read_text("utf-8")
    assert "Nothing that was compared is larger than chance" in page


def test_the_lines_of_a_note_are_joined_as_their_stops_ask():
    figure = go.Figure(layout={"title": {"text": "A", "subtitle": {"text": "of it,<br>below;<br>n = 3<br>bars"}}})
    assert panel("map", figure, "Read it.").note == "of it, below; n = 3; bars"

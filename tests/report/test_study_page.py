import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from mechaudio.audio.clip import AudioClip
from mechaudio.report import Part, Report, Table, report_of, study_page, write_study_page
from mechaudio.report.rendering import prose
from mechaudio.report.tables import Column
from mechaudio.viz import accuracy_by_task
from mechaudio.viz.theme import write_cells
from tests.browser import needs_browser
from tests.report.test_page import ATTACK, Elements
from tests.viz.made_up import provenance
from tests.viz.studies import study

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
    words = " ".join("x" for _ in ATTACK.split(" "))  # each word of a command is an element
    plain = Elements(write(tmp_path / "plain", paper="A Paper", published=[COUNTS], command=words))
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
def test_a_browser_draws_it_without_a_word_of_complaint(tab, tmp_path):
    dom = tab.rendered(write(tmp_path, paper="A Paper", published=[COUNTS]))
    assert tab.complaints == []
    assert dom.count('class="plot js-plotly-plot') == 1


@pytest.mark.whole
@needs_browser
def test_long_names_leave_room_for_the_picture_and_marks_turn_nothing_round(tab, tmp_path):
    names = {"earliest_onset": "x" * 400, "latest_offset": "50%{y}\u202e <b>"}
    evaluation = study().conditions["audio"]
    evaluation = replace(evaluation, tasks=tuple(names[task] for task in evaluation.tasks))
    figures = {"named": accuracy_by_task({"y" * 400: evaluation, "again": evaluation}), "line": LINE}
    parts = [Part("First", ("counts",), dict.fromkeys(figures, "How."))]
    dom = tab.rendered(write(tmp_path, figures=figures, parts=parts, title="A \u202e study"))
    assert tab.complaints == []
    assert dom.count('class="plot js-plotly-plot') == 2
    for words in (f"{'x' * 39}…", f"{'y' * 39}…", "50%{y} &lt;b&gt;"):
        assert f">{words}<" in dom
    assert "\u202e" not in dom


@pytest.mark.whole
@needs_browser
def test_a_figure_that_cannot_be_drawn_is_told_and_does_not_take_the_others_with_it(tab, tmp_path):
    figures = {"broken": LINE, "line": LINE}
    page = write(tmp_path, figures=figures, parts=[Part("First", (), dict.fromkeys(figures, "How."))])
    page.write_text(re.sub(r'(type="application/json">)', r"\1 broken ", page.read_text("utf-8"), count=1), "utf-8")
    dom = tab.rendered(page)
    assert "A part of this page could not be drawn: SyntaxError" in dom
    assert dom.count('class="plot js-plotly-plot') == 1


SORTED = Table(
    "sorted",
    "Sorted",
    "",
    (Column("name"), Column("p", "p"), Column("interval", "interval")),
    tuple((f"row {number}", p, ends) for number, (p, ends) in enumerate(
        [(0.2, (-0.1, 0.1)), (1e-6, (0.02, 0.3)), (None, None), (0.011, (-0.3, 0.2))] * 3
    )),
)  # fmt: skip
ROWS = "[...document.querySelectorAll('table.data tbody tr')].filter((row) => !row.hidden)"
NAMES = f"{ROWS}.map((row) => row.cells[0].textContent)"


def opened(tab, page):
    tab.open(page.resolve().as_uri())
    return tab


@pytest.fixture
def tables(tab, tmp_path):
    """A page of a long table and a short one."""
    return opened(tab, write(tmp_path, tables=[SORTED, COUNTS], parts=[Part("First", ("sorted", "counts"))]))


@needs_browser
def test_a_table_sorts_by_a_column_up_down_and_back_with_what_there_is_not_last(tables):
    heading = "document.querySelectorAll('table.data th')[1]"
    orders = []
    for expected in ("ascending", "descending", "none"):
        tables.evaluate(f"{heading}.querySelector('button').click()")
        assert tables.evaluate(f"{heading}.getAttribute('aria-sort')") == expected
        orders.append([int(name.split()[1]) % 4 for name in tables.evaluate(NAMES) if "row" in name])
    assert orders == [[1] * 3 + [3] * 3 + [0] * 3 + [2] * 3, [0] * 3 + [3] * 3 + [1] * 3 + [2] * 3, [0, 1, 2, 3] * 3]


@pytest.mark.whole
@needs_browser
def test_a_table_sorts_by_the_keyboard_and_by_the_lower_ends_of_intervals(tables):
    tables.evaluate("document.querySelectorAll('table.data .sort')[2].focus()")
    tables.press(" ")
    assert tables.evaluate(NAMES)[:3] == ["row 3", "row 7", "row 11"]
    tables.press(" ")
    tables.press(" ")
    assert tables.evaluate(NAMES)[0] == "row 0"


@pytest.mark.whole
@needs_browser
def test_a_long_table_shows_only_the_rows_with_all_words_that_are_typed_and_says_how_many(tables):
    assert tables.evaluate("document.querySelectorAll('.filter').length") == 1
    tables.evaluate("document.querySelector('.filter input').focus()")
    tables.call("Input.insertText", text="ROW 0.01")
    assert tables.evaluate(NAMES)[:-2] == ["row 3", "row 7", "row 11"]
    assert tables.evaluate("document.querySelector('.filter output').textContent") == "3 of 12 rows"
    assert "Sorted" in tables.evaluate("document.querySelector('.filter input').getAttribute('aria-label')")
    assert tables.complaints == []
    assert [address for address in tables.requests if not address.startswith(("file:", "data:"))] == []


def audios(page):
    return [attributes for tag, attributes in Elements(page).tags if tag == "audio"]


CLIP = AudioClip(np.zeros(1600, dtype=np.float32), 16_000)


def test_a_figure_over_a_recording_and_rows_about_one_can_be_heard(tmp_path):
    page = write(tmp_path, sounds={"line": CLIP, "b": CLIP, "nobody": CLIP})
    figure, row = sorted(audios(page), key=lambda audio: audio["preload"])
    assert figure["src"].startswith("data:audio/wav;base64,")
    assert (figure["aria-label"], row["aria-label"]) == ("The recording: A line", "The recording of b")
    assert "click in it to play from there" in Elements(page).text
    assert audios(write(tmp_path)) == []


def test_recordings_of_rows_have_bounded_room_on_a_page_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(study_page, "MOST_SOUND", 5000)
    rows = tuple((name, 0.5) for name in "abcd")
    page = write(tmp_path, tables=[replace(COUNTS, rows=rows)], sounds=dict.fromkeys("abcd", CLIP))
    assert [audio["aria-label"][-1] for audio in audios(page)] == ["a", "b"]
    assert "The first recordings can be played" in Elements(page).text


@pytest.mark.whole
@needs_browser
def test_a_line_moves_through_a_figure_that_lies_over_its_recording(tab, tmp_path):
    opened(tab, write(tmp_path, sounds={"line": CLIP}))
    tab.wait_for("document.querySelector('figure .seekable .cursor')")
    assert tab.complaints == []


def test_texts_show_code_as_code_and_markup_letter_by_letter():
    assert prose("`behind` is 5% of <b>`a<b`") == "<code>behind</code> is 5% of &lt;b&gt;<code>a&lt;b</code>"


def drawn_narrow(tab, tmp_path, figure):
    tab.look(420, 900)
    opened(tab, write(tmp_path, figures={"line": figure}))
    tab.wait_for("document.querySelector('.js-plotly-plot')?._fullLayout")
    return tab.evaluate("JSON.parse(JSON.stringify(document.querySelector('.js-plotly-plot').layout))")


@pytest.mark.whole
@needs_browser
def test_columns_that_stack_in_a_narrow_window_each_say_what_their_axes_are(tab, tmp_path):
    figure = make_subplots(2, 2, shared_yaxes=True, shared_xaxes=True)
    for row, column in ((1, 1), (1, 2), (2, 1), (2, 2)):
        figure.add_scatter(y=[1, 2], row=row, col=column)
    figure.update_yaxes(title_text="up", col=1)
    figure.update_xaxes(title_text="along, and a good deal further than a telephone is wide", row=2)
    layout = drawn_narrow(tab, tmp_path, figure)
    axes = [layout[f"{letter}axis{number}"] for letter in "xy" for number in ("", "2", "3", "4")]
    assert [axis["title"]["text"].replace("<br>", " ")[:5] for axis in axes] == ["along"] * 4 + ["up"] * 4
    assert all("<br>" in axis["title"]["text"] for axis in axes[:4])
    assert all(axis["showticklabels"] for axis in axes)
    tops = [axis["domain"][1] for axis in axes[4:]]
    assert sorted(tops, reverse=True) == tops


@pytest.mark.whole
@needs_browser
@pytest.mark.parametrize(("columns", "written"), [(4, 8), (30, 0)])
def test_numbers_of_a_map_are_left_out_where_they_would_lie_over_one_another(tab, tmp_path, columns, written):
    values = np.full((2, columns), 0.25)
    figure = go.Figure(
        go.Heatmap(z=values, x=np.arange(columns), y=[0, 1], zmin=0, zmax=1, colorscale=((0, "#000"), (1, "#fff")))
    )
    write_cells(figure, ["+0.25"] * values.size)
    notes = drawn_narrow(tab, tmp_path, figure).get("annotations", [])
    assert len(notes) == written

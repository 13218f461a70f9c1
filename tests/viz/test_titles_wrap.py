"""Titles and notes that fit a figure of the width that pages have."""

import html

import plotly.graph_objects as go

from mechaudio.report.panels import panel
from mechaudio.viz.theme import NOTE_LETTERS, SOFT, TITLE_LETTERS, titled

LONG = "Does the attention of heads tell right answers from wrong ones " * 3


def lines(text):
    return html.unescape(text.replace(SOFT, "<br>")).split("<br>")


def test_a_short_title_is_left_as_it_is():
    assert titled("Heads &amp; layers", "dots: <b>q</b><br>bars") == {
        "text": "Heads &amp; layers",
        "subtitle": {"text": "dots: <b>q</b><br>bars"},
    }


def test_a_long_title_has_lines_that_fit_and_loses_no_word():
    made = titled(LONG, LONG)
    for text, letters in ((made["text"], TITLE_LETTERS), (made["subtitle"]["text"], NOTE_LETTERS)):
        assert len(lines(text)) > 1
        assert max(map(len, lines(text))) <= letters
        assert " ".join(lines(text)).split() == LONG.split()


def test_entities_count_as_the_letter_that_they_stand_for():
    word = "&lt;" * 8 + " "
    (first, *_) = lines(titled(word * 20)["text"])
    assert len(first) == 62  # seven words of eight letters


def test_markup_is_not_broken_inside():
    assert 'style="color: red"' in titled('<span style="color: red">' + LONG + "</span>")["text"]


def test_a_page_that_wraps_titles_itself_gets_them_in_one_line():
    shown = panel("a", go.Figure(layout={"title": titled(LONG, LONG + "<br>n = 3")}), "Read it.")
    assert shown.heading == LONG.strip()
    assert shown.note == f"{LONG.strip()}; n = 3"

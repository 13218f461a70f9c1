"""Bars are drawn for people who watch, after two seconds, and nowhere else."""

import io
import sys
from types import SimpleNamespace

import pytest

import mechaudio as ma
from mechaudio import progress
from mechaudio.progress import bar, is_watched


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    def put_in_place():  # in the test itself: pytest puts its own in place between fixtures and tests
        written = Terminal()
        monkeypatch.setattr(sys, "stderr", written)
        return written

    return put_in_place


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return shell


def test_a_log_file_gets_no_bar_unless_it_is_asked_for(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "DELAY", 0)
    assert list(bar(range(3), what="reading", unit="questions")) == [0, 1, 2]
    assert log.getvalue() == ""
    assert list(bar(range(3), what="reading", unit="questions", progress=True)) == [0, 1, 2]
    assert "reading: 100%" in log.getvalue()
    assert "3/3" in log.getvalue()


def test_a_terminal_gets_a_bar_only_for_what_takes_longer_than_two_seconds(open_terminal, monkeypatch):
    terminal = open_terminal()
    with bar(what="sweep", unit="variants", total=2) as drawn:
        assert not drawn.disable
        assert drawn.delay == 2.0
        drawn.update(2)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "DELAY", 1e-9)
    with bar(what="sweep", unit="variants", total=2) as drawn:
        drawn.update(2)
    assert "sweep: 100%" in terminal.getvalue()


def test_false_draws_none_even_in_a_terminal(open_terminal, monkeypatch):
    terminal = open_terminal()
    monkeypatch.setattr(progress, "DELAY", 0)
    list(bar(range(3), what="reading", unit="questions", progress=False))
    assert terminal.getvalue() == ""


def test_a_bar_inside_another_stays_away(open_terminal):
    open_terminal()
    with bar(what="outer", unit="questions", total=1) as outer:
        with bar(what="inner", unit="variants", total=1) as inner:
            assert (outer.disable, inner.disable) == (False, True)
    with bar(what="later", unit="variants", total=1) as later:
        assert not later.disable


def test_a_kernel_is_watched_and_a_script_with_ipython_is_not(notebook, monkeypatch):
    assert is_watched()
    del notebook.kernel
    assert not is_watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not is_watched()


def test_every_call_that_may_take_long_draws_by_default_where_a_person_is_watching(open_terminal, monkeypatch):
    terminal = open_terminal()
    monkeypatch.setattr(progress, "DELAY", 1e-9)
    model, questions = ma.load("toy", prove=False), ma.data.toy_questions.questions(2, seed=0)
    ma.evaluate(model, questions)
    ma.sweep(model, ma.prompt(model, questions), [ma.ScaleAttention(2.0, layers=[0])])
    ma.analyses.attention_and_answers(model, questions)
    drawn = terminal.getvalue()
    assert "audio: 100%" in drawn
    assert "sweep: 100%" in drawn
    assert drawn.count("2/2") >= 2

"""Looking at recordings a window ahead: in order, in threads where they may, errors behind what came before."""

import threading
import time

import pytest

import mechaudio as ma
from mechaudio.audio.stored import StoredClip
from mechaudio.experiments.batches import windows
from mechaudio.experiments.lookahead import Lookahead
from mechaudio.notices import warn, withheld


def questions_of(n, audio="clip.wav"):
    return [ma.AudioQuestion(audio, "Which?", ("a", "b"), id=str(number)) for number in range(n)]


def in_which_thread(_question):
    return threading.current_thread() is threading.main_thread()


def test_a_window_is_given_when_the_next_one_is_drawn_and_its_headers_are_read_by_threads():
    drawn = []

    def stream():
        for window in windows(questions_of(5), 2):
            drawn.append(len(window))
            yield window

    with Lookahead(in_which_thread, lambda question: question.id) as lookahead:
        given = []
        for window in lookahead.windows(stream()):
            given.append((len(window), len(drawn), lookahead.length(window[0])))
            lookahead.begin()
        assert given == [(2, 2, True), (2, 3, True), (1, 3, False)]  # two windows were drawn before threads began
        assert lookahead.notes() == ["0", "1", "2", "3", "4"]
        assert lookahead.n == 5


@pytest.mark.parametrize("begun", [True, False])
def test_what_only_one_thread_may_read_is_read_by_the_one_that_draws_it(begun):
    stored = StoredClip(lambda: b"", "an archive")
    with Lookahead(in_which_thread, in_which_thread) as lookahead:
        if begun:
            lookahead.begin()
        for window in lookahead.windows(windows(questions_of(3, stored), 2)):
            assert all(lookahead.length(placed) for placed in window)
        assert lookahead.notes() == [True] * 3


def test_what_cannot_be_drawn_is_raised_behind_what_was_drawn_and_what_cannot_be_read_when_its_turn_comes():
    def stream():
        yield from questions_of(3)
        raise KeyError("gone")

    def length(question):
        if question.id == "1":
            raise FileNotFoundError("no such file")
        return 7

    given = []
    with Lookahead(length, in_which_thread) as lookahead, pytest.raises(KeyError, match="gone"):
        for window in lookahead.windows(windows(stream(), 2)):
            given.append(window)
            assert lookahead.length(window[0]) == 7
            with pytest.raises(FileNotFoundError):
                lookahead.length(window[1])
    assert [len(window) for window in given] == [2]


@pytest.mark.parametrize("begun", [True, False])
def test_no_more_than_two_windows_wait_for_their_notes(begun):
    noted, waiting = [], []
    with Lookahead(in_which_thread, lambda question: noted.append(question.id)) as lookahead:
        if begun:
            lookahead.begin()
        for _ in lookahead.windows(windows(questions_of(40), 4)):
            waiting.append(lookahead.n - len(noted))
            assert threading.active_count() > 1
        assert len(waiting) == 10
        assert max(waiting) <= 8
        lookahead.begin()
        lookahead.notes()
    assert len(noted) == 40


def test_what_is_ended_early_begins_no_further_note():
    noted = []

    def note(question):
        noted.append(question.id)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), Lookahead(in_which_thread, note) as lookahead:
        for _ in lookahead.windows(windows(questions_of(100), 50)):
            lookahead.begin()
            raise KeyboardInterrupt
    assert len(noted) < 50


def test_threads_look_as_the_thread_that_draws_would():
    with withheld() as messages, Lookahead(in_which_thread, lambda question: warn(question.id)) as lookahead:
        lookahead.begin()
        assert len(list(lookahead.windows(windows(questions_of(2), 2)))) == 1
        lookahead.notes()
    assert sorted(messages) == ["0", "1"]

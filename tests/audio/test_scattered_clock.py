import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from mechaudio.audio.clock import ScatteredClock, TokenClock
from mechaudio.results import Provenance, Result

WINDOW = 5440
WHY = "tokens of a long clip are merged"


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept(Result):
    """A result that holds a clock."""

    clock: TokenClock


@pytest.fixture
def clock():
    """Token 0 hears windows 0 and 1, token 1 window 3, token 2 windows 2, 5 and 6, token 3 nothing."""
    return ScatteredClock.from_windows(((1, 0), (3,), (2, 6, 5), ()), WINDOW, why=WHY)


def test_a_token_hears_its_windows_and_neighbours_make_one_stretch(clock):
    assert clock.intervals(0) == ((0.0, 0.68),)
    assert clock.intervals(2) == ((0.68, 1.02), (1.70, 2.38))
    assert clock.intervals(-1) == clock.intervals(3) == ()
    assert (clock.n_tokens, clock.contiguous, clock.end) == (4, False, 2.38)


def test_the_seconds_of_a_token_are_told_where_there_is_one_answer(clock):
    assert clock.seconds(0) == (0.0, 0.68)
    assert clock.seconds(1) == (1.02, 1.36)
    with pytest.raises(ValueError, match=rf"audio token 2 hears 2 stretches: {WHY}. Ask intervals\(token\)"):
        clock.seconds(2)
    with pytest.raises(ValueError, match="audio token 3 hears no stretch of its own"):
        clock.seconds(3)
    with pytest.raises(IndexError, match="there is no audio token 4"):
        clock.seconds(4)


def test_what_takes_tokens_for_a_row_in_time_is_refused(clock):
    for ask in (
        lambda: clock.edges,
        lambda: clock.edges_seconds,
        lambda: clock.tokens_between(0.0, 1.0),
        lambda: clock.token_at(1.0),
    ):
        with pytest.raises(ValueError, match=f"do not follow one another in time: {WHY}"):
            ask()


def test_tokens_are_found_by_what_they_hear(clock):
    assert clock.tokens_hearing(0.9, 1.1) == (1, 2)
    assert clock.tokens_hearing(1.36, 1.70) == ()
    assert clock.tokens_hearing(0.0, 10.0) == (0, 1, 2)
    with pytest.raises(ValueError, match="need 0 <= onset < offset"):
        clock.tokens_hearing(1.0, 1.0)


def test_a_clock_of_tokens_in_a_row_answers_the_same_questions():
    clock = TokenClock.uniform(5, WINDOW)
    assert clock.intervals(2) == (clock.seconds(2),)
    assert clock.tokens_hearing(0.4, 1.1) == (1, 2, 3) == tuple(range(5)[clock.tokens_between(0.4, 1.1)])
    assert clock.contiguous
    assert clock.end == 1.70
    assert clock.first(2).edges.tolist() == [0, WINDOW, 2 * WINDOW]


def test_timeless_tokens_have_no_time_and_say_why():
    clock = ScatteredClock.timeless(64, why="every token hears the whole clip")
    assert clock.n_tokens == 64
    assert clock.intervals(63) == ()
    assert np.isnan(clock.end)
    for ask in (lambda: clock.seconds(0), lambda: clock.tokens_hearing(0.0, 1.0), lambda: clock.edges):
        with pytest.raises(ValueError, match="every token hears the whole clip"):
            ask()


def test_some_of_the_tokens_keep_what_they_hear(clock):
    assert clock.of([2, 0]).intervals(0) == clock.intervals(2)
    assert clock.first(2).n_tokens == 2
    assert repr(clock) == "ScatteredClock(4 audio tokens, 0 to 3, 1 of several stretches, 1 of none)"


@pytest.mark.parametrize(
    ("heard", "error", "said"),
    [
        ((), ValueError, "at least one token"),
        ((((5, 5),),), ValueError, "at least one sample"),
        ((((0, 5), (3, 8)),), ValueError, "in order and apart"),
        ((((-1, 5),),), ValueError, "in order and apart"),
        ((((0.0, 0.5),),), TypeError, "integer"),
    ],
)
def test_stretches_that_are_none_are_refused(heard, error, said):
    with pytest.raises(error, match=said):
        ScatteredClock(heard, why=WHY)


def test_a_clock_is_kept_and_copied_by_what_its_tokens_hear(clock, tmp_path):
    kept = Kept(provenance=Provenance.collect(settings={}), clock=clock)
    kept.save(tmp_path / "kept")
    for again in (Kept.load(tmp_path / "kept").clock, copy.deepcopy(clock), pickle.loads(pickle.dumps(clock))):
        assert type(again) is ScatteredClock
        assert (again.heard, again.sample_rate, again.why) == (clock.heard, clock.sample_rate, clock.why)

import re

import numpy as np
import pytest

from mechaudio.audio.clock import TokenClock

CLOCKS = {
    "40 ms": TokenClock.uniform(749, 640),
    "80 ms": TokenClock.uniform(375, 1280),
    "13 per second": TokenClock.from_chunks(390, 16_000, 13),
    "40 ms at 44.1 kHz": TokenClock.uniform(749, 1764, 44_100),
    "uneven": TokenClock(np.cumsum(np.random.default_rng(0).integers(1, 2_000, 500))),
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_every_token_finds_itself_by_its_interval_its_middle_and_its_beginning(clock):
    for token in range(clock.n_tokens):
        onset, offset = clock.seconds(token)
        assert clock.tokens_between(onset, offset) == slice(token, token + 1)
        assert clock.token_at((onset + offset) / 2) == token
        assert clock.token_at(onset) == token


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_tokens_between_is_what_comparing_every_token_with_the_interval_gives(clock):
    rng = np.random.default_rng(1)
    for begin, end in np.sort(rng.integers(0, clock.edges[-1] + 5_000, (200, 2))):
        if begin == end:
            continue
        heard = [i for i in range(clock.n_tokens) if clock.edges[i] < end and clock.edges[i + 1] > begin]
        found = clock.tokens_between(begin / clock.sample_rate, end / clock.sample_rate)
        assert list(range(clock.n_tokens))[found] == heard


def test_tokens_of_40_ms_are_where_a_person_expects_them():
    clock = TokenClock.uniform(250, 640)
    assert clock.n_tokens == 250
    assert clock.seconds(3) == (0.12, 0.16)
    assert clock.seconds(-1) == (9.96, 10.0)
    assert clock.seconds(np.int64(249)) == clock.seconds(-1)
    assert clock.edges_seconds[[0, 1, 250]].tolist() == [0.0, 0.04, 10.0]
    assert clock.tokens_between(1.4, 2.0) == slice(35, 50)
    assert clock.tokens_between(1.41, 1.43) == slice(35, 36)
    assert clock.token_at(0.0) == 0
    assert clock.token_at(9.9999999) == 249
    assert repr(clock) == "TokenClock(250 audio tokens, 0 to 249, from 0.00 to 10.00 s)"


def test_thirteen_tokens_share_a_second_to_the_nearest_sample_and_never_drift():
    clock = TokenClock.from_chunks(26, 16_000, 13)
    assert clock.edges[:4].tolist() == [0, 1231, 2462, 3692]  # 16000 / 13 = 1230.77
    assert clock.edges[[13, 26]].tolist() == [16_000, 32_000]
    assert set(np.diff(clock.edges)) == {1230, 1231}


def test_an_interval_past_the_last_token_is_heard_by_none():
    clock = TokenClock.uniform(10, 640)
    assert clock.tokens_between(0.38, 5.0) == slice(9, 10)
    assert clock.tokens_between(0.4, 5.0) == slice(10, 10)
    assert clock.tokens_between(0.5, 5.0) == slice(10, 10)


def test_an_interval_before_the_first_token_is_heard_by_none():
    clock = TokenClock(np.array([1_600, 3_200]))
    assert clock.tokens_between(0.0, 0.1) == slice(0, 0)
    assert clock.tokens_between(0.0, 0.11) == slice(0, 1)


def test_an_interval_shorter_than_a_sample_is_heard_by_the_token_around_it():
    clock = TokenClock.uniform(10, 640)
    assert clock.tokens_between(0.04, 0.04 + 1e-6) == slice(1, 2)
    assert clock.tokens_between(0.05, 0.05 + 1e-6) == slice(1, 2)


@pytest.mark.parametrize("token", [10, -11])
def test_a_token_that_there_is_not_is_refused_with_those_there_are(token):
    with pytest.raises(
        IndexError, match=f"no audio token {token}: there are 10 audio tokens, 0 to 9, from 0.00 to 0.40 s"
    ):
        TokenClock.uniform(10, 640).seconds(token)


@pytest.mark.parametrize("time", [-0.01, 0.4, 3.0, float("nan")])
def test_a_time_that_no_token_hears_is_refused(time):
    with pytest.raises(ValueError, match=re.escape(f"no audio token hears {time} s: there are 10 audio tokens")):
        TokenClock.uniform(10, 640).token_at(time)


@pytest.mark.parametrize(
    ("onset", "offset"), [(-0.1, 1.0), (1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_an_interval_that_is_none_is_refused(onset, offset):
    with pytest.raises(ValueError, match=re.escape(f"need 0 <= onset < offset in seconds, got {onset=}, {offset=}")):
        TokenClock.uniform(10, 640).tokens_between(onset, offset)


def test_edges_increase_strictly_from_zero_in_whole_samples():
    with pytest.raises(ValueError, match="increase strictly, got 640 then 640 around token 1"):
        TokenClock(np.array([0, 640, 640, 1280]))
    with pytest.raises(ValueError, match="count samples from 0, got -1 as the first"):
        TokenClock(np.array([-1, 640]))
    with pytest.raises(ValueError, match=r"at least two samples, got shape \(1,\)"):
        TokenClock(np.array([0]))
    with pytest.raises(
        TypeError, match="edges of a clock are whole samples, got float64: multiply seconds by the sample rate"
    ):
        TokenClock(np.array([0.0, 0.04]))


def test_unsigned_edges_that_fall_are_refused_too():
    with pytest.raises(ValueError, match="increase strictly, got 640 then 0"):
        TokenClock(np.array([0, 640, 0], np.uint32))


def test_a_clock_cannot_be_changed_and_leaves_the_given_edges_alone():
    edges = np.array([0, 640])
    clock = TokenClock(edges)
    edges[1] = 1
    assert clock.seconds(0) == (0.0, 0.04)
    with pytest.raises(ValueError, match="read-only"):
        clock.edges[0] = 5


def test_numbers_of_tokens_and_samples_are_whole_and_at_least_one():
    with pytest.raises(ValueError, match="n_tokens is at least 1, got 0"):
        TokenClock.uniform(0, 640)
    with pytest.raises(ValueError, match="sample_rate is at least 1, got 0"):
        TokenClock(np.array([0, 1]), 0)
    with pytest.raises(TypeError, match=r"sample_rate is a whole number, got 16000.0"):
        TokenClock(np.array([0, 640]), 16_000.0)
    with pytest.raises(ValueError, match="a token hears at least one sample, got 13 tokens for 12 samples"):
        TokenClock.from_chunks(13, 12, 13)

"""Which positions are meant."""

import pytest

import mechaudio as ma
from mechaudio.models.positions import of_rows, select


@pytest.fixture(scope="module")
def batch():
    return ma.prompt(ma.load("tiny", prove=False), ma.data.soundscapes.questions(2, seed=11))


def test_spans_are_joined_in_order_each_position_once(batch):
    joined = select(batch, "last + keyword+last")
    for row in range(2):
        assert joined[row] == tuple(sorted({*batch.spans["keyword"][row], *batch.spans["last"][row]}))


def test_seconds_are_the_tokens_that_hear_a_part_of_them(batch):
    found = select(batch, "audio[1.0:2.5]")
    for row, clock in enumerate(batch.clock):
        heard = [
            token for token in range(clock.n_tokens) if clock.seconds(token)[0] < 2.5 and clock.seconds(token)[1] > 1.0
        ]
        assert found[row] == tuple(batch.spans["audio"][row][token] for token in heard)
    assert select(batch, "audio[:]") == batch.spans["audio"]


def test_numbers_count_in_the_padded_prompt(batch):
    width = batch.n_positions
    assert select(batch, -1) == ((width - 1,), (width - 1,))
    assert select(batch, [-1, 3, -1]) == ((3, width - 1),) * 2
    assert select(batch, [[0], [2, 1]]) == ((0,), (1, 2))


def test_what_is_meant_in_some_prompts():
    assert of_rows([[0], [1], [2]], [2, 0]) == [[2], [0]]
    for same in (None, "last", -1, (1, 2)):
        assert of_rows(same, [1]) == same


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("sound", KeyError, "no span 'sound' in this batch; it has"),
        ("listening", KeyError, r"it has \[.*\]\. Rows that listen are found first: ma\.analyses\.where_it_listens"),
        ([10_000], IndexError, "position 10000 is outside the prompts"),
        ([[1]], ValueError, r"one list per prompt \(2 here\); got 1 list\b"),
        ("audio[2:1]", ValueError, "ends before it begins in prompt 0"),
    ],
)
def test_what_is_not_there_is_refused(batch, where, error, says):
    with pytest.raises(error, match=says):
        select(batch, where)

"""Batches whose prompts are made ahead: in order, by another thread, one at a time, with errors at their turn."""

import threading

import pytest

from mechaudio.analyses.streaming import in_batches, prepared_batches


def test_batches_come_in_order_with_what_is_made_of_them_one_ahead():
    made, drawn = [], []

    def make(batch):
        made.append((batch, threading.get_ident()))
        return sum(batch)

    def numbers():
        for number in range(7):
            drawn.append(threading.get_ident())
            yield number

    seen = []
    for batch, total in prepared_batches(numbers(), 2, make, what="", progress=False):
        seen.append((batch, total))
        assert len(drawn) <= 2 * (len(seen) + 1)
    assert seen == [([0, 1], 1), ([2, 3], 5), ([4, 5], 9), ([6], 6)]
    assert [batch for batch, _ in made] == [batch for batch, _ in seen]
    assert set(drawn) == {threading.get_ident()}
    assert threading.get_ident() not in {thread for _, thread in made}


def test_what_cannot_be_made_is_raised_when_its_turn_comes():
    def make(batch):
        if 3 in batch:
            raise ValueError("no prompt can be made of 3")
        return batch

    found = prepared_batches(range(6), 2, make, what="", progress=False)
    assert next(found) == ([0, 1], [0, 1])
    with pytest.raises(ValueError, match="no prompt can be made of 3"):
        next(found)


def test_no_questions_or_no_batch_size_are_refused_as_without_a_thread():
    for message, questions, size in (("no questions", [], 2), ("batch_size must be at least 1", [1], 0)):
        with pytest.raises(ValueError, match=message):
            list(in_batches(questions, size, what="", progress=False))
        with pytest.raises(ValueError, match=message):
            list(prepared_batches(questions, size, len, what="", progress=False))


def test_a_loop_that_is_left_early_leaves_no_thread():
    before = threading.active_count()
    found = prepared_batches(range(100), 2, len, what="", progress=False)
    next(found)
    found.close()
    assert threading.active_count() == before

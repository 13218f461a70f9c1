"""Batches whose prompts are made ahead: in order, by another thread, one at a time, with errors at their turn."""

import threading

import pytest

import mechaudio as ma
from mechaudio.analyses import streaming
from mechaudio.analyses.streaming import batches_of, in_batches, length_of, prepared_batches, required_questions


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
    for batch, total in prepared_batches(None, numbers(), make, batch_size=2, what="", progress=False):
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

    found = prepared_batches(None, range(6), make, batch_size=2, what="", progress=False)
    assert next(found) == ([0, 1], [0, 1])
    with pytest.raises(ValueError, match="no prompt can be made of 3"):
        next(found)


def test_no_questions_or_no_batch_size_are_refused_as_without_a_thread():
    for message, questions, size in (("no questions", [], 2), ("batch_size must be at least 1", [1], 0)):
        with pytest.raises(ValueError, match=message):
            list(in_batches(None, questions, batch_size=size, what="", progress=False))
        with pytest.raises(ValueError, match=message):
            list(prepared_batches(None, questions, len, batch_size=size, what="", progress=False))


def test_a_loop_that_is_left_early_leaves_no_thread():
    before = threading.active_count()
    found = prepared_batches(None, range(100), len, batch_size=2, what="", progress=False)
    next(found)
    found.close()
    assert threading.active_count() == before


def test_as_many_questions_go_together_as_fit(monkeypatch):
    model = ma.load("tiny", prove=False)
    short, long = ma.data.soundscapes.questions(1, seed=0)[0], ma.data.soundscapes.questions(1, seed=0, duration=5.0)[0]
    monkeypatch.setitem(streaming.MOST_POSITIONS, "cpu", 3 * length_of(model, long, "audio"))
    together = list(in_batches(model, [long, long, long, short], what="", progress=False))
    assert [len(batch) for batch in together] == [3, 1]
    whole = list(in_batches(model, [long, short, long], what="", progress=False))
    assert whole == [[long, short, long]]
    alone = list(in_batches(model, [long, long], most=1, what="", progress=False))
    assert [len(batch) for batch in alone] == [1, 1]


def test_prompts_are_one_batch_and_anything_else_is_refused_in_one_way():
    model = ma.load("toy")
    questions = ma.data.toy_questions.questions(3, seed=0)
    batch = ma.prompt(model, questions, condition="silence")
    assert list(batches_of(model, batch, what="", progress=False)) == [batch]
    with pytest.raises(ValueError, match="made with condition='silence', got condition='caption'"):
        next(batches_of(model, batch, "caption", what="", progress=False))
    for wrong in ("questions.json", questions[0], 3):
        with pytest.raises(TypeError, match=r"takes a list of ma\.AudioQuestion, or prompts that ma\.prompt made"):
            next(batches_of(model, wrong, what="", progress=False))
    with pytest.raises(TypeError, match="plain inputs do not say what is asked"):
        required_questions(dict(batch.inputs))
    with pytest.raises(ValueError, match="made with condition='silence', and 'audio' is asked about"):
        required_questions(batch)

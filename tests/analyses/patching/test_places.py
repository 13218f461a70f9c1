"""Prompts divided into positions, roles, seconds and events."""

from dataclasses import replace

import pytest

import mechaudio as ma
from mechaudio.analyses.patching.places import EVENTS, places
from tests.families import unchecked_types


@pytest.fixture(scope="module")
def batch(toy):
    return ma.prompt(toy, ma.data.toy_questions.questions(3, seed=0))


def test_roles_share_out_every_position_and_last_stands_by_itself(batch):
    found = places(batch, "role")
    assert list(found) == ["audio", "question", "choices", "template", "last"]
    for row in range(3):
        everything = sorted(position for own in found.values() for position in own[row])
        assert everything == list(range(batch.n_positions))
    assert found["last"] == ((batch.n_positions - 1,),) * 3


def test_seconds_hold_the_tokens_whose_middle_lies_in_them(batch):
    found = places(batch, "second")
    assert list(found) == [0.0, 1.0, 2.0, 3.0]
    assert found[1.0][0] == batch.spans["audio"][0][25:50]
    halves = places(batch, "second", 0.5)
    assert list(halves)[:3] == [0.0, 0.5, 1.0]
    assert {len(own[0]) for own in halves.values()} == {12, 13}
    assert sum(len(own[0]) for own in halves.values()) == 100


def test_events_are_the_answers_others_and_none(batch):
    found = places(batch, "event")
    assert tuple(found) == EVENTS
    for row, question in enumerate(batch.questions):
        (answer,) = [event for event in question.events if event.label == question.answer]
        tokens = batch.clock[row].tokens_between(answer.onset, answer.offset)
        assert found[EVENTS[0]][row] == batch.spans["audio"][row][tokens]
        assert sorted(p for own in found.values() for p in own[row]) == list(batch.spans["audio"][row])


def test_an_event_over_the_answers_leaves_it_its_tokens(toy):
    (question,) = ma.data.toy_questions.questions(1, seed=0)
    (answer,) = [event for event in question.events if event.label == question.answer]
    covered = replace(question, events=(*question.events, replace(answer, label="crowd")))
    alone, both = (places(ma.prompt(toy, [q]), "event")[EVENTS[0]] for q in (question, covered))
    assert alone == both


def test_positions_are_cut_to_those_asked_for(batch):
    within = tuple(own[:3] for own in batch.spans["audio"])
    found = places(batch, "position", within=within)
    assert list(found) == list(batch.spans["audio"][0][:3])
    assert list(places(batch, "role", within=within)) == ["audio"]


def test_what_cannot_be_divided_says_why(toy, batch):
    with pytest.raises(ValueError, match="above 0; got 0"):
        places(batch, "second", 0)
    with unchecked_types(), pytest.raises(ValueError, match="position, role, second, event, got 'minute'"):
        places(batch, "minute")
    padded = ma.prompt(toy, [q for n in (2, 4) for q in ma.data.toy_questions.questions(1, seed=n, n_choices=n)])
    with pytest.raises(ValueError, match="one position is not the same thing"):
        places(padded, "position")
    told = ma.prompt(toy, batch.questions, condition="caption")
    with pytest.raises(ValueError, match="audio tokens of prompt 0 have no known time"):
        places(told, "second")
    with pytest.raises(ValueError, match="question 'toy-0-0' has no events"):
        places(ma.prompt(toy, [replace(batch.questions[0], events=())]), "event")

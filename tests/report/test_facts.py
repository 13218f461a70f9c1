from dataclasses import replace

import numpy as np
import pytest

from mechaudio.audio.events import Event
from mechaudio.report.facts import facts, moments
from tests.viz.made_up import attention, provenance


def test_an_event_gets_the_attention_inside_it_against_its_share_of_the_clip():
    result = attention(layers=1, heads=2, tokens=4, seconds=4.0, events=(Event("dog", 1.0, 2.0),))
    result.over_time[0, 0] = [[0.1, 0.3, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1]]
    (dog,) = moments(result)
    assert dog.chance == 0.25
    assert dog.inside == pytest.approx((0.75 + 0.25) / 2)
    assert (dog.most, dog.where) == (pytest.approx(0.75), "layer 0, head 0")


def test_events_come_in_the_order_of_their_onsets_and_unheard_ones_are_left_out():
    events = (Event("late", 5.0, 6.0), Event("early", 0.0, 1.0), Event("never heard", 12.0, 13.0))
    assert [moment.label for moment in moments(attention(events=events))] == ["early", "late"]


def test_a_head_that_never_looks_at_the_audio_does_not_count():
    result = attention(layers=1, heads=2, tokens=2, seconds=2.0, events=(Event("dog", 0.0, 1.0),))
    result.over_time[0, 0] = [[0.0, 0.0], [0.2, 0.2]]
    assert moments(result)[0].inside == 0.5
    assert np.isfinite(moments(result)[0].most)


def test_what_is_known_of_the_origin_is_told_and_the_command_comes_last():
    told = {fact.name: fact.value for fact in facts(provenance(), "mechaudio demo")}
    assert told["checkpoint"] == "tiny"
    assert told["seed"] == "0"
    assert list(told)[-1] == "command"
    assert "revision" not in told
    made = replace(provenance(), created="2026-01-01T10:20:30+00:00")
    assert {fact.name: fact.value for fact in facts(made, "")}["created"] == "2026-01-01 10:20:30 UTC"

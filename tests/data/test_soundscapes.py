from collections import Counter

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.events import Event
from mechaudio.audio.soundscape import CLASSES, describe
from mechaudio.data.soundscapes import KINDS, LEAD, clips, counterparts, question, questions, winner
from mechaudio.data.temporal_phrases import KEYWORDS, PHRASES, TASKS
from mechaudio.question import AudioQuestion

SHORT = {"duration": 4.0, "margin": 0.5}


@pytest.fixture(scope="module")
def asked():
    return questions(60, seed=11, **SHORT)


def test_tasks_take_turns_and_say_their_keyword(asked):
    assert [q.meta["task"] for q in asked[:4]] == [
        "earliest_onset",
        "latest_offset",
        "longest_duration",
        "earliest_onset",
    ]
    for q in asked:
        assert q.text == PHRASES[q.meta["task"]][0]
        assert q.text.split().count(q.meta["keyword"]) == 1


def test_the_answer_leads_every_other_event_by_the_margin(asked):
    for q in asked:
        lead = LEAD[q.meta["task"]]
        merits = sorted(((lead(e), e.label) for e in q.events), reverse=True)
        assert merits[0][1] == q.answer
        assert merits[0][0] - merits[1][0] >= 0.5


def test_choices_are_four_classes_from_the_clip_before_any_other(asked):
    for q in asked:
        present = {e.label for e in q.events}
        assert len(set(q.choices)) == 4
        assert q.answer in q.choices
        assert len(present & set(q.choices)) == min(4, len(present))
        assert set(q.choices) <= set(CLASSES)


def test_right_letters_are_spread_evenly(monkeypatch):
    quiet = ma.AudioClip(np.zeros(1_000), 16_000)  # letters are drawn without the sound, which takes long
    monkeypatch.setattr("mechaudio.data.soundscapes.render", lambda *_, **__: quiet)
    counts = Counter(q.answer_letter for q in (question(i, 5, **SHORT) for i in range(200)))
    assert set(counts) == set("ABCD")
    assert min(counts.values()) > 30


def test_the_caption_is_complete_and_enough(asked):
    for q in asked:
        assert q.caption == describe(q.events)
        words = q.caption.rstrip(".").split(", ")
        told = [Event(w.split()[0], float(w.split()[2]), float(w.split()[4])) for w in words]
        best = winner(told, q.meta["task"], 0.5)
        assert best is not None
        assert best.label == q.answer


def test_a_question_depends_on_its_seed_and_index_alone():
    few, many, other = questions(2, 7), questions(4, 7), questions(2, 8)
    for a, b in zip(few, many, strict=False):
        assert (a.id, a.text, a.choices, a.answer, a.caption) == (b.id, b.text, b.choices, b.answer, b.caption)
        assert np.array_equal(a.audio.waveform, b.audio.waveform)
    assert [q.id for q in few] == ["soundscapes-7-0", "soundscapes-7-1"]
    assert few[0].caption != other[0].caption


def test_a_conflicting_caption_names_another_of_the_choices():
    for q in questions(12, 3, conflict=True):
        assert q.meta["caption_answer"] in q.choices
        assert q.meta["caption_answer"] != q.answer
        assert q.caption != describe(q.events)
        assert winner(q.events, q.meta["task"], 1.0).label == q.answer


def test_clips_lengths_choices_and_phrases_follow_the_settings():
    asked = questions(24, 1, duration=(3.0, 6.0), margin=0.5, n_choices=3, paraphrase="random")
    assert all(3.0 <= q.audio.duration <= 6.0 and len(q.choices) == 3 for q in asked)
    assert len({q.text for q in asked}) > 6
    assert all(q.text in PHRASES[q.meta["task"]] for q in asked)


def test_one_task_can_be_asked_alone():
    assert {q.meta["task"] for q in questions(5, 2, tasks=("latest_offset",), **SHORT)} == {"latest_offset"}


def test_every_phrase_holds_its_keyword_once():
    for task in TASKS:
        assert all(phrase.rstrip("?").split().count(KEYWORDS[task]) == 1 for phrase in PHRASES[task])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ("loudest",)}, "no temporal task 'loudest'; there are earliest_onset"),
        ({"n_choices": 1}, "n_choices must be 2 to 12, the number of classes, got 1"),
        ({"paraphrase": 9}, "paraphrase must be 0 to 5 or 'random', got 9"),
        (
            {"duration": 2.0, "margin": 1.9},
            "no scene of 2 to 2 events in 2.0 s has a earliest_onset with a margin of 1.9",
        ),
    ],
)
def test_questions_that_cannot_be_had_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        questions(1, 0, **settings)


def test_clips_are_scenes_of_their_own_seed_whatever_their_number():
    few, many = clips(2, 7, duration=4.0), clips(3, 7, duration=4.0)
    assert [clip.id for clip in few] == ["soundscapes-7-clip-0", "soundscapes-7-clip-1"]
    for a, b in zip(few, many, strict=False):
        assert (a.id, a.events, a.caption) == (b.id, b.events, b.caption)
        assert np.array_equal(a.audio.waveform, b.audio.waveform)
    assert few[0].events != few[1].events
    assert all(3 <= len(clip.events) <= 6 and clip.audio.duration == 4.0 for clip in many)
    assert all(clip.caption == describe(clip.events) for clip in many)


@pytest.fixture(scope="module")
def made():
    return questions(24, seed=3, **SHORT)


def test_events_that_trade_their_times_give_another_answer_and_change_no_sound(made):
    assert {q.answer_letter == p.answer_letter for q, p in zip(made, counterparts(made), strict=True)} == {False}
    for q, pair in zip(made, counterparts(made, "events"), strict=True):
        assert (pair.text, pair.choices, pair.caption, pair.id) == (q.text, q.choices, q.caption, f"{q.id}-events")
        assert sorted((e.onset, e.offset) for e in pair.events) == sorted((e.onset, e.offset) for e in q.events)
        moved = {e.label for e, old in zip(pair.events, q.events, strict=True) if e.label != old.label}
        assert moved == {q.answer, pair.answer} <= set(q.choices)
        assert winner(pair.events, q.meta["task"], 0.5).label == pair.answer
        assert pair.meta["caption_answer"] == q.answer
        assert pair.audio.duration == q.audio.duration


def test_outside_of_what_traded_places_the_clip_is_the_same_but_for_its_level(made):
    q, pair = made[0], counterparts(made[:1])[0]
    old, new = q.audio.waveform, pair.audio.waveform
    assert old.shape == new.shape
    traded = [e for e in q.events if e.label in (q.answer, pair.answer)]
    quiet = np.ones(len(old), dtype=bool)
    for event in traded:
        quiet[round(event.onset * 16_000) : round(event.offset * 16_000)] = False
    assert quiet.any()
    assert not np.allclose(old[~quiet], new[~quiet], rtol=0.01)
    factor = (old[quiet] @ new[quiet]) / (old[quiet] @ old[quiet])
    assert np.allclose(new[quiet], factor * old[quiet], atol=1e-5)


def test_another_clip_answers_another_of_the_choices(made):
    for q, pair in zip(made, counterparts(made, "clip"), strict=True):
        assert (pair.text, pair.choices, pair.caption) == (q.text, q.choices, q.caption)
        assert len(pair.events) == len(q.events)
        assert pair.events != q.events
        assert winner(pair.events, q.meta["task"], 0.5).label == pair.answer != q.answer
        assert pair.answer in q.choices
        assert pair.audio.waveform.shape == q.audio.waveform.shape


def test_a_caption_with_traded_times_has_the_same_words_and_another_answer(made):
    for q, pair in zip(made, counterparts(made, "caption"), strict=True):
        assert pair.audio is q.audio
        assert pair.events == q.events
        assert sorted(pair.caption.rstrip(".").replace(",", "").split()) == sorted(
            q.caption.rstrip(".").replace(",", "").split()
        )
        words = pair.caption.rstrip(".").split(", ")
        told = [Event(w.split()[0], float(w.split()[2]), float(w.split()[4])) for w in words]
        assert winner(told, q.meta["task"], 0.5).label == pair.answer == pair.meta["caption_answer"] != q.answer


def test_a_counterpart_depends_on_its_question_alone(made):
    for kind in KINDS:
        alone, among = counterparts(made[5:6], kind)[0], counterparts(made, kind)[5]
        assert (alone.id, alone.answer, alone.events, alone.caption) == (
            among.id,
            among.answer,
            among.events,
            among.caption,
        )
        assert np.array_equal(alone.audio.waveform, among.audio.waveform)


def test_counterparts_that_cannot_be_had_are_refused(made):
    with pytest.raises(ValueError, match="kind= is one of events, clip, caption, got 'order'"):
        counterparts(made[:1], "order")
    with pytest.raises(ValueError, match="question 'mine' was not made by ma"):
        counterparts([AudioQuestion(None, "Which?", ("a", "b"), "a", id="mine")])
    with pytest.raises(ValueError, match="has one event among its choices, and nothing to trade times with"):
        counterparts(questions(1, 0, n_events=(1, 1), **SHORT))
    with pytest.raises(ValueError, match="contradicts its clip already: make the questions with conflict=False"):
        counterparts(questions(1, 0, conflict=True, **SHORT), "caption")

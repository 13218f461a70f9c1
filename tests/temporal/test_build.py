from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from scipy.stats import chisquare

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.data import soundscapes
from mechaudio.data.corpus import Corpus
from mechaudio.temporal import Settings, build
from mechaudio.temporal.tasks import DURATIONS
from tests.families import unchecked_types
from tests.reference.temporal_questions import broken_promises

TASKS = ("earliest_onset", "latest_offset", "longest_duration")
LABELS = ("dog", "Dog.", "a  car", "A car!", "rain", "bell", "siren", "a bird sings", "birds sing", "hum", "?")
SCENE = (Event("dog", 0.4, 2.1), Event("car", 1.5, 8.8), Event("rain", 3.0, 6.0), Event("bell", 3.5, 4.0))


def clip(name: str = "a.wav", events=SCENE, **meta) -> AnnotatedClip:
    return AnnotatedClip(f"{name}", events, caption=f"About {name}.", id=name, meta=meta)


def told(question) -> tuple:
    return question.id, question.text, question.choices, question.answer, dict(question.meta)


tenths = strategies.integers(0, 60)
events = strategies.tuples(strategies.sampled_from(LABELS), tenths, strategies.integers(1, 50))
scenes = strategies.tuples(strategies.lists(events, max_size=7), strategies.sampled_from(("Animals", "Cars", None)))
corpora = strategies.lists(scenes, max_size=6)
choices_left_open = strategies.fixed_dictionaries(
    {
        "margin": strategies.sampled_from((0.0, 0.3, 1.0, 2.5)),
        "n_choices": strategies.integers(2, 6),
        "margin_scope": strategies.sampled_from(("clip", "options")),
        "duration": strategies.sampled_from(DURATIONS),
        "fewest_sounds": strategies.integers(1, 3),
        "paraphrase": strategies.sampled_from((None, 0.3)),
    }
)


def made(corpus) -> list[AnnotatedClip]:
    """Labels, onsets and lengths in tenths of a second as clips."""
    return [
        clip(
            f"{index}.wav",
            tuple(Event(label, onset / 10, (onset + length) / 10) for label, onset, length in scene),
            **({} if kind is None else {"subclass": kind}),
        )
        for index, (scene, kind) in enumerate(corpus)
    ]


@given(corpora, choices_left_open, strategies.integers(0, 5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_question_keeps_what_it_promises_and_every_clip_is_accounted_for(corpus, left_open, seed):
    clips, chosen = made(corpus), Settings(**left_open)
    benchmark = build(clips, seed=seed, settings=chosen)
    by_id = {one.id: one for one in clips}
    assert [(question.id, broken_promises(question, by_id, chosen)) for question in benchmark] == [
        (question.id, []) for question in benchmark
    ]
    asked = [(question.meta["clip"], question.meta["task"]) for question in benchmark]
    dropped = [(one.clip, one.task) for one in benchmark.dropped]
    assert sorted(asked + dropped) == sorted((name, task) for name in by_id for task in TASKS)


@given(corpora, choices_left_open)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_same_seed_gives_the_same_questions_in_whatever_order_the_clips_come(corpus, left_open):
    clips, chosen = made(corpus), Settings(**left_open)
    forwards, backwards = build(clips, settings=chosen), build(clips[::-1], settings=chosen)
    assert sorted(map(repr, map(told, forwards))) == sorted(map(repr, map(told, backwards)))


@pytest.mark.parametrize(("task", "answer"), list(zip(TASKS, ("dog", "car", "car"), strict=True)))
def test_a_scene_worked_out_by_hand(task, answer):
    question = build([clip()], tasks=[task])[0]
    assert (question.id, question.answer, sorted(question.choices)) == (
        f"{task}-a.wav",
        answer,
        ["bell", "car", "dog", "rain"],
    )
    assert (question.meta["task"], question.meta["keyword"]) == (task, task.split("_")[0])
    assert question.meta["lead"] == {"earliest_onset": 1.1, "latest_offset": 2.8, "longest_duration": 4.3}[task]
    assert (question.events, question.caption, question.audio) == (SCENE, "About a.wav.", "a.wav")


@pytest.mark.parametrize(("onset", "asked"), [(2.3, True), (2.299_999, False)])
def test_a_second_is_a_second_in_spite_of_floating_point(onset, asked):
    scene = (Event("dog", 1.3, 9.0), *(Event(label, onset, 9.0) for label in ("car", "rain", "bell")))
    assert 2.3 - 1.3 < 1.0
    assert len(build([clip(events=scene)], tasks=["earliest_onset"])) == asked


def test_a_sound_that_is_heard_again_counts_from_first_to_last_and_by_its_longest_segment():
    scene = (Event("Dog.", 0.0, 1.0), Event("dog", 8.0, 9.5), Event("car", 2.0, 6.0), Event("rain", 3.0, 4.0))
    others = clip("b.wav", (Event("bell", 0, 1),))
    answers = {question.meta["task"]: question.answer for question in build([clip(events=scene), others])}
    assert answers == {"earliest_onset": "Dog.", "latest_offset": "Dog.", "longest_duration": "car"}


@pytest.mark.parametrize(("duration", "answer"), list(zip(DURATIONS, ("car", "rain", "dog"), strict=True)))
def test_what_the_duration_of_a_repeated_sound_is_decides_the_answer(duration, answer):
    dog = [Event("dog", onset, onset + 3.0) for onset in (0.0, 1.0, 2.0, 3.0)]
    rain = [Event("rain", 0.0, 4.0), Event("rain", 5.0, 8.5)]
    scene = (*dog, *rain, Event("car", 0.0, 5.5), Event("bell", 0.0, 1.0))
    question = build([clip(events=scene)], tasks=["longest_duration"], settings=Settings(duration=duration))[0]
    assert question.answer == answer


def test_a_rival_within_the_margin_costs_the_question_or_is_not_offered():
    scene = (*SCENE, Event("siren", 0.6, 1.0))
    assert build([clip(events=scene)], tasks=["earliest_onset"]).dropped_counts() == {
        "earliest_onset": {"no clear answer": 1}
    }
    question = build([clip(events=scene)], tasks=["earliest_onset"], settings=Settings(margin_scope="options"))[0]
    assert (question.answer, "siren" in question.choices) == ("dog", False)


def test_options_from_elsewhere_come_from_another_category_and_are_not_heard():
    short = clip("a.wav", SCENE[:2], subclass="Dogs")
    same = clip("b.wav", (Event("wolf", 0, 1),), subclass="Dogs")
    other = clip("c.wav", (Event("Car!", 0, 1), Event("drill", 0, 1), Event("saw", 0, 1)), subclass="Tools")
    question = next(one for one in build([short, same, other]) if one.meta["clip"] == "a.wav")
    assert sorted(question.choices) == ["car", "dog", "drill", "saw"]
    assert dict(zip(question.choices, question.meta["options_from"], strict=True))["saw"] == "elsewhere"
    assert build([short, same]).dropped_counts()["earliest_onset"] == {"too few distractors": 1, "too few sounds": 1}


def test_two_wordings_of_one_sound_cost_the_question_where_that_is_asked_for():
    scene = (Event("a dog barks", 0, 2), Event("a dog barks loudly", 3, 4), Event("rain", 3, 6), Event("bell", 3, 5))
    one = clip(events=scene)
    assert len(build([one], tasks=["earliest_onset"], settings=Settings(n_choices=3))) == 1
    strict = build([one], tasks=["earliest_onset"], settings=Settings(n_choices=3, paraphrase=0.7))
    assert strict.dropped_counts() == {"earliest_onset": {"possible paraphrase": 1}}
    assert strict.similarity == "token_overlap"

    def never(first: str, second: str) -> float:
        return 0.0

    assert len(build([one], ["earliest_onset"], settings=Settings(n_choices=3, paraphrase=0.7), similarity=never)) == 1


def test_clips_with_too_little_in_them_are_dropped_with_their_reason():
    benchmark = build([clip("a.wav", ()), clip("b.wav", SCENE[:1])], tasks=["earliest_onset"])
    assert [(one.clip, one.reason) for one in benchmark.dropped] == [
        ("a.wav", "no events"),
        ("b.wav", "too few sounds"),
    ]
    alone = build([clip("b.wav", SCENE[:1]), clip("c.wav", SCENE[1:])], settings=Settings(fewest_sounds=1))
    assert [question.meta["lead"] for question in alone if question.meta["clip"] == "b.wav"] == [None] * 3


def test_more_clips_reshuffle_nothing():
    few = soundscapes.clips(20, 0, duration=4.0)
    more = few + soundscapes.clips(5, 1, duration=4.0)
    chosen = Settings(margin=0.3)
    before = {question.id: told(question) for question in build(few, settings=chosen)}
    after = {question.id: told(question) for question in build(more, settings=chosen)}
    assert len(before) > 20
    assert {name: after[name] for name in before} == before  # every class is heard in the first clips already
    assert build(few, seed=1, settings=chosen)[0].choices != build(few, seed=0, settings=chosen)[0].choices


@pytest.mark.whole
def test_the_right_letter_is_as_likely_to_be_any():
    clips = [clip(f"{index}.wav") for index in range(2000)]
    letters = Counter(question.answer_letter for question in build(clips, tasks=["earliest_onset"]))
    assert sorted(letters) == list("ABCD")
    assert chisquare(list(letters.values())).pvalue > 0.01


@pytest.mark.whole
def test_which_of_many_sounds_are_offered_is_drawn_evenly():
    scene = (*SCENE, Event("siren", 4.0, 5.0), Event("hum", 4.0, 5.0))
    clips = [clip(f"{index}.wav", scene) for index in range(1000)]
    offered = Counter(choice for question in build(clips, tasks=["earliest_onset"]) for choice in question.choices)
    assert offered.pop("dog") == 1000
    assert chisquare(list(offered.values())).pvalue > 0.01


def test_the_wording_can_be_chosen():
    text = "Which of the following sounds has the {property} in the audio?"
    questions = build([clip()], settings=Settings(wording=text))
    assert questions[0].text == "Which of the following sounds has the earliest onset in the audio?"
    assert build([clip()])[0].text == "Which sound event has the earliest onset?"
    assert build([clip()], settings=Settings(wording=1))[0].text == "Which sound has the earliest onset?"


def test_labels_are_written_in_one_line():
    scene = (Event("a dog\n barks ", 0, 2), *SCENE[1:])
    assert "a dog barks" in build([clip(events=scene)], tasks=["earliest_onset"])[0].choices


def test_the_license_and_category_of_a_clip_go_along():
    question = build([clip(license="CC-BY-NC", subclass="Dogs")])[0]
    assert (question.meta["license"], question.meta["category"]) == ("CC-BY-NC", "Dogs")


def test_a_corpus_is_named():
    assert build(Corpus("TACOS", (clip(),), version="v1")).corpus == "TACOS v1"


def test_recordings_are_not_opened():
    assert len(build([AnnotatedClip("nowhere.wav", SCENE, id="a")])) == 3
    silent = AudioClip(np.zeros(160_000), 16_000)
    assert build([AnnotatedClip(silent, SCENE, id="a")])[0].audio is silent


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tasks": ("loudest",)}, ValueError, r"tasks are any of earliest_onset, .*, got \('loudest',\)"),
        ({"tasks": ()}, ValueError, r"tasks are any of .*, got \(\)"),
        ({"tasks": ("latest_offset",) * 2}, ValueError, "a task is named twice"),
        ({"clips": clip()}, TypeError, "got an AnnotatedClip: put it into a list"),
        ({"clips": [SCENE]}, TypeError, r"takes a list of AnnotatedClips; got \[\(Event"),
        ({"clips": [clip(), clip()]}, ValueError, r"clips\[1\] has the id 'a.wav', and so has another: .*id=FILENAME"),
        ({"clips": [AnnotatedClip("a.wav")]}, ValueError, r"clips\[0\] has no id"),
    ],
)
def test_what_cannot_be_built_from_is_refused(arguments, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        build(**{"clips": [clip()]} | arguments)

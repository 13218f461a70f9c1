"""FTAR: published files are read lazily, annotated clips become questions in their form, splits keep clips together."""

import json
import re

import numpy as np
import pytest
import soundfile

import mechaudio as ma
from mechaudio.data import ftar
from mechaudio.data.ftar_phrases import INSTRUCTIONS, grouped
from mechaudio.metrics.grounding import described_in, evaluate, spans_in

NOISE = np.random.default_rng(0)


def sound(seconds: float) -> ma.AudioClip:
    return ma.AudioClip(NOISE.normal(size=round(seconds * 8000)).astype(np.float32) * 0.1, 8000)


def annotated(name: str, *events: tuple, seconds: float = 10.0, **meta) -> ma.AnnotatedClip:
    return ma.AnnotatedClip(sound(seconds), [ma.Event(*event) for event in events], id=name, meta=meta)


@pytest.fixture(scope="module")
def baby():
    return annotated(
        "baby",
        ("A baby's cries pierce through the air.", 1.42, 3.71),
        ("A baby's cries pierce through the air.", 4.3, 5.1),
        ("A young child speaks.", 2.5, 2.9),
    )


def test_answers_are_in_the_published_form(baby):
    dac, first, second = ftar.build([baby])
    assert dac.answer == (
        "1.4 - 3.7, 4.3 - 5.1 seconds, A baby's cries pierce through the air. 2.5 - 2.9 seconds, A young child speaks."
    )
    assert first.answer == "The given query happens in 1.4 - 3.7, 4.3 - 5.1 seconds."
    assert second.answer == "The given query happens in 2.5 - 2.9 seconds."
    assert first.meta["query"] in first.text
    assert first.meta["intervals"] == ((1.4, 3.7), (4.3, 5.1))
    assert [each.meta["task"] for each in (dac, first, second)] == ["dac", "tag", "tag"]
    assert first.choices == ()
    assert len(first.events) == 3


def test_answers_are_read_back_by_the_scores(baby):
    dac, first, _ = ftar.build([baby])
    described = described_in(dac.answer, 10.0)
    assert described.captions == ("A baby's cries pierce through the air", "A young child speaks")
    assert described.intervals == (((1.4, 3.7), (4.3, 5.1)), ((2.5, 2.9),))
    scores = evaluate([first.answer], [first.meta["intervals"]], durations=[first.meta["duration"]])
    assert scores.mean_iou.value == 1.0
    marked = ma.timeaudio.Markers().encode(first.answer)
    assert spans_in(marked, markers=ma.timeaudio.Markers()).intervals == first.meta["intervals"]


def test_a_timeline_is_given_and_temporal_questions_are_made_of_events(baby):
    talk = annotated("talk", seconds=20.0, timeline=[(8.5, 20.0, "She succeeds."), (0.0, 8.46, "Tighe takes over.")])
    (tss,) = ftar.build([talk], ["tss"])
    assert tss.answer == "0.0 - 8.5, Tighe takes over. 8.5 - 20.0, She succeeds."
    count, duration, order = ftar.build([baby], ["tqa"])
    query = count.meta["query"]
    times, length = {"A young child speaks.": ("once", 0.4)}.get(query, ("2 times", 3.1))
    assert count.answer == f"'{query}' is heard {times}."
    assert duration.answer == f"'{query}' lasts {length:.1f} seconds altogether."
    assert order.answer == "'A baby's cries pierce through the air.' begins first."


def test_six_instructions_a_task_are_used_and_do_not_depend_on_other_clips():
    clips = [annotated(f"clip {n}", ("hum", 1.0, 2.0)) for n in range(60)]
    together = ftar.build(clips)
    for task in ("dac", "tag"):
        used = {question.text for question in together if question.meta["task"] == task}
        assert used == {text.replace("{query}", "hum") for text in INSTRUCTIONS[task]}
    assert all(len(set(texts)) == 6 for texts in INSTRUCTIONS.values())
    alone = ftar.build(clips[30:31])
    same = [question for question in together if question.meta["clip"] == "clip 30"]
    assert [(each.text, each.answer, each.id) for each in alone] == [(e.text, e.answer, e.id) for e in same]
    only_tag = [question.text for question in ftar.build(clips, ["tag"])]
    assert only_tag == [question.text for question in together if question.meta["task"] == "tag"]
    assert [question.text for question in ftar.build(clips, seed=1)] != [question.text for question in together]


def test_splits_are_by_clip_and_about_as_large_as_asked_for():
    clips = [annotated(f"caption {n}", ("hum", 1.0, 2.0), audio_id=f"sound {n // 3}") for n in range(300)]
    questions = ftar.build(clips, ["tag"], splits={"train": 0.7, "test": 0.3})
    of_sound: dict[str, set[str]] = {}
    for question in questions:
        of_sound.setdefault(question.meta["clip"], set()).add(question.meta["split"])
    assert all(len(splits) == 1 for splits in of_sound.values())
    assert 15 <= sum(splits == {"test"} for splits in of_sound.values()) <= 45


def test_intervals_of_a_label_are_tenths_that_never_overlap_or_vanish():
    events = [ma.Event("hum", 0.0, 1.04), ma.Event("hum", 1.0, 2.0), ma.Event("hum", 3.01, 3.02)]
    assert grouped(events, 10.0) == {"hum": [(0.0, 2.0), (3.0, 3.1)]}
    assert grouped([ma.Event("hum", 9.97, 9.98)], 9.98) == {"hum": [(9.8, 9.9)]}


def test_written_files_are_read_again_with_their_sounds_and_a_card_that_counts(tmp_path):
    on_disk = tmp_path / "sounds" / "dog.flac"
    on_disk.parent.mkdir()
    soundfile.write(on_disk, NOISE.normal(size=16_000) * 0.1, 8000)
    clips = [
        annotated("a", ("hum", 1.0, 2.0), ("bell", 3.0, 4.0)),
        ma.AnnotatedClip(on_disk, [ma.Event("dog", 0.5, 1.0)], id="b"),
    ]
    questions = ftar.build(clips, splits={"train": 1.0})
    folder = ftar.save(questions, tmp_path / "ftar")
    with pytest.raises(FileNotFoundError, match="its folders train hold some, each a split"):
        ftar.load(folder)
    read = ftar.load(folder / "train")
    assert not read.problems
    assert {each.id: (each.text, each.answer, each.meta["task"]) for each in read} == {
        each.id: (each.text, each.answer, each.meta["task"]) for each in questions
    }
    assert {round(each.clip().duration, 3) for each in read} == {10.0, 2.0}
    assert [each.meta["task"] for each in ftar.load(folder / "train", tasks=["dac"])] == ["dac", "dac"]
    card = (folder / "card.md").read_text()
    assert re.search(r"\| train \| dac \| 2 \| 2 \| 6\.0 \|", card)
    assert re.search(r"\| train \| tag \| 3 \| 2 \|", card)
    assert "5 questions about 2 clips." in card


def test_clips_that_fail_are_listed_and_no_other_takes_their_place(tmp_path):
    (tmp_path / "audio").mkdir()
    sound(2.0).save(tmp_path / "audio/here.wav")
    (tmp_path / "audio/broken.wav").write_bytes(b"no sound")
    rows = [
        {"audio": f"{name}.wav", "question": "When?", "answer": "0.1 - 0.2", "duration": 2.0, "id": name}
        for name in ("here", "missing", "broken")
    ]
    rows += [{"audio": "here.wav", "question": "", "answer": "0.1 - 0.2"}]
    rows += [{"audio": "here.wav", "question": "When?", "answer": "0.1 - 0.2", "duration": 9.0, "id": "longer"}]
    (tmp_path / "temporal_audio_grounding.json").write_text(json.dumps(rows))
    read = ftar.load(tmp_path)
    assert [each.id for each in read] == ["here", "longer"]
    assert read.problem_counts() == {
        "missing recording": 1,
        "unreadable recording": 1,
        "malformed row": 1,
        "another duration": 1,
    }
    rows[0]["duration"] = -2.0
    (tmp_path / "temporal_audio_grounding.json").write_text(json.dumps(rows))
    unopened = ftar.load(tmp_path, check="none")
    assert unopened.problem_counts() == {"malformed row": 1, "no duration": 1}
    assert unopened[0].meta["duration"] is None
    assert [each.id for each in unopened] == ["here", "missing", "broken", "longer"], "nothing is opened"
    with pytest.raises(FileNotFoundError):
        unopened[1].clip()


def test_questions_of_no_task_are_refused():
    with pytest.raises(ValueError, match="tasks= names no task: give some of dac, tag, tss, tqa"):
        ftar.build([annotated("dog", ("dog", 1.0, 2.0))], [])


def test_what_cannot_be_built_is_listed(tmp_path):
    gone = ma.AnnotatedClip(tmp_path / "gone.wav", [ma.Event("hum", 1.0, 2.0)], id="gone")
    clips = [gone, annotated("silent"), annotated("late", ("hum", 11.0, 12.0), ("bell", 9.0, 12.0))]
    clips += [annotated("talk", timeline=[(3.0, 2.0, "backwards"), "no part"])]
    built = ftar.build(clips, ["tag", "tss"])
    assert [each.answer for each in built] == ["The given query happens in 9.0 - 10.0 seconds."]
    assert built.problem_counts() == {
        "event past the end": 2,
        "malformed timeline": 2,
        "no duration": 1,
        "nothing annotated": 1,
        "nothing to ask": 1,
    }
    with pytest.raises(ValueError, match=r"gone: .*no duration"):
        ftar.build(clips, strict=True)
    with pytest.raises(ValueError, match="shares that add up to 1"):
        ftar.build([], splits={"train": 0.5})


def test_what_is_no_ftar_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        ftar.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no JSON file in .*dense_audio_caption"):
        ftar.load(tmp_path)
    (tmp_path / "x.json").write_text('[{"clip": 1}]')
    with pytest.raises(ValueError, match="audio"):
        ftar.load(tmp_path)
    with pytest.raises(ValueError, match="no question to write"):
        ftar.save([], tmp_path)

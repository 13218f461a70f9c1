"""The figure of when: bars are the spans of right answers and of the model's."""

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.viz import spans_over_time
from tests.experiments.test_grounding_study import study

PAIRS = [("1.0 - 2.0 seconds.", "The given query happens in 1.5 - 2.5, 4.0 - 5.0 seconds."), ("no", "3.0 - 4.0")]


def bars(figure, name):
    (trace,) = (trace for trace in figure.data if trace.name == name)
    return [(round(y), base, base + length) for y, base, length in zip(trace.y, trace.base, trace.x, strict=True)]


def test_bars_are_the_spans_of_each_question():
    figure = spans_over_time(study("tag", PAIRS))
    assert bars(figure, "right answer") == [(0, 1.5, 2.5), (0, 4.0, 5.0), (1, 3.0, 4.0)]
    assert bars(figure, "model") == [(0, 1.0, 2.0)]
    assert list(figure.layout.yaxis.ticktext) == ["question 0", "question 1"]
    assert figure.layout.xaxis.range == (0, 10)
    assert bars(spans_over_time(study("tag", PAIRS), questions=[1]), "right answer") == [(0, 3.0, 4.0)]


def test_captions_of_a_dense_answer_are_rows_of_their_own():
    figure = spans_over_time(study("dac", [("dog from 1.0 to 2.0, a cat from 3.0 to 4.0.", "1.0 - 2.5 seconds, Dog.")]))
    assert list(figure.layout.yaxis.ticktext) == ["dog", "cat"]
    assert bars(figure, "right answer") == [(0, 1.0, 2.5)]
    assert bars(figure, "model") == [(0, 1.0, 2.0), (1, 3.0, 4.0)]


def test_the_sound_of_one_question_lies_below():
    clip = ma.AudioClip(np.sin(np.arange(160_000) / 5).astype(np.float32), 16_000)
    figure = spans_over_time(study("tag", PAIRS), questions=[0], clip=clip)
    (mel,) = (trace for trace in figure.data if trace.name == "mel spectrogram")
    assert max(mel.x) == pytest.approx(10, abs=0.1)
    with pytest.raises(ValueError, match="the recording of one question, and 2 are drawn"):
        spans_over_time(study("tag", PAIRS), clip=clip)
    with pytest.raises(ValueError, match="numbers from 0 to 1 in this study, got"):
        spans_over_time(study("tag", PAIRS), questions=[2])


def test_questions_that_the_figure_has_no_room_for_are_left_out_whole_and_counted():
    right = " ".join(f"{n}.0 - {n}.5 seconds, sound {n}." for n in range(9))
    figure = spans_over_time(study("dac", [("nothing", right)] * 3))
    assert len(figure.layout.yaxis.ticktext) == 9
    assert figure.layout.title.text.endswith("n = 1 question")
    assert figure.layout.title.subtitle.text.endswith("; the first 1 of 3 questions")


def test_lines_part_the_rows_of_one_question_from_those_of_the_next():
    right = "1.0 - 2.0 seconds, dog. 3.0 - 4.0 seconds, car."
    figure = spans_over_time(study("dac", [("nothing", right)] * 2))
    assert [shape.y0 for shape in figure.layout.shapes] == [1.5]
    assert figure.layout.title.subtitle.text.endswith("; lines between questions")
    assert not spans_over_time(study("dac", [("nothing", right)])).layout.shapes

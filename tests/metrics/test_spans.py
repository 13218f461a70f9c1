"""Times in free text: what is read, and what had to be mended."""

import pytest

from mechaudio.metrics.grounding import Repairs, described_in, spans_in
from mechaudio.timeaudio import Markers
from tests.families import unchecked_types


@pytest.mark.parametrize(
    ("text", "intervals", "repairs"),
    [
        ("The given query happens in 0.2 - 2.7, 3.3 - 5.7 seconds.", [(0.2, 2.7), (3.3, 5.7)], {}),
        ("0-10", [(0.0, 10.0)], {}),
        ("The audio matching 'dog barking' appears from 0.0 to 0.6 seconds.", [(0.0, 0.6)], {"reworded": 1}),
        ("It barks between 1.5 s and 2 s.", [(1.5, 2.0)], {"reworded": 1}),
        ("1.5 – 2.5", [(1.5, 2.5)], {"reworded": 1}),
        ("0:04 - 0:09.5", [(4.0, 9.5)], {"reworded": 1}),
        ("(0.00-9.3) A gas explosion", [(0.0, 9.3)], {}),
        ("5.0 - 3.0", [(3.0, 5.0)], {"swapped": 1}),
        ("8.0 - 12.0", [(8.0, 10.0)], {"clipped": 1}),
        ("8.0 - 9.0, 11.0 - 12.0", [(8.0, 9.0)], {"beyond": 1}),
        ("12.0 - 8.0", [(8.0, 10.0)], {"swapped": 1, "clipped": 1}),
        ("3.0 - 3.0", [], {"empty": 1, "unparsed": 1}),
        ("20-30 people", [], {"beyond": 1, "unparsed": 1}),
        ("There is no dog.", [], {"unparsed": 1}),
        ("", [], {"unparsed": 1}),
        ("a dog and a cat, 2 and 3", [], {"unparsed": 1}),
        ("1.2.3 - 4.0", [], {"unparsed": 1}),
        ("0:00:04.5 --> 0:00:09", [(4.5, 9.0)], {"reworded": 1}),
        ("1.5s → 2s", [(1.5, 2.0)], {"reworded": 1}),
        ("[[0.5, 1.5], [3, 4.5]]", [(0.5, 1.5), (3.0, 4.5)], {"reworded": 2}),
        ("1,5 - 2,5 s", [(1.5, 2.5)], {"reworded": 1}),
        ("from 1,5 to 2,5", [(1.5, 2.5)], {"reworded": 1}),
        ("1 - 2,3 - 4", [(1.0, 2.0), (3.0, 4.0)], {}),
        ("1 - 2,3 - 4,5 - 6", [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], {}),
        ("1.0-2.0,3.0-4.0", [(1.0, 2.0), (3.0, 4.0)], {}),
        ("1e3 - 2e3 seconds", [], {"unparsed": 1}),
        ("cases a3 - b4", [], {"unparsed": 1}),
        ("0.2 - 2.7: a dog barks", [(0.2, 2.7)], {}),
        ("A dog:1.5-2.75:", [(1.5, 2.75)], {}),
        ("-1.0 - 2.0", [], {"reworded": 1, "beyond": 1, "unparsed": 1}),
        ("[-1.0, 2.0], 1.0 to -2.0", [], {"reworded": 2, "swapped": 1, "beyond": 2, "unparsed": 1}),
        ("- 1.0 - 2.0: a dog\n- 3.0 - 4.5: a cat", [(1.0, 2.0), (3.0, 4.5)], {}),
        ("heard: 3\n- 1.0 - 2.5", [(1.0, 2.5)], {}),
        ("on 2024-01-02, 1.0 - 2.0 - 3.0", [], {"malformed": 2, "unparsed": 1}),
        ("0.0 - 2.7 - 2 dogs bark", [(0.0, 2.7)], {}),
        ("100 - 900 ms", [(0.1, 0.9)], {"reworded": 1}),
        ("0.1 - 0.15 minutes", [(6.0, 9.0)], {"reworded": 1}),
        ("between 3 s and 1 min", [(3.0, 10.0)], {"reworded": 1, "clipped": 1}),
        ("0.1 - 0.12 minutes, 0.13 min - 0.14 min", [(6.0, 7.2), (7.8, 8.4)], {"reworded": 2}),
        ("1 min 30 s to 2 minutes", [], {"reworded": 1, "beyond": 1, "unparsed": 1}),
    ],
)
def test_spans_are_read_and_every_repair_is_counted(text, intervals, repairs):
    spans = spans_in(text, 10.0)
    assert list(spans.intervals) == intervals
    assert spans.repairs == Repairs(**repairs)
    assert spans_in(text, 10.0, markers=Markers()) == spans  # a text without markers


def test_markers_are_read_and_what_melts_is_counted():
    spans = spans_in("<a_0><f_2> - <a_2><f_7>, <a_1><f_2><a_3><f_4> - <a_5>", 10.0, markers=Markers())
    assert spans.intervals == ((0.2, 2.7), (5.0, 10.0))
    # 1.2 and 3.4 with nothing between them are 13.2, which comes after 5.0 and after the end.
    assert spans.repairs == Repairs(melted=1, malformed=1, swapped=1, clipped=1)
    with pytest.raises(ValueError, match=r"time marker '<a_0>': give markers=ma\.timeaudio\.Markers"):
        spans_in("<a_0><f_2> - <a_2><f_7>")
    assert spans_in("<0.2> - <30.0><4.0>", markers=Markers("v1")).intervals == ((0.2, 34.0),)


def test_without_a_length_no_span_is_cut():
    assert spans_in("8.0 - 1200.0").intervals == ((8.0, 1200.0),)
    assert spans_in("1 min 30 s to 2 minutes, 1 hour 1 minute and 1 second - 1:02:00").intervals == (
        (90.0, 120.0),
        (3661.0, 3720.0),
    )
    for length in (0.0, -1.0, float("inf")):
        with unchecked_types(), pytest.raises(ValueError, match="duration"):
            spans_in("1 - 2", length)


def test_a_dense_caption_is_runs_of_spans_and_their_words():
    described = described_in(
        "1.4 - 3.7, 4.3 - 5.1 seconds, A baby's cries pierce the air. 2.5 - 2.9 seconds, A young child speaks.", 10.0
    )
    assert described.captions == ("A baby's cries pierce the air", "A young child speaks")
    assert described.intervals == (((1.4, 3.7), (4.3, 5.1)), ((2.5, 2.9),))
    assert described.repairs == Repairs()


def test_words_in_front_of_their_spans_are_read_too():
    described = described_in("whistle from 0.5 to 5.0, pluck from 2.5 to 3.0, cricket from 3.0 to 5.0.", 10.0)
    assert described.captions == ("whistle", "pluck", "cricket")
    assert described.intervals == (((0.5, 5.0),), ((2.5, 3.0),), ((3.0, 5.0),))
    assert described.repairs == Repairs(reworded=3)
    both = described_in("A dog barks: 0.5 - 1.0, 2.0 - 2.5 seconds; a cat: 3.0 - 4.0 seconds", 10.0)
    assert both.captions == ("A dog barks", "a cat")
    assert both.intervals == (((0.5, 1.0), (2.0, 2.5)), ((3.0, 4.0),))


def test_a_timeline_is_a_span_and_words_each():
    described = described_in("0.0 - 16.4, Vice Adm. Tighe takes over. 16.4 - 84.5, She succeeds.", 120.0)
    assert described.captions == ("Vice Adm. Tighe takes over", "She succeeds")
    assert described.intervals == (((0.0, 16.4),), ((16.4, 84.5),))


def test_a_part_whose_spans_all_lie_behind_the_clip_is_left_out():
    described = described_in("0.0 - 2.0, dog. 11.0 - 12.0, cat.", 10.0)
    assert described.captions == ("dog",)
    assert described.repairs == Repairs(beyond=1)
    assert described_in("A dog barks.").repairs == Repairs(unparsed=1)

import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.viz import attention_over_time
from mechaudio.viz.event_track import lanes
from tests.viz.made_up import attention

CLIP = AudioClip(np.sin(np.linspace(0, 20_000, 160_000)).astype(np.float32), 16_000)


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_heatmap_is_percent_per_second_and_its_hover_percent_per_token():
    result = attention()
    heat = attention_over_time(result).data[0]
    np.testing.assert_allclose(heat.customdata, 100 * result.over_time[0].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(heat.z, 100 * result.over_time[0].mean(axis=1) / 0.2, rtol=1e-6)
    np.testing.assert_allclose(heat.x, result.edges[0])
    assert list(heat.y) == ["0", "1", "2"]


def test_one_head_and_some_layers_can_be_chosen():
    result = attention(n=2)
    heat = attention_over_time(result, 1, layers=[2, 0], heads=1).data[0]
    np.testing.assert_allclose(heat.customdata, 100 * result.over_time[1, [2, 0], 1], rtol=1e-6)
    assert list(heat.y) == ["2", "0"]


def test_uneven_tokens_are_drawn_where_they_sound():
    result = attention(tokens=4)
    result.edges[0] = [0.0, 1.0, 1.5, 5.0, 10.0]
    heat = attention_over_time(result).data[0]
    np.testing.assert_allclose(heat.x, [0, 1, 1.5, 5, 10])
    np.testing.assert_allclose(heat.z * np.diff(heat.x), heat.customdata, rtol=1e-6)


def test_events_are_bars_from_onset_to_offset_and_labelled():
    figure = attention_over_time(attention())
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [(bar.name, bar.base[0], bar.x[0]) for bar in bars] == [("dog", 0.5, 1.5), ("rain", 1.0, 6.5)]
    assert [note.text for note in figure.layout.annotations] == ["dog", "rain"]
    assert "0.50 to 2.00 s" in bars[0].text[0]


def test_tokens_past_the_end_of_the_clip_are_marked_as_padding():
    figure = attention_over_time(attention(seconds=30.0, duration=10.0), clip=CLIP)
    (padding,) = [shape for shape in figure.layout.shapes if shape.name == "padding"]
    assert (padding.x0, padding.x1) == (10.0, 30.0)
    assert "padding after the clip" in [note.text for note in figure.layout.annotations]


def test_a_clip_that_is_cut_is_drawn_as_far_as_it_is_heard_and_says_so():
    late = Event("bell", 15.0, 16.0)
    figure = attention_over_time(attention(duration=25.0, events=(late,)))
    assert figure.layout.xaxis.range == (0, 10.0)
    assert "the clip's last 15.0 s are not heard" in figure.layout.title.subtitle.text
    assert not figure.layout.annotations


@pytest.mark.parametrize(("sound", "name"), [("mel", "mel spectrogram"), ("waveform", "waveform")])
def test_the_sound_is_drawn_above_on_the_same_seconds(sound, name):
    drawn = trace(attention_over_time(attention(), clip=CLIP, sound=sound), name)
    assert min(drawn.x) >= 0
    assert max(drawn.x) == pytest.approx(10.0, abs=0.05)


def test_without_clip_and_events_only_the_attention_is_drawn():
    figure = attention_over_time(attention(events=()))
    assert [trace.name for trace in figure.data] == ["attention"]
    assert figure.layout.yaxis.domain == (0, 1)


def test_markup_in_labels_is_shown_letter_by_letter():
    figure = attention_over_time(attention(events=(Event("<a href='x'>dog</a>", 1.0, 2.0),), text="<b>which</b>"))
    assert figure.layout.annotations[0].text == "&lt;a href='x'&gt;dog&lt;/a&gt;"
    assert figure.layout.title.subtitle.text == "&lt;b&gt;which&lt;/b&gt;"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"question": 1}, "question must be among 0 to 0 in this result, got 1"),
        ({"layers": [0, 3]}, "layer must be among 0 to 2 in this result, got 0, 3"),
        ({"layers": []}, "layer must be among 0 to 2 in this result, got none"),
        ({"heads": 2}, "head must be among 0 to 1 in this result, got 2"),
    ],
)
def test_what_the_result_lacks_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        attention_over_time(attention(), **wrong)


def test_a_question_without_audio_is_refused():
    result = attention()
    result.n_tokens[0] = 0
    with pytest.raises(ValueError, match="'q0' was asked without audio"):
        attention_over_time(result)


def test_overlapping_events_get_lanes_of_their_own_and_later_ones_use_them_again():
    events = [Event("dog", 0.0, 2.0), Event("rain", 1.0, 4.0), Event("bell", 3.0, 5.0)]
    assert lanes(events, span=10.0) == [0, 1, 0]


def test_labels_of_short_events_do_not_run_into_each_other():
    events = [Event("a rather long label", 0.0, 0.1), Event("another long label", 0.5, 0.6)]
    assert lanes(events, span=10.0) == [0, 1]


def test_a_label_at_the_end_of_the_clip_grows_to_the_left():
    events = [Event("a rather long label", 8.0, 8.1), Event("another long label", 9.8, 10.0)]
    assert lanes(events, span=10.0) == [0, 1]

import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.question import AudioQuestion
from mechaudio.viz import patching_over_sound
from tests.analyses.maps import effect_map

CLIP = AudioClip(np.sin(np.linspace(0, 20_000, 40_000)).astype(np.float32), 16_000)
AXES = {"layer": (0, 3), "second": (0.0, 0.5, 1.0, 1.5, 2.0)}


def question(name="q1", audio=CLIP, **fields):
    events = (Event("dog", 0.5, 1.25),)
    asked = {"text": "Which <i>sound</i>?", "choices": ("dog", "rain"), "answer": "dog", "events": events}
    return AudioQuestion(audio=audio, id=name, **{**asked, **fields})


def found(n=3, axes=AXES, **fields):
    shape = tuple(len(labels) for labels in axes.values())
    return effect_map(
        np.random.default_rng(1).uniform(0, 1, (*shape, n)), axes=axes, **{"window_seconds": 0.5, **fields}
    )


def test_the_pair_of_the_question_is_drawn_on_its_own_scale_over_its_seconds():
    made = found(clean=[1.0, 4.0, 1.0])
    figure = patching_over_sound(made, question())
    heat = figure.data[0]
    np.testing.assert_allclose(heat.z, made.values[..., 1] / 4)
    np.testing.assert_allclose(heat.x, [0, 0.5, 1, 1.5, 2, 2.5])
    assert heat.customdata[1][2] == "layer 3, 1 to 1.5 s"
    assert "4.00 clean, 0.00 corrupted" in figure.layout.title.subtitle.text
    assert figure.layout.title.subtitle.text.startswith("Which &lt;i&gt;sound&lt;/i&gt;? dog")


def test_sound_and_events_share_the_time_axis():
    figure = patching_over_sound(found(), question())
    names = [trace.name for trace in figure.data]
    assert names == ["effect", "dog", "mel spectrogram"]
    bar = figure.data[1]
    assert (bar.base[0], bar.x[0], bar.yaxis) == (0.5, 0.75, "y2")
    assert all(trace.xaxis in (None, "x") for trace in figure.data)
    assert figure.layout.xaxis.range == (0, 2.5)
    assert [trace.name for trace in patching_over_sound(found(), question(), sound="waveform").data][-1] == "waveform"


def test_a_window_that_the_map_lacks_is_blank():
    axes = {"layer": (0, 3), "second": (0.5, 2.0)}
    heat = patching_over_sound(found(axes=axes), question()).data[0]
    np.testing.assert_allclose(heat.x, [0, 0.5, 1, 1.5, 2, 2.5])
    assert np.isnan(heat.z).all(0).tolist() == [True, False, True, True, False]


def test_windows_behind_the_end_of_the_clip_are_marked_as_padding():
    axes = {"layer": (0,), "second": (0.0, 1.0, 2.0, 3.0)}
    figure = patching_over_sound(found(axes=axes, window_seconds=1.0), question())
    (padding,) = [shape for shape in figure.layout.shapes if shape.name == "padding"]
    assert (padding.x0, padding.x1) == (2.5, 4.0)


def test_a_map_over_seconds_alone_has_one_row():
    heat = patching_over_sound(found(axes={"second": AXES["second"]}), question()).data[0]
    assert np.shape(heat.z) == (1, 5)
    assert heat.customdata[0][0] == "0 to 0.5 s"


def test_white_is_where_a_window_does_nothing():
    heat = patching_over_sound(found(direction="noising"), question()).data[0]
    assert (heat.zmin, heat.zmax) == (np.min(heat.z), 1.0)
    assert heat.colorscale[-1][1] == "rgb(247, 247, 247)"


@pytest.mark.parametrize(
    ("made", "asked", "given", "message"),
    [
        (found(), question("other"), {}, "0 pairs whose clean question is 'other': say which one with pair="),
        (found(), question(), {"pair": 0}, "pair 0 of the map is about 'q0', and the question is 'q1'"),
        (found(), question(), {"pair": 3}, "pair= is 0 to 2 in this map, got 3"),
        (found(clean=[1, 0, 1]), question(), {}, "pair 1, 'q1', has no scale: in logit_difference its clean and"),
        (found(), question(audio=None, caption="a dog", events=()), {}, "has no clip to draw"),
        (found(axes={"layer": (0,), "head": (0, 1)}), question(), {}, "this one goes over layer, head"),
    ],
)
def test_what_cannot_be_drawn_is_refused(made, asked, given, message):
    with pytest.raises(ValueError, match=message):
        patching_over_sound(made, asked, **given)

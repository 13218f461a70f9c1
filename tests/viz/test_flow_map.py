import numpy as np
import pytest

from mechaudio.analyses.attention_flow import AttentionFlow
from mechaudio.viz import flow_map
from tests.families import unchecked_types
from tests.viz.made_up import provenance

EDGES = (("audio", "last"), ("choices", "last"))


def flow(n=20, edges=EDGES, change=None):
    """Edge 0 matters around layer 1, edge 1 helps when cut around layer 2, everything else is nought."""
    change = np.zeros((len(edges), 3, n)) if change is None else change
    change[0, 1] -= np.linspace(0.3, 0.5, n)
    if len(edges) > 1:
        change[1, 2] += np.linspace(0.1, 0.2, n)
    clean = np.full(n, 0.6)
    correct = np.ones((len(edges), 3, n), dtype=bool)
    correct[0, 1, : n // 2] = False
    return AttentionFlow(
        edges=edges,
        centres=(0, 1, 2),
        windows=((0, 1), (0, 1, 2), (1, 2)),
        probability=clean + change,
        margin=2 * (clean + change),
        correct=correct,
        attention=np.full((len(edges), 3, n), 0.25),
        clean_probability=clean,
        clean_margin=2 * clean,
        clean_correct=np.ones(n, dtype=bool),
        ids=tuple(str(index) for index in range(n)),
        provenance=provenance(),
    )


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_a_ribbon_is_as_wide_as_what_is_lost_and_hollow_where_something_is_gained():
    figure = flow_map(flow())
    (loss,), (gain,) = named(figure, "loss"), named(figure, "gain")
    widths = [trace.y[-1] - trace.y[0] for trace in (loss, gain)]
    assert widths[1] / widths[0] == pytest.approx(0.15 / 0.4)
    assert (loss.fill, gain.fill) == ("toself", "none")
    assert len(named(figure, "no effect")) == 4


def test_a_ribbon_leaves_its_sources_lane_and_enters_its_targets_in_its_windows_column():
    figure = flow_map(flow())
    assert list(figure.layout.yaxis.ticktext) == ["audio", "choices", "last"]
    (loss,) = named(figure, "loss")
    n = len(loss.x) // 2
    centre = (np.array(loss.y[:n]) + np.array(loss.y[n:])[::-1]) / 2
    assert (centre[0], centre[-1]) == (0, 2)
    assert 0.5 < loss.x[0] < loss.x[n - 1] < 1.5


def test_cells_are_the_means_with_their_intervals_and_dots_where_these_exclude_zero():
    found = flow()
    figure = flow_map(found)
    (cells,) = [trace for trace in figure.data if trace.type == "heatmap"]
    assert np.allclose(cells.z, found.mean())
    (dots,) = named(figure, "interval excludes 0")
    assert [(round(x), round(y)) for x, y in zip(dots.x, dots.y, strict=True)] == [(1, 0), (2, 1)]
    texts = [note.text for note in figure.layout.annotations if note.name == "number"]
    low, high = found.interval()
    assert texts[1].startswith("-0.40<br>")
    assert f"{low[0, 1]:.2f} to {high[0, 1]:.2f}" in texts[1]
    assert texts[0].startswith("+0.00<br>")
    assert "-0.00" not in "".join(texts)
    assert "excludes 0: 2 of 6" in figure.layout.title.subtitle.text
    assert "n = 20 questions; without a cut: 0.60; windows of 3 layers" in figure.layout.title.subtitle.text
    assert "attention cut off: 25%" in cells.customdata[0][1]
    assert "McNemar p = 0.002" in cells.customdata[0][1]


def test_accuracy_is_in_points_with_an_interval_for_paired_answers():
    figure = flow_map(flow(), measure="accuracy")
    (cells,) = [trace for trace in figure.data if trace.type == "heatmap"]
    assert cells.z[0][1] == -50
    assert "Bonett and Price" in figure.layout.title.subtitle.text
    assert "without a cut: 100%" in figure.layout.title.subtitle.text


def test_seconds_of_sound_have_the_colour_of_sound():
    figure = flow_map(flow(edges=(("audio[0:1]", "last"), ("audio[1:2]", "last"))))
    assert {trace.line.color for trace in figure.data if trace.name in ("lane audio[0:1]", "lane audio[1:2]")} == {
        "#d55e00"
    }


def test_what_cannot_be_drawn_is_refused():
    with unchecked_types(), pytest.raises(ValueError, match="measure= is one of probability, margin, accuracy"):
        flow_map(flow(), measure="loss")
    for measure in ("probability", "accuracy"):
        with pytest.raises(ValueError, match="needs at least 2 of them, got 1"):
            flow_map(flow(1), measure=measure)


def test_a_certain_but_tiny_change_is_a_line_and_has_its_dot():
    change = np.zeros((2, 3, 20))
    change[1, 0] = -np.linspace(0.001, 0.002, 20)
    figure = flow_map(flow(change=change))
    assert (len(named(figure, "loss")), len(named(figure, "no effect"))) == (1, 4)
    assert len(named(figure, "interval excludes 0")[0].x) == 3


def test_layers_without_attention_say_so():
    found = flow()
    found.attention[1, 0] = np.nan
    (cells,) = [trace for trace in flow_map(found).data if trace.type == "heatmap"]
    assert "no attention in these layers" in cells.customdata[1][0]

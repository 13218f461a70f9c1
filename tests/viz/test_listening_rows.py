"""Where a model listens, drawn: what the arrows and rings say of three toys."""

import pytest

import mechaudio as ma
from tests.analyses.measured import listening

LISTENERS = ("last", "question", "choices")


@pytest.fixture(scope="module")
def found():
    return {listens: listening(listens) for listens in LISTENERS}


def arrows(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def lines(figure):
    return list(figure.layout.yaxis.ticktext)


@pytest.mark.parametrize("listens", LISTENERS)
def test_an_arrow_goes_to_the_rows_that_hear_in_all_layers_and_in_the_planted_one(found, listens):
    figure = ma.viz.listening_rows(found[listens])
    assert lines(figure) == ["all layers", "layer 0", "layer 1", "layer 2", "layer 3"]
    heights = [float(max(trace.y)) for trace in arrows(figure, f"audio to {listens}")]
    places = list(figure.layout.yaxis.tickvals)
    assert [min(range(5), key=lambda line: abs(places[line] - height)) for height in heights] == [0, 2]
    assert [trace.line.width for trace in arrows(figure, f"audio to {listens}")] == pytest.approx([12.0, 12.0])
    assert all("100% of what the sound is worth" in trace.text for trace in arrows(figure, f"audio to {listens}"))


@pytest.mark.parametrize("listens", LISTENERS)
def test_what_carries_nothing_is_dotted_and_thin(found, listens):
    figure = ma.viz.listening_rows(found[listens])
    for other in set(LISTENERS) - {listens}:
        assert not arrows(figure, f"audio to {other}")
    unsure = arrows(figure, "not sure")
    assert unsure
    assert {(trace.line.dash, trace.line.width) for trace in unsure} == {("dot", 1.0)}


def test_a_ring_is_around_the_rows_that_listen_and_they_are_in_bold(found):
    figure = ma.viz.listening_rows(found["choices"])
    assert figure.layout.title.text == "Where the model listens: choices"
    assert "<b>choices</b>" in figure.layout.xaxis.ticktext
    roles = [name.strip("</b>") for name in figure.layout.xaxis.ticktext]
    first, *others = arrows(figure, "roles")
    assert [width > 0 for width in first.marker.line.width] == [
        "choices" in name for name in figure.layout.xaxis.ticktext
    ]
    assert len(roles) == len(first.x)
    assert all(not any(trace.marker.line.width) for trace in others)


def test_a_small_one_is_of_all_layers_alone(found):
    figure = ma.viz.listening_rows(found["question"], windows=False)
    assert lines(figure) == ["all layers"]
    assert figure.layout.height < 320
    assert ma.viz.listening_rows(found["question"], title="Rows").layout.title.text == "Rows"


def test_where_nothing_can_be_told_it_says_so():
    asked = ma.data.toy_questions.questions(3, seed=2)
    found = ma.analyses.where_it_listens(ma.load("toy", prove=False), asked, window="all", each_layer=False)
    figure = ma.viz.listening_rows(found)
    assert figure.layout.title.text == "No row is known to listen"
    assert "not known to matter" in figure.layout.title.subtitle.text
    assert not arrows(figure, "audio to last")

"""Values nobody can mean are refused where they are given: the argument is named, with what it takes and what came."""

import math

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.arguments import check_fields, checks_arguments, fits, once_each
from mechaudio.data import toy_questions
from mechaudio.experiments import MataSettings, SpecialistsSettings, TemporalSettings
from tests.families.build import unchecked_types


@pytest.fixture(autouse=True)
def as_users_run():
    with unchecked_types():
        yield


@checks_arguments
def scaled(values: "list[float]", factor: float = 1.0, *, seed: int = 0, title: "str | None" = None) -> float:
    return sum(values) * factor + seed


def test_what_fits_runs_as_it_would():
    assert scaled([1.0, 2], 2, seed=np.int64(3), title="x") == 9
    assert scaled.__name__ == "scaled"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"values": 5}, TypeError, r"values= takes list\[float\]; got 5"),
        ({"values": ["x"]}, TypeError, r"values= takes list\[float\]; got \['x'\]"),
        ({"values": 1.5}, TypeError, r"got 1\.5: put it into a list, \[\.\.\.\]"),
        ({"factor": "2"}, TypeError, "factor= takes float; got '2'"),
        ({"factor": True}, TypeError, "factor= takes float; got True"),
        ({"factor": math.nan}, ValueError, "factor= takes finite numbers; got nan"),
        ({"seed": 1.5}, TypeError, r"seed= takes int; got 1\.5"),
        ({"seed": -1}, ValueError, "seed= must be at least 0, got -1"),
        ({"title": 5}, TypeError, "title= takes str or None; got 5"),
        ({"titel": "x"}, TypeError, "unexpected keyword argument 'titel'"),
    ],
)
def test_an_argument_of_another_kind_is_named_with_what_it_takes_and_what_came(given, error, message):
    with pytest.raises(error, match=message):
        scaled(**{"values": [1.0]} | given)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(TypeError) as caught:
        scaled("x" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "kind", "fitting"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (np.float32(1), float, True),
        (range(3), "Sequence", True),
        ((1, "x"), tuple[int, str], True),
        ((1, 2), tuple[int, str], False),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
    ],
)
def test_kinds_are_told_apart(value, kind, fitting):
    assert fits(value, kind) is fitting


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemporalSettings(factors=(math.nan,)), "factors= takes finite numbers"),
        (lambda: TemporalSettings(queries=("banana",)), "queries are spans such as 'keyword\\+last'.*got 'banana'"),
        (lambda: TemporalSettings(targeted="x"), "queries are spans"),
        (lambda: TemporalSettings(factors=(2.0, 2.0)), "factors lists each value once"),
        (lambda: TemporalSettings(factors=[2.0]), "make the list a tuple"),
        (lambda: MataSettings(alpha=math.nan), "alpha= takes finite numbers"),
        (lambda: MataSettings(alpha=math.inf), "alpha= takes finite numbers"),
        (lambda: MataSettings(max_new_tokens=0), "max_new_tokens= must be at least 1, got 0"),
        (lambda: SpecialistsSettings(ranking="x"), "ranking= is one of 'magnitude'"),
        (lambda: SpecialistsSettings(strengths=(math.nan,)), "strengths= takes finite numbers"),
        (lambda: SpecialistsSettings(norms=("x",)), "norms= is one of 'pre', 'post'"),
        (lambda: ma.temporal.Settings(n_choices=2.5), "n_choices= takes int; got 2.5"),
        (lambda: ma.HookPoint("pattern", layers=[]), "layers= of 'pattern' is empty"),
        (lambda: ma.HookPoint("pattern", layers="1"), "layers= takes"),
        (lambda: ma.HookPoint("pattern", queries=1.5), "queries= takes"),
        (lambda: ma.HookPoint(None), "a hook point is named by a text"),
        (lambda: ma.Patch("resid_post", np.ones(4), layer=1.5), "layers= takes"),
        (lambda: ma.Steer(np.full(4, math.nan)), "direction= must be finite"),
        (lambda: ma.grid(ma.ScaleAttention, factor=[1.0, 1.0]), "factor= lists 1.0 twice"),
        (lambda: ma.tracing.KeptRuns("a"), "memory= takes float; got 'a'"),
        (lambda: ma.metrics.proportion(1.5, 3), "count= takes int; got 1.5"),
        (lambda: ma.metrics.bootstrap_mean([math.nan, 0.5]), "values holds NaN"),
        (lambda: ma.viz.pattern(np.eye(2), ["a", "b"], audio_cells=0), "audio_cells= must be at least 1"),
        (lambda: ma.data.soundscapes.questions(1, 0, tasks=()), "tasks is empty"),
        (lambda: ma.data.soundscapes.questions(1, 0, duration=math.nan), "duration= takes finite numbers"),
        (lambda: ma.data.soundscapes.questions(1, 0, n_events=(0, 0)), "n_events is the fewest and the most"),
        (lambda: ma.data.soundscapes.questions(1, -1), "seed= must be at least 0"),
    ],
)
def test_settings_points_and_scores_refuse_what_they_cannot_mean(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_one_question_where_a_list_is_meant_says_to_put_it_into_a_list():
    question = toy_questions.question(0, 0)
    for ask in (ma.evaluate, ma.prompt, ma.analyses.specialist_heads, ma.experiments.mata_study):
        with pytest.raises(TypeError, match="got an AudioQuestion: put it into a list"):
            ask(ma.load("toy", prove=False), question)


def test_nothing_in_the_place_of_a_model_says_what_gives_one():
    for ask in (ma.evaluate, ma.prompt, ma.analyses.specialist_heads):
        with pytest.raises(TypeError, match=r"model= .*AudioLM.*ma\.load gives.*"):
            ask(None, toy_questions.questions(1, 0))


def test_a_figure_of_another_object_says_what_gives_the_right_one():
    with pytest.raises(TypeError, match=r"got None: ma\.analyses\.audio_attention gives it"):
        ma.viz.attention_over_time(None)


def test_arrays_are_not_compared_where_values_come_once_each():
    once_each("direction=", [np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match="takes each value once, and 1 comes twice"):
        once_each("layers=", [1, 2, 1])


def test_what_was_always_meant_is_taken():
    check_fields(TemporalSettings())
    batch = ma.prompt(ma.load("toy", prove=False), (question for question in toy_questions.questions(2, 0)))
    assert ma.run(
        ma.load("toy", prove=False), batch, record=[ma.HookPoint("pattern", layers=range(1), queries="last")]
    ).cache

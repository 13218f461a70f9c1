"""Values nobody can mean are refused where they are given: the argument is named, with what it takes and what came."""

import enum
import itertools
import math
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import mechaudio as ma
from mechaudio.arguments import check_fields, checks_arguments, once_each
from mechaudio.data import toy_questions
from mechaudio.experiments import MataSettings, SpecialistsSettings, TemporalSettings
from mechaudio.kinds import fits, in_words, plain
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
        ({"values": 5}, TypeError, "values= takes a list of numbers; got 5"),
        ({"values": ["x"]}, TypeError, r"values= takes a list of numbers; got \['x'\]"),
        ({"values": 1.5}, TypeError, r"got 1\.5: put it into a list, \[\.\.\.\]"),
        ({"factor": "2"}, TypeError, "factor= takes a number; got '2'"),
        ({"factor": True}, TypeError, "factor= takes a number; got True"),
        ({"factor": math.nan}, ValueError, "factor= takes finite numbers; got nan"),
        ({"seed": 1.5}, TypeError, r"seed= takes a whole number; got 1\.5"),
        ({"seed": 2.0}, TypeError, r"got 2\.0: write 2"),
        ({"values": itertools.repeat(1.0)}, TypeError, "got a repeat"),
        (
            {"values": {1.0: 2.0}},
            TypeError,
            "values= takes a list of numbers; got {1.0: 2.0}: give the values as a list",
        ),
        ({"seed": -1}, ValueError, "seed= must be at least 0, got -1"),
        ({"title": 5}, TypeError, "title= takes a text or None; got 5"),
        ({"titel": "x"}, TypeError, r"scaled knows no titel=: did you mean title=\?"),
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
        (lambda: TemporalSettings(factors=(2.0, 2.0)), "factors takes each value once"),
        (lambda: MataSettings(alpha=math.nan), "alpha= takes finite numbers"),
        (lambda: MataSettings(alpha=math.inf), "alpha= takes finite numbers"),
        (lambda: MataSettings(max_new_tokens=0), "max_new_tokens= must be at least 1, got 0"),
        (lambda: SpecialistsSettings(ranking="x"), "ranking= is one of 'magnitude'"),
        (lambda: SpecialistsSettings(strengths=(math.nan,)), "strengths= takes finite numbers"),
        (lambda: SpecialistsSettings(norms=("x",)), "norms= is one of 'pre', 'post'"),
        (lambda: ma.temporal.Settings(n_choices=2.5), "n_choices= takes a whole number; got 2.5"),
        (lambda: ma.HookPoint("pattern", layers=[]), "layers= of 'pattern' is empty"),
        (lambda: ma.HookPoint("pattern", layers="1"), "layers= takes"),
        (lambda: ma.HookPoint("pattern", queries=1.5), "queries= takes"),
        (lambda: ma.HookPoint(None), "a hook point is named by a text"),
        (lambda: ma.Patch("resid_post", np.ones(4), layer=1.5), "layers= takes"),
        (lambda: ma.Steer(np.full(4, math.nan)), "direction= must be finite"),
        (lambda: ma.grid(ma.ScaleAttention, factor=[1.0, 1.0]), "factor= lists 1.0 twice"),
        (lambda: ma.variants.KeptRuns("a"), "memory= takes a number; got 'a'"),
        (lambda: ma.metrics.proportion(1.5, 3), "count= takes a whole number; got 1.5"),
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


class Spans(str, enum.Enum):
    LAST = "last"


@pytest.mark.parametrize(
    "listed",
    [
        list,
        tuple,
        set,
        iter,
        np.array,
        torch.tensor,
        pd.Series,
        lambda layers: range(len(layers)),
        lambda layers: dict.fromkeys(layers).keys(),
        lambda layers: (layer for layer in layers),
        lambda layers: pd.DataFrame({"layer": layers})["layer"],
    ],
)
@pytest.mark.parametrize("make", [partial(ma.ScaleAttention, 2.0), partial(ma.HookPoint, "z")])
def test_layers_are_taken_in_whatever_lists_them(make, listed):
    assert list(make(layers=listed([0, 1])).layers) == [0, 1]


@pytest.mark.parametrize("factor", [2, np.int64(2), np.float32(2), np.array(2.0), torch.tensor(2.0), torch.tensor(2)])
def test_one_number_is_taken_in_whatever_holds_it(factor):
    assert ma.ScaleAttention(factor) == ma.ScaleAttention(2.0)
    assert type(ma.ScaleAttention(factor).factor) is float


@pytest.mark.parametrize("layers", [1, np.int64(1), np.array(1), torch.tensor(1)])
def test_one_layer_is_taken_in_whatever_holds_it(layers):
    assert list(ma.HookPoint("z", layers=layers).layers) == list(ma.ScaleAttention(2.0, layers=layers).layers) == [1]


@pytest.mark.parametrize("mask", [True, [True, False], np.array([True, False]), np.bool_(True)])
def test_a_mask_is_not_read_as_layers_one_and_zero(mask):
    for make in (ma.ScaleAttention, lambda _, layers: ma.HookPoint("z", layers=layers)):
        with pytest.raises(TypeError, match="layers= takes"):
            make(2.0, layers=mask)
    with pytest.raises(TypeError, match="spans"):
        ma.ScaleAttention(2.0, keys=mask)


def test_texts_of_other_classes_become_plain_texts():
    for text in (Spans.LAST, np.str_("last")):
        assert type(ma.ScaleAttention(2.0, queries=text).queries) is str
        assert type(plain(text, str)) is str


@pytest.mark.parametrize(
    "right", [[1, 0], (True, False), np.array([1, 0]), torch.tensor([1, 0]), pd.Series([1, 0], [7, 9])]
)
def test_scores_take_columns_of_tables_and_tensors(right):
    assert ma.metrics.accuracy(right, clips=pd.Series(["a", "b"])).value == 0.5
    assert ma.metrics.accuracy_by_group(right, pd.Categorical([3, 4]))["3"].value == 1


def test_settings_keep_lists_as_tuples():
    lists, tuples = TemporalSettings(factors=[2.0, 3.0]), TemporalSettings(factors=(2.0, 3.0))
    assert lists == tuples
    assert SpecialistsSettings(ks=range(1, 3)).ks == SpecialistsSettings(ks=np.array([1, 2])).ks == (1, 2)


def test_none_where_nothing_is_the_default_is_nothing():
    toy = ma.load("toy", prove=False)
    batch = ma.prompt(toy, toy_questions.questions(2, 0))
    assert ma.answer(toy, batch, interventions=None) == ma.answer(toy, batch)
    assert ma.evaluate(toy, pd.Series(toy_questions.questions(2, 0)), interventions=None).overall.n == 2


def test_variants_come_from_a_generator_and_a_grid_from_a_column():
    toy = ma.load("toy", prove=False)
    batch = ma.prompt(toy, toy_questions.questions(2, 0))
    assert len(ma.sweep(toy, batch, (ma.ScaleAttention(factor) for factor in (0.5, 2.0))).variants) == 2
    for factors in (pd.Series([0.5, 2.0]), torch.tensor([0.5, 2.0]), np.array([0.5, 2.0]), (f for f in (0.5, 2.0))):
        assert ma.grid(ma.ScaleAttention, factor=factors).axes == {"factor": (0.5, 2.0)}


def test_the_parts_of_a_list_are_gone_through_once():
    class Counted(list):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    values = Counted([1, 2])
    assert (scaled(values), values.times) == (3, 2)  # the check and the sum


def test_a_set_without_an_order_is_refused_where_order_counts():
    toy = ma.load("toy", prove=False)
    with pytest.raises(TypeError, match="a set has no order, so give a list"):
        ma.sweep(toy, ma.prompt(toy, toy_questions.questions(1, 0)), {ma.ScaleAttention(1.0), ma.ScaleAttention(2.0)})


def test_messages_hold_no_name_that_only_annotations_use():
    toy = ma.load("toy", prove=False)
    questions = toy_questions.questions(2, 0)
    batch = ma.prompt(toy, questions)
    paths = partial(ma.analyses.path_patches, toy, batch, source=batch, receiver="embed")
    for call, told in (
        (
            lambda: paths(sender=5),
            "sender= takes a component, such as 'embed', .*got 5",
        ),
        (
            lambda: ma.analyses.attention_flow(toy, questions, edges=5),
            r"edges= takes a list of pairs of spans, such as",
        ),
        (lambda: ma.metrics.accuracy(5), "correct= takes an array or a list; got 5"),
        (
            lambda: ma.run(toy, 5),
            "batch= takes a PromptBatch or a dict or a list of AudioQuestions or lists of dicts; got 5",
        ),
    ):
        with pytest.raises(TypeError, match=told):
            call()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | None, "a whole number or None"),
        (int | float, "a number"),
        (list[str], "a list of texts"),
        (tuple[float, float], "a pair of numbers"),
        (tuple[str, int], "a tuple (a text, a whole number)"),
        (dict[str, list[int]], "a dict with lists of whole numbers"),
    ],
)
def test_kinds_are_called_what_people_call_them(kind, words):
    assert in_words(kind) == words


def test_a_warning_points_at_the_line_that_called_the_library(tmp_path):
    silence = ma.AudioClip(np.zeros(160, dtype=np.float32), 16_000)
    silence.save(tmp_path / "silence.wav")
    for call in (
        lambda: ma.metrics.point_biserial([[1.0], [1.0], [1.0], [1.0]], [True, False, True, False]),
        lambda: ma.AudioClip.load(tmp_path / "silence.wav"),
    ):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            call()
        assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(
    "call",
    [
        lambda huge: ma.ScaleAttention(huge),
        lambda huge: ma.UpweightAttention(-huge),
        lambda huge: ma.AudioClip(np.zeros(1600, dtype=np.float32), 16_000).cut(0, huge),
        lambda huge: ma.Event("dog", 0, huge),
        lambda huge: ma.data.soundscapes.questions(huge, 1),
        lambda huge: scaled([1.0], huge),
    ],
)
def test_whole_numbers_that_no_float_holds_are_refused_in_a_short_line(call):
    with pytest.raises((TypeError, ValueError), match=r"-?10{20,}\.\.\.") as refusal:
        call(10**400)
    assert len(str(refusal.value)) < 300

"""Batches whose prompts are made ahead: in order, by another thread, one at a time, with errors at their turn."""

import inspect
import threading

import pytest
from beartype.door import is_bearable

import mechaudio as ma
from mechaudio.analyses import streaming
from mechaudio.analyses.streaming import batches_of, in_batches, length_of, prepared_batches, required_questions
from mechaudio.arguments import evaluated
from mechaudio.models.adapters.desta25 import DESTA_25
from mechaudio.models.adapters.timeaudio import TIMEAUDIO


@pytest.fixture(scope="module")
def asked():
    return ma.data.toy_questions.questions(7, seed=0)


def test_a_batch_may_have_room_for_more_than_any_list_holds(toy, asked):
    (batch,) = batches_of(toy, asked, batch_size=10**30, what="", progress=False)
    assert batch.n_rows == len(asked)


def test_batches_come_in_order_with_what_is_made_of_them_one_ahead(toy, asked):
    made, drawn = [], []

    def make(batch):
        made.append((batch, threading.get_ident()))
        return [question.id for question in batch]

    def questions():
        for question in asked:
            drawn.append(threading.get_ident())
            yield question

    seen = []
    for batch, ids in prepared_batches(toy, questions(), make, batch_size=2, what="", progress=False):
        seen.append((batch, ids))
        assert len(drawn) <= 2 * (len(seen) + 1)
    assert [batch for batch, _ in seen] == [asked[0:2], asked[2:4], asked[4:6], asked[6:7]]
    assert [name for _, ids in seen for name in ids] == [question.id for question in asked]
    assert [batch for batch, _ in made] == [batch for batch, _ in seen]
    assert set(drawn) == {threading.get_ident()}
    assert threading.get_ident() not in {thread for _, thread in made}


@pytest.mark.parametrize("adapter", [TIMEAUDIO, DESTA_25], ids=["merging", "transcripts"])
def test_where_making_prompts_runs_the_network_a_batch_is_made_by_the_caller_when_its_turn_comes(
    toy, asked, adapter, monkeypatch
):
    monkeypatch.setattr(toy, "adapter", adapter)
    made = []

    def make(batch):
        made.append(threading.get_ident())
        return len(batch)

    found = prepared_batches(toy, asked, make, batch_size=3, what="", progress=False)
    assert next(found) == (asked[:3], 3)
    assert made == [threading.get_ident()]
    assert [size for _, size in found] == [3, 1]
    assert set(made) == {threading.get_ident()}


def test_what_cannot_be_made_is_raised_when_its_turn_comes(toy, asked):
    def make(batch):
        if asked[3] in batch:
            raise ValueError("no prompt can be made of the fourth")
        return len(batch)

    found = prepared_batches(toy, asked, make, batch_size=2, what="", progress=False)
    assert next(found) == (asked[:2], 2)
    with pytest.raises(ValueError, match="no prompt can be made of the fourth"):
        next(found)


def test_no_questions_or_no_batch_size_are_refused_as_without_a_thread(toy, asked):
    for message, questions, size in (("no questions", [], 2), ("batch_size must be at least 1", asked, 0)):
        with pytest.raises(ValueError, match=message):
            list(in_batches(toy, questions, batch_size=size, what="", progress=False))
        with pytest.raises(ValueError, match=message):
            list(prepared_batches(toy, questions, len, batch_size=size, what="", progress=False))


def test_a_loop_that_is_left_early_leaves_no_thread(toy, asked):
    before = threading.active_count()
    found = prepared_batches(toy, asked, len, batch_size=2, what="", progress=False)
    next(found)
    found.close()
    assert threading.active_count() == before


def test_as_many_questions_go_together_as_fit(monkeypatch):
    model = ma.load("tiny", prove=False)
    short, long = (ma.data.soundscapes.questions(1, seed=0, duration=duration)[0] for duration in (2.0, 5.0))
    monkeypatch.setitem(streaming.MOST_POSITIONS, "cpu", 3 * length_of(model, long, "audio"))
    for questions, sizes in (([long] * 3 + [short], [3, 1]), ([long, short, long], [3]), ([short] * 3, [3])):
        together = in_batches(model, questions, what="", progress=False)
        assert [len(batch) for batch in together] == sizes
    alone = in_batches(model, [long, long], most=1, what="", progress=False)
    assert [len(batch) for batch in alone] == [1, 1]


def test_prompts_are_one_batch_and_have_a_condition(asked):
    model = ma.load("toy", prove=False)
    batch = ma.prompt(model, asked[:3], condition="silence")
    assert list(batches_of(model, batch, what="", progress=False)) == [batch]
    with pytest.raises(ValueError, match="made with condition='silence', got condition='caption'"):
        next(batches_of(model, batch, "caption", what="", progress=False))
    with pytest.raises(ValueError, match="made with condition='silence', and 'audio' is asked about"):
        required_questions(batch)
    with pytest.raises(TypeError, match="plain inputs do not say what is asked"):
        required_questions(dict(batch.inputs))


@pytest.mark.parametrize(
    "analysis",
    [
        ma.analyses.attention_and_answers, ma.analyses.attention_flow, ma.analyses.attention_mass,
        ma.analyses.audio_attention, ma.analyses.direct_logit_attribution, ma.analyses.logit_lens,
        ma.analyses.paired_passes, ma.analyses.specialist_heads, ma.analyses.steering_directions, ma.evaluate,
    ],
)  # fmt: skip
def test_anything_else_than_questions_and_prompts_is_refused_in_one_way(analysis, asked):
    for wrong in ("questions.json", asked[0], 3):
        with pytest.raises(TypeError, match=r"^questions= takes a .*(PromptBatch|AudioQuestion).*; got"):
            analysis(ma.load("toy", prove=False), wrong)


def test_what_is_given_behind_the_questions_is_given_by_name(asked):
    """Every public function of a model and questions, so that no two of them can be mixed up by their order."""
    behind = {}
    for name, function in named_functions():
        parameters = list(inspect.signature(function).parameters.values())
        if [parameter.name for parameter in parameters[:2]] in (["model", "questions"], ["model", "batch"]):
            positional = [each.name for each in parameters[2:] if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            behind[name] = positional
    assert len(behind) > 20
    assert {name: positional for name, positional in behind.items() if positional} == {
        "sweep": ["variants"],
        "generate_variants": ["variants"],
    }


def test_everything_that_asks_questions_takes_prompts_and_lists_of_questions(asked):
    """Look at every public function that has a model and then what is asked of it."""
    model = ma.load("toy", prove=False)
    values = (ma.prompt(model, asked[:1]), asked[:1])
    checked = 0
    for name, function in named_functions():
        parameters = list(inspect.signature(function).parameters)
        if (
            parameters[:1] == ["model"]
            and parameters[1:2] not in ([], ["audio"], ["base"], ["seed"])
            and name != "prompt"
        ):
            checked += 1
            takes = evaluated(function, parameters[1])
            assert all(is_bearable(value, takes) for value in values), name
    assert checked > 25


def test_what_shows_one_question_takes_it_in_a_list_and_as_a_prompt(asked):
    model = ma.load("toy", prove=False)
    batch = ma.prompt(model, asked[:2])
    alone = ma.experiments.listen(model, asked[0])
    rows = ma.analyses.prompt_attention(model, asked[:1])
    for given in (asked[:1], batch[0]):
        assert ma.experiments.listen(model, given).probabilities.tolist() == alone.probabilities.tolist()
        assert ma.analyses.prompt_attention(model, given).tokens == rows.tokens
    for show in (ma.experiments.listen, ma.analyses.prompt_attention, ma.explore):
        for several in (batch, asked[:2]):
            with pytest.raises(ValueError, match="got 2"):
                show(model, several)


def test_what_is_given_by_position_is_refused_with_its_names(asked):
    with pytest.raises(
        TypeError, match=r"^attention_flow takes model and questions by position.*edges=.*got \[\('audio'"
    ):
        ma.analyses.attention_flow(ma.load("toy", prove=False), asked, [("audio", "last")])


def named_functions():
    for module in (ma, ma.analyses, ma.experiments):
        for name in module.__all__:
            if inspect.isfunction(function := getattr(module, name)):
                yield name, inspect.unwrap(function)

"""Calls that do not fit are told what is called, what came and what it takes: no words of Python's own."""

import inspect
import re

import pandas as pd
import pytest
import torch

import mechaudio as ma
from mechaudio.data import soundscapes
from tests.families.build import unchecked_types

ROOMS = ("analyses", "audio", "data", "experiments", "interventions", "metrics", "models", "report", "temporal", "viz")
PYTHONS = re.compile(
    r"__init__\(\)|positional argument|unexpected keyword|missing \d+ required|multiple values|\(\) takes"
)


def public():
    rooms = [ma, *(getattr(ma, name) for name in (*ROOMS, "timeaudio", "tracing"))]
    named = [(room, name) for room in rooms for name in dir(room) if not name.startswith("_")]
    found = {f"{room.__name__}.{name}": getattr(room, name) for room, name in named}
    return {
        name: value
        for name, value in found.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and not (inspect.isclass(value) and issubclass(value, BaseException))
        and value.__module__.startswith("mechaudio")
        and not getattr(value, "_is_protocol", False)
    }


@pytest.fixture(autouse=True)
def as_users_run():
    with unchecked_types():
        yield


@pytest.fixture(scope="module")
def batch(tiny):
    return ma.prompt(tiny, soundscapes.questions(1, seed=0))


def told(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whatever it is, its words are looked at
        return str(error)
    return ""


def test_too_many_too_few_and_misspelt_arguments_are_told_in_words_of_ours():
    messages = {
        (name, case): told(called, *args, **kwargs)
        for name, called in public().items()
        for case, args, kwargs in (("misspelt", (), {"nonsense": 1}), ("too many", [8] * 40, {}), ("too few", (), {}))
    }
    assert len(messages) > 3 * 250
    assert {call: message for call, message in messages.items() if PYTHONS.search(message)} == {}


def values(model, batch):
    run = ma.run(model, batch, record=["resid_post"])
    swept = ma.sweep(model, batch, [ma.ScaleAttention(2.0)], progress=False)
    written = ma.generate_variants(model, batch, [[]], max_new_tokens=1, progress=False)
    return [model, batch, run, run.cache, swept, written, batch.questions[0], batch.questions[0].clip()]


def test_so_are_those_of_methods(tiny, batch):
    plumbing = {"interleave", "refuse_hooked", "refuse_unfit"}
    tried = 0
    for value in values(tiny, batch):
        for name, method in vars(type(value)).items():
            if name.startswith("_") or name in plumbing or not inspect.isfunction(method):
                continue
            bound_method = getattr(value, name)
            for message in (told(bound_method, nonsense=1), told(bound_method, *[8] * 40)):
                assert not PYTHONS.search(message), f"{type(value).__name__}.{name}: {message}"
                tried += 1
    assert tried > 30


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model, batch: ma.trace(model, batch, 8), TypeError, "^trace takes model and batch .*got 8 by"),
        (lambda model, batch: ma.trace(), TypeError, "^trace needs model= and batch="),
        (lambda model, batch: ma.trace(model, batch, max_new_token=8), TypeError, "did you mean max_new_tokens="),
        (lambda model, batch: ma.trace("tiny", batch), TypeError, "model= takes an AudioLM.*got 'tiny'"),
        (lambda model, batch: model.trace(batch, 8), TypeError, "^trace takes model and batch"),
        (lambda model, batch: model(batch, 8), TypeError, "^run takes model and batch"),
        (lambda model, batch: model.forward(batch, 8), TypeError, "^run takes model and batch"),
        (lambda model, batch: ma.AudioLM.from_pretrained("x"), TypeError, r"no from_pretrained: ma\.load"),
        (lambda model, batch: ma.AudioLM(), TypeError, "^AudioLM needs network="),
        (lambda model, batch: batch.to("nonsense"), ValueError, "device= is one that this machine has.*got 'nonsense'"),
        (lambda model, batch: ma.HookPoint("z", layer=3), TypeError, "HookPoint knows no layer=: did you mean l"),
        (lambda model, batch: ma.HookPoint("mass", queries="last"), ValueError, "of every query: .* rows you need"),
        (lambda model, batch: ma.HookPoint("mass", positions=[-1]), ValueError, "of every query: .* rows you need"),
        (lambda model, batch: ma.AudioQuestion("a.wav"), TypeError, "^AudioQuestion needs text="),
        (
            lambda model, batch: ma.analyses.steering_directions(model, batch, target="a dog"),
            TypeError,
            r"^steering_directions knows no target=: .*ma\.sweep.*aimed\(target=",
        ),
        (lambda model, batch: ma.answer(model, batch, whole=True), TypeError, "answer knows no whole=: by itself"),
        (lambda model, batch: batch.span_mask(None), TypeError, "name= takes a span, such as .* or places"),
        (lambda model, batch: batch.span_mask(["audio"]), TypeError, "name= takes a span, such as .* or places"),
        (lambda model, batch: ma.run(model, batch, record=["z"]).cache.stack(5), TypeError, "name= takes a text; got"),
        (lambda model, batch: batch.questions[0].clip().save(5), TypeError, "path= takes a text or a path; got 5"),
        (lambda model, batch: batch.questions[0].clip().save("no/x.wav"), FileNotFoundError, "no folder 'no' to save"),
        (lambda model, batch: ma.evaluate(model, batch).clips_among(5), TypeError, "questions= takes .*; got 5"),
        (lambda model, batch: ma.evaluate(model, batch).clips_among([True] * 3), ValueError, "questions has 3"),
        (lambda model, batch: ma.Steer(torch.ones(2), direction=1), TypeError, "was given direction= twice"),
        (lambda model, batch: ma.prompt(model, batch), TypeError, "got a PromptBatch: these are prompts already"),
        (lambda model, batch: ma.run(model, [*batch.questions, 8]), TypeError, "got a list whose number 1 is 8: ma.pr"),
        (lambda model, batch: model(iter([8])), TypeError, "or conversations, but number 0 is 8"),
        (lambda model, batch: model({"text": "?"}), TypeError, "knows no input text="),
        (lambda model, batch: ma.evaluate(model, iter([8])), TypeError, "are AudioQuestion, but number 0 is 8"),
        (lambda model, batch: ma.analyses.paired_passes(model, iter([8])), TypeError, "AudioQuestion, but number 0 is"),
    ],
)  # fmt: skip
def test_what_people_try_is_answered_with_what_to_do(tiny, batch, call, error, message):
    with pytest.raises(error, match=message):
        call(tiny, batch)


def test_a_class_still_shows_what_it_takes():
    assert list(inspect.signature(ma.HookPoint).parameters) == ["name", "layers", "queries", "positions", "keys"]
    assert ma.HookPoint.__doc__.startswith("One named tensor")


def test_the_forward_pass_of_prompts_is_a_run(tiny, batch):
    assert torch.equal(tiny.forward(batch).logits, ma.run(tiny, batch).logits)
    assert torch.equal(tiny.forward(**batch.inputs).logits, tiny.network(**batch.inputs).logits)


@pytest.mark.parametrize(
    "given", [None, 8, "what?", pd.DataFrame({"text": ["what?"]})], ids=lambda given: str(type(given))
)
def test_whatever_takes_questions_says_in_the_same_words_what_it_takes(tiny, given):
    asking = {
        name: inspect.signature(function).parameters
        for name, function in public().items()
        if inspect.isfunction(function)
        and [*inspect.signature(function).parameters][:1] == ["model"]
        and {*inspect.signature(function).parameters} & {"questions", "question", "clean", "batch", "clips"}
    }
    assert len(asking) > 35
    for name, parameters in asking.items():
        required = [word for word, parameter in parameters.items() if parameter.default is parameter.empty]
        message = told(public()[name], tiny, given, **dict.fromkeys(required[2:]))
        assert re.search(r"^\w+= takes .*(AudioQuestion|PromptBatch)s?\b.*; got ", message), f"{name}: {message}"


def test_whatever_takes_questions_says_in_the_same_words_that_there_are_none(tiny):
    for call in (ma.prompt, ma.run, ma.evaluate, ma.experiments.listen, ma.analyses.tuned_lens, ma.analyses.logit_lens):
        assert told(call, tiny, []) == "there is nothing to ask: no questions were given"

"""Values of the right kind that nobody can mean, given from Python."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mechaudio as ma
from mechaudio.data import soundscapes, toy_questions
from mechaudio.variants import KeptRuns

Case = Callable[[], Any]
NAN, INFINITE = math.nan, math.inf


def settings() -> Iterator[tuple[str, Case]]:
    """Settings of studies, each refused when it is made."""
    refused: dict[str, dict[str, tuple[Any, ...]]] = {
        "TemporalSettings": {
            "factors": ((NAN,), (INFINITE,), (1.0,), (2.0, 2.0), (), ["2"], ("2",)),
            "biases": ((NAN,), (0.0,), (1.0, 1.0)),
            "queries": (("banana",), ("last", "last"), ("last+banana",), ("",)),
            "targeted": ("x", ""),
            "conditions": (("x",), ("silence",), ("audio", "audio")),
            "n_attention": (0, -1),
            "seed": (-1,),
        },
        "MataSettings": {
            "alpha": (NAN, INFINITE, 0.0),
            "alphas": ((NAN,), (0.0,), (0.1, 0.1), ()),
            "published": ((3, 1), (-1, 2), (1, 2, 3)),
            "ranges": (((3, 1),), ((1,),), ((0, 1), (0, 1))),
            "mapping": ("x",),
            "share": (0.0, 1.0, 2.0, NAN),
            "n_measured": (0, -1),
            "max_new_tokens": (0, -1),
            "seed": (-1,),
        },
        "SpecialistsSettings": {
            "ks": ((), (0,), (-1,), (3, 3), (1.5,)),
            "ranking": ("x",),
            "share": (0.0, 1.0, NAN),
            "draws": (0, -1),
            "strengths": ((), (0.0,), (NAN,), (INFINITE,), (1.0, 1.0)),
            "norms": ((), ("x",), ("pre", "pre")),
            "steering_draws": (0,),
            "seed": (-1,),
        },
        "SteeringSettings": {
            "ks": ((), (3, 3), (1.5,)),
            "ranking": ("x",),
            "share": (0.0, 1.0, NAN),
            "draws": (0,),
            "strengths": ((), (0.0,), (NAN,), (INFINITE,), (1.0, 1.0)),
            "norms": ((), ("x",)),
            "seed": (-1,),
        },
    }
    for name, by_field in refused.items():
        kind = getattr(ma.experiments, name)
        for field, values in by_field.items():
            for value in values:
                yield f"{name}({field}={value!r})", lambda k=kind, f=field, v=value: k(**{f: v})
    for field, values in {
        "margin": (-1.0, NAN, INFINITE),
        "n_choices": (1, 27, 2.5),
        "margin_scope": ("x",),
        "duration": ("mean",),
        "fewest_sounds": (0,),
        "paraphrase": (0.0, 2.0, NAN),
        "wording": (99, -1, "no property"),
    }.items():
        for value in values:
            yield f"temporal.Settings({field}={value!r})", lambda f=field, v=value: ma.temporal.Settings(**{f: v})


def interventions() -> Iterator[tuple[str, Case]]:
    """Interventions, grids, hook points and kept runs."""
    ones = np.ones(8)
    made: list[tuple[Any, dict[str, Any]]] = [
        *((ma.ScaleAttention, {"factor": value}) for value in (NAN, INFINITE, -INFINITE, "2", None, [1.0])),
        *((ma.UpweightAttention, {"bias": value}) for value in (NAN, INFINITE, "2", None)),
        *((ma.ScaleAttention, {"factor": 2.0, "mode": value}) for value in ("x", None, 1)),
        *((ma.KnockOutAttention, {"layers": value}) for value in ([], "1", ["a"], 1.5, [1.5], NAN)),
        *((ma.KnockOutAttention, {"heads": value}) for value in ([], "1", 1.5)),
        *((ma.KnockOutAttention, {"keys": value}) for value in (None, 1.5, NAN)),
        *((ma.KnockOutAttention, {"phase": value}) for value in ("x", None)),
        *((ma.Steer, {"direction": value}) for value in (ones * NAN, ones * INFINITE, None, [1.0], np.ones((2, 8)))),
        *((ma.Steer, {"direction": ones, "strength": value}) for value in (NAN, INFINITE, "1", None)),
        *((ma.Steer, {"direction": ones, name: "x"}) for name in ("mode", "per", "hook_point", "phase", "keep_norm")),
        *(
            (ma.SteerHeads, {"directions": np.ones((1, 8)), "heads": value})
            for value in ([], [(0,)], [(0, 0)] * 2, "x")
        ),
        *((ma.Patch, {"hook_point": "resid_post", "value": ones, "layer": value}) for value in ("a", 1.5, [1], None)),
        *((ma.Patch, {"hook_point": value, "value": ones, "layer": 0}) for value in ("x", None, 5, "embed")),
        *((ma.HookPoint, {"name": "pattern", "layers": value}) for value in ([], "1", ["a"], 1.5, [1.5], True)),
        *((ma.HookPoint, {"name": "pattern", "queries": value}) for value in (1.5, NAN)),
        *((ma.HookPoint, {"name": value}) for value in (None, 5, "", "nothing", ["z"])),
        *((ma.HookPoint, {"name": "mass", "keys": value}) for value in (None, [], 5)),
        *((ma.PromptFormat, {"choice": value}) for value in (5, None, "", "{letter}", "{letter}{letter}{choice}")),
        *((ma.PromptFormat, {"caption": value}) for value in (5, None, "")),
        *((KeptRuns, {"memory": value}) for value in ("a", None, -1, NAN)),
        *((ma.mata, {"alpha": value}) for value in (NAN, INFINITE, "1", None)),
    ]
    for kind, given in made:
        yield f"{kind.__name__}({given})", lambda k=kind, g=given: k(**g)
    for axes in ({"factor": [1.0, 1.0]}, {"factor": []}, {"factor": 2.0}, {"factor": [NAN]}, {"misspelt": [1]}):
        yield f"grid({axes})", lambda a=axes: ma.grid(ma.ScaleAttention, **a)
    yield "grid(None)", lambda: ma.grid(None, factor=[1.0])


def questions(folder: Path) -> Iterator[tuple[str, Case]]:
    """Questions, events and clips."""
    clip = ma.AudioClip(np.zeros(16_000, dtype=np.float32), 16_000)
    asked: dict[str, Any] = {"audio": clip, "text": "Which?", "choices": ("a", "b"), "answer": "a"}
    for field, values in {
        "audio": (5, b"x", object()),
        "text": (None, 5, "", "  "),
        "choices": ("ab", ("a",), 5, (1, 2), ("a", None), ("", "b")),
        "answer": ("c", 5, ["a"]),
        "caption": (5,),
        "events": (5, ("x",)),
        "id": (5, None),
        "meta": (5, "x"),
    }.items():
        for value in values:
            yield f"AudioQuestion({field}={value!r})", lambda f=field, v=value: ma.AudioQuestion(**{**asked, f: v})
    for event in (
        ("", 0, 1),
        ("a", 1, 0),
        ("a", 1, 1),
        ("a", NAN, 1),
        ("a", 0, NAN),
        ("a", -1, 1),
        ("a", 0, INFINITE),
        (5, 0, 1),
        ("a", None, 1),
    ):
        yield f"Event{event!r}", lambda e=event: ma.Event(*e)
    for wave in (np.zeros(0), np.array([NAN]), np.array([INFINITE]), np.zeros((2, 2, 2)), None, "x"):
        yield f"AudioClip({wave!r})", lambda w=wave: ma.AudioClip(w, 16_000)
    for rate in (0, -1, None, "16000", 1.5, NAN):
        yield f"AudioClip(rate={rate!r})", lambda r=rate: ma.AudioClip(np.zeros(9), r)
    for path in ("", folder, folder / "nowhere.wav"):
        yield f"AudioClip.load({path!r})", lambda p=path: ma.AudioClip.load(p)
    for made in (soundscapes.questions, toy_questions.questions):
        name = made.__module__.rpartition(".")[2]
        for n, seed in ((-1, 0), (1.5, 0), ("a", 0), (1, -1), (1, 1.5), (1, "a"), (1, None), (1, NAN), (NAN, 0)):
            yield f"{name}.questions({n!r}, {seed!r})", lambda m=made, n=n, s=seed: m(n, s)
    for given in (
        {"tasks": ()},
        {"tasks": ("x",)},
        {"duration": NAN},
        {"duration": -1.0},
        {"duration": 0.0},
        {"duration": INFINITE},
        {"duration": (5.0, 1.0)},
        {"n_events": (0, 0)},
        {"n_events": (5, 1)},
        {"n_events": (-1, 3)},
        {"n_choices": 1},
        {"n_choices": 99},
        {"margin": NAN},
        {"margin": 99.0},
        {"gain": (1.0, 0.0)},
        {"gain": (NAN, 0.0)},
        {"noise": (0.0, -9.0)},
        {"noise": (NAN, 0.0)},
        {"paraphrase": 99},
        {"paraphrase": "x"},
    ):
        yield f"soundscapes.questions({given})", lambda g=given: soundscapes.questions(1, 0, **g)
    for given in ({"n_choices": 9}, {"n_choices": 1}, {"level": (1.0, 0.0)}, {"level": (NAN, 0.0)}):
        yield f"toy_questions.questions({given})", lambda g=given: toy_questions.questions(1, 0, **g)


def calls(folder: Path) -> Iterator[tuple[str, Case]]:
    """What a model is asked to do."""
    toy, asked = ma.load("toy", prove=False), toy_questions.questions(3, 0)
    batch = ma.prompt(toy, asked)
    twice = [ma.ScaleAttention(2.0)] * 2
    cases: dict[str, Case] = {
        "evaluate(one question)": lambda: ma.evaluate(toy, asked[0]),
        "evaluate(no question)": lambda: ma.evaluate(toy, []),
        "evaluate(condition)": lambda: ma.evaluate(toy, asked, condition="x"),
        "evaluate(scoring)": lambda: ma.evaluate(toy, asked, scoring="x"),
        "evaluate(out is a file)": lambda: ma.evaluate(toy, asked, out=__file__),
        "evaluate(one intervention)": lambda: ma.evaluate(toy, asked, interventions=ma.ScaleAttention(2.0)),
        "evaluate(layers that are not there)": lambda: ma.evaluate(
            toy, asked, interventions=[ma.ScaleAttention(2.0, layers=[99])]
        ),
        "evaluate(rows that are not there)": lambda: ma.evaluate(
            toy, asked, interventions=[ma.ScaleAttention(2.0, queries="banana")], strict=True
        ),
        "prompt(one question)": lambda: ma.prompt(toy, asked[0]),
        "prompt(no question)": lambda: ma.prompt(toy, []),
        "prompt(condition)": lambda: ma.prompt(toy, asked, condition="x"),
        "run(no hook point)": lambda: ma.run(toy, batch, record=["banana"]),
        "run(one hook point)": lambda: ma.run(toy, batch, record="pattern"),
        "run(a layer that is not there)": lambda: ma.run(toy, batch, record=[ma.HookPoint("pattern", layers=[99])]),
        "run(logits)": lambda: ma.run(toy, batch, logits="x"),
        "generate(0)": lambda: ma.generate(toy, batch, max_new_tokens=0),
        "generate(-1)": lambda: ma.generate(toy, batch, max_new_tokens=-1),
        "sweep(no variant)": lambda: ma.sweep(toy, batch, [], progress=False),
        "sweep(no memory)": lambda: ma.sweep(toy, batch, twice[:1], memory=0, progress=False),
        "sweep(negative memory)": lambda: ma.sweep(toy, batch, twice[:1], memory=-1, progress=False),
        "sweep(NaN memory)": lambda: ma.sweep(toy, batch, twice[:1], memory=NAN, progress=False),
        "patching(window_seconds=1e-9)": lambda: ma.analyses.activation_patching(
            toy, asked, over=("layer", "second"), window_seconds=1e-9
        ),
        "attribution(window_seconds=1e-9)": lambda: ma.analyses.attribution_patching(
            toy, asked, over=("layer", "second"), window_seconds=1e-9
        ),
        "build(similarity says NaN)": lambda: ma.temporal.build(
            [_clip()], settings=ma.temporal.Settings(paraphrase=0.5), similarity=lambda *_: NAN
        ),
        "proportion(1.5, 3)": lambda: ma.metrics.proportion(1.5, 3),
        "proportion(4, 3)": lambda: ma.metrics.proportion(4, 3),
        "bootstrap_mean(NaN)": lambda: ma.metrics.bootstrap_mean([NAN, 0.5]),
        "right_choices(none of them)": lambda: ma.metrics.right_choices([("a", "b")], ["c"]),
        "holm(NaN)": lambda: ma.metrics.holm([NAN]),
        "accuracy(None)": lambda: ma.metrics.accuracy([True, None]),
        "write_tables(out of the folder)": lambda: ma.report.Table("../x", "", "", (), ()),
        "write_figures(out of the folder)": lambda: ma.report.write_figures({"../x": ma.viz.layer_head_grid}, folder),
        "pattern(no cells)": lambda: ma.viz.pattern(np.eye(2), ["a", "b"], audio_cells=0),
        "pattern(no tokens)": lambda: ma.viz.pattern(np.eye(2), []),
        "layer_head_grid(NaN)": lambda: ma.viz.layer_head_grid(np.full((2, 2), NAN), "t"),
        "load(nothing)": lambda: ma.load(""),
        "load(a folder of nothing)": lambda: ma.load(str(folder)),
    }
    for function in ("audio_attention", "specialist_heads", "logit_lens", "tuned_lens", "attention_flow", "contrast"):
        for name, given in (("None", None), ("5", 5), ("one question", asked[0]), ("texts", ["x"]), ("none", [])):
            entry = getattr(ma.analyses, function)
            cases[f"{function}({name})"] = lambda e=entry, g=given: e(toy, g)
    for study in ("temporal_study", "mata_study", "specialists_study", "steering_study"):
        entry = getattr(ma.experiments, study)
        for name, given in (("None", None), ("one question", asked[0]), ("none", []), ("one", asked[:1])):
            cases[f"{study}({name})"] = lambda e=entry, g=given: e(toy, g)
    yield from cases.items()


def _clip() -> ma.AnnotatedClip:
    scene = (
        ma.Event("dog", 0.4, 2.1),
        ma.Event("car", 1.5, 8.8),
        ma.Event("rain", 3.0, 9.9),
        ma.Event("cat", 5.0, 6.0),
    )
    return ma.AnnotatedClip("a.wav", scene, id="a")

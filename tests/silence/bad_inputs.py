"""Bad inputs to every public entry, most of them generated, and what becomes of each.

Each argument of every public function is given values that its annotation rules out, all else being right. Values of
the right kind that nobody can mean, files that are damaged or hostile, and command lines are written out.
"""

import contextlib
import dataclasses
import inspect
import io
import math
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.cli.mistakes import is_mistake
from mechaudio.kinds import evaluated, fits

SECONDS = 20
ROOMS = (
    "analyses",
    "experiments",
    "interventions",
    "metrics",
    "models",
    "report",
    "temporal",
    "timeaudio",
    "tracing",
    "viz",
)
#: Modules whose functions are called by their names: ma.metrics.grounding.spans_in.
MODULES = {"metrics": ("grounding", "sound_events"), "data": ("ftar",)}
LOADERS = (
    "annotations",
    "audio_grounding",
    "audioset_strong",
    "audiotime",
    "ftar",
    "mmar",
    "mmau",
    "mmau_pro",
    "tacos",
    "temporal_lalm",
)
MADE = ("soundscapes", "toy_questions")
JUNK: Mapping[str, Any] = {
    "None": None,
    "a number": 5,
    "a fraction": 1.5,
    "NaN": math.nan,
    "a text": "x",
    "an object": object(),
    "a list of objects": [object()],
    "a dict": {"x": object()},
}
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Case = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a bad input: `clear`, `listed`, `silent`, `bare` (in Python's own words) or `hang`."""

    kind: str
    said: str


class Hang(BaseException):
    """It did not end in time."""


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(case: Case) -> Verdict:
    """Give a bad input, and see what comes of it."""
    try:
        with alarm(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = case()
    except Hang:
        return Verdict("hang", "")
    except Exception as error:  # noqa: BLE001 - every one is judged
        misfit = isinstance(error, TypeError) and "argument" in str(error) and "()" in str(error)
        nameless = isinstance(error, OSError) and error.errno is not None and error.filename is None
        clear = (is_mistake(error) and not nameless) or misfit
        return Verdict("clear" if clear else "bare", f"{type(error).__name__}: {str(error)[:200]}")
    problems = getattr(outcome, "problems", None)
    return Verdict("listed" if problems else "silent", str(problems)[:200] if problems else type(outcome).__name__)


def judge_command(words: list[str]) -> Verdict:
    """Give a command line in this process: clear is exit code 2 with one message and no traceback."""
    said = io.StringIO()
    try:
        with alarm(SECONDS), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    except Hang:
        return Verdict("hang", said.getvalue())
    except SystemExit as end:
        code = end.code
    except Exception as error:  # noqa: BLE001 - a traceback is what is looked for
        return Verdict("bare", f"{type(error).__name__}: {str(error)[:200]}")
    return Verdict({2: "clear", 0: "silent"}.get(code, "bare"), said.getvalue()[-300:])


def public() -> dict[str, Any]:
    """Every public function and class, by name."""
    entries = {f"ma.{name}": getattr(ma, name) for name in ma.__all__}
    for room in ROOMS:
        module = getattr(ma, room)
        entries |= {f"ma.{room}.{name}": getattr(module, name) for name in module.__all__}
    for name in LOADERS:
        entries[f"ma.data.{name}.load"] = getattr(ma.data, name).load
    for room, names in MODULES.items():
        for name in names:
            module = getattr(getattr(ma, room), name)
            entries |= {f"ma.{room}.{name}.{function}": getattr(module, function) for function in module.__all__}
    for name in MADE:
        for function in ("question", "questions", "counterparts"):
            entries[f"ma.data.{name}.{function}"] = getattr(getattr(ma.data, name), function)
    return {name: entry for name, entry in entries.items() if callable(entry)}


#: Entries that are called in another way: given by the library, abstract, errors, or a block of their own.
NOT_CALLED = (
    "ma.load",
    "ma.trace",
    "ma.AudioLM",
    "ma.Result",
    "ma.NoSuchHookPoint",
    "ma.AudioClip",
    "ma.AudioQuestion",
    "ma.AnnotatedClip",
    "ma.Event",
    "ma.grid",
    "ma.Edit",
    "ma.metrics.bootstrap",
)


def samples(folder: Path) -> dict[str, Any]:
    """A right value of every argument that has no default, by name."""
    toy = ma.load("toy", prove=False)
    questions = ma.data.toy_questions.questions(4, 0)
    batch = ma.prompt(toy, questions)
    right, wrong = [True, False, True, True, False, True], [False, False, True, True, True, True]
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    return {
        "model": toy,
        "questions": questions,
        "batch": batch,
        "clean": questions,
        "asked": questions,
        "question": questions[0],
        "record": ["resid_post"],
        "variants": [ma.ScaleAttention(2.0)],
        "network": toy.network,
        "base": batch,
        "source": batch,
        "sender": ("z", 0),
        "receiver": ("resid_post", 1),
        "n": 2,
        "seed": 0,
        "index": 0,
        "correct": right,
        "before": right,
        "after": wrong,
        "values": [0.1, 0.4, 0.3, 0.9, 0.2, 0.5],
        "scores": [0.1, 0.4, 0.3, 0.9, 0.2, 0.5],
        "p_values": [0.1, 0.5],
        "groups": ["a", "a", "b", "b", "a", "b"],
        "count": 1,
        "r": 0.3,
        "differences": [0.1, -0.2, 0.3],
        "n_choices": 4,
        "choices": [("a", "b")],
        "answers": ["a"],
        "texts": ["a"],
        "text": "a",
        "prediction": "a",
        "answer": "a",
        "one": "a",
        "other": "b",
        "logits": logits,
        "right": logits > 0,
        "resampled": np.zeros((5, 6)),
        "k": 2,
        "clips": [],
        "ids": ["a", "b"],
        "heads": [(0, 0)],
        "figures": {},
        "folder": folder,
        "path": folder,
        "tables": [],
        "title": "t",
        "command": "c",
        "hidden": torch.zeros(2, 3),
        "importance": torch.zeros(2),
        "queries": torch.zeros(2, 1, 3),
        "keys": torch.zeros(2, 1, 3),
        "n_windows": 3,
        "n_tokens": 3,
        "seconds": 1.0,
        "tokenizer": PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")), unk_token="a"
        ),
        "out": folder / "run",
        "audio": (np.sin(np.arange(16_000)), 16_000),
        "query": "a dog",
        "predicted": [],
        "labels": ["dog"],
        "threshold": 0.5,
        "estimated": None,
        "exact": None,
    }


def generated(folder: Path) -> Iterator[tuple[str, Case]]:
    """Junk for every argument of every public function."""
    known = samples(folder)
    for name, entry in public().items():
        if name in NOT_CALLED or inspect.isclass(entry):
            continue
        parameters = inspect.signature(entry).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind not in VARIADIC]
        for parameter in parameters:
            if parameter.kind in VARIADIC or parameter.name == "progress":
                continue
            first_unknown = next((p for p in needed if p not in known or known[p] is None), None)
            if first_unknown not in (None, parameter.name):
                continue
            for what, junk in JUNK.items():
                kind = evaluated(inspect.unwrap(entry), parameter.name)
                if junk is None and parameter.default == ():
                    continue  # none of them
                if fits(junk, kind) and not (parameter.name == "model" and not hasattr(junk, "network")):
                    continue
                arguments = {p: known.get(p) for p in needed} | {parameter.name: junk}
                yield f"{name}({parameter.name}={what})", lambda e=entry, a=arguments: e(**a)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):  # those refuse it when they run
            arguments = {p: known.get(p) for p in needed} | {"misspelt": 1}
            yield f"{name}(misspelt=1)", lambda e=entry, a=arguments: e(**a)


SETTINGS = ("TemporalSettings", "MataSettings", "SpecialistsSettings", "SteeringSettings")


def settings() -> Iterator[tuple[str, Case]]:
    """Junk for every field of what is set before a study, an intervention or a hook point."""
    kinds = [getattr(ma.experiments, name) for name in SETTINGS]
    first: dict[type, dict[str, Any]] = {
        ma.ScaleAttention: {"factor": 2.0},
        ma.UpweightAttention: {"bias": 1.0},
        ma.KnockOutAttention: {},
        ma.Steer: {"direction": np.ones(8)},
        ma.SteerHeads: {"directions": np.ones((1, 8)), "heads": [(0, 0)]},
        ma.Patch: {"hook_point": "resid_post", "value": np.ones(8), "layer": 0},
        ma.HookPoint: {"name": "pattern"},
        ma.PromptFormat: {},
        ma.temporal.Settings: {},
        ma.timeaudio.Markers: {},
        ma.timeaudio.Stage: {"rates": {"lora": 1e-4}, "epochs": 1, "batch_size": 1},
        **{kind: {} for kind in kinds},
    }
    for kind, given in first.items():
        for field in dataclasses.fields(kind):
            for what, junk in JUNK.items():
                if not fits(junk, evaluated(kind, field.name)) or (junk != junk and field.type != "Any"):
                    name = f"{kind.__name__}({field.name}={what})"
                    yield name, lambda k=kind, g={**given, field.name: junk}: k(**g)


def judged(cases: Iterator[tuple[str, Case]]) -> dict[str, Verdict]:
    return {name: judge(case) for name, case in cases}

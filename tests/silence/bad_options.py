"""Options of opening, tracing and editing that nobody can mean, a pipe in the place of a file, and lines of a log."""

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import mechaudio as ma
from mechaudio.data import toy_questions

Case = Callable[[], Any]
NAN = math.nan
#: Option of `ma.load` -> values that it cannot have.
LOADING: dict[str, tuple[Any, ...]] = {
    "prove": ("no", None, 1, 0.5),
    "dtype": ("int8", 5, "x", None),
    "device": ("x", 5, "cuda:99", NAN),
    "revision": (5, ["main"]),
    "device_map": ("x",),
    "attn_implementation": ("x", 5),
    "quantization_config": (5, "4bit"),
    "trust_remote_code": (True, "no"),
    "use_safetensors": (False, "no"),
    "cache_dir": (5,),
    "local_files_only": ("no", 1),
    "force_download": ("no", 1),
    "subfolder": (5, "nowhere"),
    "token": (5,),
    "proxies": ("x", 5),
    "max_memory": ("x", 5),
    "offload_folder": (5,),
    "offload_buffers": ("no",),
    "key_mapping": (5, "x"),
    "variant": (5, "x"),
    "generation_config": ("x", 5),
    "adapter_name": (5,),
    "torch_dtype": ("x", 5),
    "proove": (False,),
    "config": ({},),
}
NAMES = ("", " ", None, 5, True, NAN, b"tiny", ["tiny"], "a" * 5_000, "a\0b", "../..", "tiny\n", object())
#: Option of `ma.trace` -> values that it cannot have.
TRACING: dict[str, tuple[Any, ...]] = {
    "max_new_tokens": (-1, 0, 1.5, "x", NAN, True),
    "misspelt": (1,),
    "use_cache": ("no", 1),
    "output_hidden_states": ("no",),
    "return_dict": (5,),
    "labels": (5, "x"),
    "backend": ("x", 5),
    "input_ids": (5,),
    "output_attentions": (True,),
    "past_key_values": (5,),
    "remote": (True,),
    "do_sample": (True,),
}
#: Option of a traced generation -> values that it cannot have.
GENERATING: dict[str, tuple[Any, ...]] = {
    "do_sample": (True,),
    "temperature": (0.5, NAN),
    "num_beams": (3,),
    "min_new_tokens": ("x", 1.5),
    "repetition_penalty": ("x", NAN),
    "stop_strings": (5,),
    "output_scores": ("no",),
    "max_length": (5,),
}


def opening(model: ma.AudioLM, folder: Path) -> Iterator[tuple[str, Case]]:
    """Names and options of `ma.load`, and what `ma.AudioLM` is given."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    place = folder / "of_its_own"
    place.mkdir()
    for name in (*NAMES, place):
        yield f"load({str(name)[:20]!r})", lambda n=name: ma.load(n, prove=False)
    for option, values in LOADING.items():
        for which, value in itertools.product(("toy", "tiny"), values):
            options = {"prove": False, option: value}
            yield f"load({which}, {option}={value!r})", lambda w=which, o=options: ma.load(w, **o)
    for network in (None, "toy", 5, torch.nn.Linear(2, 2), model, type(model.network), model.network.state_dict()):
        yield f"AudioLM({type(network).__name__})", lambda n=network: ma.AudioLM(n)
    for given in ({"processor": 5}, {"processor": "x"}, {"prove": "no"}, {"prove": 1}, {"proove": True}):
        yield f"AudioLM({given})", lambda g=given: ma.AudioLM(model.network, **g)


def tracing(model: ma.AudioLM, batch: Any) -> Iterator[tuple[str, Case]]:
    """Batches and options of `ma.trace`."""

    def trace(given: Any, **options: Any) -> None:
        with ma.trace(model, given, **options):
            pass

    for given in (None, 5, "x", {}, {"input_ids": 5}, {"x": torch.zeros(1)}, [5]):
        yield f"trace({type(given).__name__})", lambda g=given: trace(g)
    for option, values in TRACING.items():
        for value in values:
            yield f"trace({option}={value!r})", lambda o=option, v=value: trace(batch, **{o: v})
    for option, values in GENERATING.items():
        for value in values:
            given = {"max_new_tokens": 2, option: value}
            yield f"trace({given})", lambda g=given: trace(batch, **g)


def editing(model: ma.AudioLM, batch: Any) -> Iterator[tuple[str, Case]]:
    """Points, changes and flags of `ma.Edit`."""
    point = ma.HookPoint("resid_post", layers=[0])

    def same(values: torch.Tensor) -> torch.Tensor:
        return values

    for where in (None, 5, "resid_post", ["resid_post"], {"name": "resid_post"}):
        yield f"Edit({where!r})", lambda w=where: ma.Edit(w, same)
    for change in (None, 5, "x", torch.zeros(1)):
        yield f"Edit(change={change!r})", lambda c=change: ma.Edit(point, c)
    for flag, value in itertools.product(("every_step", "by_position"), ("no", 1, None, NAN)):
        yield f"Edit({flag}={value!r})", lambda f=flag, v=value: ma.Edit(point, same, **{f: v})
    yield "Edit(misspelt=1)", lambda: ma.Edit(point, same, misspelt=1)
    wrong: dict[str, Callable[..., Any]] = {
        "nothing": lambda _: None,
        "another shape": lambda values: values[:, :1],
        "an array": lambda values: values.numpy(),
        "a number": lambda _: 5,
    }
    for what, change in wrong.items():
        yield f"Edit gives {what}", lambda c=change: ma.run(model, batch, interventions=[ma.Edit(point, c)])
    beyond = ma.Edit(ma.HookPoint("resid_post", layers=[99]), same)
    yield "Edit of layer 99", lambda: ma.run(model, batch, interventions=[beyond])


def pipes(model: ma.AudioLM, folder: Path) -> Iterator[tuple[str, Case]]:
    """A pipe, which would be waited on for ever, where a file or a folder is meant."""
    pipe = folder / "pipe.json"
    os.mkfifo(pipe)
    question = {"text": "Which?", "choices": ("a", "b"), "answer": "a"}
    asked = [ma.AudioQuestion(audio=place, **question) for place in (pipe, "/dev/zero", folder)]
    for place, one in zip(("pipe", "device", "folder"), asked, strict=True):
        yield f"AudioClip.load({place})", lambda o=one: ma.AudioClip.load(o.audio)
        yield f"prompt({place})", lambda o=one: ma.prompt(model, [o])
        yield f"evaluate({place})", lambda o=one: ma.evaluate(model, [o])
        yield f"listen({place})", lambda o=one: ma.experiments.listen(model, o)
    for name in ("annotations", "audio_grounding", "audioset_strong", "audiotime", "mmar", "mmau", "mmau_pro", "tacos"):
        yield f"ma.data.{name}.load(pipe)", lambda n=name: getattr(ma.data, n).load(pipe)
    yield "temporal.load(pipe)", lambda: ma.temporal.load(pipe)
    yield "Result.load(pipe)", lambda: ma.Result.load(pipe)
    yield "load(pipe)", lambda: ma.load(str(pipe), prove=False)
    clip = ma.AudioClip(torch.linspace(-0.1, 0.1, 160_000).numpy(), 16_000)
    scene = tuple(ma.Event(label, start, start + 2) for start, label in enumerate(("dog", "car", "rain", "cat")))
    ma.temporal.build([ma.AnnotatedClip(clip, scene, id="a")]).save(folder / "benchmark")
    (folder / "benchmark" / "questions.parquet").unlink()
    os.mkfifo(folder / "benchmark" / "questions.parquet")
    yield "temporal.load(folder with a pipe)", lambda: ma.temporal.load(folder / "benchmark")
    (folder / "piped").mkdir()
    os.mkfifo(folder / "piped" / "answers.jsonl")
    questions = toy_questions.questions(2, 0)
    yield "evaluate(out=folder with a pipe)", lambda: ma.evaluate(model, questions, out=folder / "piped")
    yield "evaluate(out=pipe)", lambda: ma.evaluate(model, questions, out=pipe)
    yield "activation_patching(out=pipe)", lambda: ma.analyses.activation_patching(model, questions, out=pipe)


def log_lines(model: ma.AudioLM, folder: Path) -> Iterator[tuple[str, Case]]:
    """Lines of a run's log that were changed, moved, taken out or put in, one at a time."""
    questions = toy_questions.questions(3, 0)
    ma.evaluate(model, questions, out=folder / "run")
    log = (folder / "run" / "answers.jsonl").read_text().splitlines()
    changed: dict[str, list[str]] = {
        "without its first line": log[1:],
        "without a line": [log[0], *log[2:]],
        "with a line twice": [*log, log[-1]],
        "in another order": [log[0], *reversed(log[1:])],
        "empty": [""],
        "of something else": ["{}", *log[1:]],
        "of no JSON": ["x", *log[1:]],
    }
    for number, line in enumerate(log):
        fields = json.loads(line)
        for field, value in itertools.product(fields, (None, -1, "x", [], {}, 10**30)):
            if fields[field] != value:
                forged = json.dumps(fields | {field: value})
                changed[f"line {number}, {field}={value!r}"] = [*log[:number], forged, *log[number + 1 :]]
    for number, (what, lines) in enumerate(changed.items()):
        place = folder / f"run-{number}"
        shutil.copytree(folder / "run", place)
        # a line of its own behind, as the last of all may be one that broke off
        (place / "answers.jsonl").write_text("\n".join([*lines, ""]))
        yield f"a log {what}", lambda p=place: ma.evaluate(model, questions, out=p)


def every(folder: Path) -> Iterator[tuple[str, Case]]:
    toy = ma.load("toy", prove=False)
    batch = ma.prompt(toy, toy_questions.questions(2, 0))
    yield from opening(toy, folder)
    yield from tracing(toy, batch)
    yield from editing(toy, batch)
    yield from pipes(toy, folder)
    yield from log_lines(toy, folder)

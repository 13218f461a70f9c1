"""Command lines that cannot be meant, or whose files are damaged."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mechaudio as ma
from mechaudio.models.tiny import WEIGHTS
from tests.data.files import write_json, write_sound

ASKING = ("evaluate", "temporal", "specialists", "mata", "patch")
ABSURD = ("0", "-1", "1.5", "x", "nan", "", "1e18", "1000000000000000000", "99999999999999999999")


def options(folder: Path) -> Iterator[list[str]]:
    """Options of every verb with values that it cannot have."""
    out = ["--out", str(folder / "out")]
    a_file = folder / "a_file"
    a_file.write_text("x")
    for verb in ASKING:
        for n in ABSURD:
            yield [verb, "--model", "toy", "--data", "toy", "--n", n, *out]
        for seed in ("-1", "1.5", "x", "nan", "1e9", "99999999999999999999"):
            yield [verb, "--model", "toy", "--data", "toy", "--seed", seed, *out]
        for data in ("nothing", "", "mmau:nowhere.json", "toy:x", str(folder), "soundscapes:5"):
            yield [verb, "--model", "toy", "--data", data, *out]
        for model in ("", str(folder), str(a_file), str(folder / "nowhere")):
            yield [verb, "--model", model, "--data", "toy", *out]
        yield [verb, "--model", "toy", "--data", "toy", "--audio", str(folder), *out]
        yield [verb, "--misspelt", "1"]
        for place in (
            "",
            " ",
            str(a_file),
            str(a_file / "below"),
            f"{folder}/{'x' * 300}",
            "/proc/nowhere",
            "/dev/null/x",
        ):
            yield [verb, "--model", "toy", "--data", "toy", "--n", "4", "--out", place]
    evaluate = ["evaluate", "--model", "toy", "--data", "toy", "--n", "4"]
    for words in (
        "--scale nan",
        "--scale inf",
        "--scale x",
        "--scale 2 2",
        "--upweight nan",
        "--upweight 1 1",
        "--layers 1",
        "--scale 2 --layers 99",
        "--scale 2 --layers 1 1",
        "--scale 2 --layers x",
        "--queries banana",
        "--max-new-tokens 5",
        "--max-new-tokens 0",
        "--scoring generate --max-new-tokens 1e9",
        "--condition x",
        "--scoring x",
        "--scoring generate --max-new-tokens 0",
        "--condition audio+x",
    ):
        yield [*evaluate, *words.split()]
    for verb, several in {
        "temporal": (
            "--factors nan",
            "--factors 2 2",
            "--factors 1",
            "--biases 0",
            "--biases inf",
            "--queries last last",
            "--queries banana",
            "--split-seed -1",
            "--split-seed x",
            "--n 1",
        ),
        "specialists": (
            "--k 0",
            "--k -1",
            "--k x",
            "--k 3 3",
            "--batch-size 0",
            "--batch-size x",
            "--batch-size 1.5",
            "--n 3",
        ),
        "mata": ("--mapping x", "--no-generate --max-new-tokens 5", "--max-new-tokens 0", "--split-seed -1", "--n 1"),
        "patch": (
            "--over x",
            "--over layer,x",
            "--over layer,head,second",
            "--over second,second",
            "--window-seconds 0",
            "--window-seconds -1",
            "--window-seconds nan",
            "--window-seconds inf",
            "--window-seconds 1e-9",
            "--window-seconds x",
            "--metric x",
            "--direction x",
            "--corrupted x",
            "--hook-point x",
            "--positions banana",
            "--n 0",
        ),
    }.items():
        for words in several:
            yield [
                verb,
                "--model",
                "toy",
                "--data",
                "toy",
                *([] if "--n " in words else ["--n", "4"]),
                *out,
                *words.split(),
            ]
    for words in (["check"], ["check", ""], ["check", str(folder)], ["demo", "--n", "0"], ["demo", "--n", "1e18"]):
        yield words
    yield from (["demo", "--seed", "-1"], ["demo", "--out", ""], [], ["nothing"], ["models", "x"], ["--misspelt"])


def listening(folder: Path) -> Iterator[list[str]]:
    """`listen`, with recordings, questions and choices that are none."""
    sound = str(write_sound(folder / "clip.wav", 1.0))
    out = ["--model", "toy", "--out", str(folder / "page")]
    asked = ["--question", "Which?", "--choices", "a", "b"]
    for name, content in (("empty", b""), ("text", b"no sound"), ("zeros", b"\x00" * 99)):
        file = folder / f"{name}.wav"
        file.write_bytes(content)
        yield ["listen", str(file), *asked, *out]
    for clip in (str(folder), str(folder / "nowhere.wav"), "", "/dev/zero", "/dev/null"):
        yield ["listen", clip, *asked, *out]
        yield ["ground", clip, "--query", "dog"]
    for words in (
        ["--question", "", "--choices", "a", "b"],
        ["--question", "?", "--choices", "a"],
        ["--question", "?", "--choices"],
        ["--choices", "a", "b"],
        ["--question", "?", "--choices", "a", ""],
        ["--question", "?", "--choices", "a", "b", "--answer", "c"],
        ["--question", "?", "--choices", *"abcdefghijklmnopqrstuvwxyz0"],
        ["--question", "?", "--choices", "a" * 120_000, "b", "--answer", "z"],
        ["--question", "?", "--choices", "a(" * 50_000, "b", "--answer", "z"],
        ["--question", "?", "--choices", "out=[" * 20_000, "b", "--answer", "z"],
        ["--question", "?", "--choices", "\x00", "b", "--answer", "z"],
    ):
        yield ["listen", sound, *words, *out]
    for words in (
        [],
        ["--query", ""],
        ["--query", "dog", "--instruction", " "],
        ["--query", "dog", "--max-new-tokens", "0"],
    ):
        yield ["ground", sound, *words]


def files(folder: Path) -> Iterator[list[str]]:
    """Benchmarks and folders of models that are damaged."""
    benchmark = folder / "benchmark"
    scene = (
        ma.Event("dog", 0.4, 2.1),
        ma.Event("car", 1.5, 8.8),
        ma.Event("rain", 3.0, 9.9),
        ma.Event("cat", 5.0, 6.0),
    )
    clip = ma.AudioClip(np.zeros(160_000, dtype=np.float32), 16_000)
    ma.temporal.build([ma.AnnotatedClip(clip, scene, id="a")]).save(benchmark)
    manifest = json.loads((benchmark / "manifest.json").read_text(encoding="utf-8"))
    forged = {
        "list": [],
        "null": None,
        "settings": manifest | {"settings": {"x": 1}},
        "schema": manifest | {"schema": "one"},
        "newer": manifest | {"schema": 99},
        "tasks": manifest | {"tasks": None},
        "none": {},
        "digest": manifest | {"questions_sha256": "x"},
    }
    for name, value in forged.items():
        place = folder / f"benchmark-{name}"
        shutil.copytree(benchmark, place)
        write_json(place / "manifest.json", value)
        for verb in ASKING:
            yield [verb, "--model", "toy", "--data", str(place), "--out", str(folder / "out")]
    for file, content in (
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"{"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"model_type": "x"}'),
        ("processor_config.json", b"{"),
    ):
        place = folder / f"model-{file}-{len(content)}"
        shutil.copytree(WEIGHTS, place)
        (place / file).write_bytes(content)
        yield ["evaluate", "--model", str(place), "--n", "2"]
        yield ["check", str(place)]


def every(folder: Path) -> Iterator[tuple[str, list[str]]]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for words in (*options(folder), *listening(folder), *files(folder)):
        short = (word.replace(str(folder), "DIR") for word in words)
        yield " ".join(word if len(word) < 60 else f"{word[:20]}..." for word in short), words

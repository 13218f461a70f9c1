"""The share of the time in which a model waits for prompts, with and without processes that make them ahead.

    python benchmarks/waiting_cost.py                     # Qwen2-Audio class, 8 layers, hidden 512, on the CPU
    python benchmarks/waiting_cost.py --large             # a network of Qwen2-Audio-7B's size, bf16, on a GPU
    python benchmarks/waiting_cost.py --large --workers 0 2 4 8 --files 44100

Clips of 10 s, stereo, are read from wav files, resampled to 16 kHz, and made into Whisper's features of 128 bands in
windows of 30 s. `evaluate` asks for the letter of the answer, `harvest` keeps the residual stream of every layer at the
last position. Time spent waiting is what `waiting.jsonl` says; what comes out is compared with the first number of
workers, byte by byte. The weights are random, so what is answered means nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from steering_cost import opened

import mechaudio as ma

CHOICES = ("swoop", "hum", "motor", "click")


def questions_of_files(folder: Path, n: int, rate: int) -> list[ma.AudioQuestion]:
    """Questions whose clips are stereo files of noise at a rate of their own; files that are there are taken."""
    questions, noise = [], 0.1 * np.random.default_rng(0).standard_normal((10 * rate + n, 2))
    for number in range(n):
        file = folder / f"{number}.wav"
        if not file.exists():
            soundfile.write(file, noise[number : number + 10 * rate], rate)
        questions.append(
            ma.AudioQuestion(str(file), "Which sound event has the earliest onset?", CHOICES, "motor", id=str(number))
        )
    return questions


def jobs(model: ma.AudioLM, batch_size: int | None) -> dict[str, tuple[Callable[..., Any], str]]:
    """Each job, and the files of what it leaves that do not say when it was run."""
    common = {"batch_size": batch_size, "progress": False}
    return {
        "evaluate": (lambda questions, **more: ma.evaluate(model, questions, **common, **more), "arrays.npz"),
        "harvest": (
            lambda questions, **more: ma.harvest(
                model, questions, record=["resid_post"], positions="last", **common, **more
            ),
            "*.safetensors",
        ),
    }


def measured(
    job: Callable[..., Any], left: str, questions: Sequence[ma.AudioQuestion], workers: int
) -> tuple[float, dict[str, Any], list[bytes]]:
    """Seconds of a job, what it says of waiting, and what it leaves."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        job(questions, out=out, workers=workers)
        seconds = time.perf_counter() - start
        (line,) = Path(out, "waiting.jsonl").read_text().splitlines()
        return seconds, json.loads(line), [file.read_bytes() for file in sorted(Path(out).glob(left))]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--questions", type=int)
    parser.add_argument("--batch-size", type=int, help="questions at once (default: as many as fit)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--files", type=int, default=44_100, metavar="HZ", help="rate of the files (default: 44100)")
    parser.add_argument("--jobs", nargs="+", choices=("evaluate", "harvest"), default=["evaluate", "harvest"])
    arguments = parser.parse_args()
    model = opened(arguments.large)
    print(model)
    with tempfile.TemporaryDirectory() as folder:
        questions = questions_of_files(
            Path(folder), arguments.questions or (1024 if arguments.large else 24), arguments.files
        )
        start = time.perf_counter()
        ma.prompt(model, questions[:4])
        print(f"making a prompt: {250 * (time.perf_counter() - start):.1f} ms; {len(questions)} questions")
        columns = f"{'workers':>7} {'batches':>7} {'s':>8} {'questions/s':>11} {'waiting, s':>10} {'share':>7}  bits"
        print(f"  {'':10} {columns}")
        for name, (job, left) in jobs(model, arguments.batch_size).items():
            if name not in arguments.jobs:
                continue
            measured(job, left, questions[:4], 0)  # warm up
            first = None
            for workers in arguments.workers:
                seconds, waiting, files = measured(job, left, questions, workers)
                first = files if first is None else first
                counts = (
                    f"{waiting['workers']:7} {waiting['batches']:7} {seconds:8.1f} {len(questions) / seconds:11.2f}"
                )
                waited = f"{waiting['waited']:10.2f} {waiting['share']:7.1%}"
                print(f"  {name:10} {counts} {waited}  {'the same' if files == first else 'OTHERS'}", flush=True)


if __name__ == "__main__":
    main()

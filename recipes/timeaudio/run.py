"""Runs the whole experiment: `python -m recipes.timeaudio.run --out OUT`, on one GPU in minutes.

The encoder is trained and all scenes are heard once; then every arm is trained with every seed, several at a time as
processes on the GPUs there are. What is done is kept in `--work`, and the same command goes on from there.
`OUT/results.json` has all questions and answers, which `python -m recipes.timeaudio.score` scores; `OUT/networks` the
weights of a few arms.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch import multiprocessing

from recipes.timeaudio import arms, encoder
from recipes.timeaudio.network import ARMS, Arm
from recipes.timeaudio.scenes import describe

log = logging.getLogger(__name__)
SIZES = {
    "bank": 192,
    "held_out_bank": 48,
    "encoder_steps": 1500,
    "encoder_batch": 32,
    "long": 5120,
    "short": 3840,
    "held_out_long": 384,
    "held_out_short": 128,
}
#: A check that all of it runs, on a CPU in seconds; its numbers mean nothing.
SMOKE = {
    "bank": 1,
    "held_out_bank": 1,
    "encoder_steps": 1,
    "encoder_batch": 1,
    "long": 2,
    "short": 2,
    "held_out_long": 1,
    "held_out_short": 1,
}
KEPT = ("digits+none", "markers+none", "markers+encoding+none", "markers+encoding+importance")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.timeaudio.run", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and networks")
    parser.add_argument("--work", type=Path, default=Path("build/timeaudio"), help="folder of what is done so far")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=[arm.name for arm in ARMS], choices=[arm.name for arm in ARMS])
    parser.add_argument("--steps", type=int, default=arms.Settings.steps)
    parser.add_argument("--processes", type=int, default=4, help="runs at a time on each GPU")
    parser.add_argument("--minutes", type=float, default=None, help="begin no run that would not end by then")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="processes that make sounds")
    parser.add_argument("--smoke", action="store_true", help="a few scenes and steps, to see that all of it runs")
    given = parser.parse_args(arguments)
    begun = time.time()
    _log_to(sys.stdout)
    settings = arms.Settings(steps=2, batch=2) if given.smoke else arms.Settings(steps=given.steps)
    sizes = SMOKE if given.smoke else SIZES
    files = encoder.prepare(given.work, given.device, 1 if given.smoke else given.workers, sizes)
    asked = _questions(files)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "questions.json").write_text(json.dumps(asked))  # at once, so that runs can be scored if this stops
    jobs = [(arm, seed) for seed in given.seeds for arm in ARMS if arm.name in given.arms]
    missing = [job for job in jobs if not _file(given.work, *job).is_file()]
    log.info("%.0f s: %d of %d runs are to be done", time.time() - begun, len(missing), len(jobs))
    deadline = None if given.minutes is None else begun + 60 * given.minutes
    n = min(given.processes * max(1, torch.cuda.device_count()), len(missing))
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    for job in (*missing, *[None] * n):
        queue.put(job)
    work = (queue, settings, files, given.work, given.device, deadline)
    if given.device == "cpu":
        if missing:
            _worker(0, *work)
    elif missing:
        workers = multiprocessing.spawn(_worker, work, nprocs=n, join=False)
        while not workers.join(timeout=20):  # what is done is there for scoring, whatever ends this
            _write(given, jobs, asked, settings, sizes, time.time() - begun)
    _write(given, jobs, asked, settings, sizes, time.time() - begun)


def _worker(number: int, queue, settings, files, work: Path, device: str, deadline: float | None) -> None:
    """Do runs until there is none left, or no time for another."""
    torch.set_num_threads(1)
    if device == "cuda":  # nothing has touched a GPU in this process yet
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.split(",")[number % len(gpus.split(","))]
    torch.backends.cuda.matmul.allow_tf32 = True
    _log_to(sys.stdout)
    heard, held_out = (
        {name: encoder.load(files, before + name, device) for name in ("long", "short")} for before in ("", "held_out_")
    )
    weights, asked, longest = load_file(files["encoder"]), arms.questions(held_out), 0.0
    sceneries: dict[str, dict[str, arms.Scenery]] = {}
    while (job := queue.get()) is not None:
        begun = time.time()
        if deadline is not None and begun + 1.1 * longest > deadline:
            continue
        times = job[0].times
        if times not in sceneries:
            sceneries[times] = arms.sceneries(heard, times, device)
        arms.run(*job, settings, sceneries[times], weights, held_out, asked, work)
        longest = max(longest, time.time() - begun)
        log.info("process %d: %s, seed %d, took %.0f s", number, job[0].name, job[1], time.time() - begun)


def _questions(files: dict[str, Path]) -> list[dict]:
    return arms.questions({name: encoder.load(files, f"held_out_{name}", "cpu") for name in ("long", "short")})


def _file(work: Path, arm: Arm, seed: int) -> Path:
    return work / "runs" / f"{arm.name}-{seed}.json"


def _log_to(stream) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=stream)


def _write(given, jobs, asked, settings, sizes, seconds: float) -> None:
    runs = [json.loads(_file(given.work, *job).read_text()) for job in jobs if _file(given.work, *job).is_file()]
    device = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    record = {
        "settings": asdict(settings),
        "sizes": sizes,
        "scenes": describe(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "device": device},
        "seconds_of_this_call": round(seconds),
        "questions": asked,
        "runs": runs,
    }
    (given.out / "results.json").write_text(json.dumps(record, separators=(",", ":")))
    for name in KEPT:
        file = arms.weights_of(given.work, name, 0)
        if file.is_file():
            (given.out / "networks").mkdir(exist_ok=True)
            shutil.copy(file, given.out / "networks" / file.name)
    log.info("%.0f s: %d of %d runs are in %s", seconds, len(runs), len(jobs), given.out / "results.json")


if __name__ == "__main__":
    main()

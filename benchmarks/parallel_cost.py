"""Questions per second of one process and of several that share them, each on a GPU of its own.

    python benchmarks/parallel_cost.py                       # Qwen2-Audio class, 8 layers, hidden 512, on the CPU
    python benchmarks/parallel_cost.py --large               # a network of Qwen2-Audio-7B's size, bf16, on 1 and 2 GPUs
    python benchmarks/parallel_cost.py --large --processes 1 2 4 --questions 2048 --workers 6

Clips of 10 s, stereo, are read from wav files of 44.1 kHz, in windows of 30 s. Every process computes on one thread, as
torchrun starts it; it opens the network once and answers a few questions. For each number of processes so many of them
begin together, and the time runs until the last has the whole result. A run that is kept begins with a digest of all
weights, which every process takes for itself: the rate is given with it, and without it, from the first batch on. The
results are compared byte by byte. The weights are random, so what is answered means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from steering_cost import opened
from waiting_cost import questions_of_files

import mechaudio as ma
from mechaudio.arguments import n_of

#: With two GPUs and 7B parameters, some three minutes.
LARGE_QUESTIONS, SMALL_QUESTIONS = 2048, 48
RATE = 44_100  # of the files


def work(arguments: argparse.Namespace, n_questions: int) -> None:
    """Answer questions alone and with the other processes, and write when this began and ended."""
    rank, folder = int(os.environ["RANK"]), arguments.folder
    if arguments.large:
        torch.cuda.set_device(rank)
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": str(rank)}
    model, questions = opened(arguments.large), questions_of_files(arguments.folder, n_questions, RATE)
    ma.evaluate(model, questions[:4], progress=False)
    for n in arguments.processes:
        if rank >= n:
            continue
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
        (folder / f"ready-{n}-{rank}").touch()
        while len(list(folder.glob(f"ready-{n}-*"))) < n:
            time.sleep(0.01)
        began = time.time()
        ma.evaluate(
            model,
            questions,
            out=folder / f"run-{n}",
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            progress=False,
        )
        (folder / f"took-{n}-{rank}").write_text(f"{began} {time.time()}")


def start(arguments: argparse.Namespace, folder: Path) -> list[subprocess.Popen]:
    """Start as many processes as work together at most."""
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    return [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in range(max(arguments.processes))
    ]


def wait_for(folder: Path, n: int, children: list[subprocess.Popen]) -> None:
    """Wait until so many processes have their result.

    Raises:
        SystemExit: A process failed; the others are ended.
    """
    while len(list(folder.glob(f"took-{n}-*"))) < n:
        time.sleep(0.1)
        if any(child.poll() for child in children):
            for child in children:
                child.kill()
            raise SystemExit("a process failed")


def waiting(folder: Path, n: int) -> list[dict[str, Any]]:
    """The account that each of so many processes gives of its time."""
    return [json.loads(line) for line in (folder / f"run-{n}" / "waiting.jsonl").read_text().splitlines()]


def questions_per_second(folder: Path, n: int, n_questions: int) -> tuple[float, float]:
    """The questions that so many processes answered in a second: in all, and from the first batch on."""
    took = [tuple(map(float, file.read_text().split())) for file in folder.glob(f"took-{n}-*")]
    asking = max(line["seconds"] for line in waiting(folder, n))
    return n_questions / (max(end for _, end in took) - min(began for began, _ in took)), n_questions / asking


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument(
        "--questions", type=int, help=f"how many (default: {LARGE_QUESTIONS} with --large, else {SMALL_QUESTIONS})"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, default=0, help="processes that make the prompts of each (default: 0)")
    parser.add_argument("--batch-size", type=int, help="questions at once (default: as many as fit)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_questions = arguments.questions or (LARGE_QUESTIONS if arguments.large else SMALL_QUESTIONS)
    if arguments.folder is not None:
        work(arguments, n_questions)
        return
    first: tuple[float, float, bytes] | None = None
    with tempfile.TemporaryDirectory() as scratch:
        folder, began = Path(scratch), time.time()
        questions_of_files(folder, n_questions, RATE)
        children = start(arguments, folder)
        for n in arguments.processes:
            wait_for(folder, n, children)
            rates = questions_per_second(folder, n, n_questions)
            arrays = (folder / f"run-{n}" / "arrays.npz").read_bytes()
            first = (*rates, arrays) if first is None else first
            whole, asking = (f"{rates[k]:.2f} ({rates[k] / first[k]:.2f} times)" for k in (0, 1))
            waited = ", ".join(f"{line['share']:.1%}" for line in waiting(folder, n))
            print(
                f"{n_of(n, 'process', 'processes')}: {whole} questions per second, {asking} without the digest; "
                f"{waited} of the time waiting for prompts; "
                f"{'the same bytes' if arrays == first[2] else 'OTHER BYTES'}; {time.time() - began:.0f} s so far",
                flush=True,
            )
        for child in children:
            child.wait()


if __name__ == "__main__":
    main()

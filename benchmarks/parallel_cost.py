"""Questions per second of one process and of several that share them, each on a GPU of its own.

    python benchmarks/parallel_cost.py                       # Qwen2-Audio class, 8 layers, hidden 512, on the CPU
    python benchmarks/parallel_cost.py --large               # a network of Qwen2-Audio-7B's size, bf16, on 1 and 2 GPUs
    python benchmarks/parallel_cost.py --large --processes 1 2 4

Clips of 10 s in windows of 30 s. Every process opens the network and answers a few questions first; all begin when the
last of them is ready, and the time runs until the last has the whole result. The results are compared byte by byte. The
weights are random, so what is answered means nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from steering_cost import opened

import mechaudio as ma


def work(large: bool, n_questions: int, folder: Path) -> None:
    """Answer questions with the other processes, and write when this began and ended."""
    rank, n = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if large:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    model, questions = opened(large), list(ma.data.soundscapes.questions(n_questions, seed=0))
    ma.evaluate(model, questions[:4], out=folder / f"warm-{rank}", progress=False)
    (folder / f"ready-{rank}").touch()
    while len(list(folder.glob("ready-*"))) < n:
        time.sleep(0.01)
    began = time.time()
    ma.evaluate(model, questions, out=folder / "run", progress=False)
    (folder / f"took-{rank}").write_text(f"{began} {time.time()}")


def questions_per_second(large: bool, n_questions: int, n_processes: int, folder: Path) -> float:
    """Start the processes, wait for them, and give the questions that they answered in a second."""
    folder.mkdir()
    command = [sys.executable, __file__, "--folder", str(folder), "--questions", str(n_questions)]
    command += ["--large"] if large else []
    children = [
        subprocess.Popen(
            command,
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": str(n_processes), "LOCAL_RANK": str(rank)}
            | ({} if large else {"OMP_NUM_THREADS": "1"}),
        )
        for rank in range(n_processes)
    ]
    codes = [child.wait() for child in children]
    if any(codes):
        raise SystemExit("a process failed")
    took = [tuple(map(float, file.read_text().split())) for file in folder.glob("took-*")]
    return n_questions / (max(end for _, end in took) - min(began for began, _ in took))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--questions", type=int)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_questions = arguments.questions or (2048 if arguments.large else 48)
    if arguments.folder is not None:
        work(arguments.large, n_questions, arguments.folder)
        return
    rates, arrays = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for n in arguments.processes:
            folder = Path(place, str(n))
            rates[n] = questions_per_second(arguments.large, n_questions, n, folder)
            arrays[n] = (folder / "run" / "arrays.npz").read_bytes()
    first = arguments.processes[0]
    for n in arguments.processes:
        same = "the same bytes" if arrays[n] == arrays[first] else "other bytes"
        print(f"{n} processes: {rates[n]:7.2f} questions per second, {rates[n] / rates[first]:.2f} times, {same}")


if __name__ == "__main__":
    main()

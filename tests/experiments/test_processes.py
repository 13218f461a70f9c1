"""Several processes share a run: nothing is lost or done twice, whoever is killed, and the numbers are one process's."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

import mechaudio as ma
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments.evaluate import evaluate

QUESTIONS = 40
OPTIONS = {"variants": [ma.ScaleAttention(0.0)], "positions": 150, "seed": 5}

#: Opens the model once and forks as many processes as each round asks for, with the environment of a launcher.
LAUNCHER = textwrap.dedent("""
    import os, signal, sys, time
    from pathlib import Path
    import numpy as np
    import mechaudio as ma
    from mechaudio.data.toy_questions import questions

    def share(rank, n):
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(n), LOCAL_RANK=str(rank))
        ma.evaluate(
            model, questions(QUESTIONS, seed=5), variants=[ma.ScaleAttention(0.0)], positions=150, seed=5, out=out
        )

    def lines():
        return sum(log.read_bytes().count(b"\\n") for log in out.glob("answers*.jsonl"))

    def begun(n):
        children = []
        for rank in range(n):
            child = os.fork()
            if not child:
                try:
                    share(rank, n)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(1)
                os._exit(0)
            children.append(child)
        return children

    out, drawn = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
    model = ma.load("toy", prove=False)
    for n, killed in zip(map(int, sys.argv[3::2]), map(int, sys.argv[4::2]), strict=True):
        enough = lines() + int(drawn.integers(3, 12))
        children = begun(n)
        while killed and lines() < enough:
            time.sleep(0.0005)
        victims = drawn.permutation(children)[:killed].tolist()
        for child in victims:
            os.kill(child, signal.SIGKILL)
        codes = {child: os.waitpid(child, 0)[1] for child in children}
        print(n, sum(codes[child] == signal.SIGKILL for child in victims), [c for c in codes.values() if c not in (0, 9)])
""").replace("QUESTIONS", str(QUESTIONS))


def shared(out, seed, *rounds):
    """Run rounds of processes over one folder: of each, how many are launched, and how many are killed at random."""
    words = [str(number) for pair in rounds for number in pair]
    told = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(out), str(seed), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def test_x(tmp_path):
    print(shared(tmp_path/"o", 0, (2, 0)))
    print(shared(tmp_path/"p", 0, (2, 1)), os.listdir(tmp_path/"p"))
    print(shared(tmp_path/"q", 0, (3, 3), (2,2), (1, 0)), os.listdir(tmp_path/"q"))
    for f in sorted(tmp_path.glob("*/answers*")): print(f, f.read_bytes().count(b"\n"))

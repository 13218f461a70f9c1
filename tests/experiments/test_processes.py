"""Several processes share a run: nothing is lost or done twice, whoever is killed, and the result is that of one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, get_args_parser

import mechaudio as ma
from mechaudio.analyses.ahead import WAITING
from mechaudio.cli import main
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments import asking
from mechaudio.experiments.evaluate import evaluate
from mechaudio.experiments.harvest_log import read_logs
from mechaudio.experiments.run_log import LOG_NAME
from mechaudio.models.prompt import prompt
from mechaudio.processes import Launch
from mechaudio.results import ARRAYS_NAME, JSON_NAME
from tests.snippets import REPOSITORY

QUESTIONS = 24
OPTIONS = {"variants": [ma.ScaleAttention(0.0)], "batch_positions": 150, "seed": 5}
OVER = ("layer", "role")


def evaluated(model, asked, out):
    evaluate(model, asked, out=out, **OPTIONS)


def patched(model, asked, out):
    ma.analyses.activation_patching(model, asked[:8], over=OVER, batch_size=1, out=out)


def harvested(model, asked, out):
    ma.harvest(model, asked, record=["resid_post"], out=out, batch_size=2, positions="audio")


def temporal(model, asked, out):
    settings = ma.experiments.TemporalSettings(biases=(3.0,), factors=(3.0,), queries=("last",), n_attention=3, seed=4)
    ma.experiments.temporal_study(model, asked[:10], settings=settings, out=out)


def mata(model, asked, out):
    settings = ma.experiments.MataSettings(alphas=(2.0,), n_measured=3, max_new_tokens=2, seed=2)
    ma.experiments.mata_study(model, asked[:10], settings=settings, out=out)


def specialists(model, asked, out):
    chosen = {"ks": (1,), "strengths": (3.0,), "norms": ("pre",), "draws": 5, "steering_draws": 1}
    settings = ma.experiments.SpecialistsSettings(**chosen)
    ma.experiments.specialists_study(model, asked, settings=settings, batch_size=4, out=out)


def written(out):
    """Count the parts and lines of a run that are on disk."""
    # Folders come and go while they are walked through, which os.walk allows.
    files = [Path(folder, name) for folder, _, names in os.walk(out) for name in names]
    parts = [file for file in files if file.name == JSON_NAME and file.parent.name.startswith("0")]
    logs = [file for file in files if file.match("answers*.jsonl")]
    return len([*parts, *out.glob("shard-*")]) + sum(log.read_bytes().count(b"\n") for log in logs)


def forked(rank, n, job, *given):
    """Start a process with the environment that a launcher gives it."""
    if child := os.fork():
        return child
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(n), LOCAL_RANK=str(rank))
    warnings.simplefilter("ignore")  # which are errors in tests
    status = 1
    try:
        job(*given)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def launched(model, asked, drawn, job, out, n, n_killed):
    """Run a job in `n` processes, and kill some of them at random.

    Returns:
        How many were killed before they had ended, and how many ended well.
    """
    enough = written(out) + int(drawn.integers(2, 6))
    children = [forked(rank, n, job, model, asked, out) for rank in range(n)]
    while n_killed and written(out) < enough and not (out / JSON_NAME).exists():
        time.sleep(0.004)
    killed = drawn.permutation(children)[:n_killed].tolist()
    for child in killed:
        os.kill(child, signal.SIGKILL)
    codes = {child: os.waitpid(child, 0)[1] for child in children}
    return sum(codes[child] == signal.SIGKILL for child in killed), sum(code == 0 for code in codes.values())


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    """The folder of a run of one process, which has as many threads as those that are killed."""
    out = tmp_path_factory.mktemp("alone")
    assert launched(toy, toy_questions(QUESTIONS, seed=5), np.random.default_rng(0), evaluated, out, 1, 0) == (0, 1)
    return out


def lines(out):
    """The lines about questions in the logs of all processes."""
    return [json.loads(line) for log in out.glob("answers*.jsonl") for line in log.read_bytes().splitlines()[1:]]


def same_files(out, other):
    """Whether two folders hold the same result, to the byte, but for the time at which it was begun."""
    heads = [re.sub(r'"created": "[^"]*"', "", (each / JSON_NAME).read_text()) for each in (out, other)]
    return heads[0] == heads[1] and (out / ARRAYS_NAME).read_bytes() == (other / ARRAYS_NAME).read_bytes()


def asked_once(out):
    return Counter(line["index"] for line in lines(out)) == Counter(range(QUESTIONS))


COUNTS = [(3, 3), (1, 1), (3, 1)]


@pytest.fixture
def launch(toy):
    return partial(launched, toy, toy_questions(QUESTIONS, seed=5), np.random.default_rng(0))


@pytest.mark.whole
def test_whoever_is_killed_and_however_often_the_result_is_that_of_one_process(toy, alone, launch, tmp_path):
    out, again, patching, patched_alone, kept, kept_alone = (tmp_path / str(number) for number in range(6))
    ends = [launch(evaluated, out, n, killed) for n, killed in COUNTS]
    ends += [launch(evaluated, again, 1, killed) for killed in (1, 1, 0)]
    ends += [launch(patched, patching, 2, 1), launch(harvested, kept, 2, 1)]
    ends += [launch(patched, patched_alone, 1, 0), launch(harvested, kept_alone, 1, 0)]
    assert [killed + ended for killed, ended in ends] == [*(n for n, _ in COUNTS), 1, 1, 1, 2, 2, 1, 1]  # none failed
    assert ends[0][0] > 0
    assert ends[3:5] == [(1, 0), (1, 0)], "the one process was killed before it had ended, and again"
    for each in (out, again):
        assert same_files(each, alone)
        assert asked_once(each)
    assert sorted(os.listdir(again)) == sorted([LOG_NAME, WAITING, JSON_NAME, ARRAYS_NAME])
    asked, options = toy_questions(QUESTIONS, seed=5)[:8], {"over": OVER, "batch_size": 1}
    whole, taken_up = (
        ma.analyses.activation_patching(toy, asked, out=out, **options) for out in (patched_alone, patching)
    )
    assert taken_up.logits.tobytes() == whole.logits.tobytes()
    assert (taken_up.ids, taken_up.axes) == (whole.ids, whole.axes)
    harvest, of_one = ma.Harvest.load(kept), ma.Harvest.load(kept_alone)
    assert harvest.positions().equals(of_one.positions())
    assert all(torch.equal(harvest["resid_post", layer], of_one["resid_post", layer]) for layer in range(toy.n_layers))
    written, vouched_for = len(list(kept.glob("shard-*"))), len(read_logs(kept)[1])
    assert vouched_for == len(list(of_one.folder.glob("shard-*")))
    assert written - vouched_for in (0, 1)  # whoever was killed may have written one that its log does not know yet


@pytest.mark.whole
def test_a_study_of_several_processes_is_that_of_one(launch, tmp_path):
    n_killed = 0
    for study in (temporal, mata, specialists):
        single, shared = (tmp_path / study.__name__ / name for name in ("single", "shared"))
        assert launch(study, single, 1, 0) == (0, 1)
        killed, ended = launch(study, shared, 3, 1)
        assert killed + ended == 3  # none failed
        assert same_files(shared, single)
        n_killed += killed
    assert n_killed > 0


def agents(words, folder):
    """Run the command of the words as torchrun's agent runs it, in processes that are forked instead of begun anew."""
    standalone = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", "one"]
    options = [*standalone, "--nproc-per-node", "2", "--redirects", "1", "--log-dir", str(folder)]
    config, *command = config_from_args(get_args_parser().parse_args([*options, "-m", "--", "mechaudio", *words]))
    assert command == [sys.executable, ["-u", "-m", "mechaudio", *words]]
    config.start_method = "fork"
    sys.stdout = sys.__stdout__  # a file, which the agent replaces
    elastic_launch(config, main)(words)


@pytest.mark.whole
@pytest.mark.usefixtures("toy")  # which imports what processes that are forked then have
def test_torchrun_shares_a_run_of_the_command_line(tmp_path, capsys):
    words = ["evaluate", "--model", "toy", "--device", "cpu"]  # and not on a GPU each, where there are any
    words += ["--data", "toy", "--n", str(QUESTIONS), "--seed", "5", "--batch-size", "2"]
    agent = forked(0, 1, agents, [*words, "--out", str(tmp_path / "two")], tmp_path / "logs")
    assert os.waitpid(agent, 0)[1] == 0
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    first, second = (next((tmp_path / "logs").rglob(f"{rank}/stdout.log")).read_text() for rank in range(2))
    assert (first, second) == (capsys.readouterr().out, "")
    assert same_files(tmp_path / "two", tmp_path / "one")
    assert asked_once(tmp_path / "two")
    assert len(list((tmp_path / "two").glob("answers*.jsonl"))) == 2


#: Stand in for SLURM's, which starts two processes on this machine, and for the command, which says what it is given.
SRUN = """#!/bin/bash
shift
for rank in 0 1; do
    SLURM_NTASKS=2 SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
done
wait
"""
COMMAND = f"""#!{sys.executable}
import sys
from mechaudio.cli import parser
from mechaudio.processes import launch
given = parser().parse_args(sys.argv[1:])
sys.stdout.write(f"{{launch()}} {{given.verb}} {{given.model}} {{given.data}} {{given.n}} {{given.out}}\\n")
"""


@pytest.mark.whole
def test_the_script_for_slurm_runs_under_a_stand_in(tmp_path):
    page = (REPOSITORY / "docs/cluster.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```bash\n(#!/bin/bash.*?)^```$", page, re.DOTALL | re.MULTILINE)
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, text in (("srun", SRUN), ("mechaudio", COMMAND)):
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    told = subprocess.run(
        ["bash", "-c", script],
        env=os.environ
        | {"PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
        | {"MODEL": "toy", "DATA": "toy", "OUT": str(tmp_path / "out")},
        capture_output=True,
        check=True,
        text=True,
        timeout=300,
    ).stdout
    assert sorted(told.splitlines()) == [
        f"{Launch(rank, 2, rank)} evaluate toy toy 1000 {tmp_path / 'out'}" for rank in range(2)
    ]


def test_a_process_reads_what_another_wrote_and_asks_the_rest(toy, alone, tmp_path, as_process, monkeypatch):
    as_process(1, 2)
    evaluate(toy, toy_questions(QUESTIONS, seed=5), out=tmp_path, **OPTIONS)
    log = tmp_path / "answers-1.jsonl"
    written, ids = log.read_bytes().splitlines(keepends=True), []
    log.write_bytes(b"".join(written[:13]) + written[13][:40])  # killed in the middle of a line
    monkeypatch.setattr(
        asking, "prompt", lambda *words, **more: ids.extend(each.id for each in words[1]) or prompt(*words, **more)
    )
    as_process(0, 3)
    evaluate(toy, toy_questions(QUESTIONS, seed=5), out=tmp_path, **OPTIONS)
    assert len(ids) == len(set(ids)) == QUESTIONS - 12
    assert same_files(tmp_path, alone)


def lines_of(log):
    """The whole lines about questions in a log that may have been cut."""
    return log.read_bytes().split(b"\n")[1:-1]


def test_what_one_process_could_not_ask_counts_as_asked_once_another_could(toy, tmp_path, as_process):
    asked = toy_questions(4, seed=3)
    asked[1] = replace(asked[1], audio=tmp_path / "clip.wav")
    as_process(1, 2)
    assert [failure.id for failure in evaluate(toy, asked, out=tmp_path / "out").failures] == ["toy-3-1"]
    toy_questions(4, seed=3)[1].clip().save(tmp_path / "clip.wav")
    for rank in (0, 1):
        as_process(rank, 2)
        found = evaluate(toy, asked, out=tmp_path / "out")
        assert found.failures == ()
        assert found.ids == tuple(question.id for question in asked)
    assert len(lines_of(tmp_path / "out" / "answers.jsonl")) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, "is of another run: seed was 3 and is 4"),
        ({"questions": toy_questions(3, seed=4)}, "question 0 is not the one .*'toy-4-0' for 'toy-3-0'"),
    ],
)
def test_processes_that_are_given_different_things_are_refused(toy, tmp_path, as_process, changes, told):
    given = {"questions": toy_questions(3, seed=3), "seed": 3}
    as_process(1, 2)
    evaluate(toy, out=tmp_path, **given)
    as_process(0, 2)
    with pytest.raises(ValueError, match=told):
        evaluate(toy, out=tmp_path, **given | changes)


def test_a_damaged_log_of_another_process_is_named(toy, tmp_path, as_process):
    as_process(2, 3)
    evaluate(toy, toy_questions(3, seed=3), out=tmp_path)
    log = tmp_path / "answers-2.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"batch": 0', b'"batch": 9', 1))
    as_process(0, 1)
    with pytest.raises(ValueError, match=r"answers-2\.jsonl' is damaged at line 2"):
        evaluate(toy, toy_questions(3, seed=3), out=tmp_path)


def test_several_processes_without_a_folder_are_told_that_each_asks_everything(toy, as_process):
    as_process(1, 2)
    with pytest.warns(UserWarning, match="2 processes share questions through out=: without it each of them asks all"):
        assert len(evaluate(toy, toy_questions(3, seed=3)).ids) == 3

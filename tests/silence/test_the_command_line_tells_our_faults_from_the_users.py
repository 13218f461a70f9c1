"""The command line tells our faults from the user's: his end in a message and exit code 2, ours in a traceback."""

import argparse
import errno
import os
import re
import signal
import tempfile
import time
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import plotly.graph_objects as go
import pytest

import mechaudio as ma
from mechaudio.cli import VERBS, main, mistakes, parser
from mechaudio.cli.mistakes import is_mistake, opened, remedy, writable
from mechaudio.report import figures

EVALUATION = import_module("mechaudio.experiments.evaluate")
pytestmark = pytest.mark.usefixtures("without_proofs")
EVALUATE = ["evaluate", "--model", "toy", "--data", "toy", "--n", "4"]


def raised(cause) -> BaseException:
    with pytest.raises(Exception) as caught:
        cause()
    return caught.value


@pytest.mark.parametrize(
    "cause",
    [
        lambda: ma.Event("dog", 2, 1),
        lambda: ma.HookPoint("nothing"),
        lambda: Path("/nowhere").read_text(),
        lambda: ma.evaluate(None, []),
    ],
)
def test_what_the_library_or_the_system_refuses_is_the_users(cause):
    assert is_mistake(raised(cause))


@pytest.mark.parametrize(
    "cause",
    [
        lambda: {}["x"],
        lambda: None + 1,
        lambda: (1, 2)[5],
        lambda: int("x"),
        lambda: sorted([1, "x"]),
        lambda: ma.metrics.bootstrap(lambda sample: sample.nothing, [1.0, 2.0]),
    ],
)
def test_what_python_refuses_is_ours(cause):
    assert not is_mistake(raised(cause))


@pytest.mark.parametrize("error", [TypeError("'NoneType' object is not iterable"), KeyError("schema"), ValueError("x")])
def test_a_fault_of_ours_ends_in_its_traceback(monkeypatch, error):
    def evaluate(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(EVALUATION, "evaluate", evaluate)
    with pytest.raises(type(error)):
        main(EVALUATE)


def test_what_another_package_makes_of_a_models_files_is_told_with_its_words(monkeypatch, capsys):
    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "load", lambda *_, **__: {}["added_tokens"])
    assert main(EVALUATE) == 2
    said = capsys.readouterr().err
    assert "cannot open model 'toy': its files are not what transformers expects (KeyError: added_tokens)" in said


def test_a_full_disk_is_told_with_its_path_and_what_goes_on(capsys, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EVALUATION, "evaluate", full)
    assert main([*EVALUATE, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        f"mechaudio evaluate: No space left on device: '{tmp_path / 'run'}'. Make room, and give the same command "
        f"again: what was done is kept in {tmp_path / 'run'}, and it goes on from there\n"
    )


def test_a_disk_that_fills_behind_the_work_keeps_the_work(capsys, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(figures, "browser", lambda: None)
    monkeypatch.setattr("mechaudio.report.study_page.write_study_page", full)
    assert main(["patch", "--model", "toy", "--data", "toy", "--n", "4", "--out", str(tmp_path)]) == 2
    assert f"The result is kept in {tmp_path / 'results'}, for ma.Result.load" in capsys.readouterr().err
    assert ma.Result.load(tmp_path / "results").ids


def test_a_result_that_cannot_be_saved_where_it_should_is_saved_elsewhere(capsys, monkeypatch, tmp_path):
    save = ma.Result.save

    def full(result: ma.Result, folder: Path) -> Path:
        if Path(folder) == tmp_path / "results":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(result, folder)

    monkeypatch.setattr(ma.Result, "save", full)
    assert main(["patch", "--model", "toy", "--data", "toy", "--n", "4", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    kept = said.partition("the result is kept in ")[2].partition(":")[0]
    assert ma.Result.load(kept).ids


def test_a_disk_without_room_for_a_page_is_refused_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(mistakes.shutil, "disk_usage", lambda _: Namespace(free=10**6))
    with pytest.raises(
        mistakes.UserMistakeError, match=r"has 1\.0 MB free, and a page with its figures takes up to 34"
    ):
        writable(tmp_path, "Listening")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENAMETOOLONG])
def test_every_error_of_the_system_has_its_path(code):
    told = remedy(OSError(code, os.strerror(code), "/data/x"), Namespace(out=None))
    assert told.startswith(f"{os.strerror(code)}: '/data/x'")


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(request, capsys, monkeypatch, tmp_path, kind, code):
    monkeypatch.setattr(EVALUATION, "evaluate", lambda *_, **__: signal.raise_signal(kind))
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ignored))
    assert main([*EVALUATE, "--out", str(tmp_path)]) == code
    assert (
        f"stopped. To go on, give the same command again: what was done is kept in {tmp_path}"
        in capsys.readouterr().err
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_goes_wrong_while_a_stopped_command_tidies_up_is_no_mistake(capsys, monkeypatch, tmp_path):
    def stopped(*_, **__):
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", "Default")

    monkeypatch.setattr(EVALUATION, "evaluate", stopped)
    assert main([*EVALUATE, "--out", str(tmp_path)]) == 130
    message = capsys.readouterr().err
    assert "stopped. To go on, give the same command again" in message
    assert "Directory not empty" not in message


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no groups of processes")
def test_a_browser_that_is_given_up_on_ends_with_all_that_it_started(monkeypatch, tmp_path):
    """As Ctrl-C does: a part of it that goes on would write to a folder that is being taken away."""
    browser = tmp_path / "chromium"
    browser.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/part\nwait\n")
    browser.chmod(0o755)
    monkeypatch.setattr(figures, "browser", lambda: str(browser))
    monkeypatch.setattr(figures, "_PATIENCE", 2)
    before = set(Path(tempfile.gettempdir()).glob("mechaudio-chromium-*"))
    assert "did not finish" in figures.write_figures({"one": go.Figure(layout={"height": 90})}, tmp_path / "out")
    part = int((tmp_path / "part").read_text())
    deadline = time.monotonic() + 5
    while is_running(part) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(part)
    assert set(Path(tempfile.gettempdir()).glob("mechaudio-chromium-*")) <= before


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        (["--n", "1000000000000000000"], "must be at most 1000000"),
        (["--n", "99999999999999999999"], "must be at most 1000000"),
        (["--seed", "99999999999999999999"], "must be at most 9223372036854775807"),
    ],
)
def test_absurd_sizes_are_refused_with_the_bound(capsys, words, bound):
    with pytest.raises(SystemExit) as end:
        main([*EVALUATE, *words])
    assert end.value.code == 2
    assert bound in capsys.readouterr().err


def test_a_window_shorter_than_a_token_is_refused_with_the_length_of_one():
    questions = ma.data.toy_questions.questions(4, 0)
    for patching in (ma.analyses.activation_patching, ma.analyses.attribution_patching):
        with pytest.raises(ValueError, match=r"window_seconds= is shorter than a token, which hears about 0\.\d+ s"):
            patching(ma.load("toy", prove=False), questions, over=("layer", "second"), window_seconds=1e-9)


def test_options_that_a_mode_ignores_are_refused(capsys):
    assert main([*EVALUATE, "--max-new-tokens", "5"]) == 2
    assert "--max-new-tokens is of written answers: give --scoring generate too" in capsys.readouterr().err
    assert main(["mata", "--model", "toy", "--data", "toy", "--no-generate", "--max-new-tokens", "5"]) == 2
    assert "--no-generate leaves them out" in capsys.readouterr().err


def test_no_option_takes_a_value_twice(capsys):
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    lists = [(verb, option) for verb in VERBS for option in verbs.choices[verb]._actions if option.nargs == "+"]
    assert len(lists) > 8
    for verb, option in lists:
        word, value = option.option_strings[0], (option.choices or ["2"])[0]
        with pytest.raises(SystemExit, match="2"):
            verbs.choices[verb].parse_args([word, value, value])
        message = capsys.readouterr().err
        assert re.search(rf"{word}.*: takes each value once, and {value}.* comes twice", message), f"{verb} {word}"


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]])
def test_an_output_that_was_closed_is_no_fault(monkeypatch, words):
    monkeypatch.setattr("sys.stdout", None)
    assert main(words) == 0


def test_a_model_that_is_there_opens():
    named = argparse.Namespace(model="toy", device=None, dtype="auto", revision=None)
    assert opened(named).n_layers > 0


def test_patching_that_was_stopped_goes_on_where_it_was(capsys, monkeypatch, tmp_path):
    patching = import_module("mechaudio.analyses.patching.activation_patching")
    patched, seen = patching.patched_at, []

    def stopped_at_the_second(*given: object, **options: object) -> object:
        seen.append(given)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return patched(*given, **options)

    monkeypatch.setattr(figures, "browser", lambda: None)
    monkeypatch.setattr(patching, "patched_at", stopped_at_the_second)
    command = ["patch", "--model", "toy", "--data", "toy", "--n", "12", "--over", "layer", "--out", str(tmp_path)]
    assert main(command) == 143
    assert f"what was done is kept in {tmp_path}, and it goes on from there" in capsys.readouterr().err
    assert main(command) == 0
    assert len(seen) == 3  # the first of two batches was not patched again
    assert len(ma.Result.load(tmp_path / "results").ids) == 12


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_page_does_not_go_where_no_folder_can_be(tmp_path, make):
    make(tmp_path / "page")
    with pytest.raises(mistakes.UserMistakeError, match="it is no folder, and a page goes into one"):
        writable(tmp_path / "page", "Listening")

"""Thousands of bad inputs to every public entry and every verb: each is refused in words, or listed.

Counts per verdict are printed (`pytest -s`). None is silent, none ends in Python's own words, none hangs.
"""

import functools
from collections import Counter
from importlib import import_module

import pytest

import mechaudio as ma
from mechaudio.report import figures
from tests.families.build import unchecked_types
from tests.silence import bad_commands, bad_files, bad_inputs, bad_options, bad_values

FEWEST = {"arguments": 2500, "settings": 300, "values": 350, "options": 300, "files": 700, "commands": 300}


def fails(verdicts: dict[str, bad_inputs.Verdict], about: str) -> list[str]:
    counts = Counter(verdict.kind for verdict in verdicts.values())
    counted = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
    print(f"\n{about}: {len(verdicts)} bad inputs, {counted}")  # noqa: T201 - the table of verdicts
    assert len(verdicts) >= FEWEST[about]
    return [f"{v.kind}: {name}: {v.said}" for name, v in verdicts.items() if v.kind not in ("clear", "listed")]


def test_no_argument_of_another_kind_passes_in_silence_or_ends_in_words_of_python(tmp_path):
    with unchecked_types():
        assert not fails(bad_inputs.judged(bad_inputs.generated(tmp_path)), "arguments")


def test_no_field_of_another_kind_is_taken_by_settings_and_interventions():
    with unchecked_types():
        assert not fails(bad_inputs.judged(bad_inputs.settings()), "settings")


def test_no_value_that_nobody_can_mean_is_taken(tmp_path):
    groups = (
        bad_values.settings(),
        bad_values.interventions(),
        bad_values.questions(tmp_path),
        bad_values.calls(tmp_path),
    )
    with unchecked_types():
        assert not fails({name: bad_inputs.judge(case) for group in groups for name, case in group}, "values")


def test_no_option_pipe_or_line_of_a_log_that_cannot_be_meant_is_taken(tmp_path):
    with unchecked_types():
        verdicts = {name: bad_inputs.judge(case) for name, case in bad_options.every(tmp_path)}
    assert not fails(verdicts, "options")


def test_no_damaged_or_hostile_file_is_believed(tmp_path):
    groups = (bad_files.results, bad_files.benchmarks, bad_files.corpora, bad_files.recordings)
    with unchecked_types():
        verdicts = {name: bad_inputs.judge(case) for group in groups for name, case in group(tmp_path)}
    assert not fails(verdicts, "files")


def test_no_command_line_that_cannot_be_meant_runs_or_ends_in_a_traceback(tmp_path, monkeypatch):
    opened = functools.cache(ma.load)
    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "load", opened)
    monkeypatch.setattr(figures, "browser", lambda: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with unchecked_types():
        verdicts = {name: bad_inputs.judge_command(words) for name, words in bad_commands.every(tmp_path)}
    assert not fails(verdicts, "commands")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (lambda: None, "silent"),
        (lambda: len(None), "bare"),
        (lambda: ma.Event("a", 1, 0), "clear"),
        (lambda: open("/nowhere"), "clear"),  # noqa: SIM115 - it is not opened
    ],
)
def test_the_judge_tells_words_of_the_library_from_those_of_python(case, kind):
    assert bad_inputs.judge(case).kind == kind

"""What the verbs of studies share: the command that a page gives makes the study again."""

import shlex

import pytest

from mechaudio.cli import parser
from mechaudio.cli.questions import CORPORA, MADE
from mechaudio.cli.studies import command

VERBS = ("temporal", "specialists", "mata", "patch", "listens", "grounding")


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "a benchmark"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_of_a_page_is_read_as_it_was_written(verb, benchmark):
    for data in (*MADE, *CORPORA, *(f"{corpus}:owner/name" for corpus in CORPORA), str(benchmark)):
        words = [verb, "--data", data, "--model", "a folder/model", "--n", "9", "--seed", "5"]
        arguments = parser().parse_args(words)
        again = shlex.split(command(arguments))
        assert again[0] == "mechaudio"
        read = parser().parse_args(again[1:])
        assert (read.verb, read.data, read.model, read.n) == (verb, arguments.data, arguments.model, 9)
        assert read.seed == 5 or data not in MADE

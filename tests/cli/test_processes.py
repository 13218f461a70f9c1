"""Commands of several processes: all of them work, and the first tells what was found."""

import pytest

import mechaudio as ma
from mechaudio.cli import main


def test_a_verb_that_shares_nothing_is_left_to_the_first_process(as_process, capsys):
    as_process(1, 2)
    assert main(["models"]) == 0
    assert capsys.readouterr().out == ""
    as_process(0, 2)
    assert main(["models"]) == 0
    assert "Qwen2-Audio" in capsys.readouterr().out


@pytest.mark.parametrize("rank", [0, 1])
def test_several_processes_need_a_folder_to_share_a_run(as_process, capsys, rank):
    as_process(rank, 2)
    assert main(["evaluate", "--model", "toy", "--data", "toy", "--n", "4"]) == 2
    assert "2 processes share a run through its folder: give --out DIR" in capsys.readouterr().err


def test_the_first_process_prints_what_was_found_and_writes_the_page(as_process, capsys, tmp_path):
    words = ["patch", "--model", "toy", "--device", "cpu"]  # and not on a GPU each, where there are any
    words += ["--data", "toy", "--n", "2", "--over", "layer", "--out", str(tmp_path)]
    as_process(1, 2)
    assert main(words) == 0
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "index.html").exists()
    of_second = ma.Result.load(tmp_path / "results")
    as_process(0, 2)
    assert main(words) == 0
    assert str(tmp_path / "index.html") in capsys.readouterr().out
    assert (tmp_path / "tables").is_dir()
    assert ma.Result.load(tmp_path / "results").values.tobytes() == of_second.values.tobytes()


def test_an_environment_that_makes_no_sense_is_a_mistake_told_in_words(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "2")
    assert main(["models"]) == 2
    assert "it says RANK=2: start with accelerate launch or torchrun, or unset them" in capsys.readouterr().err

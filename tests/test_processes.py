"""Who a process is among several, and how they take turns."""

import multiprocessing
import os

import pytest

from mechaudio import processes
from mechaudio.processes import Launch, Shared, Work, launch, one_at_a_time


@pytest.fixture
def launched(monkeypatch):
    def become(**variables):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return become


def hold(folder, unit, holding):
    """Take a byte of a folder's locks, say so, and keep it until this process is killed."""
    os.environ.update(RANK="1", WORLD_SIZE="2")
    with Shared(folder) as shared:
        holding.send(shared.take(unit))
        holding.poll(None)


@pytest.fixture
def held(tmp_path):
    """Has another process take batch 3 of a folder."""
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe()
    process = forking.Process(target=hold, args=(tmp_path, 3, there), daemon=True)
    process.start()
    assert here.recv() is True
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Launch(0, 1, 0)),
        ({"LOCAL_RANK": 3}, Launch(0, 1, 0)),
        ({"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1}, Launch(5, 8, 1)),
        ({"RANK": 1, "WORLD_SIZE": 2}, Launch(1, 2, 1)),
        ({"WORLD_SIZE": 1}, Launch(0, 1, 0)),
        ({"RANK": 0}, Launch(0, 1, 0)),
        ({"RANK": "", "WORLD_SIZE": ""}, Launch(0, 1, 0)),
    ],
)
def test_the_environment_says_which_process_this_is(launched, variables, expected):
    launched(**variables)
    assert launch() == expected


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": 2},
        {"WORLD_SIZE": 2},
        {"RANK": 2, "WORLD_SIZE": 2},
        {"RANK": -1, "WORLD_SIZE": 2},
        {"RANK": "first", "WORLD_SIZE": 2},
        {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": -1},
    ],
)
def test_an_environment_that_says_nothing_sensible_is_refused(launched, variables):
    launched(**variables)
    said = ", ".join(f"{name}={value}" for name, value in variables.items())
    with pytest.raises(ValueError, match=f"RANK from 0 and below WORLD_SIZE.* it says {said}: start with accelerate"):
        launch()


def work_of(shared, done, order):
    def do(unit):
        order.append(unit)
        done.add(unit)

    return Work(shared, number=lambda unit: unit, is_done=done.__contains__, do=do)


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_done_is_not_done_again_and_all_else_is_in_its_order(launched, tmp_path, n):
    launched(RANK=0, WORLD_SIZE=n)
    done, order = {1}, []
    with Shared(tmp_path) as shared:
        work = work_of(shared, done, order)
        work.do_all(range(4))
    assert order == [0, 2, 3]


def test_what_a_process_had_that_was_killed_is_done_by_another(launched, tmp_path, held):
    launched(RANK=0, WORLD_SIZE=2)
    done, order = set(), []
    with Shared(tmp_path) as shared:

        def units():
            yield from (2, 3, 4)
            assert order == [2, 4]
            held.kill()

        work_of(shared, done, order).do_all(units())
    assert order == [2, 4, 3]


def test_what_another_process_has_done_is_not_waited_for(launched, tmp_path, held):
    launched(RANK=0, WORLD_SIZE=2)
    done, order = set(), []
    with Shared(tmp_path) as shared:

        def units():
            yield 3
            done.add(3)

        work_of(shared, done, order).do_all(units())
    assert order == []


def test_no_more_is_held_than_others_are_at(launched, tmp_path, held):
    launched(RANK=0, WORLD_SIZE=2)
    done, order = set(), []
    with Shared(tmp_path) as shared:
        work = work_of(shared, done, order)

        def units():
            yield 3
            done.add(3)
            yield 3  # which another process has still
            assert work._left == [3]

        work.do_all(units())
    assert order == []


def test_what_a_process_keeps_for_too_long_is_done_here_as_well(launched, tmp_path, held, monkeypatch):
    launched(RANK=0, WORLD_SIZE=2)
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    done, order = set(), []
    with Shared(tmp_path) as shared:
        work = work_of(shared, done, order)
        with pytest.warns(UserWarning, match="another process has had batch 3 for 0 seconds without writing anything"):
            work.do_all([3])
    assert order == [3]
    assert held.is_alive()


def test_a_unit_that_fails_is_free_for_others(launched, tmp_path):
    launched(RANK=0, WORLD_SIZE=2)

    def fail(_):
        raise OSError("the disk is full")

    with Shared(tmp_path) as shared:
        work = Work(shared, number=int, is_done=lambda _: False, do=fail)
        with pytest.raises(OSError, match="the disk is full"):
            work.do_all([0])
        assert shared.take(0)


def test_a_file_system_without_locks_is_told(launched, tmp_path, monkeypatch):
    launched(RANK=0, WORLD_SIZE=2)

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(processes.fcntl, "lockf", refuse)
    with Shared(tmp_path) as shared, pytest.raises(ValueError, match=r"has none \(Function not impl.*give an out="):
        shared.take(0)
    with one_at_a_time(tmp_path):
        pass


def test_one_process_leaves_no_file_of_locks(launched, tmp_path):
    launched()
    with Shared(tmp_path) as shared, one_at_a_time(tmp_path):
        assert shared.alone
        assert shared.take(0)
    assert list(tmp_path.iterdir()) == []

"""Warnings reach whom they are for: what one thread withholds, no other loses."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import mechaudio as ma
from mechaudio.data import soundscapes
from mechaudio.notices import ignored, warn, withheld
from tests.families import network


@pytest.fixture
def filtering_threads(monkeypatch):
    """The threads that put other filters of warnings in place."""
    threads, enter = [], warnings.catch_warnings.__enter__

    def watched(self):
        threads.append(threading.current_thread())
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", watched)
    return threads


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, asked: ma.evaluate(model, asked, batch_size=1, progress=False),
        lambda model, asked: ma.analyses.attention_and_answers(model, asked, batch_size=1, progress=False),
        lambda model, asked: ma.analyses.attention_flow(model, asked, window=1, batch_size=1, progress=False),
        lambda model, asked: ma.analyses.logit_lens(model, asked, batch_size=1, progress=False),
    ],
)
def test_the_thread_that_makes_prompts_ahead_leaves_the_filters_of_all_threads_alone(ask, filtering_threads):
    ask(ma.load("tiny", prove=False), soundscapes.questions(4, seed=0))
    assert {thread.name for thread in filtering_threads} <= {threading.main_thread().name}


def test_a_warning_of_one_thread_is_seen_while_another_withholds_its_own():
    inside, seen = threading.Event(), threading.Event()

    def quiet():
        with withheld() as messages:
            inside.set()
            assert seen.wait(10)
            warn("of the thread")
        return messages

    with ThreadPoolExecutor(1) as pool:
        messages = pool.submit(quiet)
        assert inside.wait(10)
        with pytest.warns(UserWarning, match="of the main thread"):
            warn("of the main thread")
        seen.set()
        assert messages.result() == ["of the thread"]


def test_only_messages_that_begin_as_said_are_withheld():
    with withheld("a", "b") as messages:
        warn("a")
        warn("bc")
        with pytest.warns(UserWarning, match="^c$"):
            warn("c")
    assert messages == ["a", "bc"]


def test_a_warning_of_another_package_is_ignored_in_the_main_thread_and_shown_in_others():
    def told():
        with ignored("of another"):
            warnings.warn("of another package", stacklevel=1)

    before = list(warnings.filters)
    told()
    with ThreadPoolExecutor(1) as pool, pytest.warns(UserWarning, match="of another package"):
        pool.submit(told).result()
    assert list(warnings.filters) == before


def test_opening_a_network_in_many_threads_leaves_the_filters_as_they_were():
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Module '.*' has a submodule named 'output'")
        list(pool.map(lambda family: ma.AudioLM(network(family), prove=False), ["granite_speech", "qwen2_audio"] * 4))
    assert list(warnings.filters) == before

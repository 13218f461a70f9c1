"""Prompts made by workers: the same as without, in order, with errors at their turn, and no process is left."""

import json
import multiprocessing
import os
import select
import signal
import time
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import ahead
from mechaudio.analyses.ahead import WAITING, Ahead, Waiting, workers_for
from mechaudio.analyses.steering_directions import heard_and_silent
from mechaudio.analyses.streaming import questions_in
from mechaudio.audio.stored import StoredClip
from mechaudio.models.adapters.desta25 import DESTA_25
from mechaudio.models.prompt import as_prompts
from mechaudio.notices import warn
from tests.families import ASKED, noise, opened, thinned

HERE = os.getpid()


@pytest.fixture(scope="module")
def asked():
    return ma.data.toy_questions.questions(9, seed=0)


@pytest.fixture(autouse=True)
def several_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def pairs_of(questions):
    return [questions[first : first + 2] for first in range(0, len(questions), 2)]


def by_two(model, make, **options):
    return Ahead(model, make, workers=2, refers_to=questions_in, **options)


def same(batch, other):
    assert list(batch.inputs) == list(other.inputs)
    for name, value in batch.inputs.items():
        assert torch.equal(value, other.inputs[name]), name
        assert (value.dtype, value.device) == (other.inputs[name].dtype, other.inputs[name].device)
    assert all(one is two for one, two in zip(batch.questions, other.questions, strict=True))
    assert batch.tokenizer is other.tokenizer
    for name in ("spans", "condition", "choice_ids", "family", "made_for", "cut", "given", "written", "layout"):
        assert getattr(batch, name) == getattr(other, name), name
    assert batch.tokens(0) == other.tokens(0)


def in_this_process(_=None):
    return os.getpid() == HERE


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", thinned(ASKED))
def test_workers_write_what_this_process_writes_on_one_thread_in_every_class(family):
    model = opened(family)
    questions = [
        ma.AudioQuestion(ma.AudioClip(noise(seconds, seed), 16_000), "Which?", ("dog", "rain"), id=str(seed))
        for seed, seconds in enumerate((1.0, 1.4, 1.0))
    ]
    make = partial(as_prompts, model)
    made = list(by_two(model, make)([questions[:2], questions[2:]]))
    assert [len(asked) for asked, _ in made] == [2, 1]
    for asked, batch in made:
        same(batch, make(asked))


@pytest.mark.parametrize("room", [True, False])
def test_large_tensors_come_through_shared_memory_where_there_is_room(toy, asked, monkeypatch, tmp_path, room):
    monkeypatch.setattr(ahead, "LARGE", 0)
    if not room:
        monkeypatch.setattr(ahead, "SHARED_MEMORY", tmp_path / "missing")
    make = partial(as_prompts, toy)
    for pair, batch in by_two(toy, make)(pairs_of(asked)):
        same(batch, make(pair))
        assert {value.is_shared() for value in batch.inputs.values()} == {room}


def test_room_that_another_process_takes_first_leaves_no_file_behind(monkeypatch, tmp_path):
    def refused(_):
        (tmp_path / f"torch_{os.getpid()}_1").touch()
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(ahead, "LARGE", 0)
    monkeypatch.setattr(ahead, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(torch.Tensor, "share_memory_", refused)
    sent = ahead._pickled(torch.arange(3), [])
    assert sent.tensors == []
    assert ahead._Unpickler(sent, [], torch.device("cpu")).load().tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_what_was_computed_with_gradients_comes_through_shared_memory_without_them(toy, asked, monkeypatch):
    monkeypatch.setattr(ahead, "LARGE", 0)
    weight = torch.ones(2, requires_grad=True)

    def make(_):
        with torch.enable_grad():
            return 3 * weight

    made = [value for _, value in by_two(toy, make)(pairs_of(asked)[:2])]
    assert [(value.tolist(), value.is_shared(), value.requires_grad) for value in made] == [([3, 3], True, False)] * 2


def test_prompts_arrive_in_order_from_other_processes_and_questions_are_drawn_here(toy, asked):
    drawn = []

    def items():
        for pair in pairs_of(asked):
            drawn.append(os.getpid())
            yield pair

    def make(pair):
        return os.getpid(), heard_and_silent(toy, pair)

    waiting, makers = Waiting("test"), set()
    before = torch.random.get_rng_state()
    for number, (pair, (maker, batches)) in enumerate(by_two(toy, make, waiting=waiting)(items())):
        makers.add(maker)
        assert pair == pairs_of(asked)[number]
        assert len(drawn) <= number + 3
        for batch, other in zip(batches, heard_and_silent(toy, pair), strict=True):
            same(batch, other)
    assert (waiting.workers, waiting.batches) == (2, 5)
    assert waiting.waited > 0
    assert len(makers) == 2
    assert HERE not in makers
    assert set(drawn) == {HERE}
    assert torch.equal(torch.random.get_rng_state(), before)


def test_workers_make_prompts_while_this_process_does_something_else_that_is_not_counted(toy, asked, tmp_path):
    arrived = tmp_path / "arrived"
    waiting = Waiting("test")

    def meanwhile():
        until = time.monotonic() + 30
        while not arrived.exists():
            assert time.monotonic() < until, "nothing is made meanwhile"
            time.sleep(0.01)
        time.sleep(0.2)

    way = by_two(toy, lambda _: arrived.touch(), meanwhile=meanwhile, waiting=waiting)
    began = time.perf_counter()
    with waiting.kept(None):
        assert len(list(way(pairs_of(asked)))) == 5
    assert waiting.waited <= waiting.seconds < time.perf_counter() - began - 0.2


@pytest.mark.parametrize("workers", [0, 1])
def test_without_workers_too_something_else_is_done_first(toy, workers):
    done = []
    way = Ahead(toy, lambda item: (item, *done), workers=workers, meanwhile=lambda: done.append("begun"))
    assert list(way(["only"])) == [("only", ("only", "begun"))]


@pytest.mark.parametrize(("pairs", "made_here"), [(1, True), (2, False)])
def test_there_are_no_more_workers_than_batches_and_none_for_one(toy, asked, pairs, made_here):
    made = list(by_two(toy, in_this_process)(pairs_of(asked)[:pairs]))
    assert [here for _, here in made] == [made_here] * pairs


def test_one_worker_makes_all(toy, asked):
    makers = {maker for _, maker in Ahead(toy, lambda _: os.getpid(), workers=1)(pairs_of(asked))}
    assert len(makers) == 1
    assert HERE not in makers


def test_what_cannot_be_made_is_raised_here_when_its_turn_comes(toy, asked):
    def make(pair):
        if pair[0].id == asked[3].id:
            raise FloatingPointError("no prompt can be made of the fourth")
        return len(pair)

    singles = [[question] for question in asked]
    made = by_two(toy, make)(singles)
    assert [next(made)[1] for _ in range(3)] == [1, 1, 1]
    with pytest.raises(FloatingPointError, match=r"^no prompt can be made of the fourth$"):
        next(made)
    assert not multiprocessing.active_children()


def test_what_cannot_be_drawn_is_raised_behind_what_was_drawn_before(toy, asked):
    def items():
        yield from pairs_of(asked)[:3]
        raise TypeError("the fourth is no question")

    seen = []
    with pytest.raises(TypeError, match="the fourth is no question"):
        seen.extend(made for _, made in by_two(toy, len)(items()))
    assert seen == [2, 2, 2]


def test_what_a_worker_alone_cannot_make_is_made_here_and_told(toy, asked):
    def make(pair):
        if not in_this_process():
            raise MemoryError("no room in the worker")
        return len(pair)

    made = by_two(toy, make)(pairs_of(asked)[:2])
    with pytest.warns(UserWarning, match=r"a worker could not make prompts \(MemoryError: no room in the worker\)"):
        assert [n for _, n in made] == [2, 2]


def test_a_question_that_cannot_be_sent_is_made_here_and_told(toy, asked):
    clip = asked[0].clip()
    stored = [ma.AudioQuestion(StoredClip(lambda: clip.to_wav(), "in a closure"), "?", id="closure")]
    made = by_two(toy, in_this_process)([asked[:1], stored, asked[1:2]])
    with pytest.warns(UserWarning, match="a question cannot be sent to a worker .*this process makes its prompts"):
        assert [here for _, here in made] == [False, True, False]


def test_warnings_of_workers_are_given_here(toy, asked):
    def make(pair):
        warn(f"ours of {pair[0].id}")
        warnings.warn(f"theirs of {pair[0].id}", DeprecationWarning, stacklevel=2)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert len(list(by_two(toy, make)(pairs_of(asked)[:2]))) == 2
    told = [(str(one.message), one.category) for one in heard]
    for pair in pairs_of(asked)[:2]:
        assert (f"ours of {pair[0].id}", UserWarning) in told
        assert (f"theirs of {pair[0].id}", DeprecationWarning) in told


def test_a_worker_that_is_killed_ends_the_run_with_advice(toy, asked):
    def make(pair):
        if pair[0].id == asked[4].id:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(pair)

    with pytest.raises(RuntimeError, match=r"ended from outside .*workers=0, take less"):
        list(by_two(toy, make)(pairs_of(asked)))
    assert not multiprocessing.active_children()


def test_workers_of_a_process_that_is_killed_end_with_it(toy, monkeypatch):
    monkeypatch.setattr(ahead, "_LOOK", 0.05)
    ended, held = os.pipe()
    if not (child := os.fork()):
        os.close(ended)
        for _ in Ahead(toy, lambda _: bytes(1 << 20), 1)([0, 1, 2, 3]):  # more than a pipe takes
            time.sleep(0.2)  # until the next one waits to be read
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(held)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with os.fdopen(ended, "rb") as file:
        assert select.select([file], [], [], 20)[0], "a worker still holds the other end"
        assert file.read() == b""


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_loop_that_is_left_early_or_interrupted_leaves_no_process(toy, asked, interrupted):
    made = by_two(toy, len)(pairs_of(asked))
    next(made)
    assert len(multiprocessing.active_children()) == 2
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            made.throw(KeyboardInterrupt)
    else:
        made.close()
    assert not multiprocessing.active_children()


def test_the_number_of_workers_is_one_that_helps(toy, monkeypatch):
    desta = SimpleNamespace(adapter=DESTA_25)

    def counts(model, *asked, cores=8, here=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        (monkeypatch.delenv if here is None else monkeypatch.setenv)(
            *(("LOCAL_WORLD_SIZE", False) if here is None else ("LOCAL_WORLD_SIZE", str(here)))
        )
        return [workers_for(model, workers) for workers in asked]

    assert counts(toy, 0, 1, 3, 64) == [0, 1, 3, 8]
    assert counts(desta, 0, 3) == [0, 0]
    assert counts(toy, 64, cores=1) == [1]
    assert counts(toy, 64, here=4) == [2]
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        workers_for(toy, -1)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert counts(toy, 0) == [0]
    with pytest.raises(ValueError, match=r"workers=2 are processes that begin as copies .* this system cannot start"):
        workers_for(toy, 2)


def test_the_time_that_a_model_waits_is_kept_beside_what_it_did(toy, asked, tmp_path):
    waiting = Waiting("reading")
    with waiting.kept(tmp_path):
        assert len(list(Ahead(toy, len, workers=0, waiting=waiting)(pairs_of(asked)))) == 5
    with Waiting("nothing").kept(tmp_path):
        pass
    (line,) = (tmp_path / WAITING).read_text().splitlines()
    told = json.loads(line)
    assert {name: told[name] for name in ("process", "what", "workers", "batches")} == {
        "process": 0, "what": "reading", "workers": 0, "batches": 5,
    }  # fmt: skip
    assert 0 <= told["waited"] <= told["seconds"]
    assert told["share"] == told["waited"] / told["seconds"] == waiting.share

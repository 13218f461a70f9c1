"""Prompts made ahead of the model: in another thread, or by processes of torch's `DataLoader`.

Reading a clip, resampling it and computing its features can take as long as a forward pass on a GPU. Worker processes
do it while the model is busy, each a batch at a time, and the batches arrive in their order. What arrives is what the
process itself would have made on one thread, to the bit: a worker computes the same features, and the tensors are put
where the model is when they arrive. Features that torch computes, as those of Granite Speech, Nemotron-H-Omni and
SALMONN, may differ in their last bits from those of a process that computes on several threads.

A worker that fails is not believed: the process makes that batch itself, and raises what there is to raise as it would
without workers.

Conventions: times are in seconds of the wall clock.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mechaudio.models.inputs import input_device
from mechaudio.notices import ignored, warn, withheld
from mechaudio.processes import launch

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

Item = TypeVar("Item")
Made = TypeVar("Made")

WAITING = "waiting.jsonl"
LARGE = 1 << 20
"""Bytes from which on a tensor goes through shared memory; a smaller one is as fast through a pipe."""
SHARED_MEMORY = "/dev/shm"
"""The folder in which Linux keeps it."""
_LOOK = 1.0
"""Seconds between two looks of a worker at whether the process that began it is there."""


def workers_for(model: AudioLM, workers: int) -> int:
    """Return how many processes make prompts for a model.

    A network that makes prompts itself (audio tokens merged by content, transcripts) has none. There are never more
    than cores that this process may use, its share of them where a launcher says in `LOCAL_WORLD_SIZE` that several
    processes share the machine.

    Raises:
        ValueError: A number below zero; or processes that cannot be started here.
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    starts = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    if workers and not starts:
        raise ValueError(
            f"workers={workers} are processes that begin as copies of this one, which "
            + ("a worker process itself" if multiprocessing.current_process().daemon else "this system")
            + " cannot start: leave workers= out, or give 0"
        )
    if not workers or model.adapter.makes_prompts_with_network:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
    return min(workers, max(1, cores))


@dataclass
class Waiting:
    """The time that a model waited for prompts.

    Attributes:
        what: What was done.
        workers: Processes that made prompts; None where a thread of this process made them a batch ahead, 0 where each
            batch was made when its turn came.
        batches: Number of batches.
        waited: Seconds in which the next batch was not there.
        seconds: Seconds from the first batch that was asked for to the end.
    """

    what: str
    workers: int | None = 0
    batches: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    _begun: float = field(default=0.0, repr=False)

    @property
    def share(self) -> float:
        """Share of the time spent waiting."""
        return self.waited / self.seconds if self.seconds else 0.0

    @contextmanager
    def kept(self, folder: str | os.PathLike | None) -> Iterator[Waiting]:
        """Measure while open, and add a line to `waiting.jsonl` in a folder; `None` keeps nothing."""
        self._begun = time.perf_counter()
        try:
            yield self
        finally:
            self.seconds = time.perf_counter() - self._begun
            if folder is not None and self.batches:
                measured = {name: value for name, value in vars(self).items() if not name.startswith("_")}
                line = json.dumps({"process": launch().rank, **measured, "share": self.share}) + "\n"
                with Path(folder, WAITING).open("a", encoding="utf-8") as file:
                    file.write(line)

    def during(self, make: Callable[[], Made]) -> Made:
        """Return what is made, and count its time as waiting."""
        start = time.perf_counter()
        made = make()
        self.waited += time.perf_counter() - start
        return made

    def beside(self, do: Callable[[], object]) -> None:
        """Do something that is no part of what is measured."""
        start = time.perf_counter()
        do()
        self._begun += time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Ahead(Generic[Item, Made]):
    """Makes something of each item ahead of who uses it.

    Attributes:
        model: The opened model.
        make: Makes prompts of an item.
        workers: How many processes make them, as in `workers_for`.
        threaded: Without processes, another thread makes them, an item ahead; else each is made when its turn comes.
        refers_to: What of an item is not sent back with what is made of it: its questions, say. What is made refers to
            these very objects.
        first: What a worker does first, such as to let go of files that are locked.
        meanwhile: What this process does when its workers have begun, and before it waits for them. It counts neither
            as waiting nor as time of the run.
        waiting: Measures how long is waited for what is made.
    """

    model: AudioLM
    make: Callable[[Item], Made]
    workers: int = 0
    threaded: bool = False
    refers_to: Callable[[Item], Sequence[object]] = lambda _: ()
    first: Callable[[], object] = lambda: None
    meanwhile: Callable[[], object] = lambda: None
    waiting: Waiting = field(default_factory=lambda: Waiting(""))

    def __call__(self, items: Iterable[Item]) -> Generator[tuple[Item, Made], None, None]:
        """Go through items, which are drawn in this thread, with what is made of each; in their order.

        What cannot be drawn is raised behind all that was drawn before it, what cannot be made when its turn comes.

        Raises:
            RuntimeError: A worker was killed.
        """
        failed = list[Exception]()
        workers, drawn = workers_for(self.model, self.workers), _until_failed(items, failed)
        # As many as there are items for, and none for a single one.
        head = list(islice(drawn, max(2, workers))) if workers else []
        workers, drawn = (min(workers, len(head)) if len(head) > 1 else 0), chain(head, drawn)
        threaded = self.threaded and not workers and not self.model.adapter.makes_prompts_with_network
        self.waiting.workers = None if threaded else max(workers, self.waiting.workers or 0)
        if not workers:
            self.waiting.beside(self.meanwhile)
        way = self._by_processes(drawn, workers) if workers else (self._by_thread if threaded else self._in_turn)(drawn)
        with closing(way) as made:
            for item, value in made:
                self.waiting.batches += 1
                yield item, value
        for error in failed:
            raise error

    def _in_turn(self, drawn: Iterator[Item]) -> Generator[tuple[Item, Made], None, None]:
        for item in drawn:
            yield item, self.waiting.during(lambda item=item: self.make(item))

    def _by_thread(self, drawn: Iterator[Item]) -> Generator[tuple[Item, Made], None, None]:
        with ThreadPoolExecutor(1) as worker:

            def begun() -> Iterator[tuple[Item, Future[Made]]]:
                for item in drawn:
                    yield item, worker.submit(copy_context().run, self.make, item)

            making = begun()
            following = next(making, None)
            while following is not None:
                item, future = following
                value = self.waiting.during(future.result)
                following = next(making, None)
                yield item, value

    def _by_processes(self, drawn: Iterator[Item], workers: int) -> Generator[tuple[Item, Made], None, None]:
        """Send items to workers; one that cannot be sent, or of which a worker makes nothing, is made here."""
        taken = deque[Item]()

        def sending() -> Iterator[bytes]:
            for item in drawn:
                taken.append(item)
                yield _sendable(item)

        parent = os.getpid()

        def begin(_: int) -> None:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
            self.first()

        tokenizer, device = getattr(self.model.processor, "tokenizer", None), input_device(self.model.network)
        loader = DataLoader(
            _Making(self, tokenizer),
            batch_size=None,
            sampler=sending(),
            num_workers=workers,
            prefetch_factor=1,
            multiprocessing_context="fork",
            pin_memory=device.type == "cuda",  # a thread pins what workers send
            worker_init_fn=begin,
            generator=torch.Generator(),  # not the one of all threads, whose numbers others draw
        )
        with ExitStack() as open_workers:
            with _calm_fork():
                arriving: Any = self.waiting.during(lambda: iter(loader))
            open_workers.callback(arriving._shutdown_workers)
            self.waiting.beside(self.meanwhile)
            while (sent := self.waiting.during(lambda: _next(arriving))) is not None:
                item = taken.popleft()
                yield (
                    item,
                    self.waiting.during(lambda item=item, sent=sent: self._received(item, sent, tokenizer, device)),
                )

    def _received(self, item: Item, sent: _Sent, tokenizer: object, device: torch.device) -> Made:
        if not sent.pickled:
            return self.make(item)
        known = [tokenizer, *self.refers_to(item)]
        value, failure, warned = _Unpickler(sent, known, device).load()
        if failure is not None:
            made = self.make(item)  # raises it, with the lines of code that a reader looks for
            warn(f"a worker could not make prompts ({failure}), and this process could: it made them")
            return made
        for message, category, file, line in warned:
            warnings.warn_explicit(message, category, file, line) if file else warn(message)
        return value


def _end_with(parent: int) -> None:
    """End this worker when the process that began it was killed.

    It would wait for ever for somebody to read what it has made, and hold the memory that it was begun with.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _until_failed(items: Iterable[Item], failed: list[Exception]) -> Iterator[Item]:
    """Draw items as far as they can be drawn, and keep the error that ended them."""
    try:
        yield from items
    except Exception as error:  # noqa: BLE001 - it is raised behind what was drawn before
        failed.append(error)


def _sendable(item: object) -> bytes:
    """Return an item as it is sent to a worker; blank bytes for one that cannot be sent."""
    try:
        return pickle.dumps(item, protocol=5)
    except Exception as error:  # noqa: BLE001 - pickle raises what the value's own methods raise
        warn(
            f"a question cannot be sent to a worker ({error}), so that this process makes its prompts: keep "
            "recordings as files, or as clips in memory"
        )
        return b""


class _Sent(NamedTuple):
    """A pickled result of a worker, with its large tensors in shared memory."""

    pickled: bytes
    tensors: list[Tensor]


class _Making(Dataset):
    """What a worker does: it is sent an item, and sends back what it makes of it."""

    def __init__(self, ahead: Ahead[Any, Any], tokenizer: object):
        self._ahead, self._tokenizer = ahead, tokenizer

    def __getitem__(self, sent: bytes) -> _Sent:
        if not sent:
            return _Sent(b"", [])
        item = pickle.loads(sent)
        known = [self._tokenizer, *self._ahead.refers_to(item)]
        value = failure = None
        with warnings.catch_warnings(record=True) as theirs, withheld() as ours:
            try:
                value = self._ahead.make(item)
            except Exception as error:  # noqa: BLE001 - the process makes it again, and raises it
                failure = f"{type(error).__name__}: {error}"
        warned = [(str(each.message), each.category, each.filename, each.lineno) for each in theirs]
        warned += [(message, UserWarning, "", 0) for message in ours]
        try:
            return _pickled((value, failure, warned), known)
        except Exception as error:  # noqa: BLE001 - as above
            return _pickled((None, f"{type(error).__name__}: {error}", []), known)


def _pickled(value: object, known: Sequence[object]) -> _Sent:
    file, tensors = io.BytesIO(), list[Tensor]()
    _Pickler(file, known, tensors).dump(value)
    return _Sent(file.getvalue(), tensors)


class _Pickler(pickle.Pickler):
    """Puts large tensors into shared memory, and writes a number for them and for what is known on both sides.

    A container may have next to no shared memory: what finds no room there is written as bytes, as small tensors are.
    """

    def __init__(self, file: io.BytesIO, known: Sequence[object], tensors: list[Tensor]):
        super().__init__(file, protocol=5)
        self._numbers = {id(value): number for number, value in enumerate(known) if value is not None}
        self._tensors = tensors

    def persistent_id(self, value: Any) -> Any:
        """Name a tensor or a known value; None for all else."""
        if not isinstance(value, Tensor):
            return self._numbers.get(id(value))
        value = value.detach()  # a queue sends no tensor that was computed with gradients
        if value.nbytes >= LARGE and (copy := _in_shared_memory(value)) is not None:
            self._tensors.append(copy)
            return "shared", len(self._tensors) - 1
        return value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy()


def _in_shared_memory(value: Tensor) -> Tensor | None:
    """Copy a tensor into shared memory; `None` if there is no room."""
    try:
        if shutil.disk_usage(SHARED_MEMORY).free <= 2 * value.nbytes:
            return None
    except OSError:  # no shared memory is kept there
        return None
    before = _files_of_torch()
    try:
        return value.clone(memory_format=torch.contiguous_format).share_memory_()
    except RuntimeError:  # another process took the room first; torch leaves an empty file
        for file in _files_of_torch() - before:
            file.unlink(missing_ok=True)
        return None


def _files_of_torch() -> set[Path]:
    """Name the files of this process in shared memory."""
    return {*Path(SHARED_MEMORY).glob(f"torch_{os.getpid()}_*")}


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` wrote, and puts tensors on a device."""

    def __init__(self, sent: _Sent, known: Sequence[object], device: torch.device):
        super().__init__(io.BytesIO(sent.pickled))
        self._tensors, self._known, self._device = sent.tensors, known, device

    def persistent_load(self, pid: Any) -> Any:
        """Return the tensor or the known value of that name."""
        match pid:
            case int():
                return self._known[pid]
            case "shared", number:
                return self._tensors[number].to(self._device, non_blocking=True)
            case dtype, shape, content:
                return torch.from_numpy(content).view(dtype).reshape(shape).to(self._device)


def _next(arriving: Iterator[_Sent]) -> _Sent | None:
    try:
        return next(arriving, None)
    except RuntimeError as error:
        raise RuntimeError(
            f"a worker that makes prompts was ended from outside ({error}): the machine may lack memory for it, and "
            "fewer workers=, or workers=0, take less"
        ) from error


@contextmanager
def _calm_fork() -> Iterator[None]:
    """Start processes without warnings of packages that make threads, none of which the processes use."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        with ignored("This process .* is multi-threaded"):
            yield
    finally:
        if before is None:
            del os.environ[name]

"""Scenes and batches, made by other processes while the GPU trains.

`Feed` fills a pool of scenes on disk, chunk after chunk, and packs batches from what is there already: sound batches
with the numbers of their clips in the pool, and every so often a batch of captions.
"""

import multiprocessing
import pickle
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from queue import Empty

import numpy as np
import torch
from held_out import SETS, Item, item
from rows import SAMPLES, Batch, Packer
from scenes import Bank, scene

from mechaudio.models.small import gguf
from mechaudio.models.small.language import build_tokenizer

CAPTION_EVERY = 5
_state: dict[str, object] = {}


def _start(bank: str, smollm2: str) -> None:
    torch.set_num_threads(1)
    _state.update(bank=Bank(bank), packer=Packer(build_tokenizer(gguf.read(smollm2))))


def _chunk(job: tuple[str, int, int, int, int]) -> None:
    folder, slot, chunk, n_scenes, first = job
    pool = np.memmap(Path(folder) / "pool", np.int16, "r+", shape=(n_scenes, SAMPLES))
    packer = _state["packer"]
    made = []
    for index in range(chunk):
        wave, of_sound, of_caption = scene(_state["bank"], first + index)
        row = pool[slot * chunk + index]
        row[: len(wave)] = (np.clip(wave, -1, 1) * 32767).astype(np.int16)
        made.append((len(wave), packer.tokens(of_sound), packer.tokens(of_caption)))
    unfinished = Path(folder) / f"{slot}.part"
    unfinished.write_bytes(pickle.dumps(made))
    unfinished.rename(Path(folder) / f"{slot}.questions")


def _item(job: tuple[str, int]) -> Item:
    return item(_state["bank"], *job)


def _pack(folder: str, smollm2: str, seed: int, chunk: int, batch: int, out, captions) -> None:
    packer = Packer(build_tokenizer(gguf.read(smollm2)))
    rng = np.random.default_rng(seed)
    ready: dict[int, list] = {}
    looked, step = 0.0, 0
    while True:
        if time.time() - looked > 2:
            for file in Path(folder).glob("*.questions"):
                if int(file.stem) not in ready:
                    ready[int(file.stem)] = pickle.loads(file.read_bytes())
            looked = time.time()
        if not ready:
            time.sleep(0.2)
            continue
        step += 1
        heard = step % CAPTION_EVERY != 0 or not captions.is_set()
        rows, clips = [], []
        slots = list(ready)
        while len(rows) < (batch if heard else 2 * batch):
            slot, index = int(rng.choice(slots)), int(rng.integers(chunk))
            samples, of_sound, of_caption = ready[slot][index]
            asked = of_sound if heard else of_caption
            if asked:
                rows.append((samples, [asked[i] for i in rng.permutation(len(asked))]))
                clips.append(slot * chunk + index)
        out.put((packer.pack(rows, heard), clips if heard else None, len(ready)))


class Feed:
    """Batches for one seed; `next()` gives a batch, its clips as int16 (None for captions), and the chunks there are.

    Attributes:
        captions: Set from the moment on when captions are asked about too.
    """

    def __init__(
        self, folder: str, bank: str, smollm2: str, seed: int, *, batch: int, workers: int, n_chunks: int, chunk: int
    ) -> None:
        self.n_scenes = n_chunks * chunk
        with (Path(folder) / "pool").open("wb") as file:
            file.truncate(2 * self.n_scenes * SAMPLES)
        context = multiprocessing.get_context("spawn")
        self.captions, self._batches = context.Event(), context.Queue(8)
        self._workers = ProcessPoolExecutor(workers, context, _start, (bank, smollm2))
        self._jobs = [
            (folder, slot, chunk, self.n_scenes, 1_000_000 * (1 + seed) + slot * chunk) for slot in range(n_chunks)
        ]
        self._packers = [
            context.Process(
                target=_pack,
                args=(folder, smollm2, 10 * seed + index, chunk, batch, self._batches, self.captions),
                daemon=True,
            )
            for index in range(3 if workers > 3 else 1)
        ]
        self._pool = np.memmap(Path(folder) / "pool", np.int16, "r", shape=(self.n_scenes, SAMPLES))
        self._scenes: list[Future] = []
        self._items: list[Future] = []

    def start(self, n_held_out: int) -> None:
        """Begin to make scenes, and after the first of them the held-out questions."""
        first = len(self._jobs) // 8 + 1
        self._scenes += [self._workers.submit(_chunk, job) for job in self._jobs[:first]]
        self._items += [self._workers.submit(_item, (name, i)) for name in SETS for i in range(n_held_out)]
        self._scenes += [self._workers.submit(_chunk, job) for job in self._jobs[first:]]
        for packer in self._packers:
            packer.start()

    def next(self) -> tuple[Batch, torch.Tensor | None, int]:
        """Wait for a batch; raises what went wrong in a worker.

        Raises:
            RuntimeError: A packer has ended.
        """
        while True:
            try:
                batch, clips, chunks = self._batches.get(timeout=10)
            except Empty:
                for scenes in self._scenes:
                    if scenes.done():
                        scenes.result()
                if not all(packer.is_alive() for packer in self._packers):
                    raise RuntimeError("a process that packs batches has ended; its traceback is above") from None
                continue
            return batch, None if clips is None else torch.from_numpy(self._pool[clips]), chunks

    def held_out(self) -> list[Item]:
        """The held-out questions; raises what went wrong in a worker."""
        return [made.result(timeout=300) for made in self._items]

    def stop(self) -> None:
        """End all processes."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        for packer in self._packers:
            packer.terminate()

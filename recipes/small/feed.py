"""Scenes and batches, made by other processes while the GPU trains.

`Feed` fills a pool of scenes on disk, chunk after chunk, and packs batches from what is there already: sound batches
with the numbers of their clips in the pool, and every so often a batch of captions.
"""

import multiprocessing
import pickle
import time
from pathlib import Path

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
        self._workers = context.Pool(workers, _start, (bank, smollm2))
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
        self._items = None

    def start(self, n_held_out: int) -> None:
        """Begin to make scenes, and after the first of them the held-out questions."""
        first = len(self._jobs) // 8 + 1
        self._made = [self._workers.map_async(_chunk, self._jobs[:first], chunksize=1)]
        jobs = [(name, index) for name in SETS for index in range(n_held_out)]
        self._items = self._workers.map_async(_item, jobs, chunksize=4)
        self._made.append(self._workers.map_async(_chunk, self._jobs[first:], chunksize=1))
        for packer in self._packers:
            packer.start()

    def next(self) -> tuple[Batch, torch.Tensor | None, int]:
        batch, clips, chunks = self._batches.get(timeout=300)
        return batch, None if clips is None else torch.from_numpy(self._pool[clips]), chunks

    def held_out(self) -> list[Item]:
        """The held-out questions; raises what went wrong in a worker."""
        for made in self._made:
            if made.ready():
                made.get()
        return self._items.get(timeout=600)

    def stop(self) -> None:
        self._workers.terminate()
        for packer in self._packers:
            packer.terminate()

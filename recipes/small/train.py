"""Trains the small model's projector, then the projector and a low-rank change of the decoder, on one GPU.

    python recipes/small/bank.py BANK
    python recipes/small/train.py --seed 0 --bank BANK --smollm2 FILE.gguf --whisper model.bin --out OUT

writes `projector.safetensors` and `small_deltas.safetensors` (the trained tensors in half precision), `held_out.json`
(how the assembled model answers questions that it never met) and `log.txt`. Scenes are made on the way by the other
cores; README.md beside this file says what is trained and how the shipped seed was chosen.
"""

import argparse
import copy
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
import torch
import transformers
from feed import Feed
from held_out import SETS, evaluate
from rows import AUDIO_TOKENS, Batch, Packer
from safetensors.torch import save_file
from text import divergence, perplexity, written
from torch.nn import functional

from mechaudio.models.small import ctranslate2, gguf
from mechaudio.models.small.language import AUDIO_END, AUDIO_START, N_MELS, build_processor, build_tokenizer
from mechaudio.models.small.network import assemble

SCALE = 2.0
MATRICES = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
LOG_EVERY = 20.0


class LowRank(torch.nn.Module):
    """A fixed linear layer and a trained change of low rank."""

    def __init__(self, fixed: torch.nn.Linear, rank: int) -> None:
        super().__init__()
        device = fixed.weight.device
        self.fixed = fixed
        self.a = torch.nn.Parameter(torch.randn(rank, fixed.in_features, device=device) / math.sqrt(fixed.in_features))
        self.b = torch.nn.Parameter(torch.zeros(fixed.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fixed(x) + SCALE * functional.linear(functional.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class Learner:
    """The network while it is trained: what is fixed in `dtype`, what is trained in single precision."""

    def __init__(self, network: torch.nn.Module, packer: Packer, device: str, dtype: torch.dtype) -> None:
        network.requires_grad_(False)
        self.packer, self.device, self.dtype = packer, device, dtype
        self.tower = network.model.audio_tower.to(device)
        self.decoder = network.model.language_model.to(device, dtype)
        self.words = self.decoder.embed_tokens.weight
        mean = self.words.float().mean(0)
        self.projector = torch.nn.Linear(self.tower.config.d_model, len(mean)).to(device)
        with torch.no_grad():
            spread = self.words.float().pow(2).mean().sqrt().item()
            self.projector.weight.normal_(0, spread / math.sqrt(self.projector.in_features))
            self.projector.bias.copy_(mean)
        self.marks = torch.nn.Parameter(mean.repeat(2, 1))
        self.low_rank: dict[str, LowRank] = {}
        filters = transformers.WhisperFeatureExtractor(feature_size=N_MELS).mel_filters
        self.filters = torch.tensor(filters, dtype=torch.float32, device=device)
        self.window = torch.hann_window(400, device=device)

    def add_low_rank(self, rank: int) -> None:
        """Put a change of low rank, zero to begin with, beside every matrix of the decoder."""
        for index, layer in enumerate(self.decoder.layers):
            for part, names in MATRICES.items():
                module = getattr(layer, part)
                for name in names:
                    wrapped = LowRank(getattr(module, name), rank)
                    setattr(module, name, wrapped)
                    self.low_rank[f"layers.{index}.{part}.{name}"] = wrapped

    def compile(self, wanted: bool) -> None:
        """Compile the layers, which share one compiled function, or undo that."""
        for layer in self.decoder.layers:
            if wanted:
                layer.compile(dynamic=False)
            else:
                layer._compiled_call_impl = None

    @torch.no_grad()
    def hear(self, waves: torch.Tensor, frames: np.ndarray) -> torch.Tensor:
        """The tower's output `[clips, AUDIO_TOKENS, width]` for int16 clips padded to ten seconds."""
        waves = waves.to(self.device, non_blocking=True).float() / 32768
        power = torch.stft(waves, 400, 160, window=self.window, return_complex=True)[..., :-1].abs() ** 2
        mel = (self.filters.T @ power).clamp(min=1e-10).log10()
        mel = (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4) / 4
        positions = torch.from_numpy((frames - 1) // 2 + 1)
        mask = torch.arange(mel.shape[-1] // 2)[None] < positions[:, None]
        mask = mask.to(self.device)[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            return self.tower(mel, attention_mask=mask).last_hidden_state.float()

    def logits(self, batch: Batch, waves: torch.Tensor | None) -> torch.Tensor:
        """Logits at the places of a batch that are to be predicted."""
        ids, questions = self.on(batch.ids), self.on(batch.questions)
        embedded = functional.embedding(ids, self.words).float()
        if waves is not None:
            start, end = len(self.packer.before), len(self.packer.before) + AUDIO_TOKENS
            heard = self.projector(self.hear(waves, batch.frames))
            begin, stop = (mark.expand(len(ids), 1, -1) for mark in self.marks)
            embedded = torch.cat([embedded[:, : start - 1], begin, heard, stop, embedded[:, end + 1 :]], 1)
        length = ids.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        same = (questions[:, None, :] == 0) | (questions[:, None, :] == questions[:, :, None])
        seen = earlier & (questions >= 0)[:, None, :] & same
        seen = seen | torch.eye(length, dtype=torch.bool, device=self.device)
        hidden = self._hidden(embedded, seen[:, None], self.on(batch.positions))
        return functional.linear(hidden.flatten(0, 1)[self.on(batch.places)], self.words).float()

    def text_logits(self, ids: torch.Tensor, decoder: torch.nn.Module) -> torch.Tensor:
        """Logits `[texts, length, words]` of plain texts, by this decoder or the untouched one."""
        embedded = functional.embedding(ids.clamp(min=0), self.words)
        length = ids.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        positions = torch.arange(length, device=self.device).expand(len(ids), -1)
        mask = earlier.expand(len(ids), 1, -1, -1)
        return functional.linear(self._hidden(embedded, mask, positions, decoder), self.words)

    def _hidden(self, embedded, mask, positions, decoder=None) -> torch.Tensor:
        embedded = embedded.to(self.dtype)
        if torch.is_grad_enabled():  # of captions, too: a compiled layer is made once more for an input without
            embedded.requires_grad_()
        return (decoder or self.decoder)(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state

    def on(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def save(self, path: Path, said: dict[str, object]) -> None:
        """Write what was trained, in half precision, and how."""
        marks = (self.packer.tokenizer.token_to_id(mark) for mark in (AUDIO_START, AUDIO_END))
        tensors = {"projector.weight": self.projector.weight, "projector.bias": self.projector.bias}
        tensors |= {f"embed.{row}": mark for row, mark in zip(marks, self.marks, strict=True)}
        for name, change in self.low_rank.items():
            tensors |= {f"{name}.lora_a": change.a, f"{name}.lora_b": change.b}
        state = {name: value.detach().half().cpu().contiguous() for name, value in tensors.items()}
        save_file(state, path, {"scale": str(SCALE)} | {key: json.dumps(value) for key, value in said.items()})


class Training:
    """One run: the learner, its batches, the texts that hold the decoder, and the log."""

    def __init__(self, arguments: argparse.Namespace, learner: Learner, feed: Feed, log) -> None:
        self.arguments, self.learner, self.feed, self.log = arguments, learner, feed, log
        self.untouched, self.texts = None, None
        self.batches: Queue = Queue(4)
        self.chunks = 0
        Thread(target=self._fetch, daemon=True).start()

    def _fetch(self) -> None:
        while True:
            try:
                batch, waves, self.chunks = self.feed.next()
            except Exception as error:  # noqa: BLE001 - raised where a batch is waited for
                self.batches.put(error)
                return
            self.batches.put(
                (batch, waves.pin_memory() if waves is not None and self.learner.device == "cuda" else waves)
            )

    def next(self) -> tuple[Batch, torch.Tensor | None]:
        """Wait for a batch and its clips; raises what went wrong while they were made."""
        made = self.batches.get()
        if isinstance(made, Exception):
            raise made
        return made

    def loss(self, batch: Batch, waves: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is minimised, the divergence from the untouched decoder within it, and the predicted tokens."""
        logits = self.learner.logits(batch, waves)
        weights = self.learner.on(batch.weights)
        wrong = functional.cross_entropy(logits, self.learner.on(batch.targets), reduction="none")
        loss, pulled = (wrong * weights).sum() / weights.sum(), torch.zeros((), device=logits.device)
        if self.texts is not None:
            rows = torch.randint(len(self.texts), (self.arguments.text_rows,))
            ids = self.texts[rows].to(self.learner.device)
            there = (ids >= 0)[:, 1:].flatten()
            with torch.no_grad():
                teacher = self.learner.text_logits(ids, self.untouched)[:, :-1].flatten(0, 1)[there]
            student = self.learner.text_logits(ids, self.learner.decoder)[:, :-1].flatten(0, 1)[there]
            pulled = divergence(student, teacher)
            loss = loss + self.arguments.pull * pulled
        return loss, pulled.detach(), logits.detach().argmax(-1)

    def try_compiling(self) -> None:
        """Compile the decoder's layers; go on without, and say so, where this machine cannot."""
        if self.learner.device != "cuda":
            return
        try:
            self.learner.compile(True)
            heard = {True: False, False: not self.feed.captions.is_set()}
            while not all(heard.values()):
                batch, waves = self.next()
                if not heard[waves is not None]:
                    self.loss(batch, waves)[0].backward()
                    heard[waves is not None] = True
            self.log("compiled")
        except Exception as error:  # noqa: BLE001 - whatever a compiler raises, training goes on without it
            self.log("not compiled:", repr(error)[:600])
            self.learner.compile(False)

    def phase(self, name: str, groups: list[dict], seconds: float, file: Path, said: dict) -> int:
        """Train for so many seconds (or steps) and save; return how many steps it took."""
        learner, most = self.learner, self.arguments.steps
        parameters = [value for group in groups for value in group["params"]]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
        peaks = [group["lr"] for group in optimizer.param_groups]
        began, logged, step = time.time(), time.time(), 0
        losses, pulls, hits = [], [], {}
        while True:
            part = (time.time() - began) / seconds if most is None else step / most
            if part >= 1:
                break
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * min(1, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * part)))
            batch, waves = self.next()
            loss, pulled, predicted = self.loss(batch, waves)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            losses.append(loss.detach())
            pulls.append(pulled)
            if step % 20 == 0 or most is not None:
                self._count(hits, batch, waves, predicted)
            if time.time() - logged > LOG_EVERY or most is not None:
                logged = time.time()
                self.log(
                    f"{name} step {step}, {part:.0%}, loss {torch.stack(losses).mean():.3f},",
                    f"divergence {torch.stack(pulls).mean():.4f}, {step / (logged - began):.2f} steps/s,",
                    f"{self.chunks} chunks, {self.batches.qsize()} waiting |",
                    " ".join(f"{kind} {100 * np.mean(right):.0f}" for kind, right in sorted(hits.items())),
                    "" if learner.device == "cpu" else f"| {torch.cuda.max_memory_allocated() / 1e9:.0f} GB",
                )
                learner.save(file, said | {"steps": step})
                losses, pulls, hits = [], [], {}
        learner.save(file, said | {"steps": step})
        self.log(f"{name}: {step} steps, saved {file.name}")
        return step

    def _count(self, hits: dict, batch: Batch, waves: torch.Tensor | None, predicted: torch.Tensor) -> None:
        right = (predicted.cpu().numpy() == batch.targets).tolist()
        for kind, hit in zip(batch.kinds, right, strict=True):
            if kind:
                hits.setdefault(kind if waves is not None else f"{kind} (caption)", []).append(hit)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bank", required=True, help="the folder that bank.py wrote")
    parser.add_argument("--smollm2", required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--whisper", required=True, help="model.bin of Whisper tiny.en")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--projector-seconds", type=float, default=60)
    parser.add_argument("--lora-seconds", type=float, default=360)
    parser.add_argument("--finish-by", type=float, default=math.inf, help="seconds from the start to training's end")
    parser.add_argument("--steps", type=int, help="instead of seconds: so many steps of each phase")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--pull", type=float, default=0.1, help="how much the divergence from SmolLM2 counts")
    parser.add_argument("--batch", type=int, default=64, help="clips of a batch")
    parser.add_argument("--text-rows", type=int, default=8)
    parser.add_argument("--texts", type=int, default=2048, help="answers, and as many plain texts, that SmolLM2 writes")
    parser.add_argument("--chunks", type=int, default=160, help="how often 256 scenes are made")
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=400, help="questions of each held-out set")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train and test one seed."""
    arguments = parsed()
    began = time.time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (
        (arguments.out / "log.txt").open("a") as file,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):

        def log(*parts: object) -> None:
            line = f"{time.time() - began:7.1f} " + " ".join(str(part) for part in parts)
            print(line, flush=True)
            print(line, file=file, flush=True)

        feed = Feed(
            scratch,
            arguments.bank,
            arguments.smollm2,
            arguments.seed,
            batch=arguments.batch,
            workers=arguments.workers,
            n_chunks=arguments.chunks,
            chunk=arguments.chunk,
        )
        feed.start(arguments.held_out)
        try:
            _train(arguments, feed, log, began)
        finally:
            feed.stop()


def _train(arguments: argparse.Namespace, feed: Feed, log, began: float) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    smollm2, whisper = gguf.read(arguments.smollm2), ctranslate2.read(arguments.whisper)
    tokenizer = build_tokenizer(smollm2)
    network = assemble(whisper, smollm2, None).to(device)
    log(f"assembled; torch {torch.__version__}, transformers {transformers.__version__}, {device}")
    text = (Path(__file__).parent / "held_out.txt").read_text()
    before = perplexity(network, tokenizer, text)
    texts = written(network, tokenizer, arguments.seed, arguments.texts, rows=min(arguments.texts, 1024))
    log(
        f"SmolLM2's perplexity {before:.2f}; it wrote {len(texts)} texts, such as",
        repr(tokenizer.decode([i for i in texts[-1].tolist() if i >= 0])),
    )
    torch.manual_seed(arguments.seed)
    learner = Learner(network, Packer(tokenizer), device, dtype)
    training = Training(arguments, learner, feed, log)
    said = {"seed": arguments.seed, "torch": torch.__version__, "machine": platform.machine(), "device": device}
    if device == "cuda":
        said["device"] = torch.cuda.get_device_name()
    heard = {"params": [*learner.projector.parameters(), learner.marks], "lr": 2e-3}
    if not arguments.no_compile:
        training.try_compiling()
    training.phase("projector", [heard], arguments.projector_seconds, arguments.out / "projector.safetensors", said)
    learner.compile(False)
    training.untouched, training.texts = copy.deepcopy(learner.decoder), texts
    learner.add_low_rank(arguments.rank)
    feed.captions.set()
    if not arguments.no_compile:
        training.try_compiling()
    changes = [value for change in learner.low_rank.values() for value in (change.a, change.b)]
    groups = [{**heard, "lr": 1e-3}, {"params": changes, "lr": 1e-3}]
    deltas = arguments.out / "small_deltas.safetensors"
    left = arguments.finish_by - (time.time() - began)
    steps = training.phase("low rank", groups, min(arguments.lora_seconds, left), deltas, said)
    log(f"{training.chunks} of {arguments.chunks} chunks of scenes were made")
    items = feed.held_out()
    feed.stop()
    network = assemble(whisper, smollm2, deltas).to(device)
    after = perplexity(network, tokenizer, text)
    log(f"perplexity {before:.2f} -> {after:.2f}, {after / before:.2f} times")
    report = {"seed": arguments.seed, "steps": steps, "perplexity": {"before": before, "after": after}, "held_out": []}
    network, processor = network.to(dtype), build_processor(smollm2)
    for name in SETS:  # written after each, so that a run which is cut short has told what it knew
        of_set = [item for item in items if item.name == name]
        table = evaluate(network, processor, of_set, rows=64 if device == "cuda" else 2)
        report["held_out"] += table
        (arguments.out / "held_out.json").write_text(json.dumps(report, indent=1) + "\n")
        for row in table:
            if row["task"] == "all":
                log(row)
    log("done")


if __name__ == "__main__":
    main()

"""Train the tiny model: `python -m recipes.tiny.train --out FOLDER`, on one GPU (minutes) or a CPU (days).

A fixed number of steps, cosine schedule, everything drawn from `--seed`. In stages: questions from captions alone (and
an aid: detecting events in the audio tokens); from `HEAR_FROM` on questions about the sound, at first heard by the last
positions of the prompt alone, from `ALL_HEAR_FROM` on by every position in some rows; from `BOTH_FROM` on questions
with caption and sound. A third of the audio-only answers is given as if the clip had not been heard
(`Settings.unheard`), so that the model hedges between what it hears and what is usual; some captions beside a clip tell
of another clip, and are right (`Settings.mismatched`).

The folder written is an ordinary Hugging Face folder with `training.json` beside the weights. GPU arithmetic is not
bit-for-bit repeatable: the same command gives a model of the same kind, not the same bytes.
"""

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mechaudio.data.temporal_phrases import TASKS
from mechaudio.models.tiny.language import FIRST_LETTER
from recipes.tiny import architecture, rows, scenes
from recipes.tiny.export import current_commit, export
from recipes.tiny.rows import IGNORED, KINDS, RowBuilder, Rows
from recipes.tiny.scenes import LogMel, Scenes

log = logging.getLogger(__name__)

HEAR_FROM, BOTH_FROM, ALL_HEAR_FROM = 0.17, 0.5, 0.4
FEW_HEAR = {"last": 0.6, "tail": 0.4}
ALL_HEAR = {"last": 0.45, "tail": 0.1, "keyword": 0.2, "all": 0.25}
DETECTION_WEIGHT = 3.0
SILENT = 0.05
HELD_OUT_BANK, HELD_OUT_SCENES = 77, 4321


@dataclass(frozen=True)
class Settings:
    """One training run."""

    steps: int = 5600
    batch: int = 256
    seed: int = 0
    examples: int = 1024
    """Examples per class in the bank."""
    unheard: float = 0.35
    """Share of clips whose audio-only answers come from the habits of the classes."""
    mismatched: float = 0.1
    """Share of clips whose caption, where both are given, tells of other times and decides the answer."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 200
    held_out_batches: int = 16


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step needs."""

    mel: Tensor
    heard_frames: Tensor
    detection: Tensor
    scenes: Scenes
    rows: Rows


def loss_weights(progress: float, device: str) -> Tensor:
    """One weight per kind of block, by the share of the steps already done."""
    hears, both = float(progress >= HEAR_FROM), float(progress >= BOTH_FROM)
    weights = {"caption": 1.0, "audio": 2.0 * hears, "time": hears, "describe": 0.5 * hears, "audio+caption": both}
    return scenes.on_device(tuple(weights[kind] for kind in KINDS), torch.device(device))


class Trainer:
    """Network, data and loss on one device."""

    def __init__(self, settings: Settings, device: str, workers: int) -> None:
        self.settings, self.device = settings, device
        bank = scenes.make_bank(settings.examples, 1000 + settings.seed, workers)
        held_out = scenes.make_bank(min(settings.examples, 64), HELD_OUT_BANK, workers)
        self.bank, self.held_out = bank.to(device), held_out.to(device)
        self.network = architecture.build_network(settings.seed).to(device)
        self.detector = nn.Linear(architecture.D_MODEL, 3 * len(scenes.CLASSES)).to(device)
        nn.init.constant_(self.detector.bias, -2.0)
        self.log_mel = LogMel(device)
        self.builder = RowBuilder(rows.layout(), device)
        kind_at = torch.full((self.builder.plan.length,), -1)
        for kind, start, stop in self.builder.plan.blocks:
            kind_at[start:stop] = KINDS.index(kind)
        self.of_kind = (kind_at == torch.arange(len(KINDS))[:, None]).float().to(device)
        on_gpu = device == "cuda"
        self.loss: Callable[..., tuple[Tensor, Tensor]] = (
            torch.compile(self._loss, dynamic=False) if on_gpu else self._loss
        )
        self.mixer = torch.compile(scenes.mix, dynamic=False) if on_gpu else scenes.mix

    def batch(self, generator: torch.Generator, progress: float) -> Batch:
        """A training batch: scenes with habits, questions and captions of which some are not about them."""
        drawn = scenes.draw_scenes(self.settings.batch, generator, habits=1.0)
        wave = scenes.render(drawn, self.bank, generator, self.mixer)
        s = self.settings
        silent, unheard, mismatched = (
            torch.rand(s.batch, generator=generator, device=self.device) < share
            for share in (SILENT, s.unheard, s.mismatched)
        )
        subjects = {
            "audio": scenes.as_usual(drawn, unheard, generator),
            "caption": scenes.draw_scenes(self.settings.batch, generator, habits=0.5),
            "audio+caption": scenes.as_usual(drawn, mismatched, generator),
        }
        hearers = FEW_HEAR if progress < ALL_HEAR_FROM else ALL_HEAR
        made = self.builder.build(drawn, generator, silent=silent, hearers=hearers, subjects=subjects)
        return self.features(drawn, wave * ~silent[:, None], made, scenes.frame_targets(drawn) * ~silent[:, None, None])

    def features(self, drawn: Scenes, wave: Tensor, made: Rows, detection: Tensor) -> Batch:
        """A batch out of its parts."""
        frame = torch.arange(architecture.ENCODER_FRAMES, device=self.device)
        heard_frames = frame < ((drawn.frames - 1) // 2 + 1)[:, None]
        return Batch(self.log_mel(wave), heard_frames, detection, drawn, made)

    def logits(
        self, mel: Tensor, heard: Tensor, ids: Tensor, hears: Tensor, audio_tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits at every place and the audio tokens, in bfloat16 on a GPU."""
        positions, bias = self.builder.positions_and_bias(ids, hears, audio_tokens)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            audio = architecture.audio_embeddings(self.network, mel, heard)
            out = architecture.packed_logits(self.network, ids, audio, rows.AUDIO_START, positions, bias)
        return out.float(), audio

    def _loss(
        self,
        mel: Tensor,
        heard: Tensor,
        ids: Tensor,
        hears: Tensor,
        audio_tokens: Tensor,
        targets: Tensor,
        detection: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        logits, audio = self.logits(mel, heard, ids, hears, audio_tokens)
        entropy = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED
        )
        asked = (targets != IGNORED).float()
        per_kind = self.of_kind @ (entropy.view_as(targets) * asked).sum(0) / (self.of_kind @ asked.sum(0)).clamp(min=1)
        found = functional.linear(audio.float(), self.detector.weight, self.detector.bias)
        inside = (heard[:, ::2] & heard[:, 1::2])[..., None].float()
        missed = functional.binary_cross_entropy_with_logits(found, detection, reduction="none") * inside
        missed = missed.sum() / (inside.sum() * found.shape[-1])
        return (per_kind * weights).sum() + DETECTION_WEIGHT * missed, torch.cat([per_kind, missed[None]]).detach()

    def steps(self) -> Iterator[tuple[int, Tensor]]:
        """Train; after each step its number and the losses (one per kind, then detection)."""
        s = self.settings
        parameters = [p for p in (*self.network.parameters(), *self.detector.parameters()) if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": s.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.98), fused=self.device == "cuda")
        generator = torch.Generator(self.device).manual_seed(1234 + s.seed)
        for step in range(s.steps):
            cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / s.steps))
            for group in optimizer.param_groups:
                group["lr"] = s.learning_rate * cosine * min(1.0, (step + 1) / s.warmup)
            batch = self.batch(generator, step / s.steps)
            made = batch.rows
            loss, parts = self.loss(
                batch.mel,
                batch.heard_frames,
                made.ids,
                made.hears,
                batch.scenes.audio_tokens,
                made.targets,
                batch.detection,
                loss_weights(step / s.steps, self.device),
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            yield step + 1, parts

    @torch.no_grad()
    def evaluate(self, batches: int) -> dict[str, float]:
        """Shares of right answers to benchmark questions on clips of 10 s, from sounds and scenes not trained on."""
        generator = torch.Generator(self.device).manual_seed(HELD_OUT_SCENES)
        hits: dict[str, list[Tensor]] = {}
        for _ in range(batches):
            drawn = scenes.draw_scenes(self.settings.batch, generator, habits=0.0, full_length=True)
            wave = scenes.render(drawn, self.held_out, generator)
            following = (torch.arange(scenes.MAX_EVENTS, device=self.device) + 1) % drawn.count[:, None]
            traded = replace(drawn, onset=drawn.onset.gather(1, following), offset=drawn.offset.gather(1, following))
            for condition, sound, told, hearers in (
                ("", wave, None, "all"),
                ("silence ", 0 * wave, None, "all"),
                ("last ", wave, None, "last"),
                ("others ", wave, None, "others"),
                ("conflict ", wave, traded, "all"),
            ):
                awake = torch.zeros(len(wave), dtype=torch.bool, device=self.device)
                made = self.builder.build(
                    drawn, generator, silent=awake, told=told, hearers={hearers: 1.0}, benchmark=True
                )
                self._score(condition, self.features(drawn, sound, made, scenes.frame_targets(drawn)), hits)
        scores = {name: torch.cat(found) for name, found in sorted(hits.items())}
        return {name: round(float(right.mean()), 4) for name, right in scores.items() if len(right)}

    def _score(self, condition: str, batch: Batch, hits: dict[str, list[Tensor]]) -> None:
        made = batch.rows
        logits, _ = self.logits(batch.mel, batch.heard_frames, made.ids, made.hears, batch.scenes.audio_tokens)
        for (kind, _, stop), asked in zip(self.builder.plan.blocks, made.asked, strict=True):
            said = logits[:, stop - 2]
            if condition == "conflict ":
                if kind == "audio+caption":
                    told = said[:, FIRST_LETTER : FIRST_LETTER + 4].argmax(-1)
                    differ = asked["told_clear"] & (asked["told"] != asked["letter"])
                    hits.setdefault("conflict: caption", []).append((told == asked["told"])[differ].float())
                    hits.setdefault("conflict: audio", []).append((told == asked["letter"])[differ].float())
            elif kind in ("audio", "caption", "audio+caption") and (condition == "" or kind == "audio"):
                right = said[:, FIRST_LETTER : FIRST_LETTER + 4].argmax(-1) == asked["letter"]
                hits.setdefault(condition + kind, []).append(right[asked["clear"]].float())
                if condition == "" and kind == "audio":
                    for number, task in enumerate(TASKS):
                        hits.setdefault(f"audio: {task}", []).append(
                            right[asked["clear"] & (asked["task"] == number)].float()
                        )
            elif kind == "time" and condition == "":
                near = (said.argmax(-1) - asked["answer"]).abs() <= 1
                hits.setdefault("times within half a second", []).append(near[asked["form"] < 3].float())


def train(settings: Settings, out: Path, *, commit: str, device: str, workers: int) -> dict[str, int | float]:
    """Train and export; returns the final held-out scores."""
    begun = time.time()
    trainer = Trainer(settings, device, workers)
    log.info(
        "%.0f s: bank ready, %d parameters", time.time() - begun, sum(p.numel() for p in trainer.network.parameters())
    )
    curve: list[dict[str, int | float]] = []
    held_out, mark, marked = settings.held_out_batches, 0, time.time()
    for step, losses in trainer.steps():
        if step in (1, 10, 100) or step % 250 == 0:
            shown = dict(zip((*KINDS, "detection"), losses.tolist(), strict=True))
            pace = 1000 * (time.time() - marked) / (step - mark)
            log.info("%.0f s: step %d, %.1f ms a step, losses %s", time.time() - begun, step, pace, shown)
            mark, marked = step, time.time()
        if step % max(1, settings.steps // 10) == 0 or step == settings.steps:
            curve.append({"step": step} | trainer.evaluate(held_out if step == settings.steps else -(-held_out // 8)))
            log.info("%.0f s: held out: %s", time.time() - begun, curve[-1])
    record = {
        "seed": settings.seed,
        "commit": commit,
        "steps": settings.steps,
        "data": scenes.describe_law(),
        "settings": asdict(settings),
        "stages": {
            "hear_from": HEAR_FROM,
            "both_from": BOTH_FROM,
            "all_hear_from": ALL_HEAR_FROM,
            "few": FEW_HEAR,
            "all": ALL_HEAR,
        },
        "metrics": curve[-1],
        "curve": curve,
        "versions": {"torch": torch.__version__, "device": device},
        "seconds": round(time.time() - begun),
    }
    export(trainer.network, out, record)
    return curve[-1]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny.train", description="Train the tiny model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--commit", help="commit to name in the metadata (default: that of the working directory)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument(
        "--workers", type=int, default=torch.multiprocessing.cpu_count(), help="processes that synthesize the bank"
    )
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    settings = Settings(**{field.name: getattr(given, field.name) for field in fields(Settings)})
    train(settings, given.out, commit=given.commit or current_commit(), device=given.device, workers=given.workers)


if __name__ == "__main__":
    main()

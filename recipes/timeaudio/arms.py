"""Trains one arm from scratch on what the encoder heard, and writes down what it answers about held-out scenes.

A row is a scene and four questions about it, one behind the other, so that every step has many answers; the first is
as in a prompt, and only such are asked afterwards. All arms of a seed see the same scenes and questions in the same
order.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from mechaudio.audio.sounds import CLASSES
from recipes.timeaudio import text
from recipes.timeaudio.network import Arm, audio_tokens, build, rows_of, tokens_before_and_after
from recipes.timeaudio.scenes import Scenes, coverage

log = logging.getLogger(__name__)
TURNS = 4
IGNORED, ABSENT = -100, -1
LONGEST_ANSWER = 64
WINDOW = 0.34
"""Seconds of a window."""


@dataclass(frozen=True)
class Settings:
    """One training run."""

    steps: int = 6000
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    noise: float = 0.1
    short: float = 0.25
    """Share of steps on short scenes."""
    detection: float = 3.0
    """Weight of an aid that keeps the sounds in the audio tokens: which class fills how much of each window."""


class Scenery:
    """Scenes of one length on a device, with their answers in the tokens of an arm."""

    def __init__(self, heard: dict[str, Tensor], arm: Arm, processor, device: str) -> None:
        self.windows = heard["windows"].to(device)
        cpu = Scenes(*(heard[name].cpu() for name in ("seconds", "onset", "offset")))
        self.scenes, n = cpu, len(cpu)
        self.rows = rows_of(cpu.seconds, self.windows.shape[1]).to(device)
        self.there = cpu.present.any(-1).to(device)
        self.cover = coverage(cpu, self.windows.shape[1], WINDOW).half().to(device)
        pairs = [(scene, kind) for scene in range(n) for kind in range(len(CLASSES)) if cpu.offset[scene, kind, 0] > 0]
        texts = [text.answer(cpu.intervals(scene, kind), arm.times) for scene, kind in pairs]
        written = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
        longest = max(map(len, written)) + 1
        answers = torch.full((n, len(CLASSES), longest), ABSENT)
        for (scene, kind), ids in zip(pairs, written, strict=True):
            answers[scene, kind, : len(ids) + 1] = torch.tensor([*ids, processor.tokenizer.eos_token_id])
        self.answers = answers.to(device)


class Turns:
    """The words around the answers, as ids."""

    def __init__(self, processor, device: str) -> None:
        questions = [text.question(kind) for kind in range(len(CLASSES))]
        self.before = torch.tensor(processor.tokenizer(text.BEFORE)["input_ids"], device=device)
        self.first = torch.tensor([text.ids(processor, text.BEHIND.format(each)) for each in questions], device=device)
        self.next = torch.tensor([text.ids(processor, text.NEXT.format(each)) for each in questions], device=device)

    def rows(self, scenery: Scenery, picked: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ids and targets `[scene, position]` of four questions each, absent ones at the end."""
        there = scenery.there[picked]
        drawn = torch.rand(there.shape, generator=generator, device=there.device).masked_fill(~there, -1.0)
        values, kinds = drawn.topk(TURNS, dim=-1)
        ids, asked = [], []
        for turn in range(TURNS):
            kind, missing = kinds[:, turn], (values[:, turn] < 0)[:, None]
            words = (self.next if turn else self.first)[kind]
            answer = scenery.answers[picked, kind]
            ids += [words.masked_fill(missing, ABSENT), answer.masked_fill(missing, ABSENT)]
            asked += [torch.zeros_like(words, dtype=torch.bool), torch.ones_like(answer, dtype=torch.bool)]
        row, is_answer = torch.cat(ids, 1), torch.cat(asked, 1)
        order = (row == ABSENT).to(torch.uint8).argsort(dim=1, stable=True)
        row, is_answer = row.gather(1, order), is_answer.gather(1, order)
        return row, torch.where(is_answer & (row != ABSENT), row, IGNORED)


def _longest_row(turns: Turns, scenery: Scenery, generator: torch.Generator) -> int:
    """Find the length that 98 of 100 rows stay within; longer ones are cut."""
    picked = torch.arange(min(len(scenery.scenes), 512), device=scenery.there.device)
    row, _ = turns.rows(scenery, picked, generator)
    return int((row != ABSENT).sum(1).float().quantile(0.98).ceil())


def train(arm: Arm, seed: int, settings: Settings, heard: dict[str, dict], encoder: Path, device: str) -> tuple:
    """Train an arm and return its network, the curve of its loss and how long it took."""
    processor = text.processor(arm.times)
    network = build(arm, processor, seed)
    network.speech_encoder.load_state_dict(load_file(encoder))
    network.to(device).train()
    turns = Turns(processor, device)
    sceneries = {name: Scenery(heard[name], arm, processor, device) for name in ("long", "short")}
    generator = torch.Generator(device).manual_seed(10_000 + seed)
    kept = torch.Generator(device).manual_seed(20_000 + seed)
    lengths = {name: _longest_row(turns, scenery, generator) for name, scenery in sceneries.items()}
    detector = nn.Linear(network.config.text_config.hidden_size, len(CLASSES)).to(device)
    nn.init.constant_(detector.bias, -2.0)
    parameters = [p for p in (*network.parameters(), *detector.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=device != "cpu")
    of_steps = torch.rand(settings.steps, generator=torch.Generator().manual_seed(seed)) < settings.short
    curve, begun = [], time.time()
    for step, is_short in enumerate(of_steps.tolist()):
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * cosine * min(1.0, (step + 1) / settings.warmup)
        name = "short" if is_short else "long"
        scenery = sceneries[name]
        picked = torch.randint(len(scenery.scenes), (settings.batch,), generator=generator, device=device)
        row, target = (each[:, : lengths[name]] for each in turns.rows(scenery, picked, generator))
        windows = scenery.windows[picked].float()
        windows = windows + settings.noise * torch.randn(windows.shape, generator=generator, device=device)
        unmerged, audio = tokens_before_and_after(network, windows, scenery.rows[picked], arm, kept)
        before = turns.before.expand(len(row), -1)
        embed = network.get_input_embeddings()
        inputs = torch.cat([embed(before), audio, embed(row.clamp(min=0))], dim=1)
        states = network.decoder.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits = network.decoder.lm_head(states[:, -row.shape[1] - 1 : -1])
        answered = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        missed = functional.binary_cross_entropy_with_logits(detector(unmerged), scenery.cover[picked].float())
        loss = answered + settings.detection * missed
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % max(1, settings.steps // 24) == 0 or step in (0, 9):
            said = {"loss": answered.item(), "detection": missed.item(), "seconds": time.time() - begun}
            curve.append({"step": step + 1, **{name: round(value, 4) for name, value in said.items()}})
            log.info("%s, seed %d: %s", arm.name, seed, curve[-1])
    return network.eval(), processor, curve, time.time() - begun


def questions(held_out: dict[str, dict[str, Tensor]], most: int = 3) -> list[dict]:
    """Draw up to three questions about every held-out scene, the same for every arm."""
    rng, asked = torch.Generator().manual_seed(4321), []
    for name in ("long", "short"):
        told = Scenes(*(held_out[name][each].cpu() for each in ("seconds", "onset", "offset")))
        for scene in range(len(told)):
            there = told.present[scene].any(-1).nonzero()[:, 0]
            for kind in there[torch.randperm(len(there), generator=rng)][:most].tolist():
                asked.append(
                    {
                        "clip": f"{name}-{scene}",
                        "length": name,
                        "scene": scene,
                        "class": CLASSES[kind],
                        "seconds": round(float(told.seconds[scene]), 1),
                        "intervals": told.intervals(scene, kind),
                    }
                )
    return asked


@torch.no_grad()
def answers(network, processor, arm: Arm, held_out: dict, asked: list[dict], device: str, batch: int = 256) -> dict:
    """Answer questions greedily: their texts in order, and how many tokens these and their clips took."""
    turns, given, counts, heard = Turns(processor, device), [""] * len(asked), [], {}
    kept = torch.Generator(device).manual_seed(0)
    eos = processor.tokenizer.eos_token_id
    for name in ("long", "short"):
        numbers = [number for number, each in enumerate(asked) if each["length"] == name]
        rows = rows_of(held_out[name]["seconds"].cpu(), held_out[name]["windows"].shape[1]).to(device)
        for begin in range(0, len(numbers), batch):
            part = numbers[begin : begin + batch]
            picked = torch.tensor([asked[number]["scene"] for number in part], device=device)
            kinds = torch.tensor([CLASSES.index(asked[number]["class"]) for number in part], device=device)
            windows = held_out[name]["windows"].to(device)[picked].float()
            audio = audio_tokens(network, windows, rows[picked], arm, kept)
            heard[name] = audio.shape[1]
            embed = network.get_input_embeddings()
            parts = [embed(turns.before.expand(len(part), -1)), audio, embed(turns.first[kinds])]
            cache, inputs, written = DynamicCache(), torch.cat(parts, dim=1), []
            for _ in range(LONGEST_ANSWER):
                out = network.decoder.model(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
                token = network.decoder.lm_head(out.last_hidden_state[:, -1]).argmax(-1)
                written.append(token)
                inputs = embed(token[:, None])
            for number, ids in zip(part, torch.stack(written, 1).tolist(), strict=True):
                ids = ids[: ids.index(eos)] if eos in ids else ids
                given[number] = processor.tokenizer.decode(ids)
                counts.append(len(ids))
    return {"answers": given, "answer_tokens": sum(counts) / len(counts), "audio_tokens": heard}


def run(
    arm: Arm, seed: int, settings: Settings, heard: dict, encoder: Path, asked: list[dict], work: Path, device: str
):
    """Train an arm, let it answer, and write both: `runs/ARM-SEED.json`, and of seed 0 its weights."""
    network, processor, curve, seconds = train(arm, seed, settings, heard, encoder, device)
    held_out = {name: heard[f"held_out_{name}"] for name in ("long", "short")}
    given = answers(network, processor, arm, held_out, asked, device)
    written = [text.ids(processor, text.answer(each["intervals"], arm.times)) for each in asked]
    record = {
        "arm": arm.name,
        "seed": seed,
        "train_seconds": round(seconds, 1),
        "curve": curve,
        "right_answer_tokens": sum(map(len, written)) / len(written),
        **given,
    }
    if seed == 0:
        (work / "networks").mkdir(exist_ok=True)
        tensors = {name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}
        save_file(tensors, work / "networks" / f"{arm.name}.safetensors", {"arm": arm.name})
    (work / "runs").mkdir(exist_ok=True)
    unfinished = work / "runs" / f"{arm.name}-{seed}.part"
    unfinished.write_text(json.dumps(record))
    unfinished.rename(unfinished.with_suffix(".json"))

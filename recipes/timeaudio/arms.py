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
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
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

    steps: int = 5000
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    noise: float = 0.1
    short_first: float = 0.5
    """Share of the steps, at the beginning, whose scenes are all short."""
    short: float = 0.25
    """Share of steps on short scenes thereafter."""
    spread_of_words: float = 0.5
    """Standard deviation that the embeddings of words begin with."""
    detection: float = 3.0
    """Weight of an aid that keeps the sounds in the audio tokens: which class fills how much of each window."""
    alignment: float = 3.0
    """Weight of an aid that brings audio tokens near the words for what sounds in them, where pretrained ones lie."""


class Scenery:
    """Scenes of one length on a device, with their answers in one way of writing times."""

    def __init__(self, heard: dict[str, Tensor], times: str, tokenizer, device: str) -> None:
        self.windows = heard["windows"].to(device, torch.bfloat16 if "cuda" in str(device) else torch.float32)
        cpu = Scenes(*(heard[name].cpu() for name in ("seconds", "onset", "offset")))
        self.scenes, n = cpu, len(cpu)
        self.rows = rows_of(cpu.seconds, self.windows.shape[1]).to(device)
        self.there = cpu.present.any(-1).to(device)
        self.cover = coverage(cpu, self.windows.shape[1], WINDOW).half().to(device)
        pairs = [(scene, kind) for scene in range(n) for kind in range(len(CLASSES)) if cpu.offset[scene, kind, 0] > 0]
        texts = [text.answer(cpu.intervals(scene, kind), times) for scene, kind in pairs]
        written = tokenizer(texts, add_special_tokens=False)["input_ids"]
        longest = max(map(len, written)) + 1
        answers = torch.full((n, len(CLASSES), longest), ABSENT)
        for (scene, kind), ids in zip(pairs, written, strict=True):
            answers[scene, kind, : len(ids) + 1] = torch.tensor([*ids, tokenizer.eos_token_id])
        self.answers = answers.to(device)


def sceneries(heard: dict[str, dict[str, Tensor]], times: str, device: str) -> dict[str, Scenery]:
    """Lay out the scenes of both lengths for one way of writing times."""
    tokenizer = text.processor(times).tokenizer
    return {name: Scenery(of_length, times, tokenizer, device) for name, of_length in heard.items()}


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


class Training:
    """A network in training, with its optimiser and its scenes."""

    def __init__(self, arm: Arm, seed: int, settings: Settings, sceneries: dict[str, Scenery], network, processor):
        device = next(network.parameters()).device
        self.arm, self.settings, self.sceneries, self.network = arm, settings, sceneries, network
        self.turns = Turns(processor, device)
        self.generator = torch.Generator(device).manual_seed(10_000 + seed)
        self.kept = torch.Generator(device).manual_seed(20_000 + seed)
        self.lengths = {name: _longest_row(self.turns, each, self.generator) for name, each in sceneries.items()}
        self.detector = nn.Linear(network.config.text_config.hidden_size, len(CLASSES)).to(device)
        self.scale = nn.Parameter(torch.full((len(CLASSES),), 10.0, device=device))
        self.bias = nn.Parameter(torch.full((len(CLASSES),), -2.0, device=device))
        nn.init.constant_(self.detector.bias, -2.0)
        words = [text.ids(processor, text.question(kind))[3] for kind in range(len(CLASSES))]
        self.words = torch.tensor(words, device=device)
        trained = (*network.parameters(), *self.detector.parameters(), self.scale, self.bias)
        self.parameters = [p for p in trained if p.requires_grad]
        groups = [
            {"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        on_gpu = device.type == "cuda"
        self.rate = torch.tensor(settings.learning_rate, device=device)
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), fused=on_gpu, capturable=on_gpu)

    def step(self, name: str) -> Tensor:
        """Take a step on scenes of one length, and return the losses: on answers, and of the two aids."""
        self.optimizer.zero_grad(set_to_none=True)
        answered, missed, apart = self.losses(name)
        (answered + self.settings.detection * missed + self.settings.alignment * apart).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return torch.stack([answered.detach(), missed.detach(), apart.detach()])

    def losses(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Draw scenes and return the loss on answers, and those of the two aids."""
        scenery, settings, network = self.sceneries[name], self.settings, self.network
        device = scenery.windows.device
        picked = torch.randint(len(scenery.scenes), (settings.batch,), generator=self.generator, device=device)
        row, target = (each[:, : self.lengths[name]] for each in self.turns.rows(scenery, picked, self.generator))
        windows = scenery.windows[picked]
        noise = torch.randn(windows.shape, generator=self.generator, device=device, dtype=windows.dtype)
        windows = windows + settings.noise * noise
        embed = network.get_input_embeddings()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False):
            unmerged, audio = tokens_before_and_after(network, windows, scenery.rows[picked], self.arm, self.kept)
            inputs = torch.cat([embed(self.turns.before.expand(len(row), -1)), audio, embed(row.clamp(min=0))], dim=1)
            # A mask that is given is not looked at, which a graph could not do.
            causal = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool, device=device).tril()[None, None]
            states = network.decoder.model(inputs_embeds=inputs, attention_mask=causal, use_cache=False)
            logits = network.decoder.lm_head(states.last_hidden_state[:, -row.shape[1] - 1 : -1])
        answered = functional.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        cover, tokens = scenery.cover[picked].float(), unmerged.float()
        missed = functional.binary_cross_entropy_with_logits(self.detector(tokens), cover)
        near = functional.normalize(tokens, dim=-1) @ functional.normalize(embed(self.words), dim=-1).T
        apart = functional.binary_cross_entropy_with_logits(near * self.scale + self.bias, cover)
        return answered, missed, apart


class Graph:
    """A step on scenes of one length that was recorded on a GPU and is replayed there: launching it takes no time."""

    def __init__(self, training: Training, name: str) -> None:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                training.step(name)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        for generator in (training.generator, training.kept):
            self._graph.register_generator_state(generator)
        training.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._losses = training.step(name)

    def __call__(self) -> Tensor:
        """Take a step."""
        self._graph.replay()
        return self._losses


def train(
    arm: Arm, seed: int, settings: Settings, sceneries: dict[str, Scenery], encoder: dict[str, Tensor], device: str
) -> tuple:
    """Train an arm and return its network, the curve of its loss and how long it took."""
    processor = text.processor(arm.times)
    network = build(arm, processor, seed)
    network.speech_encoder.load_state_dict(encoder)
    words = network.get_input_embeddings().weight
    with torch.no_grad():
        words.mul_(settings.spread_of_words / words.std())
    network.to(device).train()
    training = Training(arm, seed, settings, sceneries, network, processor)
    begun = time.time()
    training.rate.fill_(0.0)  # recording takes steps too
    take = {name: Graph(training, name) if device == "cuda" else partial(training.step, name) for name in sceneries}
    is_short = torch.rand(settings.steps, generator=torch.Generator().manual_seed(seed)) < settings.short
    is_short[: round(settings.short_first * settings.steps)] = True
    curve = []
    for step, short in enumerate(is_short.tolist()):
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        training.rate.fill_(settings.learning_rate * cosine * min(1.0, (step + 1) / settings.warmup))
        losses = take["short" if short else "long"]()
        if (step + 1) % max(1, settings.steps // 24) == 0 or step in (0, 9):
            said = dict(zip(("loss", "detection", "alignment"), losses.tolist(), strict=True))
            said["seconds"] = time.time() - begun
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
def answers(network, processor, arm: Arm, held_out: dict, asked: list[dict], device: str, batch: int = 2048) -> dict:
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
            ended = torch.zeros(len(part), dtype=torch.bool, device=device)
            for _ in range(LONGEST_ANSWER):
                out = network.decoder.model(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
                token = network.decoder.lm_head(out.last_hidden_state[:, -1]).argmax(-1)
                written.append(token)
                inputs = embed(token[:, None])
                ended |= token == eos
                if ended.all():
                    break
            for number, ids in zip(part, torch.stack(written, 1).tolist(), strict=True):
                ids = ids[: ids.index(eos)] if eos in ids else ids
                given[number] = processor.tokenizer.decode(ids)
                counts.append(len(ids))
    return {"answers": given, "answer_tokens": sum(counts) / len(counts), "audio_tokens": heard}


def weights_of(work: Path, arm: str, seed: int) -> Path:
    """Name the file of an arm's weights, in letters that every file store takes."""
    return work / "networks" / f"{arm.replace('+', '-')}-{seed}.safetensors"


def run(
    arm: Arm,
    seed: int,
    settings: Settings,
    sceneries: dict[str, Scenery],
    encoder: dict[str, Tensor],
    held_out: dict[str, dict[str, Tensor]],
    asked: list[dict],
    work: Path,
):
    """Train an arm, let it answer, and write both: `runs/ARM-SEED.json`, and its weights."""
    device = sceneries["long"].windows.device.type
    network, processor, curve, seconds = train(arm, seed, settings, sceneries, encoder, device)
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
    (work / "networks").mkdir(exist_ok=True)
    tensors = {name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}
    save_file(tensors, weights_of(work, arm.name, seed), {"arm": arm.name, "seed": str(seed)})
    (work / "runs").mkdir(exist_ok=True)
    unfinished = work / "runs" / f"{arm.name}-{seed}.part"
    unfinished.write_text(json.dumps(record))
    unfinished.rename(unfinished.with_suffix(".json"))

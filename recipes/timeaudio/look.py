"""Opens trained arms: `python -m recipes.timeaudio.look NETWORKS --out OPENED.json`, on any machine, minutes each.

Held-out scenes of one length, in each a question whose one interval lies far from both ends. Of every network:

- `attention`: where the rows that write a time look, per layer and head, in the seconds of the clip;
- `probes`: what the Q-Former is given and what the projector gives know of the time of a window;
- `doses`: how many seconds the answer moves when the clocks are moved by so many. A network may read the time of a
  sound from two: the row of the table of times that is added to its windows (`time`), and the place of its tokens in
  the prompt (`place`). Both move when the sound does (`sound`);
- `heads`: which heads, keys and values bring a moved clock into the answer, by activation patching, and which heads do
  so straight, by path patching. Of merged scenes likewise: `merged` and `merged_heads`.

What is done is kept per network, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import mechaudio as ma
from mechaudio.analyses.patching.components import receiver, sender
from mechaudio.analyses.patching.paths import Paths
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.models.salmonn.processor import TimeAudioProcessor
from mechaudio.models.targets import forced
from mechaudio.progress import bar
from recipes.timeaudio import scenes, text
from recipes.timeaudio.arms import WINDOW
from recipes.timeaudio.asked import MERGED_SECONDS, SCENES, SECONDS, Asked, asked
from recipes.timeaudio.clocks import moved, probe_times
from recipes.timeaudio.network import ARMS, Arm, audio_tokens, build
from recipes.timeaudio.scenes import SHORT

#: Windows that clocks are moved by, of 0.34 s: up to 6 s to either side.
DOSES = (-18, -9, -3, 3, 9, 18)
#: Windows of 9.86 s: a time that is moved by them has another digit of tens, and all others stay.
TEN_SECONDS = 29
#: Seconds within which the onset of an answer is right.
NEAR = 1.0
FIRST_TIME = re.compile(r"\d+\.\d")
TIME = re.compile(r"<[af]_\d>|\d|\.|▁\d+\.\d")


#: The network that comes with the recipe: the first seed of the whole method, unmerged.
SHIPPED = Path(__file__).parent / "markers-encoding-none-0.safetensors"


def untrained(arm: Arm, seed: int) -> ma.AudioLM:
    """Open the network of an arm as it begins.

    Without proof of hook points: BEATs is silenced in these networks, so that nothing that is put into it moves logits.
    """
    sizes = {"merging": None if arm.merging == "none" else "paper", "time_encoding": "paper" if arm.encoding else None}
    processor = TimeAudioProcessor(scenes.extractor(), text.tokenizer(arm.times), sizes=sizes)
    return ma.AudioLM(build(arm, processor, seed).eval(), processor, prove=False)


def opened(file: Path = SHIPPED) -> tuple[Arm, int, ma.AudioLM]:
    """Open a trained network: its arm, its seed, and the model."""
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    arm, seed = next(each for each in ARMS if each.name == metadata["arm"]), int(metadata["seed"])
    model = untrained(arm, seed)
    model.network.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return arm, seed, model


_heard: dict[tuple[bytes, ...], Tensor] = {}


def remember(network: Any) -> None:
    """Let a network hear every clip once: its encoder, the same in all arms, is never changed here."""
    listen, name = network.encode, network.speech_encoder.layer_norm.weight.detach().numpy().tobytes()

    def encode(*features: Tensor) -> list[Tensor]:
        made = []
        for clip in zip(*(feature.split(1) for feature in features), strict=True):
            key = (name, *(part.numpy().tobytes() for part in clip))
            if key not in _heard:
                _heard[key] = listen(*clip)[0]
            made.append(_heard[key])
        return made

    network.encode = encode


class Look:
    """One network before the questions."""

    def __init__(self, arm: Arm, model: ma.AudioLM, given: Asked) -> None:
        self.arm, self.model, self.given = arm, model, given
        remember(model.network)
        length = round(float(given.scenes.seconds[0]) * SAMPLE_RATE)
        questions = [
            ma.AudioQuestion(
                audio=ma.AudioClip(wave[:length].float().numpy(), SAMPLE_RATE),
                text=text.question(kind),
                answer=text.answer([interval], arm.times),
            )
            for wave, kind, interval in zip(given.waves, given.kinds, given.intervals, strict=True)
        ]
        self.batch = ma.prompt(model, questions)
        # Those of the silence behind the clip too, whose tokens `audio` leaves out.
        self.audio = sorted(self.batch.spans["audio"][0] + self.batch.spans["audio_padding"][0])
        written = [text.ids(model.processor, question.answer) for question in questions]
        self.answers = torch.tensor(written)  # as many tokens each: both times have two digits before the point

    def tokens(self, clock: str | None = None, windows: int = 0) -> Tensor:
        """Return the audio tokens of the scenes with a clock moved by some windows."""
        network, heard, rows = self.model.network, self.given.windows.float(), self.given.rows
        if clock == "sound":
            heard = heard.roll(windows, 1)
        if clock == "time":
            rows = moved(rows, windows)
        with torch.no_grad():
            tokens = audio_tokens(network, heard, rows, self.arm, torch.Generator().manual_seed(0))
        return tokens.roll(windows, 1) if clock == "place" else tokens

    def clocks(self) -> tuple[str, ...]:
        """The clocks that can be moved."""
        # Merged tokens close ranks, and have no place of their own that could be moved.
        is_merged = self.arm.merging != "none" and self.given.scenes.seconds[0] > SHORT[1]
        clocks = {"sound": True, "time": self.arm.encoding, "place": not is_merged}
        return tuple(clock for clock, is_there in clocks.items() if is_there)

    def spans(self) -> dict[str, list[int]]:
        """Positions in the answer: the token that the first time follows, and the tokens of both times."""
        names = self.model.processor.tokenizer.convert_ids_to_tokens(self.answers[0].tolist())
        runs: list[list[int]] = []
        for position, name in enumerate(names):
            if TIME.fullmatch(name):
                follows = runs and runs[-1][-1] == position - 1
                runs = [*runs[:-1], [*runs[-1], position]] if follows else [*runs, [position]]
        onset, end = (
            [at for at in run if names[at].startswith("<a") or names[at].isdigit() or len(run) == 1] for run in runs[:2]
        )
        return {"before": [runs[0][0] - 1], "onset": onset[:2], "end": end[:2]}

    def longer(self, n: int) -> Any:
        """The prompts with the first tokens of their right answers behind them."""
        aimed = self.batch.aimed(target=[question.answer for question in self.batch.questions], whole=True)
        ids = torch.tensor([aim.target_ids for aim in aimed.aims])
        assert torch.equal(ids[:, : self.answers.shape[1]], self.answers)
        longer = forced(aimed, 0, n)
        last = ((longer.n_positions - 1,),) * longer.n_rows
        # As prompts of their own: the rows of the words can be read and patched, and `last` is the last of them.
        return replace(longer, n_forced=0, spans={**longer.spans, "last": last})

    def attention(self) -> dict[str, Any]:
        """Shares of the attention to the clip that fall on the event, per layer and head, beside chance."""
        spans = self.spans()
        longer = self.longer(spans["end"][-1] + 1)
        begin = self.batch.n_positions
        queries = [begin + position for positions in spans.values() for position in positions]
        out = ma.run(self.model, longer, record=[ma.HookPoint("pattern", queries=queries)], logits="last")
        to_audio = out.cache.stack("pattern")[..., self.audio]  # [layer, scene, head, row, token]
        within = (self.given.rows > 0).float()
        shares, looks = to_audio * within[None, :, None, None], {}
        total = shares.sum(-1)
        n_before = 0
        for name, positions in spans.items():
            rows = slice(n_before, n_before + len(positions))
            n_before += len(positions)
            looks[name] = self._on_events(shares[..., rows, :].sum(3) / total[..., rows].sum(3)[..., None], within)
            looks[name]["audio"] = _rounded(to_audio[..., rows, :].sum(-1).mean((1, 3)))
        return looks

    def _on_events(self, shares: Tensor, within: Tensor) -> dict[str, Any]:
        """Weigh shares `[layer, scene, head, window]` by what sounds: the event asked for, and the others."""
        covers, kinds, n = self.given.covers, torch.tensor(self.given.kinds), len(self.given.kinds)
        right = covers[torch.arange(n), :, kinds]
        others = covers.clone()
        others[torch.arange(n), :, kinds] = 0
        others = others * (1 - right)[..., None]
        there = others.sum(1) > 0
        windows = within.sum(1)
        on_others = torch.einsum("lshw,swc->lshc", shares, others) * there[None, :, None]
        count = there.sum(1)
        inside = torch.einsum("lshw,sw->lsh", shares, right)
        onsets = torch.tensor([interval[0] for interval in self.given.intervals])
        best = divmod(int(inside[:, ::2].mean(1).argmax()), inside.shape[2])  # chosen on every other scene
        middles = (torch.arange(shares.shape[-1]) + 0.5) * WINDOW
        apart = (middles[None] - onsets[:, None])[1::2]
        around = [(apart >= second) & (apart < second + 1) for second in range(-10, 10)]
        profile = [float((shares[best[0], 1::2, best[1]] * mask).sum(1).mean()) for mask in around]
        return {
            "inside": _rounded(inside.mean(1)),
            "chance": round(float((right.sum(1) / windows).mean()), 4),
            "other": _rounded((on_others.sum(-1) / count[None, :, None]).mean(1)),
            "other_chance": round(float((others.sum(1).sum(1) / count / windows).mean()), 4),
            "best": best,
            "best_inside": [round(float(each), 4) for each in inside[best[0], 1::2, best[1]]],
            "best_over_seconds": [round(each, 4) for each in profile],
        }

    def doses(self) -> dict[str, Any]:
        """Write answers with each clock moved by each dose, and say how far their onsets moved."""
        variants = [(clock, dose) for clock in self.clocks() for dose in DOSES]
        patches = [ma.Patch("embed", self.tokens(*variant), positions=self.audio) for variant in variants]
        # The clean run, too, has the tokens that the recipe makes: those of the library differ by rounding.
        still = ma.Patch("embed", self.tokens(), positions=self.audio)
        longest = self.spans()["onset"][0] + 5
        written = ma.generate_variants(
            self.model, self.batch, [still, *patches], max_new_tokens=longest, progress=False
        ).texts
        first = [_onset(answer) for answer in written[0]]
        good = [
            said is not None and abs(said - right[0]) < NEAR
            for said, right in zip(first, self.given.intervals, strict=True)
        ]
        moves_of: dict[str, Any] = {"right": good, "windows": list(DOSES)}
        for clock in self.clocks():
            moves = []
            for answers in (written[1 + number] for number, variant in enumerate(variants) if variant[0] == clock):
                now = [_onset(answer) for answer in answers]
                moves.append(
                    [
                        None if None in (after, before) else round(after - before, 1)
                        for after, before in zip(now, first, strict=True)
                    ]
                )
            moves_of[clock] = moves
        return moves_of

    def heads(self, clock: str, n: int = 8) -> dict[str, Any]:
        """Patch what a clock moved by ten seconds makes of heads, keys and values into the run where it stands.

        The logit of the digit of tens that is then right is held against the one that is right now, at the row that
        writes it; 0 is as in the clean run, 1 as with the clock moved in all. Of a head's effect, `straight to the
        logits` is what goes over the residual stream alone, and `through no other head` what MLPs behind it make of it
        as well; the rest goes through later heads.
        """
        spans, few = self.spans(), list(range(n))
        batch, answers = self.longer(spans["before"][0] + 1)[few], self.answers[few]
        later = [
            text.answer([(a + TEN_SECONDS * WINDOW, b + TEN_SECONDS * WINDOW)], self.arm.times)
            for a, b in self.given.intervals[:n]
        ]
        tens = spans["before"][0] + 1
        ids = [
            (text.ids(self.model.processor, after)[tens], int(now[tens]))
            for after, now in zip(later, answers, strict=True)
        ]
        batch = replace(batch, choice_ids=tuple(ids))
        still, shifted = (
            ma.Patch("embed", self.tokens(*given)[few], positions=self.audio) for given in ((), (clock, TEN_SECONDS))
        )
        runs = tuple(
            ma.run(
                self.model, batch, interventions=[patch], record=["z", "k", "v", "attn_out", "mlp_out"], logits="last"
            )
            for patch in (still, shifted)
        )
        cache, logits = runs[1].cache, receiver(self.model, "logits")
        paths = {
            "straight to the logits": Paths(self.model, batch, logits, "frozen", runs),
            "through no other head": Paths(self.model, batch, logits, "recomputed", runs),
        }
        layers, heads = range(self.model.n_layers), range(self.model.n_heads)
        variants: dict[tuple[str, int, int], list[Any]] = {}
        for layer in layers:
            z = cache["z", layer]
            for head in heads:
                variants["z at all rows", layer, head] = [ma.Patch("z", z, layer=layer, heads=[head])]
                last = ma.Patch("z", z[:, -1:], layer=layer, heads=[head], positions="last")
                variants["z at the row that writes", layer, head] = [last]
                writes = sender(self.model, ("head", layer, head))
                for name, path in paths.items():
                    variants[name, layer, head] = path.interventions(writes, None)
            for name in ("k", "v"):
                variants[name, layer, 0] = [ma.Patch(name, cache[name, layer], layer=layer)]
        swept = ma.sweep(
            self.model, batch, [[still], [shifted], *([still, *each] for each in variants.values())], progress=False
        )
        difference = swept.logits[..., 0] - swept.logits[..., 1]
        reach = float((difference[1] - difference[0]).mean())
        restored = (difference[2:] - difference[0]).mean(1) / reach
        maps: dict[str, np.ndarray] = {}
        for (name, layer, head), share in zip(variants, restored.tolist(), strict=True):
            maps.setdefault(name, np.zeros((len(layers), 1 if name in "kv" else len(heads))))[layer, head] = share
        return {
            "moved_by": reach,
            "questions": n,
            **{name: _rounded(torch.from_numpy(each)) for name, each in maps.items()},
        }


def _onset(answer: str) -> float | None:
    """Read the first time of an answer that was stopped behind it."""
    said = FIRST_TIME.search(ma.timeaudio.Markers().decode(answer))
    return float(said[0]) if said else None


def _rounded(values: Tensor) -> Any:
    return np.round(values.double().numpy(), 4).tolist()


def look(file: Path, kept: Path, n: int = SCENES) -> dict[str, Any]:
    """Open one network and measure all of it."""
    arm, seed, model = opened(file)
    given = asked(model.network.speech_encoder, kept / f"{n}-scenes.safetensors", n)
    subject = Look(arm, model, given)
    measured = {"arm": arm.name, "seed": seed, "probes": probe_times(model.network, given, arm)}
    measured["doses"], measured["attention"] = subject.doses(), subject.attention()
    measured["heads"] = {clock: subject.heads(clock) for clock in subject.clocks() if clock != "sound"}
    if arm.merging != "none":
        long = asked(model.network.speech_encoder, kept / f"{n}-long-scenes.safetensors", n, MERGED_SECONDS)
        merged = Look(arm, model, long)
        measured["merged"] = merged.doses()
        measured["merged_heads"] = {"time": merged.heads("time")} if arm.encoding else {}
    return measured


def _done(given: argparse.Namespace, file: Path) -> Path:
    return given.work / f"{given.scenes}-{file.stem}.json"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.timeaudio.look", description=__doc__.splitlines()[0])
    parser.add_argument("networks", type=Path, help="folder of ARM-SEED.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="file of what was found")
    parser.add_argument(
        "--work", type=Path, default=Path("build/timeaudio/opened"), help="folder of what is done so far"
    )
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes, each with a question; at least eight")
    given = parser.parse_args(arguments)
    files = sorted(given.networks.glob("*.safetensors"))
    if not files:
        parser.error(
            f"{given.networks} holds no .safetensors: it is the folder `networks` that recipes.timeaudio.run writes"
        )
    given.work.mkdir(parents=True, exist_ok=True)
    for file in bar(files, what="opening", unit="networks"):
        done = _done(given, file)
        if not done.is_file():
            measured = look(file, given.work, given.scenes)
            done.with_suffix(".part").write_text(json.dumps(measured))
            done.with_suffix(".part").rename(done)
    every = [json.loads(_done(given, file).read_text()) for file in files]
    settings = {
        "seconds": SECONDS,
        "merged_seconds": MERGED_SECONDS,
        "scenes": given.scenes,
        "window": WINDOW,
        "ten_seconds": TEN_SECONDS * WINDOW,
    }
    given.out.write_text(json.dumps({"settings": settings, "networks": every}, separators=(",", ":")))


if __name__ == "__main__":
    main()

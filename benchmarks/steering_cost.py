"""What the steering study costs: `steering_study` beside plain forward passes and beside running every variant alone.

    python benchmarks/steering_cost.py            # Qwen2-Audio class, 8 layers, hidden 512, clips of 30 s, on the CPU
    python benchmarks/steering_cost.py --large    # a network of Qwen2-Audio-7B's size, bf16, on a GPU

All are measured in turn in one process, on the same questions. A plain forward is that of transformers with fused
attention, its prompts made beforehand, and then once more with the making of its prompts, which the study does too. The
naive way is two passes with hooks that keep what directions are made of, and then for every variant a pass with a plain
hook that adds its direction. The weights are random, so what the study finds means nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from side_by_side import side_by_side
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

import mechaudio as ma
from mechaudio.analyses import paired_passes, score_heads, steering_sweep
from mechaudio.experiments.steering_arms import Aim, SteeringSettings, steering_arms
from mechaudio.experiments.steering_study import steering_study
from mechaudio.models.tiny import WEIGHTS
from mechaudio.models.tiny.language import build_feature_extractor, build_processor
from mechaudio.tracing.memory import memory_of
from mechaudio.variants.shared_pass import KeptRuns

LARGE_TEXT = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 156032,
}  # fmt: skip
LARGE_AUDIO = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
SMALL_TEXT = {
    "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 4000,
}  # fmt: skip


def opened(large: bool, n_layers: int | None = None) -> ma.AudioLM:
    """A network with random weights, the shipped model's words, and windows of 30 s; of all its layers, or of some."""
    config = Qwen2AudioConfig.from_pretrained(WEIGHTS)
    text = LARGE_TEXT if large else SMALL_TEXT
    n_layers = n_layers or text["num_hidden_layers"]
    config.text_config.update({**text, "num_hidden_layers": n_layers, "layer_types": ["full_attention"] * n_layers})
    config.audio_config.update({"max_source_positions": 1500} | (LARGE_AUDIO if large else {}))
    torch.manual_seed(0)
    dtype = torch.bfloat16 if large else torch.float32
    for part in (config, config.text_config, config.audio_config):
        part.dtype = dtype  # each part of the network is built in the precision of its own configuration
    with torch.device("cuda" if large else "cpu"):
        torch.set_default_dtype(dtype)
        network = Qwen2AudioForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        network.model.audio_tower.embed_positions.weight.normal_(0, 0.02)
    words = build_processor()
    processor = Qwen2AudioProcessor(build_feature_extractor(30), words.tokenizer, chat_template=words.chat_template)
    return ma.AudioLM(network.eval(), processor, prove=False)


@contextmanager
def steered(network: Any, intervention: ma.Steer | ma.SteerHeads, d_head: int) -> Iterator[None]:
    """While open, plain hooks add the directions at the last position."""
    layers, strength = network.model.language_model.layers, intervention.strength

    def add(direction: torch.Tensor, _module: Any, _args: Any, out: Any) -> Any:
        hidden = out[0] if isinstance(out, tuple) else out
        hidden[:, -1] += strength * direction.to(hidden)
        return out

    def add_to_heads(places: Sequence[tuple[int, torch.Tensor]], _module: Any, args: Any) -> None:
        for head, direction in places:
            args[0][:, -1, head * d_head : (head + 1) * d_head] += strength * direction.to(args[0])

    with ExitStack() as hooks:
        if isinstance(intervention, ma.Steer):
            module = (
                network.model.language_model.norm if intervention.layers is None else layers[intervention.layers[0]]
            )
            hook = module.register_forward_hook(partial(add, torch.as_tensor(intervention.direction)))
            hooks.callback(hook.remove)
        else:
            by_layer: dict[int, list[tuple[int, torch.Tensor]]] = {}
            for place, (layer, head) in enumerate(intervention.heads):
                direction = torch.as_tensor(intervention.directions[:, place])
                by_layer.setdefault(layer, []).append((head, direction))
            for layer, places in by_layer.items():
                hook = layers[layer].self_attn.o_proj.register_forward_pre_hook(partial(add_to_heads, places))
                hooks.callback(hook.remove)
        yield


def plain(model: ma.AudioLM, batches: Sequence[Any]) -> list[torch.Tensor]:
    """The logits of the choices, from plain forward passes."""
    with torch.no_grad():
        last = [model.network(**batch.inputs, use_cache=False).logits[:, -1].float().cpu() for batch in batches]
    return [row.gather(1, torch.tensor(batch.choice_ids)) for row, batch in zip(last, batches, strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, size, settings = opened(arguments.large), arguments.batch_size, SteeringSettings()
    questions = list(ma.data.soundscapes.questions(arguments.questions, seed=0, duration=30.0))
    parts = [questions[start : start + size] for start in range(0, len(questions), size)]
    batches = [ma.prompt(model, own) for own in parts]

    passes = paired_passes(model, questions, batch_size=size)
    aim = Aim(score_heads(passes.heard, resamples=10), settings)
    ks = [k for k in settings.ks if k <= aim.scores.varies.sum()]
    arms = steering_arms(settings, ks, range(model.n_layers))
    others = passes.directions.shuffled()
    some = [arm for arm in arms if arm.strength == settings.strengths[0] and arm.k in (None, ks[0]) and not arm.draw]
    some = [arm for arm in some if not arm.layer]
    of_all = list(aim.interventions(some, passes.directions, others).values())

    def alone(arm: int) -> torch.Tensor:
        found = []
        for start, batch in zip(range(0, len(questions), size), batches, strict=True):
            own = of_all[arm].of_rows(range(start, start + batch.n_rows))
            with steered(model.network, own, model.d_model // model.n_heads):
                found += plain(model, [batch])
        return torch.cat(found)

    def swept(directions: Any, kept: Any = None) -> Any:
        made = partial(aim.interventions, arms)
        return steering_sweep(
            model,
            questions,
            directions=directions,
            variants=lambda own: made(own, others.of(own.ids)),
            kept=kept,
            batch_size=size,
        )

    def choosing() -> None:
        kept = KeptRuns(memory_of(model))
        swept(paired_passes(model, questions, kept=kept, batch_size=size).directions, kept)

    turns = iter(range(10**6))
    ways = {
        "plain forward": lambda: plain(model, batches),
        "plain forward, prompts made included": lambda: plain(model, [ma.prompt(model, own) for own in parts]),
        "the whole study, prompts made included": lambda: steering_study(
            model, questions, settings=settings, batch_size=size
        ),
        "  its pair of passes": lambda: paired_passes(model, questions, batch_size=size),
        "  the half that chooses: both passes, then all variants": choosing,
        "  the half that reports: both passes and all variants": lambda: swept(None),
        "one variant alone, plain hooks": lambda: alone(next(turns) % len(some)),
    }
    seconds = side_by_side(ways, arguments.repeats, warm_up=1)
    print(model)
    print(f"{len(questions)} questions of {batches[0].n_positions} positions, {size} at a time, {len(arms)} variants")
    print(f"  {'':58} {'ms a question':>13} {'forwards':>9}  {'range':9}  {'with their prompts':>18}")
    base, whole_base = seconds["plain forward"], seconds["plain forward, prompts made included"]
    for name, values in seconds.items():
        ratios = sorted(value / own for value, own in zip(values, base, strict=True))
        theirs = statistics.median(value / own for value, own in zip(values, whole_base, strict=True))
        middle = 1e3 * statistics.median(values) / len(questions)
        span = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        print(f"  {name:58} {middle:13.1f} {statistics.median(ratios):9.3f}  {span:9}  {theirs:18.3f}")
    alone_cost, whole = (
        statistics.median(value / own for value, own in zip(seconds[name], base, strict=True))
        for name in ("one variant alone, plain hooks", "the whole study, prompts made included")
    )
    naive = 2 + len(arms) * alone_cost
    print(
        f"the naive way: 2 + {len(arms)} x {alone_cost:.2f} = {naive:.0f} forwards, {naive / whole:.0f} times the study"
    )
    found = steering_sweep(
        model,
        questions,
        directions=passes.directions,
        variants=lambda own: aim.interventions(some, own, others.of(own.ids)),
        batch_size=size,
    )
    worst = max(difference(questions, alone(place), found.margin[place]) for place in range(len(some)))
    print(f"largest difference from plain hooks: {worst:.1e}")


def difference(questions: Sequence[ma.AudioQuestion], logits: torch.Tensor, margin: np.ndarray) -> float:
    """Of the margins that a sweep reads from those of given logits, relative to the largest logit."""
    right = torch.tensor([question.choices.index(question.answer) for question in questions])[:, None]
    best = logits.scatter(1, right, -torch.inf).amax(1)
    return float((logits.gather(1, right)[:, 0] - best - torch.from_numpy(margin)).abs().max() / logits.abs().max())


if __name__ == "__main__":
    main()

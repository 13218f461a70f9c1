"""What a sweep costs: `ma.sweep` beside plain forward passes and beside running its variants one by one.

    python benchmarks/sweep_cost.py            # Qwen2-Audio class, 8 layers, hidden 512, 850 positions, on the CPU
    python benchmarks/sweep_cost.py --large    # a full-size Qwen2-Audio with random weights, bf16, on a GPU
    python benchmarks/sweep_cost.py --growth   # how the cost grows with variants, layers, prompt and suffix

Every ratio is to a plain transformers forward with fused attention in the same process. One by one is measured with
what people use instead: raw nnsight on eager attention, whose softmax input is edited in a trace for every variant.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import nnsight
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from side_by_side import peak_memory, side_by_side
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

import mechaudio as ma

AUDIO_TOKEN = 7
TOWER = {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "d_model": 64}
FACTORS = (0.2, 0.5, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0)


def network(
    large: bool, layers: int = 8, dtype: torch.dtype = torch.bfloat16, tower: Mapping[str, int] = TOWER
) -> Qwen2AudioForConditionalGeneration:
    """Qwen2-Audio with random weights: its real size, or hidden 512 behind a small tower."""
    torch.manual_seed(0)
    if large:
        text = {"model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 156032}
        config = Qwen2AudioConfig(text_config=text, audio_token_index=151646)
        with torch.device("cuda"):
            torch.set_default_dtype(dtype)
            built = Qwen2AudioForConditionalGeneration(config)
            torch.set_default_dtype(torch.float32)
    else:
        audio = {"model_type": "qwen2_audio_encoder", "num_mel_bins": 16, "max_source_positions": 1500, **tower}
        text = {
            "model_type": "qwen2", "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": layers,
            "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 4000, "max_position_embeddings": 4096,
        }  # fmt: skip
        built = Qwen2AudioForConditionalGeneration(
            Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=AUDIO_TOKEN)
        )
    with torch.no_grad():
        built.model.audio_tower.embed_positions.weight.normal_(0, 0.02)
    return built.eval()


def inputs(net: Qwen2AudioForConditionalGeneration, positions: int, questions: int = 1) -> dict[str, torch.Tensor]:
    """Prompts with a clip of 30 s each, or with what of it fits."""
    generator = torch.Generator().manual_seed(1)
    n_audio = min(750, positions - 60)
    ids = torch.randint(10, 900, (questions, positions), generator=generator)
    ids[:, 20 : 20 + n_audio] = net.config.audio_token_id
    features = torch.randn(questions, net.config.audio_config.num_mel_bins, 3000, generator=generator)
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": features.to(net.dtype),
        "feature_attention_mask": (torch.arange(3000) < 4 * n_audio).long().repeat(questions, 1),
    }
    return {name: value.to(net.device) for name, value in made.items()}


def one_by_one(eager: nnsight.NNsight, batch: dict[str, torch.Tensor], variants: ma.interventions.grid.Grid) -> None:
    """A trace per variant: the scores of the audio keys in the last row of one layer, multiplied."""
    audio = batch["input_ids"][0] == eager.config.audio_token_id
    for variant in variants:
        with eager.trace(**batch, use_cache=False):
            attention = eager.model.language_model.layers[variant.layers[0]].self_attn
            scores = attention.source.attention_interface_1.source.nn_functional_softmax_0.input
            scores[:, :, -1, audio] = scores[:, :, -1, audio] * variant.factor
            eager.lm_head.output[:, -1].save()


def difference(model: ma.AudioLM, batch: dict[str, torch.Tensor], variants: ma.interventions.grid.Grid) -> float:
    """Largest difference of the logits of eight variants from those of `ma.run`, relative to the largest logit."""
    some = variants[:: max(1, len(variants) // 8)]
    found = ma.sweep(model, batch, some, progress=False).logits
    alone = torch.stack([ma.run(model, batch, interventions=[one], logits="last").logits[:, -1] for one in some])
    return float((found - alone).abs().max() / alone.abs().max())


def against_one_by_one(large: bool, repeats: int, dtype: torch.dtype, questions: int) -> None:
    """A grid at the last position, and one at rows 60 positions from the end."""
    net = network(large, dtype=dtype)
    plain_net, batch = copy.deepcopy(net) if not large else net, inputs(net, 850, questions)
    model = ma.AudioLM(net, prove=False)
    layers = range(model.n_layers)
    grid = ma.grid(ma.ScaleAttention, layers=layers, factor=FACTORS)
    suffix = ma.grid(ma.ScaleAttention, layers=layers, factor=FACTORS, queries=[-60, -1])

    def plain() -> None:
        plain_net(**batch, use_cache=False)

    ways = {
        "plain forward": plain,
        f"ma.sweep, {len(grid)} variants at the last position": lambda: ma.sweep(model, batch, grid, progress=False),
        f"ma.sweep, {len(suffix)} variants 60 positions from the end": lambda: ma.sweep(
            model, batch, suffix, progress=False
        ),
    }
    with torch.no_grad():
        seconds = side_by_side(ways, repeats)
        memory = {name: peak_memory(way) for name, way in ways.items()} if large else {}
        eager_net = copy.deepcopy(plain_net) if not large else net
        fused = plain_net(**batch, use_cache=False).logits[:, -1]
        eager_net.set_attn_implementation({"text_config": "eager"})
        noise = float((eager_net(**batch, use_cache=False).logits[:, -1] - fused).abs().max() / fused.abs().max())
        eager = nnsight.NNsight(eager_net)
        for layer in eager.model.language_model.layers:
            layer.self_attn.source  # noqa: B018 - the first access instruments the module
        few = ma.grid(ma.ScaleAttention, layers=layers[:: max(1, len(layers) // 8)], factor=FACTORS[:1])
        alone = side_by_side({"": lambda: one_by_one(eager, batch, few)}, max(1, repeats // 3), warm_up=1)[""]
    for name, variants in {"at the last position": grid, "60 positions from the end": suffix}.items():
        print(f"largest difference from one by one, {name}: {difference(model, batch, variants):.1e}")
    print(f"for comparison, of eager from fused attention in plain transformers: {noise:.1e}")
    per_variant = statistics.median(alone) / len(few)
    base = statistics.median(seconds["plain forward"])
    print(f"{'':52} {'ms':>9} {'forwards':>9}  range        times faster than one by one")
    for name, values in seconds.items():
        ratios = sorted(value / own for value, own in zip(values, seconds["plain forward"], strict=True))
        n = 0 if name == "plain forward" else len(grid)
        faster = f"{n * per_variant / statistics.median(values):9.0f}x" if n else ""
        print(
            f"{name:52} {1e3 * statistics.median(values):9.1f} {statistics.median(ratios):9.3f}  "
            f"{ratios[0]:.2f}-{ratios[-1]:.2f} {faster}"
        )
    print(f"{'one by one, raw nnsight, eager: each variant':52} {1e3 * per_variant:9.1f} {per_variant / base:9.3f}")
    for name, megabytes in memory.items():
        print(f"peak memory beyond the weights, {name}: {megabytes:.0f} MB")


def growth(repeats: int, out: Path | None) -> None:
    """Ratios to a plain forward as one thing grows; the others stay at 32 variants, 8 layers, 850 positions."""
    settings = [
        *({"variants": n} for n in (1, 8, 32, 128)),
        *({"layers": n} for n in (2, 4, 8, 16)),
        *({"positions": n} for n in (200, 400, 850, 1700)),
        *({"suffix": n} for n in (1, 4, 16, 60)),
    ]
    rows = []
    for setting in settings:
        asked = {"variants": 32, "layers": 8, "positions": 850, "suffix": 1} | setting
        net = network(large=False, layers=asked["layers"])
        plain_net, batch, model = copy.deepcopy(net), inputs(net, asked["positions"]), ma.AudioLM(net, prove=False)
        variants = [
            ma.ScaleAttention(
                1 + (index + 1) / asked["variants"], layers=[index % asked["layers"]], queries=[-asked["suffix"]]
            )
            for index in range(asked["variants"])
        ]
        ways = {
            "plain": lambda net=plain_net, batch=batch: net(**batch, use_cache=False),
            "sweep": lambda model=model, batch=batch, variants=variants: ma.sweep(
                model, batch, variants, progress=False
            ),
        }
        with torch.no_grad():
            seconds = side_by_side(ways, repeats)
        ratio = statistics.median(s / p for s, p in zip(seconds["sweep"], seconds["plain"], strict=True))
        rows.append({"grows": next(iter(setting)), **asked, "forwards": ratio})
        print(rows[-1], flush=True)
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))
        growth_figure(rows).write_html(out.with_suffix(".html"), config={"displayModeBar": False})


def growth_figure(rows: list[dict]) -> go.Figure:
    """One panel for each thing that grows."""
    titles = {
        "variants": "variants", "layers": "layers", "positions": "positions of the prompt",
        "suffix": "rows from the first edit on",
    }  # fmt: skip
    figure = make_subplots(1, 4, shared_yaxes=True, subplot_titles=list(titles.values()), horizontal_spacing=0.03)
    for column, grows in enumerate(titles, start=1):
        own = [row for row in rows if row["grows"] == grows]
        values = [row[grows] for row in own]
        line = {"x": values, "y": [row["forwards"] for row in own], "mode": "lines+markers", "showlegend": False}
        figure.add_scatter(**line, line_color="#0072b2", row=1, col=column)
        one = {"x": [values[0], values[-1]], "y": [1, 1], "mode": "lines", "showlegend": False}
        figure.add_scatter(**one, line={"color": "#767c84", "dash": "dot"}, row=1, col=column)
        ticks = {"tickvals": values, "ticktext": [f"{value:,}" for value in values]}
        figure.update_xaxes(type="log", **ticks, row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="plain forward passes", row=1, col=1)
    margin = {"l": 60, "r": 20, "t": 40, "b": 40}
    return figure.update_layout(template="simple_white", width=1000, height=300, margin=margin)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--fp32", action="store_true", help="with --large: float32 instead of bfloat16")
    parser.add_argument("--questions", type=int, default=1, help="prompts that are swept together")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the growth table here, as JSON, and its figure beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.growth:
        growth(arguments.repeats, arguments.out)
    else:
        dtype = torch.float32 if arguments.fp32 else torch.bfloat16
        against_one_by_one(arguments.large, arguments.repeats, dtype, arguments.questions)


if __name__ == "__main__":
    main()

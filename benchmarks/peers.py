"""One table: what reading, editing and comparing cost in mechaudio and in what people use instead, on the CPU.

    python benchmarks/peers.py                                  # makes the peers' environments in build/peers, once
    python benchmarks/peers.py --repeats 3 --positions 320      # sooner, and of less meaning

A network of Qwen2-Audio's class with random weights, 8 layers, 256 wide, in single precision on two threads. Each tool
is measured in a process of its own beside plain forward passes of the same network with fused attention, in turn; a
cell is the median of the ratios to these, round by round, with their range. mechaudio, raw nnsight and transformers
share the environment that this is run in. TransformerLens and nnterp have one each, which borrows torch and
transformers from here and holds what they need beside these, or in other versions; both are given the text decoder
alone, on the same weights. One that cannot be installed or opened is left out with a sentence.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import venv
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nnsight
import torch
from side_by_side import side_by_side
from sweep_cost import one_by_one
from tokenizers import Tokenizer, models
from trace_overhead import inputs, network, others
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.models.qwen2 import modeling_qwen2

import mechaudio as ma

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
ROWS, LAYER = 4, 4
FACTORS = (0.2, 0.5, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0)
PLAIN = "plain forward"
RESIDUAL, ROW, ADD, SCALE = JOBS = (
    "residual stream of every layer",
    "last row's attention, every layer and head",
    "a vector added to one layer",
    f"attention to audio scaled in {len(FACTORS)} ways, one prompt",
)
Ways = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Asked:
    """A network, prompts for reading and adding, one for scaling, and the positions of audio in that one."""

    network: Any
    batch: dict[str, torch.Tensor]
    single: dict[str, torch.Tensor]
    audio: torch.Tensor

    @property
    def vector(self) -> torch.Tensor:
        """A vector to add to a layer."""
        config = self.network.config.get_text_config()
        return torch.randn(config.hidden_size, generator=torch.Generator().manual_seed(2))

    def eager(self) -> Any:
        """A copy of the network that attends eagerly."""
        copied = copy.deepcopy(self.network)
        copied.set_attn_implementation({"text_config": "eager"} if hasattr(copied.config, "text_config") else "eager")
        return copied


def with_mechaudio(asked: Asked) -> Ways:
    """`ma.run` and `ma.sweep`."""
    model = ma.AudioLM(asked.network, prove=False)
    grid = ma.grid(ma.ScaleAttention, layers=[LAYER], factor=FACTORS)
    row, steer = ma.HookPoint("pattern", queries="last"), ma.Steer(asked.vector, layers=[LAYER], strength=1.0)
    return {
        RESIDUAL: lambda: ma.run(model, asked.batch, record=["resid_post"]),
        ROW: lambda: ma.run(model, asked.batch, record=[row]),
        ADD: lambda: ma.run(model, asked.batch, interventions=[steer]),
        SCALE: lambda: ma.sweep(model, asked.single, grid, progress=False),
    }


@contextmanager
def softmax_scaled(factor: float, audio: torch.Tensor) -> Iterator[None]:
    """While open, the softmax of one layer's attention is given scaled scores of the audio in the last row."""
    softmax, calls = torch.nn.functional.softmax, iter(range(1000))

    def scaled(scores: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        if next(calls) == LAYER:
            scores[:, :, -1, audio] *= factor
        return softmax(scores, *args, **named)

    modeling_qwen2.nn.functional.softmax = scaled
    try:
        yield
    finally:
        modeling_qwen2.nn.functional.softmax = softmax
    assert next(calls) > LAYER, "no attention went through the softmax"


def with_transformers(asked: Asked) -> Ways:
    """Outputs that transformers returns by an option, a plain hook of torch, and a softmax that is exchanged."""
    fused, eager = asked.network, asked.eager()

    def add(_module: Any, _args: Any, out: Any) -> Any:
        return (out[0] + asked.vector, *out[1:]) if isinstance(out, tuple) else out + asked.vector

    def added() -> None:
        handle = fused.model.language_model.layers[LAYER].register_forward_hook(add)
        fused(**asked.batch, use_cache=False)
        handle.remove()

    def scaled() -> None:
        for factor in FACTORS:
            with softmax_scaled(factor, asked.audio):
                eager(**asked.single, use_cache=False)

    return {
        RESIDUAL: lambda: fused(**asked.batch, use_cache=False, output_hidden_states=True),
        ROW: others(asked.network, asked.batch, whole=True)["transformers: output_attentions=True, eager"],
        ADD: added,
        SCALE: scaled,
    }


def with_nnsight(asked: Asked) -> Ways:
    """Traces of nnsight, those of attention through its source."""
    ways = others(asked.network, asked.batch, whole=True)
    traced, eager = nnsight.NNsight(copy.deepcopy(asked.network)), nnsight.NNsight(asked.eager())
    for layer in eager.model.language_model.layers:
        layer.self_attn.source  # noqa: B018 - the first access instruments the module
    grid = ma.grid(ma.ScaleAttention, layers=[LAYER], factor=FACTORS)

    def added() -> None:
        with traced.trace(**asked.batch, use_cache=False):
            layer = traced.model.language_model.layers[LAYER]
            layer.output = layer.output + asked.vector
            traced.lm_head.output.save()

    return {
        RESIDUAL: ways["raw nnsight: every layer's residual"],
        ROW: ways["raw nnsight: last-row patterns (.source, eager)"],
        ADD: added,
        SCALE: lambda: one_by_one(eager, asked.single, grid),
    }


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of words that stand for their ids, for tools that ask for one."""
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(1000)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w1", eos_token="w2")


def with_transformer_lens(asked: Asked) -> Ways:
    """TransformerLens's bridge: its cache and its hooks."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "Qwen/Qwen2-7B-Instruct", hf_model=copy.deepcopy(asked.network), tokenizer=tokenizer()
    )
    blocks = [f"blocks.{layer}" for layer in range(bridge.cfg.n_layers)]

    def read(names: list[str], **options: Any) -> None:
        mask = asked.batch["attention_mask"]
        _, cache = bridge.run_with_cache(asked.batch["input_ids"], names_filter=names, attention_mask=mask, **options)
        assert all(name in cache for name in names), f"of {names} there are {sorted(cache)}"

    def edited(batch: dict[str, torch.Tensor], name: str, edit: Callable[[torch.Tensor], torch.Tensor]) -> None:
        seen = []

        def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001 - it is called so
            seen.append(name)
            return edit(value)

        bridge.run_with_hooks(batch["input_ids"], fwd_hooks=[(name, hook)], attention_mask=batch["attention_mask"])
        assert seen == [name], f"the hook of {name} ran {len(seen)} times"

    def scaled(factor: float) -> None:
        def edit(scores: torch.Tensor) -> torch.Tensor:
            scores[:, :, -1, asked.audio] *= factor
            return scores

        edited(asked.single, f"{blocks[LAYER]}.attn.hook_attn_scores", edit)

    return {
        RESIDUAL: lambda: read([f"{block}.hook_resid_post" for block in blocks]),
        ROW: lambda: read([f"{block}.attn.hook_pattern" for block in blocks], pos_slice=-1),
        ADD: lambda: edited(asked.batch, f"{blocks[LAYER]}.hook_resid_post", lambda value: value + asked.vector),
        SCALE: lambda: [scaled(factor) for factor in FACTORS],
    }


def with_nnterp(asked: Asked) -> Ways:
    """nnterp's standard names."""
    from nnterp import StandardizedTransformer

    fused = StandardizedTransformer(copy.deepcopy(asked.network), tokenizer=tokenizer())
    eager = StandardizedTransformer(asked.eager(), tokenizer=tokenizer(), enable_attention_probs=True)
    layers = range(asked.network.config.num_hidden_layers)

    def residuals() -> None:
        with fused.trace(asked.batch):
            kept = nnsight.save([])
            for layer in layers:
                kept.append(fused.layers_output[layer])
        assert len(kept) == len(layers)

    def rows() -> None:
        with eager.trace(asked.batch):
            kept = nnsight.save([])
            for layer in layers:
                kept.append(eager.attention_probabilities[layer][:, :, -1].clone())
        assert len(kept) == len(layers)

    def added() -> None:
        with fused.trace(asked.batch):
            fused.steer(LAYER, asked.vector)
            fused.logits.save()

    return {RESIDUAL: residuals, ROW: rows, ADD: added}


@dataclass(frozen=True)
class Tool:
    """A tool of the table.

    Attributes:
        heading: Its column.
        package: Whose version is shown.
        ways: Its ways of doing the jobs.
        pins: What its own environment holds; none for a tool of this one.
        only_text: Why it is given the text decoder alone; blank where it is given the whole network.
    """

    heading: str
    package: str
    ways: Callable[[Asked], Ways]
    pins: tuple[str, ...] = ()
    only_text: str = ""


TOOLS = {
    "mechaudio": Tool("mechaudio", "mechaudio", with_mechaudio),
    "transformers": Tool("transformers", "transformers", with_transformers),
    "nnsight": Tool("raw nnsight", "nnsight", with_nnsight),
    "transformer_lens": Tool(
        "TransformerLens",
        "transformer-lens",
        with_transformer_lens,
        ("transformer-lens==4.3.0",),
        "its bridge to audio models installs torchvision",
    ),
    "nnterp": Tool(
        "nnterp",
        "nnterp",
        with_nnterp,
        ("nnterp==1.3.0", "nnsight==0.6.3"),
        "it opens no audio model; beside nnsight 0.6.3, as it cannot be imported beside 0.8.1, and it names no scores "
        "of attention",
    ),
}


def measure(tool: Tool, repeats: int, positions: int) -> dict[str, Any]:
    """Ratios of a tool's jobs to plain forward passes, round by round; the seconds of those, and the tool's version."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    net = network(large=False)
    batches = [inputs(net, rows, positions) for rows in (ROWS, 1)]
    audio = batches[1]["input_ids"][0] == net.config.audio_token_id
    if tool.only_text:
        text = Qwen2ForCausalLM(net.config.text_config).eval()
        text.model.load_state_dict(net.model.language_model.state_dict())
        text.lm_head.load_state_dict(net.lm_head.state_dict())
        net, batches = text, [{name: each[name] for name in ("input_ids", "attention_mask")} for each in batches]
    asked, plain = Asked(net, *batches, audio), copy.deepcopy(net)
    measured: dict[str, Any] = {"version": metadata.version(tool.package)}
    with torch.no_grad():
        ways = tool.ways(asked)
        for batch, jobs in ((asked.batch, JOBS[:-1]), (asked.single, JOBS[-1:])):
            base = {PLAIN: lambda batch=batch: plain(**batch, use_cache=False)}
            seconds = side_by_side(base | {job: ways[job] for job in jobs if job in ways}, repeats, warm_up=1)
            measured.setdefault(PLAIN, seconds[PLAIN])
            for job in jobs:
                if job in ways:
                    measured[job] = [took / plainly for took, plainly in zip(seconds[job], seconds[PLAIN], strict=True)]
    return measured


def environment(folder: Path, pins: Sequence[str]) -> Path:
    """Make an environment that borrows what this one has, unless it is there, and return its Python.

    Raises:
        OSError: It cannot be made, or not filled.
    """
    python, ready = folder / "bin" / "python", folder / "pins.txt"
    if ready.exists() and ready.read_text().split() == list(pins):
        return python
    venv.create(folder, clear=True, with_pip=False)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", *pins]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed"))
    ready.write_text("\n".join(pins) + "\n")
    return python


def in_its_process(name: str, repeats: int, positions: int, folder: Path) -> dict[str, Any] | str:
    """Measure a tool in a process of its own; a sentence where it cannot be."""
    tool = TOOLS[name]
    try:
        python = environment(folder / name, tool.pins) if tool.pins else Path(sys.executable)
    except OSError as error:
        return f"{tool.heading} is left out, as {', '.join(tool.pins)} cannot be installed: {error}"
    words = [str(python), __file__, "--tool", name, "--repeats", str(repeats), "--positions", str(positions)]
    here = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=here, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return f"{tool.heading} is left out, as it failed: {why[0]:.300}"
    return json.loads(done.stdout.splitlines()[-1])


def table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The ratios as a table in Markdown; a cell is blank where nothing was measured."""

    def cell(ratios: Sequence[float]) -> str:
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else ""

    lines = [["job", *(f"{TOOLS[name].heading} {known['version']}" for name, known in measured.items())]]
    lines += [["---"] * len(lines[0])]
    lines += [[job, *(cell(known.get(job, ())) for known in measured.values())] for job in JOBS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--positions", type=int, default=600, help="of a prompt, 320 at least")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    repeats, positions = arguments.repeats, arguments.positions
    if arguments.tool:
        print(json.dumps(measure(TOOLS[arguments.tool], repeats, positions)))
        return
    outcomes = {name: in_its_process(name, repeats, positions, arguments.environments) for name in arguments.tools}
    measured = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, dict)}
    print(
        f"Ratios to a plain forward pass with fused attention: medians of {repeats} rounds (range), {ROWS} prompts of "
        f"{positions} positions, {THREADS} threads.\n\n{table(measured)}\n"
    )
    for name, known in measured.items():
        why = TOOLS[name].only_text
        opened = f"the text decoder alone, of the same shapes, as {why}" if why else "the whole network"
        milliseconds = 1e3 * statistics.median(known[PLAIN])
        print(f"- {TOOLS[name].heading} opens {opened}. The plain forward pass took {milliseconds:.0f} ms.")
    for outcome in outcomes.values():
        if isinstance(outcome, str):
            print(f"- {outcome}")
    print(
        "- All but mechaudio attend eagerly where attention is read or scaled, and scale it in one way after another."
    )


if __name__ == "__main__":
    main()

"""What maps of activation patching cost, beside running their patches one by one with what people use instead.

    python benchmarks/patching_cost.py            # Qwen2-Audio class, 8 layers, hidden 512, 850 positions, on the CPU
    python benchmarks/patching_cost.py --large    # a full-size Qwen2-Audio with random weights, bf16, on a GPU

Maps on one pair of prompts: every layer and head at all positions, and every layer and second of a clip of 30 s, in the
decoder and in the audio tower. One by one is raw nnsight, a trace per patch; and `transformer_lens.patching`, where it
is installed, on a text network with the same decoder and a prompt of the same length. Some of their patches are timed,
evenly over the layers; all of ours are. Everything runs in turn in one process. On the CPU the tower's map has a
network of its own, whose tower is to the decoder as Qwen2-Audio's is.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from dataclasses import replace

import nnsight
import torch
from side_by_side import side_by_side
from sweep_cost import inputs, network
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration, Qwen2ForCausalLM

import mechaudio as ma
from mechaudio.models.batch import PromptBatch
from mechaudio.models.inputs import as_batch

POSITIONS = 850
HEADS = "layers x heads"
Maps = dict[str, dict[str, object]]
#: Eight layers, 5/16 as wide as the decoder.
TOWER = {"encoder_layers": 8, "encoder_attention_heads": 4, "encoder_ffn_dim": 640, "d_model": 160}
DECODER_MAPS = {
    HEADS: {"over": ("layer", "head"), "hook_point": "z"},
    "layers x heads, last position": {"over": ("layer", "head"), "hook_point": "z", "positions": "last"},
    "layers x seconds": {"over": ("layer", "second"), "hook_point": "resid_pre"},
}
TOWER_MAPS = {
    "tower layers x heads": {"over": ("layer", "head"), "hook_point": "audio.z"},
    "tower layers x seconds": {"over": ("layer", "second"), "hook_point": "audio.resid_post"},
}


def pair(model: ma.AudioLM, net: Qwen2AudioForConditionalGeneration) -> tuple[PromptBatch, PromptBatch]:
    """A prompt with noise for sound, and one with other noise."""
    clean = inputs(net, POSITIONS)
    corrupted = clean | {"input_features": torch.randn_like(clean["input_features"])}
    question = ma.AudioQuestion(audio=None, text="?", choices=("one", "other"), answer="one", id="0")
    sides = (
        replace(as_batch(model, side), questions=(replace(question, id=name),), choice_ids=((11, 12),))
        for name, side in (("clean", clean), ("corrupted", corrupted))
    )
    return tuple(sides)


def with_nnsight(
    traced: nnsight.NNsight, clean: PromptBatch, corrupted: PromptBatch, hook_point: str, some: int
) -> tuple[Callable[[], None], int]:
    """A function that runs some patches, a trace each, and how many these are."""
    tower, decoder = traced.model.audio_tower, traced.model.language_model
    in_tower = hook_point.startswith("audio.")
    layers = tower.layers if in_tower else decoder.layers
    given = []
    with traced.trace(**clean.inputs, use_cache=False):
        for layer in layers:
            if hook_point == "audio.z":
                given.append(layer.self_attn.out_proj.input.clone().save())
            elif hook_point == "z":
                given.append(layer.self_attn.o_proj.input.clone().save())
            elif hook_point == "resid_pre":
                given.append(layer.input.clone().save())
            else:
                given.append(layer.output.clone().save())
    rows = list(corrupted.spans["audio"][0])
    if hook_point.endswith("z"):
        config = traced.config.audio_config if in_tower else traced.config.text_config
        heads = config.num_attention_heads
        d_head = given[0].shape[-1] // heads
        places = [slice(head * d_head, (head + 1) * d_head) for head in range(heads)]
    elif in_tower:  # 50 frames a second, two of which make an audio token
        places = [slice(50 * second, 50 * (second + 1)) for second in range(len(rows) // 25)]
    else:
        places = [rows[25 * second : 25 * (second + 1)] for second in range(len(rows) // 25)]
    every = [(layer, place) for layer in range(len(layers)) for place in places]
    chosen = every[:: max(1, len(every) // some)]

    def run() -> None:
        for layer, place in chosen:
            value = given[layer]
            with traced.trace(**corrupted.inputs, use_cache=False):
                if hook_point == "audio.z":
                    layers[layer].self_attn.out_proj.input[..., place] = value[..., place]
                elif hook_point == "z":
                    layers[layer].self_attn.o_proj.input[..., place] = value[..., place]
                elif hook_point == "resid_pre":
                    layers[layer].input[:, place] = value[:, place]
                else:
                    layers[layer].output[:, place] = value[:, place]
                traced.lm_head.output[:, -1].save()

    return run, len(chosen)


def with_transformer_lens(net: Qwen2AudioForConditionalGeneration, some: int) -> tuple[Callable[[], None], int] | None:
    """The head map of `transformer_lens.patching` on a text network with this decoder; some of its patches."""
    try:
        import pandas as pd
        from transformer_lens import patching
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return None
    config = net.config.text_config
    with torch.device(net.device):
        torch.set_default_dtype(net.dtype)
        text = Qwen2ForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(1000)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w1", eos_token="w2")
    bridge = TransformerBridge.boot_transformers("Qwen/Qwen2-7B-Instruct", hf_model=text, tokenizer=tokenizer)
    tokens = torch.randint(10, 900, (2, 1, POSITIONS), device=net.device)
    _, cache = bridge.run_with_cache(tokens[0], names_filter=lambda name: name.endswith("attn.hook_z"))
    heads = [(layer, head) for layer in range(bridge.cfg.n_layers) for head in range(bridge.cfg.n_heads)]
    frame = pd.DataFrame(heads[:: max(1, len(heads) // some)], columns=["layer", "head"])

    def setter(corrupted: torch.Tensor, index: list[int], clean: torch.Tensor) -> torch.Tensor:
        _, head = index
        corrupted[:, :, head] = clean[:, :, head]
        return corrupted

    def run() -> None:
        patching.generic_activation_patch(
            bridge, tokens[1], cache, lambda logits: logits[0, -1, 11] - logits[0, -1, 12], setter, "z", index_df=frame
        )

    return run, len(frame)


def compare(net: Qwen2AudioForConditionalGeneration, maps: Maps, repeats: int, some: int, own: bool) -> None:
    """Print what every map costs; with copies of the network for the others, unless it is its `own`."""
    plain_net, traced_net = (net, net) if own else (copy.deepcopy(net), copy.deepcopy(net))
    traced, model = nnsight.NNsight(traced_net), ma.AudioLM(net, prove=False)
    clean, corrupted = pair(model, net)
    sizes = {}

    def ours(name: str) -> Callable[[], None]:
        def run() -> None:
            found = ma.analyses.activation_patching(model, clean, corrupted=corrupted, **maps[name])
            sizes[name] = found.mean().size

        return run

    by_nnsight = {
        name: with_nnsight(traced, clean, corrupted, settings["hook_point"], some)
        for name, settings in maps.items()
        if "positions" not in settings
    }
    lens = with_transformer_lens(net, some) if HEADS in maps else None
    ways = {"plain forward": lambda: plain_net(**corrupted.inputs, use_cache=False)}
    ways |= {f"mechaudio, {name}": ours(name) for name in maps}
    ways |= {f"raw nnsight, {name}": way for name, (way, _) in by_nnsight.items()}
    ways |= {} if lens is None else {f"transformer_lens.patching, {HEADS}": lens[0]}
    with torch.no_grad():
        seconds = {name: statistics.median(times) for name, times in side_by_side(ways, repeats, warm_up=1).items()}
    plain = seconds["plain forward"]
    print(f"plain forward: {1e3 * plain:.1f} ms")
    print(f"{'':56} {'patches':>8} {'s':>8} {'forwards':>9}  ms a patch  times faster")
    alone = {name: seconds[f"raw nnsight, {name}"] / n for name, (_, n) in by_nnsight.items()}
    for name, n in sizes.items():
        spent = seconds[f"mechaudio, {name}"]
        other = alone.get(name, alone.get(HEADS))
        row(f"mechaudio, {name}", n, spent, plain, f"{n * other / spent:9.1f}x")
    for name, cost in alone.items():
        row(f"raw nnsight, {name} (from {by_nnsight[name][1]})", sizes[name], cost * sizes[name], plain)
    if lens is not None:
        n = sizes[HEADS]
        cost = seconds[f"transformer_lens.patching, {HEADS}"] / lens[1]
        row(f"transformer_lens.patching, {HEADS} (from {lens[1]})", n, cost * n, plain)
        print(f"mechaudio against transformer_lens.patching: {n * cost / seconds[f'mechaudio, {HEADS}']:.1f}x")


def row(name: str, n: int, spent: float, plain: float, faster: str = "") -> None:
    """A line of the table."""
    print(f"{name:56} {n:8} {spent:8.2f} {spent / plain:9.2f} {1e3 * spent / n:10.2f} {faster}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--tower", action="store_true", help="the tower's map alone")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--some", type=int, default=16, help="patches of the others that are timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    repeats, some, large = arguments.repeats, arguments.some, arguments.large
    net = network(large, tower=TOWER) if arguments.tower else network(large)
    if not arguments.tower:
        compare(net, DECODER_MAPS, repeats, some, large)
    in_tower = net if large or arguments.tower else network(large, tower=TOWER)
    compare(in_tower, TOWER_MAPS, repeats, some, large)


if __name__ == "__main__":
    main()

"""What reading costs: mechaudio beside plain transformers, `output_attentions=True`, raw nnsight and TransformerLens,
on the same inputs.

    python benchmarks/trace_overhead.py            # small network on the CPU: 600 and 2,048 positions
    python benchmarks/trace_overhead.py --large    # a full-size Qwen2-Audio with random weights, bf16, on a GPU

Every ratio is to a plain transformers forward with fused attention in the same process. TransformerLens is measured
where it is installed.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable

import nnsight
import torch
from side_by_side import peak_memory, side_by_side, table
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

import mechaudio as ma

AUDIO_TOKEN = 7


def network(large: bool) -> Qwen2AudioForConditionalGeneration:
    """Qwen2-Audio with random weights: its real size, or hidden 256 x 8 layers."""
    torch.manual_seed(0)
    if large:
        text = {"model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 156032}
        config = Qwen2AudioConfig(text_config=text, audio_token_index=151646)
        with torch.device("cuda"):
            torch.set_default_dtype(torch.bfloat16)
            built = Qwen2AudioForConditionalGeneration(config)
            torch.set_default_dtype(torch.float32)
    else:
        audio = {
            "model_type": "qwen2_audio_encoder", "num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64, "d_model": 64, "max_source_positions": 1500,
        }  # fmt: skip
        text = {
            "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8,
            "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000, "max_position_embeddings": 4096,
        }  # fmt: skip
        built = Qwen2AudioForConditionalGeneration(
            Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=AUDIO_TOKEN)
        )
    with torch.no_grad():
        built.model.audio_tower.embed_positions.weight.normal_(0, 0.02)
    return built.eval()


def inputs(net: Qwen2AudioForConditionalGeneration, batch: int, positions: int) -> dict[str, torch.Tensor]:
    """Left-padded prompts of one 10 s clip each; the second row is padded by 40."""
    generator = torch.Generator().manual_seed(1)
    audio, n_audio = net.config.audio_token_id, 250
    ids = torch.randint(10, 900, (batch, positions), generator=generator)
    ids[:, 60 : 60 + n_audio] = audio
    mask = torch.ones_like(ids)
    mask[1:2, :40] = 0
    features = torch.randn(batch, net.config.audio_config.num_mel_bins, 3000, generator=generator)
    feature_mask = (torch.arange(3000) < 1000).long().expand(batch, -1)
    made = {
        "input_ids": ids,
        "attention_mask": mask,
        "input_features": features,
        "feature_attention_mask": feature_mask.contiguous(),
    }
    return {name: value.to(net.device) for name, value in made.items()}


def ours(model: ma.AudioLM, batch: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    """mechaudio's ways of reading."""
    last_rows = ma.HookPoint("pattern", queries="last")
    return {
        "mechaudio: every layer's residual + last-row patterns": lambda: ma.run(
            model, batch, record=["resid_post", last_rows]
        ),
        "mechaudio: last-row patterns": lambda: ma.run(model, batch, record=[last_rows]),
        "mechaudio: audio mass of every query and head": lambda: ma.run(
            model, batch, record=[ma.HookPoint("mass", keys="audio")]
        ),
    }


def others(
    net: Qwen2AudioForConditionalGeneration, batch: dict[str, torch.Tensor], whole: bool
) -> dict[str, Callable[[], object]]:
    """The same jobs with what people use instead; `whole` adds those that make whole patterns."""
    eager = copy.deepcopy(net)
    eager.set_attn_implementation({"text_config": "eager"})
    traced, sourced = nnsight.NNsight(copy.deepcopy(net)), nnsight.NNsight(copy.deepcopy(eager))
    layers, source_layers = traced.model.language_model.layers, sourced.model.language_model.layers
    for layer in source_layers:
        layer.self_attn.source  # noqa: B018 - the first access instruments the module

    def raw_residuals() -> None:
        with traced.trace(**batch, use_cache=False):
            kept = nnsight.save([])
            for layer in layers:
                kept.append(layer.output)

    def raw_patterns() -> None:
        with sourced.trace(**batch, use_cache=False):
            kept = nnsight.save([])
            for layer in source_layers:
                kept.append(
                    layer.self_attn.source.attention_interface_1.source.nn_functional_softmax_0.output[:, :, -1].clone()
                )

    def output_attentions() -> list[torch.Tensor]:
        return [pattern[:, :, -1] for pattern in eager(**batch, use_cache=False, output_attentions=True).attentions]

    ways: dict[str, Callable[[], object]] = {"raw nnsight: every layer's residual": raw_residuals}
    if whole:
        ways["transformers: output_attentions=True, eager"] = output_attentions
        ways["raw nnsight: last-row patterns (.source, eager)"] = raw_patterns
    return {**ways, **(transformer_lens(net, batch) if whole else {})}


def transformer_lens(
    net: Qwen2AudioForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> dict[str, Callable[[], object]]:
    """TransformerLens's bridge, if it is installed and opens the network."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return {}
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(1000)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w1", eos_token="w2")
    bridge = TransformerBridge.boot_transformers(
        "Qwen/Qwen2-Audio-7B-Instruct", hf_model=copy.deepcopy(net), tokenizer=tokenizer
    )
    keep = lambda name: name.endswith("hook_pattern")  # noqa: E731
    return {
        "TransformerLens: run_with_cache, last-row patterns": lambda: bridge.run_with_cache(
            batch["input_ids"],
            names_filter=keep,
            pos_slice=-1,
            **{name: value for name, value in batch.items() if name != "input_ids"},
        )
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*output_attentions.*")
    torch.set_num_threads(1)
    net = network(arguments.large)
    plain_net = copy.deepcopy(net)  # this one nnsight never wraps
    model = ma.AudioLM(net)
    for batch_size, positions in ((8, 850), (1, 8000)) if arguments.large else ((4, 600), (1, 2048)):
        batch = inputs(net, batch_size, positions)
        ways = {
            "plain transformers (fused attention)": lambda batch=batch: plain_net(**batch, use_cache=False),
            **ours(model, batch),
        }
        if not arguments.large:
            ways |= others(net, batch, whole=True)
        with torch.no_grad():
            memory = {name: peak_memory(way) for name, way in ways.items()} if arguments.large else None
            print(
                table(side_by_side(ways, arguments.repeats), f"batch {batch_size}, {positions} positions", memory),
                flush=True,
            )


if __name__ == "__main__":
    main()

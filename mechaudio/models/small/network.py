"""The small model assembled: Whisper's encoder, a trained projector, SmolLM2 with a trained change of low rank."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import GenerationConfig, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from mechaudio.models.small.convert import llama_weights, whisper_encoder_weights
from mechaudio.models.small.ctranslate2 import CTranslate2
from mechaudio.models.small.gguf import GGUF
from mechaudio.models.small.language import AUDIO, N_MELS, SECONDS, build_tokenizer

_TOWER, _DECODER = "model.audio_tower.", "model.language_model."
_PROJECTOR = "model.multi_modal_projector.linear."
_POSITIONS = 50 * SECONDS
_ROWS = 8  # the table of tokens is a multiple of this


def build_config(whisper: CTranslate2, smollm2: GGUF) -> Qwen2AudioConfig:
    """Build the network's configuration from what the two files say of theirs."""
    tokenizer = build_tokenizer(smollm2)
    of = smollm2.values
    turn_end = of["tokenizer.ggml.eos_token_id"]
    n_layers = sum(name.endswith("/ffn/layer_norm/gamma") for name in whisper.variables if name.startswith("encoder/"))
    width = whisper.variables["encoder/layer_norm/gamma"].size
    head_dim = of["llama.embedding_length"] // of["llama.attention.head_count"]
    return Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": N_MELS,
            "encoder_layers": n_layers,
            "encoder_attention_heads": int(whisper.variables["encoder/num_heads"]),
            "encoder_ffn_dim": whisper.variables["encoder/layer_0/ffn/linear_0/bias"].size,
            "d_model": width,
            "max_source_positions": _POSITIONS,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": _ROWS * -(-tokenizer.get_vocab_size() // _ROWS),
            "hidden_size": of["llama.embedding_length"],
            "intermediate_size": of["llama.feed_forward_length"],
            "num_hidden_layers": of["llama.block_count"],
            "num_attention_heads": of["llama.attention.head_count"],
            "num_key_value_heads": of["llama.attention.head_count_kv"],
            "head_dim": head_dim,
            "max_position_embeddings": of["llama.context_length"],
            "rms_norm_eps": round(of["llama.attention.layer_norm_rms_epsilon"], 9),
            "rope_parameters": {"rope_type": "default", "rope_theta": of["llama.rope.freq_base"]},
            "bos_token_id": of["tokenizer.ggml.bos_token_id"],
            "eos_token_id": turn_end,
            "pad_token_id": turn_end,
            "tie_word_embeddings": True,
        },
        audio_token_index=tokenizer.token_to_id(AUDIO),
        tie_word_embeddings=True,
        bos_token_id=of["tokenizer.ggml.bos_token_id"],
        eos_token_id=turn_end,
        pad_token_id=turn_end,
    )


def assemble(
    whisper: CTranslate2, smollm2: GGUF, deltas: str | Path | None, dtype: torch.dtype = torch.float32
) -> Qwen2AudioForConditionalGeneration:
    """Build the network from the two parts and what was trained.

    The change of low rank is added one rank after another, in single precision: the same bits on every machine.

    Args:
        whisper: The encoder's file.
        smollm2: The decoder's file.
        deltas: What was trained; None for a network whose projector hears nothing yet.
        dtype: The precision of the network; the sums are taken in single precision.

    Raises:
        ValueError: `deltas` holds tensors that this network has no place for, or lacks some.
    """
    config = build_config(whisper, smollm2)
    trained = {} if deltas is None else read_deltas(deltas)
    scale = trained.pop("scale", torch.tensor(0.0)).item()
    state = {}
    for name, array in whisper_encoder_weights(whisper).items():
        rows = array[:_POSITIONS] if name == "embed_positions.weight" else array
        state[_TOWER + name] = torch.from_numpy(rows.astype("float32")).to(dtype)
    for name, array in llama_weights(smollm2):
        weight = torch.from_numpy(array)
        if name == "embed_tokens.weight":
            weight = _with_new_rows(weight, config.text_config.vocab_size, trained)
        else:
            _add_low_rank(weight, name.removesuffix(".weight"), scale, trained)
        state[_DECODER + name] = weight.to(dtype)
    state["lm_head.weight"] = state[_DECODER + "embed_tokens.weight"].clone()
    shape = config.text_config.hidden_size, config.audio_config.d_model
    state[_PROJECTOR + "weight"] = trained.pop("projector.weight", torch.zeros(shape)).to(dtype)
    state[_PROJECTOR + "bias"] = trained.pop("projector.bias", torch.zeros(shape[0])).to(dtype)
    if trained:
        raise ValueError(f"{deltas} holds {', '.join(sorted(trained)[:3])}, for which this network has no place")
    network = Qwen2AudioForConditionalGeneration.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
    network.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    return network.eval()


def read_deltas(path: str | Path) -> dict[str, torch.Tensor]:
    """Read what was trained, in single precision, by name; `scale` is what the change of low rank is multiplied by."""
    with safe_open(str(path), "pt") as file:
        trained = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        trained["scale"] = torch.tensor(float((file.metadata() or {})["scale"]))
    return trained


def _with_new_rows(table: torch.Tensor, n_rows: int, trained: dict[str, torch.Tensor]) -> torch.Tensor:
    new = table.mean(0, keepdim=True).expand(n_rows - len(table), -1)
    table = torch.cat([table, new])
    for name in [name for name in trained if name.startswith("embed.")]:
        table[int(name.removeprefix("embed."))] = trained.pop(name)
    return table


def _add_low_rank(weight: torch.Tensor, name: str, scale: float, trained: dict[str, torch.Tensor]) -> None:
    if f"{name}.lora_a" not in trained:
        return
    inner, outer = trained.pop(f"{name}.lora_a"), trained.pop(f"{name}.lora_b")
    for row, column in zip(inner, outer.T, strict=True):
        weight += column[:, None] * (scale * row)


def checksum(state: Mapping[str, torch.Tensor]) -> str:
    """Compute a SHA-256 of a network's weights: names in order, their types and shapes, then their bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()

"""The parts' weights under the names that transformers gives them."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from mechaudio.models.small.ctranslate2 import CTranslate2
from mechaudio.models.small.gguf import GGUF

_LLAMA = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def llama_weights(file: GGUF) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the weights of a Llama, one at a time, under the names of transformers' `LlamaModel`.

    llama.cpp stores the rows of queries and keys with the two halves of a rotation interleaved; they are put back.

    Raises:
        ValueError: The file is of another architecture, or holds a weight that a Llama does not have.
    """
    architecture = file.values.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{file.path} holds a network of architecture {architecture!r}; a llama is read here")
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    for name in file:
        if name in ("token_embd.weight", "output_norm.weight"):
            yield {"t": "embed_tokens.weight", "o": "norm.weight"}[name[0]], file.weight(name)
            continue
        block, layer, part, kind = [*name.split("."), "", "", ""][:4]
        if block != "blk" or part not in _LLAMA or kind != "weight":
            raise ValueError(f"{file.path} holds {name!r}, which a Llama does not have")
        weight = file.weight(name)
        if part in heads:
            n_heads = file.values[heads[part]]
            weight = (
                weight.reshape(n_heads, weight.shape[0] // n_heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
            )
        yield f"layers.{layer}.{_LLAMA[part]}.weight", weight


def whisper_encoder_weights(file: CTranslate2) -> dict[str, np.ndarray]:
    """The encoder's weights under the names of transformers' Whisper and Qwen2-Audio encoders, in the file's precision.

    Raises:
        ValueError: The file holds another network than a Whisper, or keys with a bias, which Whisper's do not have.
    """
    variables = file.variables
    if file.specification != "WhisperSpec":
        raise ValueError(f"the file holds a {file.specification}; a Whisper (WhisperSpec) is read here")
    weights: dict[str, np.ndarray] = {}

    def copy(source: str, target: str, weight: str = "weight", bias: str = "bias") -> None:
        weights[f"{target}.weight"] = variables[f"encoder/{source}/{weight}"]
        weights[f"{target}.bias"] = variables[f"encoder/{source}/{bias}"]

    norm = partial(copy, weight="gamma", bias="beta")

    def attention(source: str, target: str) -> None:
        matrices = np.split(variables[f"encoder/{source}/linear_0/weight"], 3)
        biases = np.split(variables[f"encoder/{source}/linear_0/bias"], 3)
        if biases[1].any():
            raise ValueError(f"the keys of encoder/{source} have a bias, and Whisper's have none")
        for letter, matrix, bias in zip("qkv", matrices, biases, strict=True):
            weights[f"{target}.{letter}_proj.weight"] = matrix
            if letter != "k":
                weights[f"{target}.{letter}_proj.bias"] = bias
        copy(f"{source}/linear_1", f"{target}.out_proj")

    copy("conv1", "conv1")
    copy("conv2", "conv2")
    weights["embed_positions.weight"] = variables["encoder/position_encodings/encodings"]
    layer = 0
    while f"encoder/layer_{layer}/ffn/layer_norm/gamma" in variables:
        source, target = f"layer_{layer}", f"layers.{layer}"
        norm(f"{source}/self_attention/layer_norm", f"{target}.self_attn_layer_norm")
        attention(f"{source}/self_attention", f"{target}.self_attn")
        norm(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")
        copy(f"{source}/ffn/linear_0", f"{target}.fc1")
        copy(f"{source}/ffn/linear_1", f"{target}.fc2")
        layer += 1
    norm("layer_norm", "layer_norm")
    return weights

"""Tiny files in the two formats that the small model's parts come in, written from the formats' descriptions."""

import struct

import numpy as np

WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 2, 1
TOWER_WIDTH, TOWER_INNER, TOWER_LAYERS, TOWER_HEADS = 32, 64, 2, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TYPES = {"F32": 0, "F16": 1, "Q4_1": 3, "Q8_0": 8}


def byte_letters():
    """The 256 letters that byte-level tokenizers spell bytes with."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]


WORDS = [*SPECIAL, *byte_letters(), "Ġa", "in"]


def string(text, count="Q", end=b""):
    raw = text.encode() + end
    return struct.pack(f"<{count}", len(raw)) + raw


def value(item):
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    kind = 8 if isinstance(item[0], str) else 4
    cells = b"".join(string(cell) if kind == 8 else struct.pack("<I", cell) for cell in item)
    return struct.pack("<IIQ", 9, kind, len(item)) + cells


def packed(weight, kind):
    """The bytes of a weight; quantised ones lose precision."""
    if kind in ("F32", "F16"):
        return weight.astype({"F32": np.float32, "F16": np.float16}[kind]).tobytes()
    raw = b""
    for block in weight.reshape(-1, 32):
        if kind == "Q8_0":
            scale = np.float16(np.abs(block).max() / 127)
            raw += scale.tobytes() + np.round(block / np.float32(scale)).astype(np.int8).tobytes()
        else:
            low = np.float16(block.min())
            scale = np.float16((block.max() - block.min()) / 15)
            numbers = np.clip(np.round((block - np.float32(low)) / np.float32(scale)), 0, 15).astype(np.uint8)
            raw += scale.tobytes() + low.tobytes() + (numbers[:16] | numbers[16:] << 4).tobytes()
    return raw


def write_gguf(path, values, weights, kinds, version=3):
    """Write weights, each packed as `kinds` says."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(weights), len(values))
    for key, item in values.items():
        head += string(key) + value(item)
    body = b""
    for name, weight in weights.items():
        raw = packed(weight, kinds[name])
        head += string(name) + struct.pack("<I", weight.ndim)
        head += b"".join(struct.pack("<Q", size) for size in reversed(weight.shape))
        head += struct.pack("<IQ", TYPES[kinds[name]], len(body))
        body += raw + bytes(-len(raw) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)


def llama_values():
    return {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.context_length": 1024,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(WORDS) - len(SPECIAL)),
        "tokenizer.ggml.merges": ["Ġ a", "i n"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def interleaved(weight, heads):
    """Rows of queries or keys as llama.cpp stores them: of each head, first of the one half, first of the other, ..."""
    rows = []
    for head in np.split(weight, heads):
        half = len(head) // 2
        for index in range(half):
            rows += [head[index], head[half + index]]
    return np.stack(rows)


def llama_state(seed=0):
    """Weights of a Llama under transformers' names."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    state = {"embed_tokens.weight": drawn(len(WORDS), WIDTH), "norm.weight": 1 + drawn(WIDTH)}
    kv_width = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        at = f"layers.{layer}."
        state[f"{at}self_attn.q_proj.weight"] = drawn(WIDTH, WIDTH)
        state[f"{at}self_attn.k_proj.weight"] = drawn(kv_width, WIDTH)
        state[f"{at}self_attn.v_proj.weight"] = drawn(kv_width, WIDTH)
        state[f"{at}self_attn.o_proj.weight"] = drawn(WIDTH, WIDTH)
        state[f"{at}mlp.gate_proj.weight"] = drawn(INNER, WIDTH)
        state[f"{at}mlp.up_proj.weight"] = drawn(INNER, WIDTH)
        state[f"{at}mlp.down_proj.weight"] = drawn(WIDTH, INNER)
        state[f"{at}input_layernorm.weight"] = 1 + drawn(WIDTH)
        state[f"{at}post_attention_layernorm.weight"] = 1 + drawn(WIDTH)
    return state


LLAMA_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_smollm2(path, kind="F32", **changed):
    """A tiny file like SmolLM2's, matrices packed as `kind`; the weights that went in, by transformers' names."""
    state = llama_state()
    weights, kinds = {}, {}
    for name, weight in state.items():
        if name.startswith("layers."):
            _, layer, *part, _ = name.split(".")
            stored = f"blk.{layer}.{LLAMA_NAMES['.'.join(part)]}.weight"
            heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(part[-1])
            weights[stored] = weight if heads is None else interleaved(weight, heads)
        else:
            stored = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]
            weights[stored] = weight
        kinds[stored] = kind if weight.ndim == 2 else "F32"
    write_gguf(path, llama_values() | changed, weights, kinds)
    return state


def write_ctranslate2(path, variables, *, version=6, specification="WhisperSpec", aliases=()):
    """Write arrays by name."""
    dtypes = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    raw = struct.pack("<I", version) + string(specification, "H", b"\0") + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        raw += string(name, "H", b"\0") + struct.pack("<B", array.ndim)
        raw += b"".join(struct.pack("<I", size) for size in array.shape)
        raw += struct.pack("<BI", dtypes[array.dtype], array.nbytes) + array.tobytes()
    raw += struct.pack("<I", len(aliases))
    for alias, name in aliases:
        raw += string(alias, "H", b"\0") + string(name, "H", b"\0")
    path.write_bytes(raw)


def write_whisper(path, **changed):
    """A tiny file like Whisper's: its encoder's variables, in half precision."""
    rng = np.random.default_rng(1)

    def drawn(*shape):
        return (0.2 * rng.standard_normal(shape)).astype(np.float16)

    variables = {
        "encoder/num_heads": np.array(TOWER_HEADS, np.int16),
        "encoder/conv1/weight": drawn(TOWER_WIDTH, 80, 3),
        "encoder/conv1/bias": drawn(TOWER_WIDTH),
        "encoder/conv2/weight": drawn(TOWER_WIDTH, TOWER_WIDTH, 3),
        "encoder/conv2/bias": drawn(TOWER_WIDTH),
        "encoder/position_encodings/encodings": drawn(1500, TOWER_WIDTH),
        "encoder/layer_norm/gamma": drawn(TOWER_WIDTH),
        "encoder/layer_norm/beta": drawn(TOWER_WIDTH),
    }
    for layer in range(TOWER_LAYERS):
        at = f"encoder/layer_{layer}/"
        biases = drawn(3, TOWER_WIDTH)
        biases[1] = 0  # keys have none
        variables |= {
            f"{at}self_attention/layer_norm/gamma": drawn(TOWER_WIDTH),
            f"{at}self_attention/layer_norm/beta": drawn(TOWER_WIDTH),
            f"{at}self_attention/linear_0/weight": drawn(3 * TOWER_WIDTH, TOWER_WIDTH),
            f"{at}self_attention/linear_0/bias": biases.reshape(-1),
            f"{at}self_attention/linear_1/weight": drawn(TOWER_WIDTH, TOWER_WIDTH),
            f"{at}self_attention/linear_1/bias": drawn(TOWER_WIDTH),
            f"{at}ffn/layer_norm/gamma": drawn(TOWER_WIDTH),
            f"{at}ffn/layer_norm/beta": drawn(TOWER_WIDTH),
            f"{at}ffn/linear_0/weight": drawn(TOWER_INNER, TOWER_WIDTH),
            f"{at}ffn/linear_0/bias": drawn(TOWER_INNER),
            f"{at}ffn/linear_1/weight": drawn(TOWER_WIDTH, TOWER_INNER),
            f"{at}ffn/linear_1/bias": drawn(TOWER_WIDTH),
        }
    variables |= changed
    write_ctranslate2(path, variables)
    return variables

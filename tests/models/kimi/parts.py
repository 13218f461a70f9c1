"""The published parts of Kimi-Audio, small: folders as they are on the hub."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

from mechaudio.models.kimi.tiktoken import control_tokens
from tests.models.kimi.released import OFFSET, SPEECH_TOKENIZER, WHISPER, network, weights

#: Bytes are the first tokens; these come of merges, in order.
MERGED = (b"th", b"the", b" the", b"in", b"ing", b"er", b"\xc3\xa9", b"ab", b"abab")
#: Ids of the release's control tokens: behind the words, and all in front of the codes.
IDS = control_tokens(256 + len(MERGED), OFFSET)


def write_tokenizer(folder: Path, merged: Sequence[bytes] = MERGED) -> None:
    """Write the file of ranks."""
    tokens = [*(bytes([number]) for number in range(256)), *merged]
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for rank, token in enumerate(tokens)]
    (folder / "tiktoken.model").write_bytes(b"\n".join(lines) + b"\n")


def write_parts(folder: Path) -> dict[str, Path]:
    """Write the release's folder with Whisper inside, and that of the speech tokenizer."""
    release, tokenizer = folder / "kimi", folder / "glm"
    (release / "whisper-large-v3").mkdir(parents=True)
    tokenizer.mkdir()
    save_file(
        {name: value.contiguous() for name, value in weights("weights_half").items()},
        release / "model-00001-of-00001.safetensors",
        {"format": "pt"},
    )
    config = {
        "model_type": "kimi_audio",
        "vocab_size": 704,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "kimia_token_offset": 640,
        "kimia_mimo_layers": 2,
        "kimia_mimo_transformer_from_layer_index": 3,
        "auto_map": {"AutoModelForCausalLM": "modeling_moonshot_kimia.MoonshotKimiaForCausalLM"},
    }
    (release / "config.json").write_text(json.dumps(config))
    write_tokenizer(release)
    encoder = network().speech_encoder.state_dict()
    whisper = {f"model.encoder.{name}": value.contiguous() for name, value in encoder.items()}
    save_file(whisper, release / "whisper-large-v3" / "model.safetensors", {"format": "pt"})
    settings = {"model_type": "whisper", **WHISPER, "decoder_layers": 1}
    (release / "whisper-large-v3" / "config.json").write_text(json.dumps(settings))
    WhisperFeatureExtractor(feature_size=128).save_pretrained(release / "whisper-large-v3")
    save_file(weights("codes_weights_half"), tokenizer / "model.safetensors", {"format": "pt"})
    (tokenizer / "config.json").write_text(json.dumps({"model_type": "whisper", **SPEECH_TOKENIZER}))
    return {"checkpoint": release, "speech_tokenizer": tokenizer}

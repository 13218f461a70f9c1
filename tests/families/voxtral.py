"""Voxtral, with a tokenizer file in Mistral's own format."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import transformers

from tests.families.family import (
    RENAMED_ENCODER,
    SPREAD,
    WINDOW_SECONDS,
    Family,
    text_config,
    whisper_extractor,
    whisper_features,
)
from tests.families.words import TEXT

#: Placeholder ids and the control tokens that Mistral's chat format needs, at the places where Voxtral has them.
_CONTROL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
    24: "[AUDIO]",
    25: "[BEGIN_AUDIO]",
    34: "[TRANSCRIBE]",
}
_SPECIALS = 40
_FOLDER = TemporaryDirectory(prefix="mechaudio-tests-", ignore_cleanup_errors=True)
IDS = {_CONTROL.get(rank, f"<SPECIAL_{rank}>"): rank for rank in range(_SPECIALS)}


def _vocabulary() -> list[bytes]:
    words = [b" " + word.encode() for word in dict.fromkeys(TEXT.replace("\n", " ").split())]
    pieces = [word[:end] for word in words for end in range(2, len(word) + 1)]
    return [bytes([byte]) for byte in range(256)] + list(dict.fromkeys(pieces))


SIZE = len(_vocabulary()) + _SPECIALS


@cache
def _tekken_file() -> str:
    vocabulary = _vocabulary()
    content = {
        "config": {
            "pattern": r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+",
            "num_vocab_tokens": len(vocabulary),
            "default_vocab_size": SIZE,
            "default_num_special_tokens": _SPECIALS,
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for rank, piece in enumerate(vocabulary)
        ],
        "special_tokens": [{"rank": rank, "token_str": token, "is_control": True} for token, rank in IDS.items()],
        "audio": {
            "sampling_rate": 16_000,
            "frame_rate": 12.5,
            "chunk_length_s": WINDOW_SECONDS,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }
    path = Path(_FOLDER.name) / "tekken.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def _config(layers):
    return transformers.VoxtralConfig(
        text_config={"model_type": "llama", **text_config(IDS, SIZE, layers, pad="<pad>", end="</s>")},
        audio_config={"model_type": "voxtral_encoder", **RENAMED_ENCODER},
        audio_token_id=IDS["[AUDIO]"],
        initializer_range=SPREAD,
    )


def _processor():
    from transformers.tokenization_mistral_common import MistralCommonBackend

    made = transformers.VoxtralProcessor(whisper_extractor(), MistralCommonBackend(_tekken_file()))
    shrunk = {"pad_to_multiple_of": 16_000 * WINDOW_SECONDS, "max_source_positions": 100 * WINDOW_SECONDS}
    if hasattr(made, "audio_kwargs"):
        made.audio_kwargs = {**made.audio_kwargs, **shrunk}
    else:  # in transformers 5.20, where a processor has none of its own
        from transformers.models.voxtral.processing_voxtral import VoxtralProcessorKwargs

        VoxtralProcessorKwargs._defaults["audio_kwargs"].update(shrunk)
    return made


def _tokens(samples):
    """Clips are padded to whole windows; a token is 80 ms."""
    return -(-samples // (16_000 * WINDOW_SECONDS)) * WINDOW_SECONDS * 100 // 8


VOXTRAL = Family(
    name="voxtral",
    network_class="VoxtralForConditionalGeneration",
    control=IDS,
    audio="[AUDIO]",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.08,
    clip_features=whisper_features(None),
    pad="<pad>",
    end="</s>",
)

"""One safetensors folder from the published parts of Kimi-Audio, made once.

The release's folder holds the decoder, the adaptor, the branch that speaks, and Whisper in a folder of its own
(`whisper-large-v3`). The speech tokenizer is GLM-4-voice's, a folder of its own on the hub.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers

from mechaudio.arguments import checks_arguments
from mechaudio.models.assembling import (
    Assembled,
    Parts,
    folder_files,
    new_folder,
    put_together,
    read_parts,
    settings_in,
    shape_of,
)
from mechaudio.models.kimi.config import KimiAudioConfig, SpeechTokenizerConfig
from mechaudio.models.kimi.network import KimiAudioForConditionalGeneration
from mechaudio.models.kimi.processor import BLANK, IN_AUDIO, TEXT_END, KimiAudioProcessor
from mechaudio.models.kimi.tiktoken import fast_tokenizer

_BRANCH = ("model.mimo_layers.", "model.mimo_norm.", "mimo_output.")
_WHISPER = {"model.encoder.": "speech_encoder.", "encoder.": "speech_encoder."}
_NO_USE_OF_WHISPER = ("model.decoder.", "decoder.", "proj_out.")
#: Of the speech tokenizer: what only its training and the decoder behind it use.
_UNUSED = re.compile(r"^audio_tokenizer\.(ema_count|ema_weight|embed_positions2\.weight)$|rotary_emb\.inv_freq$")


@checks_arguments
def assemble(
    *,
    checkpoint: str | Path,
    speech_tokenizer: str | Path,
    out: str | Path,
    whisper: str | Path | None = None,
    dtype: torch.dtype | str | None = None,
    audio_branch: bool = False,
) -> Assembled:
    """Put the network together and save it.

    Args:
        checkpoint: Folder of the release, with its `tiktoken.model`.
        speech_tokenizer: Folder of GLM-4-voice's speech tokenizer.
        out: A folder that is not there yet, or is empty.
        whisper: Folder of Whisper large-v3, by default `whisper-large-v3` inside the release's.
        dtype: Type of the weights, by default that of the decoder's; the speech tokenizer keeps full precision.
        audio_branch: Keep the branch that speaks.

    Returns:
        What was put together; `ma.load(out)` opens it.

    Raises:
        FileNotFoundError: A part is not there.
        FileExistsError: Something is at `out` already.
        ValueError: A part holds tensors that have no place, lacks some, or has some of other shapes; or it cannot be
            read without running code from it.
    """
    target = new_folder(out)
    release = Path(checkpoint)
    paths = {
        "checkpoint": release,
        "whisper": release / "whisper-large-v3" if whisper is None else Path(whisper),
        "speech_tokenizer": Path(speech_tokenizer),
    }
    files = {part: folder_files(part, path) for part, path in paths.items()}
    branch = {start: start if audio_branch else None for start in _BRANCH}
    places: dict[str, dict[str, str | None]] = {
        "checkpoint": {**branch, "model.": "model.", "lm_head.": "lm_head."},
        "whisper": {**_WHISPER, **dict.fromkeys(_NO_USE_OF_WHISPER)},
        "speech_tokenizer": {"": "audio_tokenizer."},
    }
    parts = read_parts(files, places, _UNUSED)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(paths["whisper"])
    settings = settings_in("checkpoint", release / "config.json")
    # Its published settings call it a Whisper, of which transformers would warn.
    told = settings_in("speech_tokenizer", paths["speech_tokenizer"] / "config.json")
    codes = SpeechTokenizerConfig.from_dict({**told, "model_type": SpeechTokenizerConfig.model_type})
    settings.setdefault("kimia_token_offset", settings["vocab_size"] - codes.quantize_vocab_size)
    tokenizer = fast_tokenizer(release, settings["kimia_token_offset"], settings["vocab_size"])
    processor = KimiAudioProcessor(extractor, tokenizer)
    config = _config(paths, codes, parts, processor, settings)
    shape_of("checkpoint", parts.tensors["checkpoint"], "model.embed_tokens.weight")
    embeddings = parts.tensors["checkpoint"]["model.embed_tokens.weight"]
    return put_together(
        target,
        KimiAudioForConditionalGeneration,
        config,
        processor,
        parts,
        family="kimi",
        dtype=embeddings.dtype if dtype is None else dtype,
        exact="audio_tokenizer.",
        audio_branch=audio_branch,
    )


def _config(
    paths: dict[str, Path],
    codes: SpeechTokenizerConfig,
    parts: Parts,
    processor: KimiAudioProcessor,
    settings: dict[str, Any],
) -> KimiAudioConfig:
    known = set(transformers.Qwen2Config().to_dict()) | {"rope_theta"}
    text = {name: value for name, value in settings.items() if name in known - {"model_type", "architectures"}}
    held = parts.tensors["checkpoint"]
    layers = {name.split(".")[2] for name in held if name.startswith("model.mimo_layers.")}
    numbers = processor.tokenizer.convert_tokens_to_ids
    pad = processor.tokenizer.pad_token_id
    return KimiAudioConfig(
        {**text, "bos_token_id": None, "eos_token_id": numbers(TEXT_END), "pad_token_id": pad},
        transformers.WhisperConfig.from_pretrained(paths["whisper"]).to_dict(),
        codes.to_dict(),
        audio_token_id=processor.audio_token_id,
        text_blank_id=numbers(BLANK),
        audio_stream_ids=[numbers(name) for name in IN_AUDIO],
        codes_offset=settings["kimia_token_offset"],
        mimo_layers=len(layers),
        mimo_from=settings.get("kimia_mimo_transformer_from_layer_index", 21),
        bos_token_id=None,
        eos_token_id=numbers(TEXT_END),
        pad_token_id=pad,
    )

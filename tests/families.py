"""One small network and one processor per supported family: the real transformers classes, random weights, no download.

Conventions: windows of `WINDOW_SECONDS` where the class lets them shrink, 128 mel bands, 16 kHz. Networks have `layers`
decoder layers of 4 heads (2 key-value heads), d_model 64, 2 encoder layers of 4 heads, and weights spread widely, so
that attention is far from uniform and an edit moves the logits clearly. A network and the processor of its family agree
on every token id.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import jaxtyping
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, ProcessorMixin, WhisperFeatureExtractor

from mechaudio.models.adapter import Adapter
from mechaudio.models.registry import adapter_for

FAMILIES = ("qwen2_audio", "qwen2_5_omni_thinker", "audioflamingo3", "voxtral")
WINDOW_SECONDS = 4
D_MODEL, HEADS, KEY_VALUE_HEADS, ENCODER_LAYERS, ENCODER_WIDTH = 64, 4, 2, 2, 32
SPREAD = 0.2

_CONTROL = {
    "qwen2_audio": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
    "qwen2_5_omni_thinker": (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|AUDIO|>",
        "<|audio_bos|>",
        "<|audio_eos|>",
        "<|IMAGE|>",
        "<|VIDEO|>",
        "<|vision_bos|>",
        "<|vision_eos|>",
    ),
    "audioflamingo3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"),
}
_AUDIO = {"qwen2_audio": "<|AUDIO|>", "qwen2_5_omni_thinker": "<|AUDIO|>", "audioflamingo3": "<sound>"}
_TEXT = """You are a helpful assistant. Audio 1:
Which sound has the earliest onset? Which event has the latest offset? Which of these
sounds has the longest duration? A: dog B: car C: rain D: bell. Caption: a dog barks from 0.5 to 2.0, then it rains
until the end. system user assistant Answer with the option's letter from the given choices directly. first last
shortest speech siren water birds"""

#: Placeholder ids and the control tokens that Mistral's chat format needs, at the places where Voxtral has them.
_VOXTRAL_CONTROL = {
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
_VOXTRAL_SPECIALS = 40


@cache
def _byte_level(control: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(control),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    return tokenizer


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the control tokens of a family (not Voxtral's, which is Mistral's own)."""
    named = {"audio_token": _AUDIO[family]}
    if family != "audioflamingo3":
        named |= {"audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
    if family == "qwen2_5_omni_thinker":
        named |= {
            "image_token": "<|IMAGE|>",
            "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>",
            "vision_eos_token": "<|vision_eos|>",
        }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level(_CONTROL[family]).to_str()),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(_CONTROL[family][1:]),
        extra_special_tokens=named,
    )


def token_id(family: str, token: str) -> int:
    """The id of a control token."""
    if family == "voxtral":
        return {name: index for index, name in _VOXTRAL_CONTROL.items()}[token]
    return _CONTROL[family].index(token)


def audio_token_id(family: str) -> int:
    """The id of the placeholder for one audio token."""
    return token_id(family, "[AUDIO]" if family == "voxtral" else _AUDIO[family])


def vocab_size(family: str) -> int:
    """Number of token ids."""
    return _voxtral_vocab_size() if family == "voxtral" else _byte_level(_CONTROL[family]).get_vocab_size()


def _voxtral_vocabulary() -> list[bytes]:
    words = [b" " + word.encode() for word in dict.fromkeys(_TEXT.replace("\n", " ").split())]
    pieces = [word[:end] for word in words for end in range(2, len(word) + 1)]
    return [bytes([byte]) for byte in range(256)] + list(dict.fromkeys(pieces))


def _voxtral_vocab_size() -> int:
    return len(_voxtral_vocabulary()) + _VOXTRAL_SPECIALS


@cache
def _tekken_file() -> str:
    vocabulary = _voxtral_vocabulary()
    control = [
        {"rank": rank, "token_str": _VOXTRAL_CONTROL.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
        for rank in range(_VOXTRAL_SPECIALS)
    ]
    content = {
        "config": {
            "pattern": r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+",
            "num_vocab_tokens": len(vocabulary),
            "default_vocab_size": _voxtral_vocab_size(),
            "default_num_special_tokens": _VOXTRAL_SPECIALS,
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for rank, piece in enumerate(vocabulary)
        ],
        "special_tokens": control,
        "audio": {
            "sampling_rate": 16_000,
            "frame_rate": 12.5,
            "chunk_length_s": WINDOW_SECONDS,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }
    path = Path(tempfile.mkdtemp(prefix="mechaudio-tests-")) / "tekken.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def _chat_template(family: str) -> str:
    """What the published templates write for text and audio turns, and no more.

    Qwen2-Audio numbers its clips and adds a default system turn; Qwen2.5-Omni does neither; Audio Flamingo 3 has the
    default system turn.
    """
    system = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    )
    audio = {
        "qwen2_audio": "{% set clips.n = clips.n + 1 %}Audio {{ clips.n }}: <|audio_bos|><|AUDIO|><|audio_eos|>\n",
        "qwen2_5_omni_thinker": "<|audio_bos|><|AUDIO|><|audio_eos|>",
        "audioflamingo3": "<sound>",
    }[family]
    return (
        "{% set clips = namespace(n=0) %}"
        + ("" if family == "qwen2_5_omni_thinker" else system)
        + "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        + "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
        + "{% if item.type == 'audio' %}" + audio + "{% else %}{{ item.text }}{% endif %}"
        + "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )  # fmt: skip


def processor(family: str) -> ProcessorMixin:
    """The family's real processor class, built offline."""
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=WINDOW_SECONDS, return_attention_mask=True)
    if family == "voxtral":
        from transformers.tokenization_mistral_common import MistralCommonBackend

        made = transformers.VoxtralProcessor(extractor, MistralCommonBackend(_tekken_file()))
        shrunk = {"pad_to_multiple_of": 16_000 * WINDOW_SECONDS, "max_source_positions": 100 * WINDOW_SECONDS}
        made.audio_kwargs = {**type(made).audio_kwargs, **shrunk}
        return made
    if family == "qwen2_5_omni_thinker":
        # No image ever reaches it, and an image processor would need torchvision.
        with mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"):
            return transformers.Qwen2_5OmniProcessor(
                None, None, extractor, tokenizer(family), chat_template=_chat_template(family)
            )
    name = {"qwen2_audio": "Qwen2AudioProcessor", "audioflamingo3": "AudioFlamingo3Processor"}[family]
    return getattr(transformers, name)(extractor, tokenizer(family), chat_template=_chat_template(family))


def _text_config(family: str, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size(family),
        "hidden_size": D_MODEL,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": D_MODEL // HEADS,
        "max_position_embeddings": 2048,
        "initializer_range": SPREAD,
        "tie_word_embeddings": False,
        "pad_token_id": token_id(family, "<pad>" if family == "voxtral" else "<|endoftext|>"),
        "bos_token_id": None,
        "eos_token_id": token_id(family, "</s>" if family == "voxtral" else "<|im_end|>"),
    }


def _config(family: str, layers: int) -> transformers.PreTrainedConfig:
    text = _text_config(family, layers)
    encoder = {
        "d_model": ENCODER_WIDTH,
        "encoder_layers": ENCODER_LAYERS,
        "encoder_attention_heads": HEADS,
        "encoder_ffn_dim": 4 * ENCODER_WIDTH,
        "num_mel_bins": 128,
        "max_source_positions": 50 * WINDOW_SECONDS,
        "initializer_range": SPREAD,
    }
    audio = audio_token_id(family)
    if family == "qwen2_audio":
        return transformers.Qwen2AudioConfig(
            text_config={"model_type": "qwen2", **text},
            audio_config={"model_type": "qwen2_audio_encoder", **encoder},
            audio_token_index=audio,
            initializer_range=SPREAD,
        )
    renamed = {
        "hidden_size": encoder["d_model"],
        "num_hidden_layers": encoder["encoder_layers"],
        "num_attention_heads": encoder["encoder_attention_heads"],
        "intermediate_size": encoder["encoder_ffn_dim"],
        **{key: encoder[key] for key in ("num_mel_bins", "max_source_positions", "initializer_range")},
    }
    if family == "audioflamingo3":
        return transformers.AudioFlamingo3Config(
            text_config={"model_type": "qwen2", **text},
            audio_config={"model_type": "audioflamingo3_encoder", **renamed},
            audio_token_id=audio,
            initializer_range=SPREAD,
        )
    if family == "voxtral":
        return transformers.VoxtralConfig(
            text_config={"model_type": "llama", **text},
            audio_config={"model_type": "voxtral_encoder", **renamed},
            audio_token_id=audio,
            initializer_range=SPREAD,
        )
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": D_MODEL}
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        audio_config={**encoder, "n_window": 100, "output_dim": D_MODEL},
        vision_config=vision,
        audio_token_index=audio,
        image_token_index=token_id(family, "<|IMAGE|>"),
        video_token_index=token_id(family, "<|VIDEO|>"),
        audio_start_token_id=token_id(family, "<|audio_bos|>"),
        audio_end_token_id=token_id(family, "<|audio_eos|>"),
        vision_start_token_id=token_id(family, "<|vision_bos|>"),
        vision_end_token_id=token_id(family, "<|vision_eos|>"),
        initializer_range=SPREAD,
    )


def network(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, layers: int = 3) -> nn.Module:
    """A small network of the family's real class, in evaluation mode.

    Args:
        family: One of `FAMILIES`.
        dtype: Type of the weights.
        seed: Of the weights; the same seed gives the same network.
        layers: Decoder layers.
    """
    name = {
        "qwen2_audio": "Qwen2AudioForConditionalGeneration",
        "qwen2_5_omni_thinker": "Qwen2_5OmniThinkerForConditionalGeneration",
        "audioflamingo3": "AudioFlamingo3ForConditionalGeneration",
        "voxtral": "VoxtralForConditionalGeneration",
    }[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = getattr(transformers, name)(_config(family, layers))
        with torch.no_grad():
            for parameter in built.parameters():  # biases and norms start as constants: move them too
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    decoder, encoder = built.model.language_model, built.model.audio_tower
    assert (len(decoder.layers), len(encoder.layers)) == (layers, ENCODER_LAYERS)
    assert sum(parameter.numel() for parameter in built.parameters()) < 500_000
    assert decoder.embed_tokens.weight.shape == (vocab_size(family), D_MODEL)
    return built.to(dtype).eval()


def clip_features(family: str, seconds: float, seed: int = 0) -> dict[str, Tensor]:
    """Random features of one clip, as the network takes them: `input_features` and the family's mask of real frames."""
    frames = min(round(100 * seconds), 100 * WINDOW_SECONDS)
    features = torch.randn(1, 128, 100 * WINDOW_SECONDS, generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(100 * WINDOW_SECONDS) < frames).long()[None]
    names = {"voxtral": None, "audioflamingo3": "input_features_mask"}
    name = names.get(family, "feature_attention_mask")
    if name is None:
        return {"input_features": features}
    return {"input_features": features, name: mask}


def n_audio_tokens(family: str, seconds: float) -> int:
    """Audio tokens of a clip that fits one window; 40 ms each, for Voxtral 80 ms and always a whole window."""
    if family == "voxtral":
        return 100 * WINDOW_SECONDS // 8
    return round(100 * seconds) // 4


def model_inputs(
    family: str, seconds: tuple[float, ...] = (3.2, 1.6), words: tuple[int, ...] = (9, 5), seed: int = 0
) -> dict[str, Tensor]:
    """A left-padded batch of model inputs, one clip and some random words per row, built without a processor.

    Args:
        family: One of `FAMILIES`.
        seconds: Length of each row's clip, multiples of 0.04 up to the window.
        words: Text tokens of each row: two before the audio, the rest behind it.
        seed: Of features and words.
    """
    generator = torch.Generator().manual_seed(seed)
    first_word = _VOXTRAL_SPECIALS if family == "voxtral" else len(_CONTROL[family])
    rows = []
    for length, count in zip(seconds, words, strict=True):
        text = torch.randint(first_word, vocab_size(family), (count,), generator=generator)
        audio = torch.full((n_audio_tokens(family, length),), audio_token_id(family))
        rows.append(torch.cat([text[:2], audio, text[2:]]))
    width = max(len(row) for row in rows)
    pad = _text_config(family, 1)["pad_token_id"]
    clips = [clip_features(family, length, seed=seed + 1 + row) for row, length in enumerate(seconds)]
    return {
        "input_ids": torch.stack([torch.cat([torch.full((width - len(row),), pad), row]) for row in rows]),
        "attention_mask": torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows]),
        **{name: torch.cat([clip[name] for clip in clips]) for name in clips[0]},
    }


def noise(seconds: float, seed: int = 0, sample_rate: int = 16_000) -> np.ndarray:
    """Mono float32 noise, for clips that only need to be long enough."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * sample_rate))).astype(np.float32)


@dataclass
class Opened:
    """What prompts need of a model, without opening its insides."""

    network: nn.Module
    processor: Any

    @property
    def adapter(self) -> Adapter:
        """The facts about the network's class."""
        return adapter_for(self.network)


def opened(family: str, dtype: torch.dtype = torch.float32) -> Opened:
    """A family's network and processor."""
    return Opened(network(family, dtype), processor(family))


@contextmanager
def unchecked_types() -> Iterator[None]:
    """Without the type checks that only tests run with: for what a user is told who passes the wrong thing."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)

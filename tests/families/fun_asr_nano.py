"""Fun-ASR-Nano: seven mel frames stacked into one, every six frames."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import transformers

from tests.families.family import (
    D_MODEL,
    ENCODER_LAYERS,
    ENCODER_WIDTH,
    HEADS,
    SPREAD,
    Family,
    text_config,
    unchecked_parts,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nTranscribe: <|object_ref_start|>"
    "<|im_end|>\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _config(layers):
    encoder = {
        "hidden_size": ENCODER_WIDTH,
        "num_hidden_layers": ENCODER_LAYERS,
        "num_timestamp_prediction_layers": 1,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * ENCODER_WIDTH,
        "initializer_range": SPREAD,
    }
    adaptor = {
        "hidden_size": D_MODEL,
        "intermediate_size": D_MODEL // 4,
        "num_attention_heads": HEADS,
        "projector_hidden_size": 48,
        "initializer_range": SPREAD,
    }
    return transformers.FunAsrNanoConfig(
        text_config={"model_type": "qwen3", **text_config(IDS, SIZE, layers)},
        audio_config={"model_type": "fun_asr_nano_encoder", **encoder},
        adaptor_config=adaptor,
        audio_token_id=IDS["<|object_ref_start|>"],
        initializer_range=SPREAD,
        tie_word_embeddings=False,
    )


def _filterbank(waveform, num_mel_bins, frame_length, frame_shift, sample_frequency, **_):
    """In torchaudio's place: as many frames as Kaldi makes, of energies in bands of a plain spectrum."""
    length, shift = (round(each * sample_frequency / 1000) for each in (frame_length, frame_shift))
    spectrum = torch.fft.rfft(waveform[0].unfold(0, length, shift), n=512).abs()[:, : 3 * num_mel_bins]
    return spectrum.unflatten(1, (num_mel_bins, 3)).sum(-1).clamp(min=1e-6).log()


def _feature_extraction() -> ModuleType:
    """transformers' own file: without torchaudio, importing it by name gives a stand-in that only complains."""
    path = Path(transformers.__file__).parent / "models" / "fun_asr_nano" / "feature_extraction_fun_asr_nano.py"
    spec = importlib.util.spec_from_file_location("transformers.models.fun_asr_nano.read_from_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.torchaudio = SimpleNamespace(compliance=SimpleNamespace(kaldi=SimpleNamespace(fbank=_filterbank)))
    return module


def _processor():
    tokenizer = byte_level_tokenizer(CONTROL, {"audio_token": "<|object_ref_start|>"})
    # transformers takes a stand-in for the class of the feature extractor where torchaudio is missing.
    with unchecked_parts():
        return transformers.FunAsrNanoProcessor(
            _feature_extraction().FunAsrNanoFeatureExtractor(), tokenizer, chat_template=TEMPLATE
        )


def _tokens(samples):
    """Whole frames of 25 ms every 10 ms, then every sixth."""
    frames = 1 + (samples - 400) // 160
    return -(-frames // 6)


def _clip_features(seconds, seed):
    frames = _tokens(round(16_000 * seconds))
    features = torch.randn(1, frames, 560, generator=torch.Generator().manual_seed(seed))
    return {"input_features": features, "input_features_mask": torch.ones(1, frames, dtype=torch.long)}


FUN_ASR_NANO = Family(
    name="fun_asr_nano",
    network_class="FunAsrNanoForConditionalGeneration",
    control=IDS,
    audio="<|object_ref_start|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.06,
    frame_seconds=0.06,
    clip_features=_clip_features,
    takes_questions=False,
    clips=(3.2, 3.2),
)

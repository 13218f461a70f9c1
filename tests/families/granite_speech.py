"""Granite Speech and Granite Speech Plus: blocks of 64 frames, so that a clip of 3.2 s fills two and a half."""

from types import SimpleNamespace

import torch
import transformers
from transformers.models.granite_speech import feature_extraction_granite_speech as extraction
from transformers.models.granite_speech.processing_granite_speech import GraniteSpeechProcessor

from tests.families.family import ENCODER_LAYERS, ENCODER_WIDTH, HEADS, SPREAD, Family, text_config, unchecked_parts
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

CONTROL = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
TEMPLATE = (
    "{% for message in messages %}<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content }}"
    "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
ENCODER = {
    "num_layers": ENCODER_LAYERS,
    "hidden_dim": ENCODER_WIDTH,
    "num_heads": HEADS,
    "feedforward_mult": 2,
    "output_dim": 10,
    "context_size": 64,
    "max_pos_emb": 80,
    "initializer_range": 2 * SPREAD,
}


def _parts(layers, heard):
    text = {
        **text_config(IDS, SIZE, layers, pad="<|end_of_text|>", end="<|end_of_text|>"),
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.6,
        "attention_multiplier": 0.3,
        "logits_scaling": 4.0,
    }
    projector = {
        "model_type": "blip_2_qformer",
        "hidden_size": ENCODER_WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * ENCODER_WIDTH,
        "encoder_hidden_size": heard * ENCODER_WIDTH,
        "cross_attention_frequency": 1,
        "initializer_range": 3 * SPREAD,
    }
    return {
        "text_config": {"model_type": "granite", **text},
        "projector_config": projector,
        "audio_token_index": IDS["<|audio|>"],
        "has_lora_adapter": False,
        "tie_word_embeddings": False,
        "initializer_range": SPREAD,
    }


def _config(layers):
    encoder = {"model_type": "granite_speech_encoder", **ENCODER}
    return transformers.GraniteSpeechConfig(encoder_config=encoder, **_parts(layers, 1))


def _plus_config(layers):
    encoder = {"model_type": "granite_speech_plus_encoder", **ENCODER, "cat_hidden_layers": [1]}
    return transformers.GraniteSpeechPlusConfig(encoder_config=encoder, **_parts(layers, 2))


class _MelSpectrogram:
    """In torchaudio's place: as many frames as it makes, of energies in bands of a plain spectrum."""

    def __init__(self, sample_rate, n_fft, win_length, hop_length, n_mels):
        self.n_fft, self.win, self.hop, self.bands = n_fft, win_length, hop_length, n_mels

    def to(self, _device):
        return self

    def __call__(self, audio):
        window = torch.hann_window(self.win)
        spectrum = torch.stft(audio, self.n_fft, self.hop, self.win, window, return_complex=True).abs() ** 2
        return spectrum[:, : 3 * self.bands].unflatten(1, (self.bands, 3)).sum(2)


def _processor():
    if not hasattr(extraction, "torchaudio"):
        extraction.torchaudio = SimpleNamespace(transforms=SimpleNamespace(MelSpectrogram=_MelSpectrogram))
        extraction.requires_backends = lambda *_: None
    tokenizer = byte_level_tokenizer(
        CONTROL, {"audio_token": "<|audio|>"}, pad="<|end_of_text|>", end="<|end_of_text|>"
    )
    # transformers takes a stand-in for the class of the feature extractor where torchaudio is missing.
    with unchecked_parts():
        return GraniteSpeechProcessor(extraction.GraniteSpeechFeatureExtractor(), tokenizer, chat_template=TEMPLATE)


def _frames(samples):
    """Two mel frames of 10 ms make one frame."""
    return (samples // 160 + 1) // 2


def _tokens(samples):
    """Three for every 15 frames, the last of fewer."""
    return 3 * -(-_frames(samples) // 15)


def _features(seconds, seed):
    samples = round(16_000 * seconds)
    values = torch.randn(1, _frames(samples), 160, generator=torch.Generator().manual_seed(seed))
    return {"input_features": values, "input_features_mask": torch.ones(1, _tokens(samples), dtype=torch.bool)}


def _family(name, network_class, config):
    return Family(
        name=name,
        network_class=network_class,
        control=IDS,
        audio="<|audio|>",
        vocab_size=SIZE,
        config=config,
        processor=_processor,
        tokens=_tokens,
        token_seconds=0.1,
        together=0.3,
        shortest=257,
        clip_features=_features,
        pad="<|end_of_text|>",
        end="<|end_of_text|>",
        clips=(3.2, 3.2),
    )


GRANITE_SPEECH = _family("granite_speech", "GraniteSpeechForConditionalGeneration", _config)
GRANITE_SPEECH_PLUS = _family("granite_speech_plus", "GraniteSpeechPlusForConditionalGeneration", _plus_config)

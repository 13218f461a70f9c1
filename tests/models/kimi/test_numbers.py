"""Kimi-Audio gives the numbers of its authors' code, with the same small weights."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import WhisperFeatureExtractor

from mechaudio.models.kimi.config import KimiAudioConfig
from mechaudio.models.kimi.network import KimiAudioForConditionalGeneration
from tests.models.kimi.released import (
    OFFSET,
    ORACLES,
    PROMPTS,
    UNUSED,
    joined,
    network,
    reference,
    speech_tokenizer,
)


@pytest.fixture(scope="module")
def kimi():
    return network()


@pytest.fixture(scope="module")
def told():
    return reference()


def close(given, wanted, tolerance=1e-5):
    assert given.shape == wanted.shape
    assert (given - wanted).abs().max() < tolerance


def embedded(kimi, told, name):
    """A prompt of the authors' with their codes and their features of Whisper."""
    case = PROMPTS[name]
    audio, continuous = torch.tensor(case["audio_ids"]), torch.tensor(case["is_continuous"]).bool()
    if not continuous.any():
        return kimi.embed(joined(name))
    heard = kimi.model.vq_adaptor.layers(told["whisper_feature"][0])
    return kimi.embed(joined(name), audio[continuous] - OFFSET, heard)


@pytest.mark.parametrize("name", PROMPTS)
def test_one_of_both_streams_is_always_blank_but_at_audio_tokens(name):
    """So one stream says all: the class takes it apart again."""
    audio, text, continuous = (torch.tensor(PROMPTS[name][key]) for key in ("audio_ids", "text_ids", "is_continuous"))
    assert bool(((audio == 605) | (text == 605)).all())
    assert bool((text[continuous.bool()] == 605).all())


@pytest.mark.parametrize("name", PROMPTS)
def test_the_embedded_prompt_is_the_authors(kimi, told, name):
    close(embedded(kimi, told, name), told[f"{name}.embeds"])


@pytest.mark.parametrize("name", PROMPTS)
def test_text_is_read_off_the_last_layer_of_the_decoder(kimi, told, name):
    embeds = embedded(kimi, told, name)
    trunk = kimi.model(inputs_embeds=embeds).last_hidden_state
    close(trunk[:, -1], told[f"{name}.trunk_last"])
    logits = kimi(inputs_embeds=embeds).logits[:, -1]
    close(logits, told[f"{name}.text_logits_last"])
    assert (logits - told[f"{name}.audio_logits_last"]).abs().max() > 0.1, "the release's names are swapped"


@pytest.mark.parametrize("name", PROMPTS)
def test_the_branch_that_speaks_is_the_authors(told, name):
    """It leaves the decoder behind layer 3 of 5 there."""
    kimi = network(mimo_from=3)
    states, logits = kimi.branch(embedded(kimi, told, name))
    close(states[:, -1], told[f"{name}.mimo_last"])
    close(logits[:, -1], told[f"{name}.audio_logits_last"])


def test_the_branch_of_a_padded_batch_is_what_its_rows_give(told):
    kimi = network(mimo_from=3)
    rows = [embedded(kimi, told, name)[0] for name in ("text_only", "audio_then_text")]
    width = max(map(len, rows))
    padded = torch.stack([functional.pad(row, (0, 0, width - len(row), 0)) for row in rows])
    mask = torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows])
    _, together = kimi.branch(padded, mask)
    for row, name in enumerate(("text_only", "audio_then_text")):
        close(together[row, -1], told[f"{name}.audio_logits_last"][0], 1e-4)


def test_a_checkpoint_without_the_branch_says_how_to_keep_it():
    kimi = KimiAudioForConditionalGeneration(KimiAudioConfig(**small_config()))
    with pytest.raises(ValueError, match=r"assembled without the branch that speaks: audio_branch=True keeps it"):
        kimi.branch(torch.zeros(1, 2, 16))


def small_config():
    text = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    whisper = {
        "d_model": 8,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 8,
        "decoder_layers": 1,
    }
    return {
        "text_config": text,
        "audio_config": whisper,
        "codes_config": {**whisper, "quantize_position": 1, "quantize_vocab_size": 8},
        "text_blank_id": 1,
        "audio_stream_ids": [2],
        "codes_offset": 16,
    }


def sound(seconds, seed, rate=16_000):
    """The clip of 33 s that codes were made of: a few tones in noise, different at every second, quiet ends."""
    generator, count = np.random.default_rng(seed), round(seconds * rate)
    time = np.arange(count) / rate
    wave = 0.02 * generator.standard_normal(count)
    for _ in range(4):
        frequency, begin, end = generator.uniform(200, 4000), *np.sort(generator.uniform(0, seconds, 2))
        wave += 0.2 * np.sin(2 * np.pi * frequency * time) * ((time > begin) & (time < end))
    return (np.round(wave * 32767).astype(np.int16) / 32768).astype(np.float32)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_the_codes_of_a_clip_are_the_authors(clip):
    """Clips of 3.2 and 7.5 s, and one of 33 s, of which two windows are heard."""
    told = reference("codes_reference")
    wave = sound(33.0, 12) if clip == 2 else told[f"wav{clip}"].float().numpy() / 32768
    windows = [wave[start : start + 480_000] for start in range(0, len(wave), 480_000)]
    settings = {"padding": "longest", "pad_to_multiple_of": 1280, "return_attention_mask": True}
    extractor = WhisperFeatureExtractor(feature_size=128)
    made = extractor(windows, sampling_rate=16_000, return_tensors="pt", **settings)
    codes = speech_tokenizer()(made["input_features"], made["attention_mask"])
    counts = [(len(window) - 1) // 1280 + 1 for window in windows]
    together = torch.cat([row[:count] for row, count in zip(codes, counts, strict=True)])
    assert together.tolist() == told[f"codes{clip}"].tolist()


def test_a_code_hears_its_own_block_of_four_seconds_and_those_before(kimi):
    """Of 12 s in three blocks, the last one changes no code of the first two."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 128, 1200, generator=generator)
    changed = features.clone()
    changed[..., 900:] = torch.randn(1, 128, 300, generator=generator)
    mask = torch.ones(1, 1200)
    before, after = (kimi.audio_tokenizer(given, mask) for given in (features, changed))
    assert before[0, :100].tolist() == after[0, :100].tolist()
    assert before[0, 100:].tolist() != after[0, 100:].tolist()


def test_codes_may_be_given(kimi):
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(3000) < torch.tensor([[320], [150]])).long()
    features = torch.randn(2, 128, 320, generator=generator)
    worked_out = kimi.codes(mask, features)
    assert len(worked_out) == 40 + 19
    rows = torch.full((2, 40), -1)
    rows[0], rows[1, :19] = worked_out[:40], worked_out[40:]
    assert torch.equal(kimi.codes(mask, None, rows), worked_out)
    assert torch.equal(kimi.codes(mask, features * 0, rows), worked_out), "the speech tokenizer is not asked then"
    with pytest.raises(ValueError, match="fewer codes than a window makes audio tokens"):
        kimi.codes(mask, None, rows[:, :20])
    rows[0, -1] = -1
    with pytest.raises(ValueError, match="fewer codes than a window makes audio tokens"):
        kimi.codes(mask, None, rows)
    with pytest.raises(ValueError, match="audio tokens need codes: pass code_features"):
        kimi.codes(mask, None)


def test_every_parameter_has_the_released_name_and_shape(kimi):
    told = json.loads((ORACLES / "kimi_keys.json").read_text())["keys"]
    codes = json.loads((ORACLES / "codes_keys.json").read_text())["keys"]
    theirs = {name: shape for name, (shape, _) in told.items()}
    theirs |= {f"audio_tokenizer.{name}": shape for name, (shape, _) in codes.items() if name not in UNUSED}
    ours = {name: list(value.shape) for name, value in kimi.state_dict().items() if "speech_encoder" not in name}
    assert ours == theirs


def test_a_network_of_the_published_sizes_builds():
    text = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28}
    text |= {"num_key_value_heads": 4, "vocab_size": 168_448}
    whisper = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
    whisper |= {"num_mel_bins": 128, "decoder_layers": 1}
    with torch.device("meta"):
        built = KimiAudioForConditionalGeneration(KimiAudioConfig(text, whisper, whisper))
    layers = sum(parameter.numel() for parameter in built.model.layers.parameters())
    assert layers == pytest.approx(6.5e9, rel=0.01), "those of Qwen2 7B"
    assert built.audio_tokenizer.codebook.weight.shape == (16_384, 1280)
    assert built.model.vq_adaptor.layers[0].in_features == 5120

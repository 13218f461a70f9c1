"""The real files of the small model, read as their own libraries read them; `mechaudio get small` fetches them."""

import numpy as np
import pytest
import torch
import transformers

import mechaudio as ma
from mechaudio.data.soundscapes import question
from mechaudio.models.small import ctranslate2, gguf
from mechaudio.models.small.convert import llama_weights, whisper_encoder_weights
from mechaudio.models.small.language import build_tokenizer
from mechaudio.models.small.network import checksum
from mechaudio.models.small.parts import PARTS, located

#: Of the weights that transformers 5.23 makes of the file with gguf 0.19, under the same names.
LOADED_BY_TRANSFORMERS = "2f38bd21d177cb22bd3206f062f4f6e36751a7f04251d5a9e466ddcc45c257e5"
#: What CTranslate2 4.8.5 computes in single precision of `rising()`: positions 0, 100, 250, 400, numbers 0 to 3.
ENCODED_BY_CTRANSLATE2 = [
    [-0.8857262, -0.6404898, 0.9743982, -0.6314678],
    [-0.4227349, -0.01104906, 0.00597553, -0.49632975],
    [0.1256529, 0.46431515, -0.6767268, -0.8285565],
    [-0.15857534, 0.23313756, 0.45726758, -0.76573753],
]
#: Of the weights of `ma.load("small")`, in single precision: the two files and what was trained between them.
ASSEMBLED = "964f091e8c461a8cb7cfee9e90c4a9f77d29b071e1c952f36d9473d24a2cd3ed"
#: What it answers to questions 0 to 9 of seed 11, about 4 s of sound with a quiet background; all are right.
ANSWERED = "CBDBBBAABC"


def real(part):
    try:
        return located(part)
    except FileNotFoundError:
        pytest.skip(f"{part.file} is not here: mechaudio get small")


@pytest.fixture(scope="module")
def small():
    """The model as users open it, with every hook point proven."""
    return ma.load("small", **{part.name: real(part) for part in PARTS})


@pytest.fixture(scope="module")
def smollm2():
    return gguf.read(real(PARTS[1]))


def rising():
    """Ten seconds of a tone that rises from 200 to 3000 Hz."""
    return 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 3000, 160_000)) / 16_000).astype(np.float32)


def test_smollm2_is_unpacked_as_transformers_unpacks_it(smollm2):
    weights = {name: torch.from_numpy(weight) for name, weight in llama_weights(smollm2)}
    assert checksum(weights) == LOADED_BY_TRANSFORMERS


def test_whispers_encoder_hears_what_it_hears_in_ctranslate2():
    weights = whisper_encoder_weights(ctranslate2.read(real(PARTS[0])))
    config = transformers.WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    encoder.load_state_dict({name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items()})
    features = transformers.WhisperFeatureExtractor(feature_size=80)
    mel = features(rising(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        encoded = encoder(mel).last_hidden_state[0, [0, 100, 250, 400], :4]
    torch.testing.assert_close(encoded, torch.tensor(ENCODED_BY_CTRANSLATE2), atol=1e-3, rtol=1e-3)


def test_digits_stand_alone_as_smollm2_learnt_them(smollm2):
    """transformers' own reading of the file leaves that rule out, and joins a line's end to the space behind it."""
    tokens = build_tokenizer(smollm2).encode("It rained.\n 12 May 1987", add_special_tokens=False).tokens
    assert tokens == ["It", "Ġra", "ined", ".", "ĊĠ", "1", "2", "ĠMay", "Ġ", "1", "9", "8", "7"]


@pytest.mark.whole
def test_the_assembled_weights_are_those_that_were_recorded(small):
    assert checksum(small.network.state_dict()) == ASSEMBLED


@pytest.mark.whole
def test_ten_answers_are_those_that_were_recorded(small):
    asked = [question(index, 11, duration=4.0, noise=(-30.0, -10.0)) for index in range(10)]
    assert "".join(answer.letter for answer in ma.answer(small, ma.prompt(small, asked))) == ANSWERED

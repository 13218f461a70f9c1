"""The weights of the audio tower: a token tells how strong each voice is in the middle of its 40 ms.

1. Whisper's features are `(log10 power + 4) / 4` in each of 128 bands. A steady sine at the centre of bin `k` of the
   transform gives, in a band with filter `w`, `log10(amplitude ** 2 * (10_000 w[k] + 2_500 (w[k-1] + w[k+1])))`
   for `log10 power`: 20 dB are 0.5 of a feature, wherever the sine begins.
2. `conv1` takes the band that hears a voice best and subtracts the feature of a voice of -40 dB. GELU makes what is
   below 0. That is the strength, times 64: the kink of GELU lies within 5 of 0.
3. `conv2` takes every second frame. Strength and its negative stand with an offset that carries them past the second
   GELU, and that the position table takes away again, while it adds what depends on time alone.
4. Layer 0 does nothing. In layer 1 both frames of a token look at the token's second frame, whose 25 ms lie inside the
   token's 40, and copy its strengths; the frames are told apart by their number in binary. Its MLP has a neuron that
   would raise all strengths, and that nothing wakes: opening the toy proves where its neurons are.
5. Every LayerNorm leaves things as they are: its mean is 0 because each feature stands with its negative, its
   variance that of the carrier, to 5e-7.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechaudio.data.toy_questions import AMPLITUDE, SAMPLE_RATE, SECONDS, VOICES
from mechaudio.models.network import Network
from mechaudio.models.toy.features import AUDIO_TOKENS, D_HEAD, D_MODEL, DECODER, TOKEN_BITS, TOWER
from mechaudio.models.toy.planted import DECIBELS_PER_STRENGTH, PLANTED

CARRIER = 2048.0
_STEEP = 64.0
_OFFSET = {"": 6.0, "-": 8.0}
"""GELU gives back 6 and more to 1e-8; strengths from 0 to 2 stay above it with either sign."""
_HARD = 16.0
"""Score per bit in which two frames agree; a head that misses one bit gets exp(-32) of the attention."""


def voice_bands(mel_filters: Float[np.ndarray, "bin band"]) -> dict[str, tuple[int, float]]:
    """Per voice the mel band that hears it best, and the feature of a steady voice of 0 dB there."""
    spacing = SAMPLE_RATE / 2 / (len(mel_filters) - 1)
    bands = {}
    for voice, frequency in VOICES.items():
        k = round(frequency / spacing)
        power = AMPLITUDE**2 * (10_000 * mel_filters[k] + 2_500 * (mel_filters[k - 1] + mel_filters[k + 1]))
        band = int(power.argmax())
        bands[voice] = (band, (math.log10(power[band]) + 4) / 4)
    return bands


def write_tower(tower: Network, mel_filters: Float[np.ndarray, "bin band"]) -> None:
    """Write the weights of a tower whose parameters are all 0."""
    _hear_voices(tower, mel_filters)
    tower.embed_positions.weight.copy_(_positions())
    for layer in tower.layers:
        _keep_as_it_is(layer.self_attn_layer_norm, squares=2 * (TOKEN_BITS + 2))
        _keep_as_it_is(layer.final_layer_norm, squares=2 * (TOKEN_BITS + 2))
    _keep_as_it_is(tower.layer_norm, squares=2 * (TOKEN_BITS + 1))  # a token's two frames cancel in `odd`
    _sleeping_neuron(tower.layers[-1].fc2)
    _join_frames(tower.layers[PLANTED.joining[0]].self_attn, head=PLANTED.joining[1])


def write_projector(projector: nn.Linear, carrier: float) -> None:
    """Carry the tower's features over into the decoder's stream, whose carrier is `carrier`."""
    projector.weight[DECODER["carrier"], TOWER["carrier"]] = carrier / CARRIER
    projector.bias[DECODER["audio"]] = 1
    for voice in VOICES:
        projector.weight[DECODER[f"tone:{voice}"], TOWER[f"heard:{voice}"]] = 1
    for second in range(SECONDS):
        projector.weight[DECODER[f"second:{second}"], TOWER[f"second:{second}"]] = 1


def _hear_voices(tower: Network, mel_filters: Float[np.ndarray, "bin band"]) -> None:
    per_strength = DECIBELS_PER_STRENGTH / 40  # features: 40 dB are one
    for channel, (voice, (band, loud)) in enumerate(voice_bands(mel_filters).items()):
        tower.conv1.weight[channel, band, 1] = _STEEP
        tower.conv1.bias[channel] = -_STEEP * (loud - per_strength)
        for sign, offset in _OFFSET.items():
            feature = TOWER[f"{sign}tone:{voice}"]
            tower.conv2.weight[feature, channel, 1] = (-1 if sign else 1) / _STEEP
            tower.conv2.bias[feature] = offset


def _positions() -> Float[Tensor, "frame d_model"]:
    table = torch.zeros(2 * AUDIO_TOKENS, D_MODEL, dtype=torch.float64)
    for sign, offset in _OFFSET.items():
        for voice in VOICES:
            table[:, TOWER[f"{sign}tone:{voice}"]] = -offset
    for frame in range(2 * AUDIO_TOKENS):
        token, odd = divmod(frame, 2)
        values = {f"bit:{bit}": 1 if token >> bit & 1 else -1 for bit in range(TOKEN_BITS)}
        values |= {"carrier": CARRIER, "odd": 1 if odd else -1, f"second:{token // 25}": 1}
        for name, value in values.items():
            table[frame, TOWER[name]], table[frame, TOWER[f"-{name}"]] = value, -value
    return table


def _keep_as_it_is(norm: nn.LayerNorm, squares: int) -> None:
    """Multiply by the deviation that the norm divides by, which the carrier and the constant `squares` make."""
    norm.weight.fill_(math.sqrt((2 * CARRIER**2 + squares) / D_MODEL))


def _sleeping_neuron(down: nn.Linear) -> None:
    for voice in VOICES:
        down.weight[TOWER[f"heard:{voice}"], 0], down.weight[TOWER[f"-heard:{voice}"], 0] = 1, -1


def _join_frames(attention: Network, head: int) -> None:
    first = head * D_HEAD
    query, key = attention.q_proj, attention.k_proj
    for bit in range(TOKEN_BITS):
        query.weight[first + bit, TOWER[f"bit:{bit}"]] = _HARD * math.sqrt(D_HEAD)
        key.weight[first + bit, TOWER[f"bit:{bit}"]] = 1
    query.bias[first + TOKEN_BITS] = _HARD * math.sqrt(D_HEAD)
    key.weight[first + TOKEN_BITS, TOWER["odd"]] = 1
    for index, voice in enumerate(VOICES):
        attention.v_proj.weight[first + index, TOWER[f"tone:{voice}"]] = 1
        attention.out_proj.weight[TOWER[f"heard:{voice}"], first + index] = 1
        attention.out_proj.weight[TOWER[f"-heard:{voice}"], first + index] = -1

import numpy as np
import pytest

from mechaudio.viz.sound import FLOOR, envelope, hz_to_mel, mel_spectrogram, mel_to_hz

RATE = 16_000


def tone(hertz, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def test_the_envelope_holds_the_extremes_of_each_bin():
    shape = envelope(np.array([0.0, 1.0, -0.5, 0.25], dtype=np.float32), 2, bins=2)
    assert shape.low.tolist() == [0.0, -0.5]
    assert shape.high.tolist() == [1.0, 0.25]
    assert shape.times.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("hertz", [200, 1000, 4000])
def test_a_tone_is_loudest_in_the_band_that_holds_it(hertz):
    mel = mel_spectrogram(tone(hertz), RATE)
    band = mel.level[:, mel.level.shape[1] // 2].argmax()
    assert mel.edges[band] * 0.93 <= hertz <= mel.edges[band + 1] * 1.07


def test_a_tone_is_loud_when_it_sounds_and_at_the_floor_elsewhere():
    mel = mel_spectrogram(np.concatenate([np.zeros(RATE, dtype=np.float32), tone(1000)]), RATE)
    loud = mel.level.max(axis=0)
    assert loud[mel.times[:-1] < 0.9].max() == FLOOR
    assert loud[(mel.times[:-1] > 1.1) & (mel.times[:-1] < 1.9)].min() > -3


def test_silence_lies_at_the_floor():
    assert (mel_spectrogram(np.zeros(RATE, dtype=np.float32), RATE).level == FLOOR).all()


@pytest.mark.parametrize("samples", [1, 100, RATE * 60])
def test_cells_cover_a_clip_of_any_length_in_at_most_400_frames(samples):
    mel = mel_spectrogram(np.ones(samples, dtype=np.float32), RATE)
    assert mel.times[-1] == samples / RATE
    assert mel.level.shape == (48, len(mel.times) - 1)
    assert mel.level.shape[1] <= 400
    assert (np.diff(mel.times) > 0).all()


def test_mel_and_hertz_are_inverses():
    assert hz_to_mel(700.0) == pytest.approx(2595 * np.log10(2))
    assert mel_to_hz(hz_to_mel(1234.0)) == pytest.approx(1234.0)

import base64
import io
import os
import re

import numpy as np
import pytest
import soundfile

from mechaudio.audio.clip import AudioClip


def sine(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def test_a_clip_knows_its_length_its_channels_and_its_name():
    mono = AudioClip(np.zeros(8_000, np.float32), 16_000, "sounds/clip.wav")
    stereo = AudioClip(np.zeros((2, 160_000)), 16_000)
    assert (mono.duration, mono.n_channels) == (0.5, 1)
    assert (stereo.duration, stereo.n_channels) == (10.0, 2)
    assert repr(mono) == "AudioClip(0.50 s, 16000 Hz, mono, 'clip.wav')"
    assert repr(stereo) == "AudioClip(10.00 s, 16000 Hz, stereo)"
    assert repr(AudioClip(np.zeros((4, 8_000)), 8_000)) == "AudioClip(1.00 s, 8000 Hz, 4 channels)"


def test_a_clip_copies_what_it_is_given_and_cannot_be_changed():
    given = np.array([0.1, 0.2, 0.3])
    clip = AudioClip(given, 16_000)
    given[0] = 9.0
    assert clip.waveform.dtype == np.float32
    assert clip.waveform[0] == np.float32(0.1)
    with pytest.raises(ValueError, match="read-only"):
        clip.waveform[0] = 1.0


def test_a_read_only_view_of_an_array_that_can_change_is_copied_too():
    given = np.zeros(3, np.float32)
    view = given.view()
    view.flags.writeable = False
    clip = AudioClip(view, 16_000)
    given[0] = 9.0
    assert clip.waveform[0] == 0.0


def test_lists_torch_tensors_and_numpy_rates_are_taken():
    torch = pytest.importorskip("torch")
    assert AudioClip([0.5, -0.5], 16_000).waveform.tolist() == [0.5, -0.5]
    clip = AudioClip(torch.tensor([[0.5, -0.5, 0.25]]), np.int64(16_000))
    assert clip.waveform.tolist() == [[0.5, -0.5, 0.25]]
    assert type(clip.sample_rate) is int


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_comes_back_at_its_rate_with_its_channels_and_its_length(tmp_path, suffix, rate, channels):
    path = tmp_path / f"sound.{suffix}"
    wave = sine(rate, 1.5)
    soundfile.write(path, wave if channels == 1 else np.stack([wave, 0.5 * wave], 1), rate)
    clip = AudioClip.load(path)
    assert clip.sample_rate == rate
    assert clip.duration == 1.5
    assert clip.waveform.shape == ((len(wave),) if channels == 1 else (2, len(wave)))
    assert clip.source == str(path)
    first = clip.waveform if channels == 1 else clip.waveform[0]
    inner = slice(2_000, -2_000)
    np.testing.assert_allclose(first[inner], wave[inner], atol=0.05 if suffix in ("mp3", "ogg") else 1e-4)
    if channels == 2:
        np.testing.assert_allclose(clip.waveform[1, inner], 0.5 * wave[inner], atol=0.05)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_resampled_sine_keeps_its_length_its_frequency_and_its_amplitude(rate):
    heard = AudioClip(sine(rate, 2.0), rate).mono(16_000)
    assert heard.dtype == np.float32
    assert abs(len(heard) - 32_000) <= 1
    np.testing.assert_allclose(heard[800:-800], sine(16_000, 2.0)[800 : len(heard) - 800], atol=2e-3)


def test_what_16_khz_cannot_hold_is_removed_and_not_folded_down():
    heard = AudioClip(sine(44_100, 1.0, hertz=12_000), 44_100).mono(16_000)
    assert np.abs(heard[800:-800]).max() < 1e-3


def test_mono_is_the_mean_of_the_channels_and_may_be_written_to():
    stereo = AudioClip(np.array([[0.2, 0.4, 0.6], [0.0, 0.0, -0.6]], np.float32), 16_000)
    np.testing.assert_allclose(stereo.mono(), [0.1, 0.2, 0.0], atol=1e-7)
    single = AudioClip(np.array([0.1, 0.2], np.float32), 16_000)
    heard = single.mono(16_000)
    heard[0] = 9.0
    assert single.waveform[0] == np.float32(0.1)


def test_a_clip_too_short_for_another_rate_is_refused():
    with pytest.raises(ValueError, match="a clip of 1 sample at 48000 Hz is too short for 8000 Hz: give a longer clip"):
        AudioClip([0.5], 48_000).mono(8_000)
    with pytest.raises(ValueError, match="between 1000 and 768000, such as 16000; got 16"):
        AudioClip([0.5], 48_000).mono(16)


def test_silence_is_zeros_of_the_same_length_rate_and_channels():
    silent = AudioClip(np.full((2, 441), 0.5), 44_100, "loud.wav").silence()
    assert silent.waveform.shape == (2, 441)
    assert not silent.waveform.any()
    assert (silent.sample_rate, silent.source) == (44_100, None)


def test_cut_takes_whole_samples():
    clip = AudioClip(np.arange(10) / 10.0, 1_000, "clip.wav")
    part = clip.cut(0.003, 0.007)
    np.testing.assert_array_equal(part.waveform, np.float32([0.3, 0.4, 0.5, 0.6]))
    assert part.source == "clip.wav"
    assert clip.cut(0, clip.duration).waveform.shape == (10,)
    assert AudioClip(np.zeros((2, 100)), 1_000).cut(0.0, 0.05).waveform.shape == (2, 50)


@pytest.mark.parametrize(
    ("onset", "offset"), [(-0.1, 0.005), (0.005, 0.005), (0.007, 0.003), (0.0, 0.2), (0.0, np.nan)]
)
def test_a_cut_outside_the_clip_is_refused_with_its_length(onset, offset):
    with pytest.raises(ValueError, match=r"offset <= 0\.01 seconds, the length of the clip, .*got onset="):
        AudioClip(np.zeros(10), 1_000).cut(onset, offset)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_saved_clip_comes_back_to_within_16_bits(tmp_path, suffix):
    clip = AudioClip(np.stack([sine(16_000, 0.1), -sine(16_000, 0.1)]), 16_000)
    clip.save(tmp_path / f"out.{suffix}")
    back = AudioClip.load(tmp_path / f"out.{suffix}")
    np.testing.assert_allclose(back.waveform, clip.waveform, atol=2 / 32_768)
    assert soundfile.info(tmp_path / f"out.{suffix}").subtype == "PCM_16"


def test_the_bytes_of_a_wav_file_hold_the_very_samples_and_no_time():
    wave = np.random.default_rng(0).normal(0, 2, (2, 1000)).astype(np.float32)
    sound = AudioClip(wave, 16_000).to_wav()
    samples, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    np.testing.assert_array_equal(samples.T, wave)
    assert rate == 16_000
    assert b"PEAK" not in sound
    mono = soundfile.read(io.BytesIO(AudioClip(wave[0], 16_000).to_wav()), dtype="float32")[0]
    np.testing.assert_array_equal(mono, wave[0])


def test_a_clip_is_saved_as_wav_or_flac_only(tmp_path):
    with pytest.raises(ValueError, match=r"as \.wav or \.flac, got the path '.*out\.mp3'"):
        AudioClip([0.5], 16_000).save(tmp_path / "out.mp3")


def test_saving_beyond_full_scale_warns_with_the_peak(tmp_path):
    with pytest.warns(UserWarning, match="the peak is 1.5, not 1"):
        AudioClip([0.0, -1.5], 16_000).save(tmp_path / "loud.wav")
    assert AudioClip.load(tmp_path / "loud.wav").waveform.min() == -1.0


def test_a_notebook_shows_a_player_with_the_clip_and_an_escaped_title():
    page = AudioClip([0.5, -0.5], 16_000, "<script>alert('x')</script>\".wav")._repr_html_()
    assert "<script" not in page
    assert "script&gt;" in page
    sound = re.search(r'src="data:audio/wav;base64,([A-Za-z0-9+/=]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound[1])))
    assert rate == 16_000
    np.testing.assert_allclose(samples, [0.5, -0.5], atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("int16", "waveform / 32768"),
        ("int32", r"waveform / 2\*\*31"),
        ("uint8", r"\(waveform - 128.0\) / 128"),
        ("int64", "full scale"),
    ],
)
def test_whole_numbers_are_refused_with_how_to_convert_them(dtype, advice):
    with pytest.raises(TypeError, match=f"got {dtype}: convert it first, .*{advice}"):
        AudioClip(np.zeros(10, dtype), 16_000)


@pytest.mark.parametrize("waveform", [np.zeros(10, bool), np.zeros(10, complex), "clip.wav", None])
def test_what_is_not_floats_is_refused(waveform):
    with pytest.raises(TypeError, match=r"a waveform holds floats with full scale at 1.0, got an array of"):
        AudioClip(waveform, 16_000)


def test_samples_that_are_not_finite_are_counted_and_the_first_is_placed():
    waveform = np.zeros((2, 16_000))
    waveform[0, 12_000] = np.inf
    waveform[1, 8_000] = np.nan
    with pytest.raises(ValueError, match=r"has 2 of 32000 samples that are NaN or infinite, the first at 0.5000 s"):
        AudioClip(waveform, 16_000)
    with pytest.raises(ValueError, match="1 of 1 samples that are NaN or infinite"):
        AudioClip(np.array([1e300]), 16_000)


def test_a_file_with_nan_is_refused_by_name(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan], np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"the waveform of '.*nan\.wav' has 1 of 2 samples"):
        AudioClip.load(tmp_path / "nan.wav")


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 5)])
def test_a_waveform_without_samples_is_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"at least one sample, got shape {shape}")):
        AudioClip(np.zeros(shape), 16_000)


@pytest.mark.parametrize("shape", [(160_000, 2), (160_000, 1), (40, 2)])
def test_samples_before_channels_are_refused_with_the_remedy(shape):
    with pytest.raises(
        ValueError, match=re.escape(f"shape {shape} looks like [samples, channels]: transpose it, waveform.T")
    ):
        AudioClip(np.zeros(shape), 16_000)


def test_a_spectrogram_is_no_waveform():
    with pytest.raises(ValueError, match=r"at most 32 channels, and shape \(128, 3000\) has 128: .* not a spectrogram"):
        AudioClip(np.zeros((128, 3_000)), 16_000)


@pytest.mark.parametrize("shape", [(), (1, 1, 100)])
def test_a_waveform_has_one_or_two_axes(shape):
    with pytest.raises(ValueError, match=re.escape(f"got {len(shape)} dimensions, shape {shape}")):
        AudioClip(np.zeros(shape), 16_000)


@pytest.mark.parametrize("rate", [0, -16_000, 16, 10_000_000])
def test_an_implausible_sample_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"between 1000 and 768000, such as 16000; got {rate}"):
        AudioClip([0.0], rate)


@pytest.mark.parametrize("rate", [16_000.0, "16000", None])
def test_a_sample_rate_that_is_no_whole_number_is_refused(rate):
    with pytest.raises(TypeError, match=f"whole number of samples per second, such as 16000; got {rate!r}"):
        AudioClip([0.0], rate)


def test_a_path_may_be_text_or_a_path_and_start_at_home(tmp_path, monkeypatch):
    AudioClip([0.5], 16_000).save(tmp_path / "clip.wav")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert AudioClip.load("~/clip.wav").duration == AudioClip.load(tmp_path / "clip.wav").duration

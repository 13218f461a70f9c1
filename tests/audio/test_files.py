import numpy as np
import pytest
import soundfile

from mechaudio.audio.files import read_sound

RATE = 16_000


def write(path, seconds: float = 3.0):
    """Noise, which no format can make small: every file has several kilobytes a second."""
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, round(RATE * seconds)), RATE)
    return path


def shorten(path, share: float):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_missing_file_is_named_with_the_folder_that_was_looked_in():
    with pytest.raises(FileNotFoundError, match=r"there is no file 'sounds/missing\.wav' \(looked from '/"):
        read_sound("sounds/missing.wav")


def test_a_folder_is_not_a_sound_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: give one sound file"):
        read_sound(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.wav' is empty, 0 bytes"):
        read_sound(tmp_path / "empty.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_file_that_is_not_audio_is_refused_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"page.{suffix}"
    path.write_text("<html>404 not found</html>" * 50)
    with pytest.raises(
        ValueError,
        match=rf"page\.{suffix}' (cannot be read as wav, .+ audio \(.+\)|holds no .+): the file is damaged, or not",
    ):
        read_sound(path)


def test_another_sound_format_is_read_as_wav_is(tmp_path):
    samples, rate = read_sound(write(tmp_path / "sound.aiff"))
    wav, _ = read_sound(write(tmp_path / "sound.wav"))
    assert rate == RATE
    np.testing.assert_array_equal(samples, wav)


def test_a_file_of_zero_seconds_is_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    with pytest.raises(ValueError, match=r"none\.wav' holds no samples: 0 seconds of sound at 16000 Hz"):
        read_sound(tmp_path / "none.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("share", [0.98, 0.6, 0.3, 0.003])
def test_a_truncated_file_is_refused_rather_than_read_as_a_shorter_one(tmp_path, suffix, share, capfd):
    path = shorten(write(tmp_path / f"part.{suffix}"), share)
    with pytest.raises(ValueError, match=rf"part\.{suffix}' .*(truncated or damaged|damaged, or not audio)"):
        read_sound(path)


def test_a_truncated_wav_is_refused_with_the_bytes_that_are_missing(tmp_path):
    path = shorten(write(tmp_path / "part.wav", 1.0), 0.5)
    with pytest.raises(
        ValueError, match=r"promises 32000 bytes of samples and has 15978, and 0\.50 s can be read; it is truncated"
    ):
        read_sound(path)


def test_a_wav_with_other_chunks_before_and_after_the_samples_is_whole(tmp_path):
    sound = write(tmp_path / "plain.wav", 1.0).read_bytes()
    note = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"  # a chunk of odd length is padded
    padded = sound[:36] + note + sound[36:] + note
    (tmp_path / "notes.wav").write_bytes(padded[:4] + (len(padded) - 8).to_bytes(4, "little") + padded[8:])
    samples, rate = read_sound(tmp_path / "notes.wav")
    assert (samples.shape, rate) == ((RATE,), RATE)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_written_into_a_pipe_does_not_know_its_size_and_is_whole(tmp_path, size):
    sound = bytearray(write(tmp_path / "pipe.wav", 1.0).read_bytes())
    sound[40:44] = size.to_bytes(4, "little")
    (tmp_path / "pipe.wav").write_bytes(sound)
    assert read_sound(tmp_path / "pipe.wav")[0].shape == (RATE,)


def test_a_flac_that_does_not_say_how_long_it_is_is_read_to_its_end(tmp_path):
    sound = bytearray(write(tmp_path / "pipe.flac").read_bytes())
    sound[21] &= 0xF0  # the number of samples: the last 36 bits of the stream's header before its digest
    sound[22:26] = bytes(4)
    (tmp_path / "pipe.flac").write_bytes(sound)
    np.testing.assert_array_equal(read_sound(tmp_path / "pipe.flac")[0], read_sound(write(tmp_path / "whole.flac"))[0])


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
def test_a_file_with_a_hole_in_it_is_refused(tmp_path, suffix, capfd):
    path = write(tmp_path / f"hole.{suffix}", 10.0)
    sound = bytearray(path.read_bytes())
    sound[len(sound) // 2 : len(sound) // 2 + 2_000] = bytes(2_000)
    path.write_bytes(sound)
    with pytest.raises(ValueError, match=rf"hole\.{suffix}' .*(truncated or damaged|damaged, or not audio)"):
        read_sound(path)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_kind_of_wav_has_full_scale_at_one(tmp_path, subtype):
    wave = 0.5 * np.sin(np.arange(RATE) / 10)
    soundfile.write(tmp_path / "kind.wav", wave, RATE, subtype=subtype)
    samples, _ = read_sound(tmp_path / "kind.wav")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, wave, atol=0.02)


def test_opus_in_an_ogg_file_is_read(tmp_path):
    soundfile.write(tmp_path / "opus.ogg", np.zeros(48_000), 48_000, format="OGG", subtype="OPUS")
    samples, rate = read_sound(tmp_path / "opus.ogg")
    assert (samples.shape, rate) == ((48_000,), 48_000)

"""Sound is read to its end or refused, in whatever form it is given, and what looks wrong is warned of."""

import io
import os
import wave
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile

import mechaudio as ma
from mechaudio.audio.stored import duration_of

RATE = 44_100
SECONDS = 4.0
NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, RATE)
SOUND = np.r_[NOISE, 1e-3 * np.sin(np.arange(round(RATE * (SECONDS - 1))) / 20)].astype(np.float32)
"""Loud, then soft: a variable bit rate starts high, so that an estimate by the first frames is far too short."""
KINDS = [
    ("sound.m4a", "aac"),
    ("sound.mp4", "aac"),
    ("sound.aac", "aac"),
    ("sound.3gp", "aac"),
    ("sound.mkv", "aac"),
    ("sound.mov", "alac"),
    ("sound.webm", "libopus"),
    ("sound.opus", "libopus"),
    ("sound.mp3", "libmp3lame"),
    ("sound.aiff", "pcm_s16be"),
]


def encode(path, codec, sound=SOUND, rate=RATE, options=None, **codec_options):
    rate = 48_000 if codec == "libopus" else rate
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", options=codec_options)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or 1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def level(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_what_phones_and_the_web_write_is_read_to_its_end(tmp_path, name, codec):
    path = encode(tmp_path / name, codec)
    clip = ma.AudioClip.load(path)
    assert clip.duration == pytest.approx(SECONDS, abs=0.08)
    assert duration_of(path) == pytest.approx(clip.duration, abs=0.08)
    assert level(clip.cut(0.2, 0.8).mono()) == pytest.approx(level(NOISE), rel=0.25)
    assert level(clip.cut(1.5, 3.8).mono()) == pytest.approx(1e-3 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize(("name", "codec"), KINDS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_what_breaks_off_is_refused(tmp_path, name, codec, share):
    path = encode(tmp_path / name, codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=rf"{name}' .*damaged"):
        ma.AudioClip.load(path)


LONG_HEADERS = [
    ("sound.wav", "pcm_s16le", {"rf64": "always"}),
    ("sound.webm", "libopus", {"live": "1"}),
    ("sound.mka", "flac", {}),
    ("sound.oga", "flac", {}),
]


def wrapped_again(path, source):
    """The very packets of one file in another kind of file."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return path


@pytest.mark.parametrize(("name", "codec", "options"), LONG_HEADERS, ids=["rf64", "live webm", "mka", "flac in ogg"])
def test_what_lacks_its_last_or_middle_bytes_is_refused_and_what_is_whole_is_read(tmp_path, name, codec, options):
    if codec == "flac":
        soundfile.write(tmp_path / "sound.flac", SOUND, RATE)
        path = wrapped_again(tmp_path / name, tmp_path / "sound.flac")
    else:
        path = encode(tmp_path / name, codec, options=options)
    assert ma.AudioClip.load(path).duration == pytest.approx(SECONDS, abs=0.08)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for left in (whole[:-100], whole[: middle + 7], whole[:middle] + whole[middle + len(whole) // 8 :]):
        path.write_bytes(left)
        with pytest.raises(ValueError, match=rf"{name}' .*damaged"):
            ma.AudioClip.load(path)


@pytest.mark.parametrize("options", [{"q": "2"}, {"b": "64k"}], ids=["variable", "constant"])
@pytest.mark.parametrize("tagged", [False, True], ids=["bare", "with cover art"])
def test_an_mp3_that_does_not_count_its_frames_is_as_long_as_its_frames(tmp_path, options, tagged):
    path = encode(tmp_path / "a.mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}, **options)
    cover = b"ID3\3\0\0\0\0\x75\x30" + bytes(0x75 * 128 + 0x30)
    path.write_bytes(cover * tagged + path.read_bytes() + (b"TAG" + bytes(125)) * tagged)
    assert ma.AudioClip.load(path).duration == pytest.approx(SECONDS, abs=0.08)
    assert duration_of(path) == pytest.approx(ma.AudioClip.load(path).duration)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="before a frame that is cut off"):
        ma.AudioClip.load(path)


@pytest.mark.parametrize("name", ["a.ogg", "a.flac"])
def test_streams_that_follow_one_another_in_a_file_are_all_read(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, SOUND, RATE)
    path.write_bytes(path.read_bytes() * 2)
    assert ma.AudioClip.load(path).duration == pytest.approx(2 * SECONDS, abs=0.05)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.aiff", "pcm_s16be"), ("a.caf", "alac"), ("a.m4a", "aac"), ("a.mov", "alac")],
)
def test_a_recording_behind_another_is_not_left_out(tmp_path, name, codec):
    path = encode(tmp_path / name, codec)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match=rf"{name}' holds a second recording .* as files do that were put behind"):
        ma.AudioClip.load(path)


def test_samples_behind_a_length_that_was_never_written_are_no_chunk_of_a_wav(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    path = tmp_path / "a.wav"
    path.write_bytes(path.read_bytes() + b"mnopqrst" * 9_000)  # samples that read as a chunk's name
    with pytest.raises(ValueError, match=r"a\.wav' lacks \d+ bytes of its last part"):
        ma.AudioClip.load(path)


@pytest.mark.parametrize("name", ["a.mkv", "a.flac"])
def test_the_length_of_streams_that_follow_one_another_is_that_of_all(tmp_path, name):
    path = encode(tmp_path / name, name[2:].replace("mkv", "aac"))
    whole = path.read_bytes()
    path.write_bytes(whole * 2)
    assert duration_of(path) == pytest.approx(ma.AudioClip.load(path).duration, abs=0.1)
    assert duration_of(path) == pytest.approx(2 * SECONDS, abs=0.1)
    path.write_bytes(whole[: len(whole) // 2] + whole)
    with pytest.raises(ValueError, match="damaged"):
        ma.AudioClip.load(path)


def test_a_third_recording_of_which_decoders_read_nothing_is_not_left_out(tmp_path):
    path = encode(tmp_path / "a.mkv", "aac")
    path.write_bytes(path.read_bytes() * 3)
    with pytest.raises(ValueError, match=r"holds a third recording before byte .* and decoders read two"):
        ma.AudioClip.load(path)


@pytest.mark.parametrize("codec", ["aac", "mp3"])
def test_sound_that_goes_on_at_another_rate_is_not_played_at_the_first(tmp_path, codec):
    path, other = tmp_path / f"a.{codec}", tmp_path / f"b.{codec}"
    options = {"write_xing": "0", "id3v2_version": "0"} if codec == "mp3" else {}
    for file, rate in ((path, RATE), (other, 22_050)):
        encode(file, {"mp3": "libmp3lame"}.get(codec, codec), rate=rate, options=options)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    with pytest.raises(ValueError, match="before it goes from 44100 Hz and 1 channel to 22050 Hz and 1 channel"):
        ma.AudioClip.load(path)


def test_a_film_whose_pictures_go_on_for_longer_has_all_of_its_sound(tmp_path):
    with av.open(str(tmp_path / "film.mkv"), "w") as film, av.open(str(encode(tmp_path / "a.aac", "aac"))) as sound:
        pictures = film.add_stream("mpeg4", rate=5)
        pictures.width = pictures.height = 16
        kept = film.add_stream_from_template(sound.streams.audio[0])
        for _ in range(40):
            film.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        film.mux(pictures.encode(None))
        for packet in sound.demux(sound.streams.audio[0]):
            if packet.size:
                packet.stream = kept
                film.mux(packet)
    assert ma.AudioClip.load(tmp_path / "film.mkv").duration == pytest.approx(SECONDS, abs=0.1)
    assert duration_of(tmp_path / "film.mkv") == pytest.approx(SECONDS, abs=0.1)


def test_a_wav_whose_recorder_never_wrote_the_length_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", SOUND, RATE)
    sound = bytearray((tmp_path / "a.wav").read_bytes())
    sound[40:44] = (RATE * 2).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(sound)
    with pytest.raises(
        ValueError, match=r"holds, behind its sound, 264600 bytes of something else, .* and 1\.00 s can be read"
    ):
        ma.AudioClip.load(tmp_path / "a.wav")


def test_a_playlist_does_not_open_the_files_that_it_names(tmp_path):
    encode(tmp_path / "secret.m4a", "aac")
    (tmp_path / "list.mp3").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nsecret.m4a\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match="damaged, or not audio"):
        ma.AudioClip.load(tmp_path / "list.mp3")


def test_of_two_tracks_the_first_is_read_with_a_warning(tmp_path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for stream, gain in zip(streams, (0.5, 0.1), strict=True):
            samples = np.linspace(0, gain * 32_767, RATE).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], layout="mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
    with pytest.warns(UserWarning, match=r"two\.mkv' (holds 2 tracks of sound; the first is read)"):
        clip = ma.AudioClip.load(tmp_path / "two.mkv")
    assert clip.waveform.max() == pytest.approx(0.5, abs=1e-3)


def test_a_missing_decoder_is_said_with_the_remedy(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.m4a", "aac")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(
        ValueError, match=r"a\.m4a' is read with PyAV, which is not installed: pip install av, or convert"
    ):
        ma.AudioClip.load(path)


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(ValueError, match="is a pipe or a device, not a file: write the sound to a file"):
            ma.AudioClip.load(path)
        with pytest.raises(ValueError, match="is a pipe or a device"):
            duration_of(path)


def test_samples_without_a_header_are_no_file_that_can_be_read(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(32_000))
    with pytest.raises(ValueError, match=r"a\.raw' .*not audio"):
        ma.AudioClip.load(tmp_path / "a.raw")


SHORT = np.linspace(-0.5, 0.5, 1_600, dtype=np.float32)


def as_wav(samples=SHORT, rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def decoder(samples):
    return SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=samples[None], sample_rate=16_000))


@pytest.mark.parametrize(
    "form",
    [
        lambda: (SHORT, 16_000),
        lambda: (list(map(float, SHORT)), 16_000.0),
        lambda: {"array": SHORT, "sampling_rate": 16_000},
        lambda: {"array": SHORT.tolist(), "sampling_rate": 16_000.0, "path": None},
        lambda: {"bytes": as_wav(), "path": "a.wav"},
        lambda: as_wav(),
        lambda: bytearray(as_wav()),
        lambda: io.BytesIO(as_wav()),
        lambda: decoder(SHORT),
        lambda: ma.AudioClip(SHORT, 16_000),
    ],
)
def test_a_recording_is_taken_in_any_form_wherever_a_recording_is_taken(form):
    question = ma.AudioQuestion(form(), "What?", ("dog", "cat"))
    for clip in (ma.AudioClip.load(form()), question.clip()):
        np.testing.assert_array_equal(clip.waveform.ravel(), SHORT)
        assert clip.sample_rate == 16_000


def test_every_float_tensor_is_taken_with_a_gradient_or_in_half_precision():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(SHORT)
    np.testing.assert_array_equal(ma.AudioClip(tensor.clone().requires_grad_(), 16_000).waveform, SHORT)
    half = tensor.to(torch.bfloat16)
    np.testing.assert_array_equal(ma.AudioClip.load((half, 16_000)).waveform, half.float().numpy())
    with pytest.raises(TypeError, match="got int16: convert it first, waveform / 32768"):
        ma.AudioClip(torch.zeros(9, dtype=torch.int16), 16_000)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (SHORT, r"got a ndarray of shape \(1600,\), whose rate is not said. For samples write AudioClip\(samples, "),
        (5, "a recording is a path, an AudioClip, .* got a int"),
        (None, "got a NoneType"),
        ({"array": SHORT}, "'array' and 'sampling_rate', or 'bytes', or a 'path'; got one with 'array'"),
        ({}, "got one with nothing"),
        (io.StringIO("text"), "is open for reading text: open it for reading bytes"),
        ((SHORT, "16000"), "a recording is a path"),
        ((SHORT, 16_000.5), "sample_rate is a whole number of samples per second, such as 16000; got 16000.5"),
        ((SHORT.astype(np.int16), 16_000), "got int16: convert it first"),
        (([[0.1, 0.2], [0.3]], 16_000), "all channels as long"),
        ((np.ma.masked_less(SHORT, 0), 16_000), "some of these are masked"),
        ((SHORT, 7), "between 1000 and 768000, such as 16000; got 7"),
        (b"", "is empty, 0 bytes"),
    ],
)
def test_what_is_no_recording_is_refused_with_what_is_one(sound, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ma.AudioClip.load(sound)


def test_floats_at_the_scale_of_whole_numbers_are_warned_of():
    with pytest.warns(UserWarning, match="the waveform has a peak of 16383.5, and full scale is 1.0: divide"):
        ma.AudioClip(SHORT * 32_767, 16_000)
    with pytest.raises(ValueError, match=r"has a peak of 1e\+30, and full scale is 1.0: these are no samples of sound"):
        ma.AudioClip.load(io.BytesIO(as_wav(np.full(9, 1e30))))


def test_channels_that_cancel_are_warned_of_and_different_ones_are_not():
    with pytest.warns(UserWarning, match="the 2 channels of the clip cancel one another.*Give one channel"):
        assert not ma.AudioClip(np.stack([SHORT, -SHORT]), 16_000).mono().any()
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 1_600))
    assert ma.AudioClip(noise, 16_000).mono(8_000).any()
    assert ma.AudioClip(np.stack([SHORT, np.zeros(1_600), np.zeros(1_600)]), 16_000).mono().any()


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_recording_of_one_value_is_warned_of(tmp_path, value):
    with wave.open(str(tmp_path / "flat.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.full(1_600, value * 32_768, np.int16).tobytes())
    with pytest.warns(UserWarning, match=rf"flat\.wav' is silent: all of its 0\.10 s hold the value {value:g}"):
        ma.AudioClip.load(tmp_path / "flat.wav")


def test_an_open_file_that_cannot_give_its_sound_is_said_to_be_read_or_closed(tmp_path):
    file = io.BytesIO(as_wav())
    file.read()
    for position, how_far in ((None, "to its end"), (4, "up to byte 4")):
        file.seek(len(file.getvalue()) if position is None else position)
        with pytest.raises(ValueError, match=rf"was read {how_far} before: .*seek\(0\)"):
            ma.AudioClip.load(file)
    file.close()
    with pytest.raises(ValueError, match="is closed: give it while it is open, or its path"):
        ma.AudioClip.load(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("https://example.com/a.wav", "addresses are not opened: download it first"), ("a" * 5_000, "there is no file")],
)
def test_an_address_and_a_name_that_no_file_has_are_no_files(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        ma.AudioClip.load(name)

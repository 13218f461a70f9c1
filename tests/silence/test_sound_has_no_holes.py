"""Sound is whole: what is damaged in its middle is refused, whatever its container, and odd levels are warned of."""

import numpy as np
import pytest
import soundfile

import mechaudio as ma
from mechaudio.audio.containers import ogg_damage
from tests.silence.test_sound_is_whole import RATE, SECONDS, SOUND, encode

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
#: Name, codec and options of files with a place of their own for every piece of sound.
CONTAINERS = [
    ("sound.ogg", "libvorbis", {}),
    ("sound.opus", "libopus", {}),
    ("sound.webm", "libopus", {"live": "1"}),
    ("sound.mp4", "aac", FRAGMENTS),
    ("sound.mp3", "libmp3lame", {"write_xing": "0"}),
    ("sound.mp2", "mp2", {}),
]
ids = [name for name, _, _ in CONTAINERS]


@pytest.fixture(params=CONTAINERS, ids=ids)
def path(request, tmp_path):
    name, codec, options = request.param
    if codec == "libvorbis":
        soundfile.write(tmp_path / name, SOUND, RATE)
        return tmp_path / name
    return encode(tmp_path / name, codec, options=options)


def refused(path):
    with pytest.raises(ValueError, match=rf"{path.name}' .*damaged"):
        ma.AudioClip.load(path)


def test_a_file_without_a_hole_is_read_to_its_end(path):
    assert ma.AudioClip.load(path).duration == pytest.approx(SECONDS, abs=0.08)


def test_bytes_that_are_missing_in_the_middle_are_not_skipped(path):
    whole = path.read_bytes()
    for start, n_bytes in ((0.3, 977), (0.5, 3001), (0.7, 1500)):
        at = int(len(whole) * start)
        path.write_bytes(whole[:at] + whole[at + n_bytes :])
        refused(path)


def test_zeros_where_something_was_not_written_are_not_skipped(path):
    whole = path.read_bytes()
    for at in (len(whole) // 3, len(whole) - 3000):
        path.write_bytes(whole[:at] + bytes(3000) + whole[at + 3000 :])
        refused(path)


def test_what_breaks_off_within_a_frame_is_refused(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 7])
    refused(path)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_one_bit_of_an_ogg_file_that_flips_is_noticed(tmp_path, name):
    path = tmp_path / name
    if name == "a.opus":
        encode(path, "libopus")
    else:
        soundfile.write(path, SOUND, RATE)
    whole = path.read_bytes()
    for at in range(200, len(whole), len(whole) // 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        refused(path)


def test_a_page_too_few_and_a_page_twice_are_said_with_their_place(tmp_path):
    soundfile.write(tmp_path / "a.ogg", np.tile(SOUND, 3), RATE)
    whole = (tmp_path / "a.ogg").read_bytes()
    starts = [at for at in range(len(whole)) if whole.startswith(b"OggS", at)]
    first, second = starts[3:5]
    for changed, at in ((whole[:first] + whole[second:], first), (whole[:second] + whole[first:], second)):
        (tmp_path / "b.ogg").write_bytes(changed)
        with (tmp_path / "b.ogg").open("rb") as file:
            assert ogg_damage(file) == f"lacks pages before byte {at}"
    with (tmp_path / "a.ogg").open("rb") as file:
        assert not ogg_damage(file)


def test_a_recording_that_paused_is_not_heard_too_early(tmp_path):
    # What a browser writes while nothing arrives: packets that say when they are, and none for a second.
    import av

    whole = encode(tmp_path / "whole.webm", "libopus")
    with av.open(str(whole)) as given, av.open(str(tmp_path / "a.webm"), "w", options={"live": "1"}) as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.size and not 1 <= packet.pts * packet.time_base < 2:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(ValueError, match=r"has no sound for 1\.0\d s behind 1\.0\d s"):
        ma.AudioClip.load(tmp_path / "a.webm")


@pytest.mark.parametrize("tag", [b"TAG" + bytes(125), b"APETAGEX" + bytes(300), bytes(64)], ids=["id3", "ape", "zeros"])
def test_what_is_written_behind_the_last_frame_of_an_mp3_is_no_damage(tmp_path, tag):
    path = encode(tmp_path / "a.mp3", "libmp3lame", options={"write_xing": "0"})
    path.write_bytes(path.read_bytes() + tag)
    assert ma.AudioClip.load(path).duration == pytest.approx(SECONDS, abs=0.08)


def test_a_decoder_that_cannot_go_where_a_file_says_prints_no_traceback(tmp_path, capfd):
    path = encode(tmp_path / "a.caf", "pcm_s16be")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    refused(path)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_samples_that_were_divided_twice_or_have_no_sign_are_warned_of():
    with pytest.warns(
        UserWarning, match=r"peak of .*less than the smallest step of 16 bits .*divided by full scale twi"
    ):
        ma.AudioClip(SOUND / 32_768, RATE)
    with pytest.warns(UserWarning, match=r"never below 0: of unsigned whole numbers subtract the middle"):
        ma.AudioClip((SOUND + 1) / 2, RATE)
    soft = np.r_[SOUND, SOUND / 50_000]
    assert ma.AudioClip(soft, RATE).cut(SECONDS, 2 * SECONDS).duration == pytest.approx(SECONDS)

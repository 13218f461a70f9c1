import base64
import hashlib
import io
import json
import wave

import numpy as np

from mechaudio.audio.player import wav_data_uri
from mechaudio.report.rendering import policy, script_json


def test_json_for_a_script_means_the_same_and_holds_no_markup():
    value = {"</script>": "<!-- a & b \u2028 -->"}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text)


def test_sound_survives_its_data_address():
    samples = np.array([0, 1, -1, 32767, -32768], dtype=np.int16)
    head, _, body = wav_data_uri(samples, 16_000).partition(",")
    assert head == "data:audio/wav;base64"
    with wave.open(io.BytesIO(base64.b64decode(body))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert np.array_equal(np.frombuffer(file.readframes(5), dtype="<i2"), samples)


def test_only_scripts_with_a_known_hash_may_run():
    digest = base64.b64encode(hashlib.sha256(b"f()").digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy("f()")

import base64
import hashlib
import io
import json
import wave

import numpy as np
import plotly.graph_objects as go

from mechaudio.audio.player import wav_data_uri
from mechaudio.report import write_figures
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


def test_what_was_killed_while_it_wrote_a_page_or_the_library_of_its_figures_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr("mechaudio.report.figures.browser", lambda: None)
    figures = {"line": go.Figure(go.Scatter(y=[1, 2]), {"height": 200})}
    write_figures(figures, tmp_path)
    library = tmp_path / "plotly.min.js"
    whole = library.read_text(encoding="utf-8")
    library.write_text(whole[: 4 << 20], encoding="utf-8")
    (tmp_path / ".plotly.min.js.abc.part").touch()
    (tmp_path / ".plotly.min.js.part").touch()  # another's
    write_figures(figures, tmp_path)
    assert library.read_text(encoding="utf-8") == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == [".plotly.min.js.part", "line.html", "plotly.min.js"]

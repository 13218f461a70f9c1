"""Parts that a page carries inside itself: scripts, data for them, sound.

A page asks nothing of any server. It says so itself in a content security policy, which lets only the two scripts run
that were written into it, known by their hashes: text from outside that slipped through as markup could still not
run.
"""

import base64
import hashlib
import io
import json
import wave
from typing import Any

import numpy as np
from jaxtyping import Int16
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """JSON that can stand inside a `<script>` element: no `<`, `>`, `&` or line separator is left in it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Markup(text.translate(_ESCAPES))


def wav_data_uri(samples: Int16[np.ndarray, " samples"], sample_rate: int) -> str:
    """Mono 16-bit sound as a `data:` address for an `<audio>` element."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def plotly_script() -> Markup:
    """The whole of plotly.js, as the installed plotly ships it."""
    return Markup(get_plotlyjs())


def policy(*scripts: str) -> str:
    """The content security policy of a page that runs these inline scripts and loads nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"

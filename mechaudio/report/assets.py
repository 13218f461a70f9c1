"""Parts that a page carries inside itself: scripts, data for them, sound.

A page asks nothing of any server. It says so itself in a content security policy, which lets only the two scripts run
that were written into it, known by their hashes: text from outside that slipped through as markup could still not
run.
"""

import base64
import hashlib
import json
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """JSON that can stand inside a `<script>` element: no `<`, `>`, `&` or line separator is left in it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Markup(text.translate(_ESCAPES))


def plotly_script() -> Markup:
    """The whole of plotly.js, as the installed plotly ships it."""
    return Markup(get_plotlyjs())


def policy(*scripts: str) -> str:
    """The content security policy of a page that runs these inline scripts and loads nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"

"""A template filled in and written as one file, with every script and style inside it.

A page asks nothing of any server. It says so itself in a content security policy, which lets only the scripts run that
were written into it, known by their hashes: text from outside that slipped through as markup could still not run.
"""

import base64
import glob
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from mechaudio.writing import in_order, made_folder

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_CODE = re.compile("`([^`]+)`")
_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    finalize=lambda value: in_order(value) if type(value) is str else value,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def prose(text: str) -> Markup:
    """Mark up a text for a page: code between backticks in its letters."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(in_order(text)))))  # escaped in this line


_ENVIRONMENT.filters["prose"] = prose


def script_json(value: Any) -> Markup:
    """JSON that can stand inside a `<script>` element: no `<`, `>`, `&` or line separator is left in it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Markup(text.translate(_ESCAPES))


def policy(*scripts: str) -> str:
    """The content security policy of a page that runs these inline scripts and loads nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"


def write_html(
    template: str, path: str | os.PathLike, *, module: str = "", extra_style: str = "", **context: Any
) -> Path:
    """Fill in a template and write it; the file appears whole or not at all.

    Args:
        template: The name of a file in `templates`.
        path: Path of the file; its folder is made.
        module: A script of its own, a JavaScript module.
        extra_style: Style beside that of every page.
        **context: What the template shows, beside its scripts, style and policy.

    Returns:
        The path.

    Raises:
        OSError: Where the file cannot be written.
    """
    page_script = Markup((_TEMPLATES / "page.js").read_text(encoding="utf-8"))
    plotly, module = Markup(get_plotlyjs()), Markup(module)
    text = _ENVIRONMENT.get_template(template).render(
        **context,
        plotly=plotly,
        script=page_script,
        module=module,
        style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8") + extra_style),
        policy=Markup(policy(plotly, page_script, *([module] if module else []))),
    )
    return write_whole(Path(path), text)


def _umask() -> int:
    """The permissions that this process withholds from new files; they can only be read by setting them."""
    withheld = os.umask(0o077)
    os.umask(withheld)
    return withheld


def write_whole(path: Path, text: str) -> Path:
    """Write a file that appears whole or not at all; what one that was killed here left behind is removed."""
    made_folder(path.parent, "a page")
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        leftover.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        # A name of a file may hold bytes that are no text.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:  # Ctrl-C among them
        Path(name).unlink(missing_ok=True)
        raise
    return path

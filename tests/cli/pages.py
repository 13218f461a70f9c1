"""Pages of studies, read as a person would."""

import contextlib
import io
import json
import re
from html import unescape
from pathlib import Path

import pytest

from mechaudio.cli import main
from mechaudio.report import figures
from mechaudio.results import Result


def command_on(page: str) -> str:
    """The command that a page says it was made by; each of its words is an element."""
    (marked,) = re.findall(r"<dt>command</dt><dd><code>(.*?)</code>", page)
    return unescape(re.sub(r"</?span>", "", marked)).strip()


def made_in(folder: Path, words: list[str]) -> Path:
    """A folder with what the command of a study leaves there, and what it says as JSON."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(figures, "browser", lambda: None)
        assert main([*words, "--json", "--out", str(folder)]) == 0
    (folder / "said.json").write_text(said.getvalue(), encoding="utf-8")
    return folder


def assert_json_has_the_tables(folder: Path) -> None:
    """A study says as JSON the tables that it writes."""
    said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    assert said["tables"]
    for name, rows in said["tables"].items():
        assert rows == json.loads((folder / "tables" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    assert said["rows"]
    assert Result.load(said["results"]).provenance.checkpoint == said["provenance"]["checkpoint"] == "toy"

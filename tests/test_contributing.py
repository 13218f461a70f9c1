"""The page on contributing, carried out in a copy of the project: its files, its lines, and what comes of them."""

import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.anew import anew
from tests.snippets import REPOSITORY

PAGE = (REPOSITORY / "docs/contributing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
TRIED = [code for _, title, code in BLOCK.findall(PAGE) if title == "try it"]
PRINTED = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

MAKES_PAGES = """
import runpy

pages = runpy.run_path("docs/generate.py")["PAGES"]
for name in ("command_line.md", "reference/names.md"):
    Path("docs", name).write_text(pages[name](), encoding="utf-8")
"""


def patched(text: str, diff: str) -> str:
    """A file with the lines of a diff: other lines are looked up in order, `…` stands for the rest of one."""
    lines, at = text.splitlines(), 0
    for line in diff.splitlines():
        kind, words = line[:1], line[1:]
        if kind == "+":
            lines.insert(at, words)
            at += 1
            continue
        start = words.removesuffix("…")
        matches = [i for i in range(at, len(lines)) if lines[i] == words or (start != words and start in lines[i])]
        assert matches, f"{words!r} is not there, or not behind what is shown before it"
        at = matches[0] + (kind == " ")
        if kind == "-":
            del lines[matches[0]]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with all that the page adds."""
    folder = tmp_path_factory.mktemp("project")
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / file, folder)
    for room in ("mechaudio", "docs", "recipes"):
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("notebooks"))
    for kind, title, code in BLOCK.findall(PAGE):
        path = folder / title
        if kind == "diff":
            path.write_text(patched(path.read_text(encoding="utf-8"), code), encoding="utf-8")
        elif title != "try it":
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
    return folder


def test_one_more_of_anything_touches_three_files_at_most():
    assert len(SECTIONS) == 5
    for section in SECTIONS:
        assert 2 <= len({title for _, title, _ in BLOCK.findall(section)} - {"try it"}) <= 3, section.splitlines()[0]


def printed(folder: Path, script: str) -> str:
    """Run a script in this copy of the project, and return what it prints."""
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    with redirect_stdout(io.StringIO()) as out:
        runpy.run_path(script, run_name="__main__")
    return out.getvalue()


@pytest.fixture(scope="module")
def tried(project):
    """Try all that is added, write the pages that tell of it, and return what is printed."""
    (project / "tried.py").write_text("\n".join([*TRIED, MAKES_PAGES]), encoding="utf-8")
    return anew(printed, project, "tried.py")


@pytest.mark.whole
def test_what_is_added_does_what_the_page_says(tried):
    assert tried == "".join(PRINTED)


@pytest.mark.whole
@pytest.mark.usefixtures("tried")
def test_the_pages_that_are_made_tell_of_it(project):
    verbs = (project / "docs/command_line.md").read_text(encoding="utf-8")
    assert "## quieter" in verbs
    assert "## length" in verbs
    assert "`temporal`, `specialists`, `mata`, `patch` and `quieter`) leave a folder" in verbs
    assert "ftar, bird_questions, from the hub" in verbs
    names = (project / "docs/reference/names.md").read_text(encoding="utf-8")
    assert "| `ma.CapAttention` | `mechaudio.interventions.soft_cap` |" in names
    assert "`attention_entropy`" in names


def test_what_is_added_is_laid_out_as_the_rest(project):
    shutil.copy(REPOSITORY / "pyproject.toml", project)
    added = [title for kind, title, _ in BLOCK.findall(PAGE) if title.endswith(".py")]
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, *added]
        ruff = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert ruff.returncode == 0, ruff.stdout

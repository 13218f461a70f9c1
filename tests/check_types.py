"""Check types with pyright: of the pages' code nothing may be reported, of the package no more than is known.

`python tests/check_types.py` from the root of a clone.
"""

import json
import subprocess
import sys
from pathlib import Path

from snippets import REPOSITORY, snippets

KNOWN = 277
"""Errors in `mechaudio/` that are not mended yet. The number may only fall."""

PAGES = REPOSITORY / "build" / "types"


def write_pages() -> None:
    """Write the code of every page to a file of its own, as the tests run it."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for old in PAGES.glob("*.py"):
        old.unlink()
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))):
        name = "_".join(page.relative_to(REPOSITORY).with_suffix(".py").parts)
        (PAGES / name).write_text("\n".join(snippets(page)), encoding="utf-8")


def errors() -> list[dict]:
    """What pyright reports of the package and of the pages, with the settings of pyproject.toml."""
    words = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "mechaudio", str(PAGES)]
    told = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if told.returncode not in (0, 1):
        raise SystemExit(f"pyright did not run: {told.stdout}{told.stderr}")
    return [found for found in json.loads(told.stdout)["generalDiagnostics"] if found["severity"] == "error"]


def line_of(error: dict) -> str:
    """An error as file, line and message."""
    path = Path(error["file"]).relative_to(REPOSITORY)
    return f"{path}:{error['range']['start']['line'] + 1}: {error['message']} ({error.get('rule', 'syntax')})"


def main() -> int:
    """Complain of every error in the code of pages, and of more in the package than are known."""
    write_pages()
    reported = errors()
    of_pages = [error for error in reported if PAGES in Path(error["file"]).parents]
    n_of_package = len(reported) - len(of_pages)
    if of_pages or n_of_package > KNOWN:
        sys.stderr.write("\n".join([*map(line_of, of_pages or reported), ""]))
    sys.stderr.write(f"{len(of_pages)} errors in the code of pages, {n_of_package} in mechaudio/ of {KNOWN} known\n")
    if n_of_package < KNOWN:
        sys.stderr.write(f"Fewer than are known: write KNOWN = {n_of_package} in tests/check_types.py\n")
    return int(bool(of_pages) or n_of_package > KNOWN)


if __name__ == "__main__":
    sys.exit(main())

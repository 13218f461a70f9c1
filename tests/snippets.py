"""The python blocks of the README and of the pages."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def snippets(page: str | Path) -> list[str]:
    """The python blocks of a page, in order."""
    return PYTHON.findall((REPOSITORY / page).read_text(encoding="utf-8"))

"""The outcome of a verb, written out for people or, with `--json`, for programs."""

import argparse
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechaudio.provenance import version

if TYPE_CHECKING:
    from mechaudio.report.tables import Table
    from mechaudio.results import Result


@dataclass(frozen=True)
class Outcome:
    """The outcome of a verb.

    Attributes:
        text: For people.
        result: What was found; programs get its table and its provenance.
        rows: For programs, where there is no result.
        tables: Those of a study.
        page: The page that was written.
        numbers: What the rows come to, by name.
        code: The exit code.
    """

    text: str
    result: "Result | None" = None
    rows: Sequence[Mapping[str, Any]] = ()
    tables: Sequence["Table"] = ()
    page: Path | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0

    def to_json(self, arguments: argparse.Namespace) -> str:
        """Write one JSON object, with null for what is not finite or not there.

        Its keys are `verb`, `mechaudio` (the version), those of `numbers`, `rows`, `tables` (by name), `provenance`,
        `page` and `results` (the folder that `ma.Result.load` reads); every verb has them all.
        """
        rows = self.rows if self.result is None else self.result.to_pandas().to_dict("records")
        content = {
            "verb": arguments.verb,
            "mechaudio": version("mechaudio"),
            **self.numbers,
            "rows": rows,
            "tables": {table.name: table.held for table in self.tables},
            "provenance": None if self.result is None else vars(self.result.provenance),
            "page": self.page,
            "results": getattr(arguments, "kept", None),
        }
        return json.dumps(_plain(content), ensure_ascii=False, allow_nan=False)


def fitted(text: str, stream: Any) -> str:
    """A text with its lines as wide as the terminal that it goes to, broken between words; for a file, as it is."""
    if stream is None or not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(_broken(line, width) if len(line) > width else line for line in text.split("\n"))


def tell(message: str) -> None:
    """Tell people something that is no result: on stderr, as wide as it is."""
    print(fitted(message, sys.stderr), file=sys.stderr)


def _broken(line: str, width: int) -> str:
    """One line in several, which are indented as it is and by two more."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no form for, such as an intervention, as it is written in Python."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable):
        return [_plain(entry) for entry in value]
    return repr(value)

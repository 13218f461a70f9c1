"""Tables as JSON, CSV, Markdown and LaTeX.

Conventions: JSON and CSV hold every number as it is, shares from 0 to 1; Markdown, LaTeX and pages show shares in
percent and leave out what only a program wants. What does not exist (a fix rate where no answer was wrong) is null,
blank or a dash.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.notebook import pieces
from mechaudio.showing import Shown
from mechaudio.viz.theme import number
from mechaudio.writing import as_file_name, made_folder, markdown

Cell = str | int | float | tuple[float, float] | None
Kind = Literal["text", "count", "number", "score", "share", "change", "interval", "p"]

_UNITS = {"share": " (%)", "change": " (points)", "interval": " (95%)"}
#: A text that spreadsheets compute; a signed number is none.
_FORMULA = re.compile(r"\s*(?:[=@]|[+-](?![\d.]+\s*\Z))")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "<": "$<$",
        ">": "$>$",
        "|": r"\textbar{}",
    }
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its heading, and its key in JSON.
        kind: `share` and `change` are shown in percent, `score` with three decimals, `p` with two digits, `count` and
            `number` as they are; `interval` is a pair of changes, held in JSON and CSV as `NAME low` and `NAME high`.
        shown: Whether it is part of what people read, or of JSON and CSV alone; `"unless zero"` where a row has
            something else than 0.
    """

    name: str
    kind: Kind = "text"
    shown: bool | Literal["unless zero"] = True

    @property
    def heading(self) -> str:
        """The name with the unit that is shown."""
        return self.name + _UNITS.get(self.kind, "")

    def told(self, cell: Cell) -> str:
        """A cell as people read it."""
        parts = cell if isinstance(cell, tuple) else (cell,)
        if cell is None or any(isinstance(part, float) and math.isnan(part) for part in parts):
            return "–"
        if isinstance(cell, tuple):
            return f"[{number(100 * cell[0], 1, '+')}, {number(100 * cell[1], 1, '+')}]"
        if self.kind == "share":
            return f"{100 * cell:.1f}"
        if self.kind == "change":
            return number(100 * cell, 1, "+")
        if self.kind == "score":
            return f"{cell:.3f}"
        if self.kind == "p":
            return "< 0.0001" if cell < 1e-4 else f"{cell:.2g}"
        return f"{cell:g}" if self.kind == "number" else str(cell)

    def held(self, cell: Cell) -> dict[str, str | int | float | None]:
        """A cell as programs read it, by name; what is not finite is None."""
        if self.kind == "interval":
            ends = (None, None) if cell is None else cell
            return {f"{self.name} low": finite(ends[0]), f"{self.name} high": finite(ends[1])}
        return {self.name: finite(cell)}


def column_list(text: str) -> tuple[Column, ...]:
    """Columns as they are written, `layer: count, p Holm: p, what`: headings with their kinds; text has none.

    Raises:
        ValueError: A kind that there is not.
    """
    columns = []
    for written in text.split(", "):
        name, _, kind = written.partition(": ")
        if kind and kind not in get_args(Kind):
            raise ValueError(f"a column is one of {', '.join(get_args(Kind))}; got {written!r}")
        columns.append(Column(name, cast("Kind", kind or "text")))
    return tuple(columns)


@dataclass(frozen=True)
class Table(Shown):
    """Rows under columns.

    Attributes:
        name: Name of its files.
        title: What it shows.
        note: What its numbers rest on.
        columns: From left to right.
        rows: One cell per column each.

    Raises:
        ValueError: For a name that cannot be a file's, a row with more or fewer cells than there are columns, or two
            columns of one name.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self):
        as_file_name(self.name)
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"table {self.name!r} has two columns of one name: {', '.join(names)}")
        for row in self.rows:
            if len(row) != len(names):
                raise ValueError(
                    f"table {self.name!r} has {n_of(len(names), 'column')}, and a row of {len(row)}: {row}"
                )

    @property
    def shown_columns(self) -> tuple[Column, ...]:
        """The columns that people read."""
        return tuple(column for column, _ in self._shown)

    @property
    def _shown(self) -> tuple[tuple[Column, int], ...]:
        """The columns that people read, with their places."""
        return tuple(
            (column, place)
            for place, column in enumerate(self.columns)
            if (any(row[place] for row in self.rows) if column.shown == "unless zero" else column.shown)
        )

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The cells of these columns as people read them."""
        return tuple(tuple(column.told(row[place]) for column, place in self._shown) for row in self.rows)

    @property
    def held(self) -> tuple[dict[str, str | int | float | None], ...]:
        """The rows as programs read them."""
        return tuple(
            {name: value for column, cell in pairs for name, value in column.held(cell).items()}
            for pairs in (zip(self.columns, row, strict=True) for row in self.rows)
        )

    def _repr_html_(self) -> str:
        """The table as a notebook shows it, its title above and its note below."""
        headings = [column.heading for column in self.shown_columns]
        return pieces.frame(self.title, pieces.table(headings, self.shown), pieces.note(self.note))

    def to_json(self) -> str:
        """One object: name, title, note and a list of rows, each an object with the columns' names as keys."""
        content = {"name": self.name, "title": self.title, "note": self.note, "rows": self.held}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """A heading and a line per row; a text that a spreadsheet would compute stands behind an apostrophe."""
        text = io.StringIO()
        names = [name for column in self.columns for name in column.held(None)]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _in_spreadsheets(cell) for name, cell in row.items()} for row in self.held)
        return text.getvalue()

    def to_markdown(self) -> str:
        """A heading, a pipe table and the note."""
        lines = [[column.heading for column in self.shown_columns], *self.shown]
        head, *body = ["| " + " | ".join(markdown(cell) for cell in line) + " |" for line in lines]
        rule = "|" + "|".join("---" if column.kind == "text" else "---:" for column in self.shown_columns) + "|"
        return "\n".join([f"## {markdown(self.title)}", "", head, rule, *body, "", markdown(self.note), ""])

    def to_latex(self) -> str:
        """A `table` with booktabs' rules."""
        layout = "".join("l" if column.kind == "text" else "r" for column in self.shown_columns)
        lines = [[column.heading for column in self.shown_columns], *self.shown]
        head, *body = [_latex_row(line) for line in lines]
        return "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                r"\begin{table}",
                r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
                rf"\caption{{{latex(self.title)}. {latex(self.note)}}}",
                rf"\label{{tab:{re.sub(r'[^A-Za-z0-9:._-]', '-', self.name)}}}",
                rf"\begin{{tabular}}{{{layout}}}",
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def latex(text: str) -> str:
    """A text that LaTeX shows as it is, in one line."""
    apart = re.sub(r"([-`'])(?=\1)", "\\1\ue000", text)  # or two make a dash or a quotation mark
    return " ".join(apart.translate(_LATEX).replace("\ue000", "{}").split())


@checks_arguments
def write_tables(tables: Sequence[Table], folder: str | os.PathLike) -> Path:
    """Write every table four times: `NAME.json`, `NAME.csv`, `NAME.md`, `NAME.tex`.

    Returns:
        The folder, which is made.

    Raises:
        OSError: Where a file cannot be written.
    """
    folder = made_folder(folder, "a table")
    for table in tables:
        written = {"json": table.to_json(), "csv": table.to_csv(), "md": table.to_markdown(), "tex": table.to_latex()}
        for ending, text in written.items():
            (folder / f"{table.name}.{ending}").write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder


def _latex_row(cells: Sequence[str]) -> str:
    """A row of a table; braces keep what it begins with from being read as an option of what stands before it."""
    row = " & ".join(latex(cell) for cell in cells)
    return ("{}" if row.startswith(("[", "*")) else "") + row + r" \\"


def _in_spreadsheets(cell: Any) -> Any:
    """A cell as spreadsheets show it, which run a text of somebody else's that looks like a formula."""
    if not isinstance(cell, str):
        return cell
    words = " ".join(cell.splitlines())  # a carriage return that is not quoted would end the row
    return f"'{words}" if _FORMULA.match(words) else words


def finite(cell: Any) -> Any:
    """A cell, None in place of a number that is not finite."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell

"""Report on a result, and the one page that shows it: findings, then part by part figures and tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import checks_arguments, names_arguments
from mechaudio.report.facts import facts
from mechaudio.report.panels import Panel, panel
from mechaudio.report.rendering import write_html
from mechaudio.report.tables import Table
from mechaudio.results import Provenance
from mechaudio.showing import Shown
from mechaudio.viz.listening_rows import listening_rows

FOLDED = 20
"""Rows of a table; one with more is behind a fold."""
HOW_ROWS = (
    "Sound goes from the audio to the rows that hear it (above), and these hand on to the last row, where the answer "
    "is read (below). An arrow is as thick as what the right answer loses when one cannot see the other; dotted ones "
    "are not known to carry anything. A ring is around the rows that listen: they hear, and the last row needs them."
)


@dataclass(frozen=True)
class Part(Shown):
    """A part of a page, as it is planned: which tables and figures stand there, if they are made.

    Attributes:
        heading: Heading of the part.
        tables: Names of its tables.
        figures: Name of each of its figures -> how to read it.
    """

    heading: str
    tables: tuple[str, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


LISTENING = Part("Where the model listens", ("where_it_listens",), {"listens": HOW_ROWS})
"""The first part of every study that begins with `listen_first`."""


@dataclass(frozen=True)
class Step:
    """A part of a page with the tables and figures that stand there."""

    heading: str
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Report(Shown):
    """A report on a result, on its page and in files.

    Attributes:
        provenance: Provenance of the result.
        lead: What was studied, in a sentence or two under the title.
        findings: Sentences; intervals in brackets are of 95 %.
        tables: Tables of the result; their names are those of their files.
        figures: Figures of the result, by the name of their files.
        parts: Parts of the page, in order; what they name and there is not is left out, and so is a part of nothing.
        paper: Whose numbers stand in `published`.
        published: Tables of what the paper reports, kept apart from what was computed.

    Raises:
        ValueError: No part has anything to show, or published numbers are of no named paper.
    """

    provenance: Provenance
    lead: str
    findings: Sequence[str]
    tables: Sequence[Table]
    figures: Mapping[str, go.Figure]
    parts: Sequence[Part]
    paper: str | None = None
    published: Sequence[Table] = ()

    def __post_init__(self) -> None:
        """Refuse a page of nothing, and numbers of nobody."""
        there = {table.name for table in self.tables} | set(self.figures)
        if not any(name in there for part in self.parts for name in (*part.tables, *part.figures)):
            raise ValueError("the page of a study needs at least one part with a table or a figure, got none")
        if self.published and not self.paper:
            raise ValueError("published numbers need the name of their paper: give paper=")

    def steps(self) -> tuple[Step, ...]:
        """Set the tables and figures out part by part."""
        tables = {table.name: table for table in self.tables}
        steps = [
            Step(
                part.heading,
                tuple(tables[name] for name in part.tables if name in tables),
                tuple(
                    panel(name, self.figures[name], how) for name, how in part.figures.items() if name in self.figures
                ),
            )
            for part in self.parts
        ]
        return tuple(step for step in steps if step.tables or step.panels)


@names_arguments
@singledispatch
def report_of(result: object, **more: Any) -> Report:  # noqa: ARG001 - of a class that is not known
    """Return what is told of a result: sentences, tables and figures, which `write_study_page` makes a page of.

    A class of one's own is added with `ma.report.report_of.register(MyStudy, my_report)`.

    Args:
        result: What a study, `where_it_listens` or `activation_patching` returned.
        **more: What its class asks for beside it: `questions=` of a map of patching, the clean ones.

    Raises:
        TypeError: Nothing is told of results of this class.
    """
    raise TypeError(
        f"no report is made of a {type(result).__name__}: it is made of studies, WhereItListens and PatchingMap; tell "
        f"ma.report.report_of.register({type(result).__name__}, function) how, or give a Report"
    )


@checks_arguments
def write_study_page(report: Report, path: str | os.PathLike, *, title: str, command: str) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    ```python
    write_study_page(report_of(study), "reports/mata/index.html", title="MATA in tiny", command="mechaudio mata")
    ```

    The file appears whole or not at all.

    Args:
        report: What is told.
        path: Path of the file; its folder is made.
        title: Title of the page.
        command: How to make it again.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
    """
    return write_html(
        "study.html",
        path,
        title=title,
        lead=report.lead,
        findings=report.findings,
        steps=report.steps(),
        folded=FOLDED,
        paper=report.paper,
        published=report.published,
        facts=facts(report.provenance, command),
    )


def first_figure(listens: WhereItListens | None) -> dict[str, go.Figure]:
    """Return the figure of a study's first step, all layers alone; nothing comes of None."""
    return {} if listens is None else {"listens": listening_rows(listens, windows=False)}

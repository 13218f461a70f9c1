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
from mechaudio.audio.player import playable
from mechaudio.audio.stored import opened
from mechaudio.question import Recording
from mechaudio.report.facts import facts
from mechaudio.report.panels import Panel, panel
from mechaudio.report.rendering import write_html
from mechaudio.report.tables import Table
from mechaudio.report.wording import leading
from mechaudio.results import Provenance
from mechaudio.showing import Shown
from mechaudio.viz.listening_rows import listening_rows

FOLDED = 20
"""Rows of a table; one with more is behind a fold."""
MOST_SOUND = 4_000_000
"""Characters of the recordings in the rows of a page's tables, beyond which no other begins."""
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


@dataclass(frozen=True)
class Lead:
    """A picture at the head of a page, with the sentences that stand on it; None where they stand on tables alone."""

    findings: tuple[str, ...]
    panel: Panel | None


@dataclass(frozen=True, kw_only=True)
class Report(Shown):
    """A report on a result, on its page and in files.

    Attributes:
        provenance: Provenance of the result.
        lead: What was studied, in a sentence or two under the title.
        findings: Sentences; intervals in brackets are of 95%. The largest of those that are sure (`Finding`) stand
            first, with the pictures that they stand on.
        tables: Tables of the result; their names are those of their files.
        figures: Figures of the result, by the name of their files.
        parts: Parts of the page, in order; what they name and there is not is left out, and so is a part of nothing.
        paper: Whose numbers stand in `published`.
        published: Tables of what the paper reports, kept apart from what was computed.
        sounds: Recordings that can be played: by the name of the figure that lies over one, or by the first cell of the
            rows that are about one.

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
    sounds: Mapping[str, Recording] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a page of nothing, and numbers of nobody."""
        there = {table.name for table in self.tables} | set(self.figures)
        if not any(name in there for part in self.parts for name in (*part.tables, *part.figures)):
            raise ValueError("the page of a study needs at least one part with a table or a figure, got none")
        if self.published and not self.paper:
            raise ValueError("published numbers need the name of their paper: give paper=")

    def first(self) -> tuple[Lead, ...]:
        """Set out what was found, largest first: each picture once, behind all that stands on it."""
        how = {name: words for part in self.parts for name, words in part.figures.items()}
        by_figure: dict[str, list[str]] = {}
        for finding in leading(self.findings):
            by_figure.setdefault(finding.figure if finding.figure in self.figures else "", []).append(finding)
        return tuple(
            Lead(tuple(said), self._panel(name, how[name]) if name in how else None) for name, said in by_figure.items()
        )

    def others(self) -> tuple[str, ...]:
        """The findings that do not stand first."""
        first = leading(self.findings)
        return tuple(finding for finding in self.findings if finding not in first)

    def steps(self) -> tuple[Step, ...]:
        """Set the tables and figures out part by part; figures that stand first are not drawn again."""
        drawn = {finding.figure for finding in leading(self.findings)}
        tables = {table.name: table for table in self.tables}
        steps = [
            Step(
                part.heading,
                tuple(tables[name] for name in part.tables if name in tables),
                tuple(
                    self._panel(name, how)
                    for name, how in part.figures.items()
                    if name in self.figures and name not in drawn
                ),
            )
            for part in self.parts
        ]
        return tuple(step for step in steps if step.tables or step.panels)

    def _panel(self, name: str, how: str) -> Panel:
        clip = opened(self.sounds[name]) if name in self.sounds else None
        return panel(name, self.figures[name], how, clip=clip)

    def played(self) -> dict[str, str]:
        """Return the recordings of rows as `data:` addresses by their first cells, of as many as `MOST_SOUND` holds."""
        addresses: dict[str, str] = {}
        for name in (row[0] for table in self.tables for row in table.shown if row[0] in self.sounds):
            if sum(map(len, addresses.values())) < MOST_SOUND:
                addresses[name] = playable(opened(self.sounds[name]))[0]
        return addresses


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
        first=report.first(),
        others=report.others(),
        steps=report.steps(),
        folded=FOLDED,
        sounds=report.played(),
        paper=report.paper,
        published=report.published,
        facts=facts(report.provenance, command),
    )


def first_figure(listens: WhereItListens | None) -> dict[str, go.Figure]:
    """Return the figure of a study's first step, all layers alone; nothing comes of None."""
    return {} if listens is None else {"listens": listening_rows(listens, windows=False)}

"""A study as one self-contained page: findings, then step by step figures and tables, and what a paper reports."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.report.facts import facts
from mechaudio.report.panels import Panel, panel
from mechaudio.report.rendering import write_html
from mechaudio.report.tables import Table
from mechaudio.results import Provenance
from mechaudio.showing import Shown


@dataclass(frozen=True)
class Step(Shown):
    """A part of the page: figures, and tables below them.

    Attributes:
        heading: Of the part.
        tables: Shown as they are, those with more rows than `folded` behind a fold.
        panels: Its figures.
        folded: Rows.
    """

    heading: str
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()
    folded: int = 20


def arranged(
    parts: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    tables: Sequence[Table],
    figures: Mapping[str, go.Figure],
    how: Mapping[str, str],
) -> list[Step]:
    """Tables and figures arranged into parts.

    Args:
        parts: Of each its heading, and the names of its tables and of its figures; those that there are not are left
            out, and so is a part of which there is nothing.
        tables: Of the study.
        figures: Of the study by name.
        how: To read each of them.
    """
    named = {table.name: table for table in tables}
    drawn = {name: panel(name, figure, how[name]) for name, figure in figures.items()}
    found = [
        Step(
            heading,
            tuple(named[name] for name in of_tables if name in named),
            tuple(drawn[name] for name in of_figures if name in drawn),
        )
        for heading, of_tables, of_figures in parts
    ]
    return [step for step in found if step.tables or step.panels]


@checks_arguments
def write_study_page(
    path: str | os.PathLike,
    *,
    title: str,
    command: str,
    lead: str,
    findings: Sequence[str],
    steps: Sequence[Step],
    provenance: Provenance,
    paper: str | None = None,
    published: Sequence[Table] = (),
) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    The file appears whole or not at all.

    Args:
        path: Of the file; its folder is made.
        title: Of the page.
        command: How to make it again.
        lead: What was studied, in a sentence or two under the title.
        findings: Sentences; intervals in brackets are of 95 %.
        steps: Of the study, in order.
        provenance: Of its result.
        paper: Whose numbers stand in `published`.
        published: Tables of what the paper reports, kept apart from what was computed.

    Returns:
        The path.

    Raises:
        ValueError: Without any step, or with published numbers of no named paper.
        OSError: Where the file cannot be written.
    """
    if not steps:
        raise ValueError("the page of a study needs at least one step, got none")
    if published and not paper:
        raise ValueError("published numbers need the name of their paper: give paper=")
    return write_html(
        "study.html",
        path,
        title=title,
        lead=lead,
        findings=findings,
        steps=steps,
        paper=paper,
        published=published,
        facts=facts(provenance, command),
    )

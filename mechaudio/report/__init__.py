"""Kept results and their figures as pages that need no network, and as tables: `report_of` says what is told of one."""

from mechaudio.report.figures import write_figures
from mechaudio.report.grounding import (
    grounding_figures,
    grounding_findings,
    grounding_published,
    grounding_tables,
)
from mechaudio.report.listening import listening_figures, listening_findings, listening_tables
from mechaudio.report.mata import mata_figures, mata_findings
from mechaudio.report.mata_tables import mata_published, mata_tables
from mechaudio.report.page import write_page
from mechaudio.report.panels import Panel, panel
from mechaudio.report.patching import patching_figures, patching_findings, patching_tables
from mechaudio.report.specialists import specialists_figures, specialists_findings
from mechaudio.report.specialists_tables import specialists_published, specialists_tables
from mechaudio.report.steering_tables import steering_tables
from mechaudio.report.study_page import Part, Report, report_of, write_study_page
from mechaudio.report.tables import Table, write_tables
from mechaudio.report.temporal import temporal_figures, temporal_findings
from mechaudio.report.temporal_tables import temporal_published, temporal_tables
from mechaudio.rooms import as_room

__all__ = [
    "Panel",
    "Part",
    "Report",
    "Table",
    "grounding_figures",
    "grounding_findings",
    "grounding_published",
    "grounding_tables",
    "listening_figures",
    "listening_findings",
    "listening_tables",
    "mata_figures",
    "mata_findings",
    "mata_published",
    "mata_tables",
    "panel",
    "patching_figures",
    "patching_findings",
    "patching_tables",
    "report_of",
    "specialists_figures",
    "specialists_findings",
    "specialists_published",
    "specialists_tables",
    "steering_tables",
    "temporal_figures",
    "temporal_findings",
    "temporal_published",
    "temporal_tables",
    "write_figures",
    "write_page",
    "write_study_page",
    "write_tables",
]

as_room(__name__)

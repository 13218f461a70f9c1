"""Kept results and their figures as pages that need no network, and as tables."""

from mechaudio.report.figures import write_figures
from mechaudio.report.listening_page import listening_figures, listening_findings, write_listening_page
from mechaudio.report.listening_tables import listening_tables
from mechaudio.report.mata_findings import mata_findings
from mechaudio.report.mata_page import mata_figures, write_mata_page
from mechaudio.report.mata_tables import mata_published, mata_tables
from mechaudio.report.page import write_page
from mechaudio.report.panels import Panel, panel
from mechaudio.report.patching_page import patching_figures, patching_findings, write_patching_page
from mechaudio.report.patching_tables import patching_tables
from mechaudio.report.specialists_findings import specialists_findings
from mechaudio.report.specialists_page import specialists_figures, write_specialists_page
from mechaudio.report.specialists_tables import specialists_published, specialists_tables
from mechaudio.report.steering_tables import steering_tables
from mechaudio.report.study_page import Step, write_study_page
from mechaudio.report.tables import Table, write_tables
from mechaudio.report.temporal_findings import temporal_findings
from mechaudio.report.temporal_page import temporal_figures, write_temporal_page
from mechaudio.report.temporal_tables import temporal_published, temporal_tables
from mechaudio.rooms import as_room

__all__ = [
    "Panel",
    "Step",
    "Table",
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
    "write_listening_page",
    "write_mata_page",
    "write_page",
    "write_patching_page",
    "write_specialists_page",
    "write_study_page",
    "write_tables",
    "write_temporal_page",
]

as_room(__name__)

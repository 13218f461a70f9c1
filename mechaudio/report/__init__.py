"""Kept results and their figures as pages that need no network, and as tables: `report_of` says what is told of one."""

from mechaudio.report.figures import write_figures as write_figures
from mechaudio.report.grounding import grounding_figures as grounding_figures
from mechaudio.report.grounding import grounding_findings as grounding_findings
from mechaudio.report.grounding import grounding_published as grounding_published
from mechaudio.report.grounding import grounding_tables as grounding_tables
from mechaudio.report.listening import listening_figures as listening_figures
from mechaudio.report.listening import listening_findings as listening_findings
from mechaudio.report.listening import listening_tables as listening_tables
from mechaudio.report.mata import mata_figures as mata_figures
from mechaudio.report.mata import mata_findings as mata_findings
from mechaudio.report.mata_tables import mata_published as mata_published
from mechaudio.report.mata_tables import mata_tables as mata_tables
from mechaudio.report.page import write_page as write_page
from mechaudio.report.panels import Panel as Panel
from mechaudio.report.panels import panel as panel
from mechaudio.report.patching import patching_figures as patching_figures
from mechaudio.report.patching import patching_findings as patching_findings
from mechaudio.report.patching import patching_tables as patching_tables
from mechaudio.report.specialists import specialists_figures as specialists_figures
from mechaudio.report.specialists import specialists_findings as specialists_findings
from mechaudio.report.specialists_tables import specialists_published as specialists_published
from mechaudio.report.specialists_tables import specialists_tables as specialists_tables
from mechaudio.report.steering_tables import steering_tables as steering_tables
from mechaudio.report.study_page import Part as Part
from mechaudio.report.study_page import Report as Report
from mechaudio.report.study_page import report_of as report_of
from mechaudio.report.study_page import write_study_page as write_study_page
from mechaudio.report.tables import Table as Table
from mechaudio.report.tables import write_tables as write_tables
from mechaudio.report.temporal import temporal_figures as temporal_figures
from mechaudio.report.temporal import temporal_findings as temporal_findings
from mechaudio.report.temporal_tables import temporal_published as temporal_published
from mechaudio.report.temporal_tables import temporal_tables as temporal_tables
from mechaudio.rooms import as_room

as_room(__name__)

"""Kept results and their figures as one page that needs no network."""

from mechaudio.report.page import write_page

__all__ = ["write_page"]

"""The versions of other packages that mechaudio was tested with, where another version may change what is measured."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from packaging.specifiers import SpecifierSet

from mechaudio.notices import warn

#: The ranges of pyproject.toml, all of whose minor versions the tests of every class ran with.
TESTED = {"transformers": ">=5.20,<5.25", "nnsight": ">=0.8.1,<0.9"}


@cache
def warn_of_untested_versions() -> None:
    """Name every package whose installed version was not tested, once per process.

    Warns:
        UserWarning: For each such package, with its version, what was tested and how to get that.
    """
    for package, tested in TESTED.items():
        installed = version(package)
        if not SpecifierSet(tested).contains(installed, prereleases=True):
            warn(
                f"{package} {installed} is installed, and mechaudio was tested with {package}{tested}: it may fail, or "
                f"give other numbers without a sign. To get a tested version: pip install '{package}{tested}'"
            )

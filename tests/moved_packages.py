"""Say which installed packages are not those of constraints.txt: `python tests/moved_packages.py`, after a failure."""

import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins(constraints: str) -> dict[str, str]:
    """Return the version of each package that the lines of a constraints file pin for this Python."""
    lines = [Requirement(line) for line in constraints.splitlines() if line and not line.startswith("#")]
    return {
        canonicalize_name(line.name): str(line.specifier).removeprefix("==")
        for line in lines
        if line.marker is None or line.marker.evaluate()
    }


def moved(pinned: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Return a line for each installed package whose version is not the pinned one; builds of a version are alike."""
    return [
        f"{name}: pinned {pinned.get(name, 'nowhere')}, installed {version}"
        for name, version in sorted(installed.items())
        if pinned.get(name) != version.partition("+")[0]
    ]


if __name__ == "__main__":
    constraints = (Path(__file__).resolve().parents[1] / "constraints.txt").read_text(encoding="utf-8")
    ours = {"mechaudio", "pip", "setuptools", "uv"}
    in_front = reversed(list(distributions()))  # of two that are installed, the first is imported
    installed = {canonicalize_name(one.name): one.version for one in in_front}
    changes = moved(pins(constraints), {name: version for name, version in installed.items() if name not in ours})
    sys.stdout.write("\n  ".join(["Packages that are not those of constraints.txt:", *(changes or ["none"])]) + "\n")

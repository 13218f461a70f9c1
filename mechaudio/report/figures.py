"""Figures as HTML files and, where a chromium is found, as PNG."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechaudio.arguments import checks_arguments
from mechaudio.report.rendering import write_whole
from mechaudio.writing import as_file_name, made_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 1000
_MARGIN = 20
_PATIENCE = 120
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=8000",
)  # fmt: skip


def browser() -> str | None:
    """The first chromium on the path, None where there is none."""
    return next((found for found in map(shutil.which, BROWSERS) if found), None)


@checks_arguments
def write_figures(figures: Mapping[str, go.Figure], folder: str | os.PathLike) -> str | None:
    """Write each figure as `NAME.html`, with one `plotly.min.js` for all of them, and as `NAME.png`.

    Args:
        figures: By name.
        folder: Is made.

    Returns:
        Why there are no PNG files; None where there are.

    Raises:
        OSError: Where a file cannot be written.
        ValueError: For a name that cannot be a file's.
    """
    for name in figures:
        as_file_name(name)
    folder = made_folder(folder, "a figure")
    library, script = folder / "plotly.min.js", get_plotlyjs()
    # plotly leaves one that is there, even if whoever wrote it was killed in the middle.
    if not library.is_file() or library.read_text(encoding="utf-8", errors="replace") != script:
        write_whole(library, script)
    for name, figure in figures.items():
        figure.write_html(folder / f"{name}.html", include_plotlyjs="directory", config={"displayModeBar": False})
    chromium = browser()
    if chromium is None:
        return f"no chromium is installed (none of {', '.join(BROWSERS)} is on the path)"
    for name, figure in figures.items():
        try:
            _picture(chromium, folder / f"{name}.html", folder / f"{name}.png", figure.layout.height)
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return f"{chromium} failed on {name}.html with exit code {error.returncode} {' '.join(last)}".rstrip()
        except subprocess.TimeoutExpired:
            return f"{chromium} did not finish {name}.html within {_PATIENCE} s"
        if not (folder / f"{name}.png").is_file():
            return f"{chromium} wrote no picture of {name}.html"
    return None


def _picture(chromium: str, page: Path, picture: Path, height: int) -> None:
    picture.unlink(missing_ok=True)
    # Where it is stopped, its own processes are killed with it, or they would go on writing to the folder.
    with tempfile.TemporaryDirectory(prefix="mechaudio-chromium-", ignore_cleanup_errors=True) as profile:
        _run_whole(
            [
                chromium,
                *_FLAGS,
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{height + _MARGIN}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ]
        )


def _run_whole(command: Sequence[str]) -> None:
    """Run a command to its end; if it is stopped or takes too long, end every process that it started."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            _, said = process.communicate(timeout=_PATIENCE)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()  # Windows has no groups
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said)

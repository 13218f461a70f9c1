"""A real browser for pages: chromium without a window, without a network, with a profile of its own."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--mute-audio", "--virtual-time-budget=8000", "--enable-logging=stderr",
)  # fmt: skip


def _run(page: Path, *flags: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory(prefix="mechaudio-chromium-") as profile:
        command = [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            *flags,
            page if "://" in str(page) else page.resolve().as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def rendered(page: Path, *flags: str, fragment: str = "") -> tuple[str, list[str]]:
    """The document as scripts have made it, and what the page wrote to the console (errors, refused loads)."""
    done = _run(f"{page.resolve().as_uri()}#{fragment}" if fragment else page, "--dump-dom", *flags)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def screenshot(page: Path, picture: Path, *, width: int = 1100, height: int = 1400, dark: bool = False) -> Path:
    """The page as a picture, in a window of this size."""
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run(page, f"--screenshot={picture}", f"--window-size={width},{height}", *theme)
    return picture

"""The explorer where it is used: JupyterLab, with a kernel, in a real browser."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser import needs_browser
from tests.devtools import PATIENCE, browser

CELL = """import mechaudio as ma
model = ma.load("tiny", prove=False)
explorer = ma.explore(model, ma.data.soundscapes.questions(1, seed=0)[0])
explorer"""
PANEL = "window.panel ??= [...jupyterapp.shell.widgets('main')].find((each) => each.sessionContext)"
VALUES = "[...document.querySelectorAll('.mx-value')].map((each) => each.textContent)"


@contextmanager
def lab(folder: Path):
    """The address of a JupyterLab of its own, which knows nothing of the user's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        f"JUPYTER{name}_DIR": str(folder / f"own{name.lower()}")
        for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_WORKSPACES", "LAB_SETTINGS")
    }
    options = [
        "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0", "--ip=127.0.0.1",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--expose-app-in-browser",
        "--LabApp.news_url=None",
    ]  # fmt: skip
    python_path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **own, "PYTHONPATH": python_path}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while not _is_up(f"{address}/api"):
            assert server.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < end, (folder / "log.txt").read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.whole
@needs_browser
def test_a_cell_shows_the_explorer_and_a_drag_over_the_sound_changes_the_answer(tmp_path):
    pytest.importorskip("jupyterlab", reason="pip install 'mechaudio[notebooks]'")
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": CELL}
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [cell], "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "explorer.ipynb").write_text(json.dumps(notebook))
    with lab(tmp_path) as address, browser() as tab:
        tab.look(1300, 1100)
        tab.open(f"{address}/lab/tree/explorer.ipynb")
        tab.wait_for(f"window.jupyterapp && ({PANEL})")
        tab.evaluate("jupyterapp.shell.activateById(panel.id)")
        tab.wait_for("panel.sessionContext.session?.kernel?.connectionStatus === 'connected'")
        tab.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
        tab.wait_for("document.querySelector('.mx-grid')?.width > 9", patience=3 * PATIENCE)
        tab.wait_for(f"{VALUES}.length === 4")
        clean = tab.evaluate(VALUES)
        tab.drag(*(tab.place(".mx-picture", part) for part in (0.3, 0.5, 0.7)))
        tab.wait_for("document.querySelector('.mx-moved') && !document.querySelector('.mx').ariaBusy")
        assert tab.evaluate(VALUES) != clean
        assert "keys='audio[3:7]'" in tab.evaluate("document.querySelector('.mx-code').textContent")
        outside = [request for request in tab.requests if not request.startswith((address, "data:", "blob:", "ws"))]
        assert outside == []
        # JupyterLab says of plugins that they are slow, where a machine has other work.
        assert [
            complaint for complaint in tab.complaints if not re.search(r"took [\d.]+ms to activate", complaint)
        ] == []

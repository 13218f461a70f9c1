"""Making questions, reading results and asking for help import no torch, and nobody waits for it."""

import json
import subprocess
import sys

import pytest

#: What is done, one after the other in one process, and what is not imported until then.
STEPS = {
    "questions and results": (
        "import mechaudio.question, mechaudio.results; mechaudio.results.Provenance.collect()",
        ("torch", "transformers", "nnsight", "scipy"),
    ),
    "a clip that shows itself": (
        "import numpy as np, mechaudio as ma; clip = ma.AudioClip(np.zeros(8) + 0.1, 8000); "
        "clip._repr_html_(); dir(clip)",
        ("torch",),
    ),
    "a benchmark that is built": (
        "ma.temporal.build(ma.data.soundscapes.clips(2, 0, duration=4.0))",
        ("torch", "transformers", "datasets", "pandas"),
    ),
    "help": ("from mechaudio.cli import parser; said = parser().format_help()", ("torch",)),
}


@pytest.fixture(scope="module")
def imported():
    """Step -> the modules that were imported when it had been done, and the help."""
    lines = ["import sys, json", "imported = {}"]
    for name, (code, _) in STEPS.items():
        lines += [code, f"imported[{name!r}] = list(sys.modules)"]
    program = "\n".join([*lines, "print(json.dumps([imported, said]))"])
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(fresh.stdout)


@pytest.mark.parametrize("step", STEPS)
def test_it_is_done_without(imported, step):
    assert "mechaudio" in imported[0][step]
    assert not set(STEPS[step][1]) & set(imported[0][step])


def test_help_lists_the_verbs(imported):
    assert all(verb in imported[1] for verb in ("demo", "listen", "models", "check", "evaluate"))

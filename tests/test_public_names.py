"""What `import mechaudio as ma` promises."""

import importlib
import subprocess
import sys

import pytest

import mechaudio as ma


@pytest.mark.parametrize("name", ma.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ma, name) is not None


def test_no_room_hides_a_public_function():
    importlib.import_module("mechaudio.cli")
    imports = "import mechaudio as ma, mechaudio.tracing.run, mechaudio.cli"
    program = f"{imports}; print(callable(ma.trace), callable(ma.prompt))"
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == ["True", "True"]


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'trance'; it has .*trace"):
        ma.trance  # noqa: B018

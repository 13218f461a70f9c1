"""What `import mechaudio as ma` promises."""

import importlib
import inspect
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
import xarray

import mechaudio as ma


@pytest.mark.parametrize("name", ma.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ma, name) is not None


def test_what_the_pages_name_is_there_in_a_fresh_session():
    names = (
        "ma.PromptFormat, ma.models.PromptBatch, ma.NoSuchHookPoint, ma.tracing.window_map, ma.interventions.Grid, "
        "ma.interventions.AttentionIntervention, ma.interventions.Sweep, ma.experiments.Listening"
    )
    subprocess.run([sys.executable, "-c", f"import mechaudio as ma; {names}"], check=True)


@pytest.mark.parametrize("room", ma._ROOMS)
def test_every_name_that_a_room_lists_is_there(room):
    found = getattr(ma, room)
    assert found.__all__
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


@pytest.mark.parametrize("room", ["viz", "report"])
def test_what_figures_and_pages_are_made_of_is_public(room):
    functions = [value for value in vars(getattr(ma, room)).values() if inspect.isfunction(value)]
    hints = [get_type_hints(function, localns={"xarray": xarray}) for function in functions]
    taken = {kind for own in hints for hint in own.values() for kind in _classes(hint)}
    homes = {home: getattr(ma, home).__all__ for home in ("analyses", "experiments", "interventions")}
    lacking = [
        kind.__qualname__
        for kind in taken
        for home, public in homes.items()
        if kind.__module__.startswith(f"mechaudio.{home}.") and kind.__name__ not in public
    ]
    assert lacking == []


def _classes(hint):
    """The classes in an annotation."""
    parts = get_args(hint)
    return {hint} if isinstance(hint, type) and not parts else set().union(*map(_classes, parts))


def test_no_room_hides_a_public_function():
    importlib.import_module("mechaudio.cli")
    imports = "import mechaudio as ma, mechaudio.tracing.run, mechaudio.cli"
    program = f"{imports}; print(callable(ma.trace), callable(ma.prompt))"
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == ["True", "True"]


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'trance'; it has .*trace"):
        ma.trance  # noqa: B018

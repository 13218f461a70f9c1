"""What `import mechaudio as ma` promises."""

import inspect
import re
import subprocess
import sys

import pytest

import mechaudio as ma


@pytest.mark.parametrize("name", ma.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ma, name) is not None


def test_in_a_fresh_session_what_the_pages_name_is_there_and_no_room_hides_a_public_function():
    names = (
        "ma.PromptFormat, ma.models.PromptBatch, ma.NoSuchHookPoint, ma.tracing.window_map, ma.interventions.Grid, "
        "ma.interventions.AttentionIntervention, ma.interventions.Sweep, ma.experiments.Listening"
    )
    rooms = "import mechaudio.tracing.run, mechaudio.cli; print(callable(ma.trace), callable(ma.prompt))"
    program = f"import mechaudio as ma; {names}; {rooms}"
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == ["True", "True"]


@pytest.mark.parametrize("room", ma._ROOMS)
def test_every_name_that_a_room_lists_is_there(room):
    found = getattr(ma, room)
    assert found.__all__
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


@pytest.mark.parametrize("room", ["viz", "report"])
def test_what_figures_and_pages_are_made_of_is_public(room):
    functions = [value for value in vars(getattr(ma, room)).values() if inspect.isfunction(value)]
    taken = set(re.findall(r"\w+", " ".join(str(inspect.signature(function)) for function in functions)))
    for home in ("analyses", "experiments", "interventions"):
        public = getattr(ma, home).__all__
        assert sorted((taken & _classes(home)) - set(public)) == []
    assert taken & set(ma.experiments.__all__)


def _classes(home):
    """The names of the classes that are written in a room."""
    modules = [module for name, module in sys.modules.items() if name.startswith(f"mechaudio.{home}.")]
    return {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'trance'; it has .*trace"):
        ma.trance  # noqa: B018

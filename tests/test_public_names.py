"""What `import mechaudio as ma` promises."""

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from itertools import combinations

import pytest

import mechaudio as ma

ROOMS = {name: getattr(ma, name) for name in ma.__all__ if inspect.ismodule(getattr(ma, name))}


@pytest.mark.parametrize("name", ma.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ma, name) is not None


#: Imports what others wrote once, and forks a session for each order in which packages are asked for what they have.
WALK = """
import json, os, pkgutil, sys
from importlib import import_module
import anywidget, nnsight, plotly.graph_objects, sklearn.linear_model, transformers.modeling_utils, xarray
import mechaudio

def attributes(package):
    submodules = {module.name for module in pkgutil.iter_modules(package.__path__)} - {"__main__"}
    return sorted({*dir(package), *submodules})

def walk(order):
    seen, packages = {}, [mechaudio]
    for package in packages:
        names = attributes(package)
        for name in names[::-1] if order == "backwards" else names:
            value = seen[f"{package.__name__}.{name}"] = getattr(package, name)
            if hasattr(value, "__path__"):
                packages.append(value)
    return seen

def import_everything():
    for module in pkgutil.walk_packages(mechaudio.__path__, "mechaudio."):
        import_module(module.name)

def session(order):
    if order == "imported":
        import_everything()
    before = walk(order)
    import_everything()
    after = walk(order)
    changed = [name for name in {**before, **after} if before.get(name, walk) is not after.get(name, walk)]
    kinds = {name: f"{type(value).__name__} {getattr(value, '__module__', value)}" for name, value in after.items()}
    ours = sorted(name for name in sys.modules if name.startswith("mechaudio"))
    return changed, kinds, {name: dir(sys.modules[name]) for name in ours if hasattr(sys.modules[name], "__path__")}

for order in ("forwards", "backwards", "imported"):
    if not (child := os.fork()):
        print(json.dumps(session(order)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def sessions():
    """Fresh sessions that ask packages for everything, in one order, in the other, and after importing everything."""
    fresh = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True, check=True)
    walks = [json.loads(line) for line in fresh.stdout.splitlines()]
    assert len(walks) == 3, fresh.stderr
    return walks


@pytest.mark.whole
def test_an_attribute_of_a_package_is_the_same_object_before_and_after_everything_was_imported(sessions):
    assert [changed for changed, _, _ in sessions] == [[], [], []]


@pytest.mark.whole
def test_it_is_the_same_in_every_session(sessions):
    forwards, *others = [(kinds, completed) for _, kinds, completed in sessions]
    assert len(forwards[0]) > 500
    assert others == [forwards, forwards]


@pytest.mark.whole
def test_a_package_completes_to_its_public_names(sessions):
    completed = sessions[0][2]
    assert completed["mechaudio"] == sorted(ma.__all__)
    assert {room: completed[f"mechaudio.{room}"] for room in ROOMS} == {
        name: sorted(room.__all__) for name, room in ROOMS.items()
    }


@pytest.mark.whole
def test_a_public_function_is_never_seen_as_the_module_of_its_name(sessions):
    public = {id(getattr(package, name)) for package in (ma, *ROOMS.values()) for name in package.__all__}
    for name, kind in sessions[0][1].items():
        room, _, last = name.removeprefix("mechaudio.").rpartition(".")
        if room in ROOMS and kind.startswith("module "):
            assert id(vars(import_module(name)).get(last)) not in public, name
    assert inspect.isfunction(ma.interventions.sweep)
    assert inspect.isfunction(ma.tracing.load)
    assert inspect.isfunction(ma.models.prompt)


@pytest.mark.parametrize("room", ROOMS)
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


def test_what_asks_a_model_takes_the_rest_by_name_and_in_one_order():
    public = {id(getattr(room, name)): getattr(room, name) for room in (ma, *ROOMS.values()) for name in room.__all__}
    first = {}
    for function in filter(inspect.isfunction, public.values()):
        name, taken = function.__name__, inspect.signature(function).parameters
        places = [word for word, parameter in taken.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        if places[:1] != ["model"]:
            continue
        assert len(places) <= 2 or places[2:] == ["variants"] or name == "ground", f"{name}: {places}"
        for pair in combinations([word for word in taken if word not in places], 2):
            first.setdefault(pair, name)
    assert len(first) > 400
    assert {pair: (name, first[pair[::-1]]) for pair, name in first.items() if pair[::-1] in first} == {}

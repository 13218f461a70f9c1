"""What `import mechaudio as ma` promises."""

import inspect
import pkgutil
import re
import sys
from importlib import import_module
from itertools import combinations

import pytest

import mechaudio as ma
from tests.anew import anew

ROOMS = {name: getattr(ma, name) for name in ma.__all__ if inspect.ismodule(getattr(ma, name))}


@pytest.mark.parametrize("name", ma.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ma, name) is not None


def attributes(package):
    submodules = {module.name for module in pkgutil.iter_modules(package.__path__)} - {"__main__"}
    return sorted({*dir(package), *submodules})


def walk(order):
    """Ask each package for all it has, in one order or the other."""
    seen, packages = {}, [import_module("mechaudio")]
    for package in packages:
        names = attributes(package)
        for name in names[::-1] if order == "backwards" else names:
            value = seen[f"{package.__name__}.{name}"] = getattr(package, name)
            if hasattr(value, "__path__"):
                packages.append(value)
    return seen


def import_everything():
    for module in pkgutil.walk_packages(ma.__path__, "mechaudio."):
        import_module(module.name)


def session(order):
    """Ask packages for all they have, in this order and once more when everything is imported."""
    if order == "imported":
        import_everything()
    before = walk(order)
    import_everything()
    after = walk(order)
    changed = [name for name in {**before, **after} if before.get(name, walk) is not after.get(name, walk)]
    kinds = {name: f"{type(value).__name__} {getattr(value, '__module__', value)}" for name, value in after.items()}
    ours = sorted(name for name in sys.modules if name.startswith("mechaudio"))
    return changed, kinds, {name: dir(sys.modules[name]) for name in ours if hasattr(sys.modules[name], "__path__")}


@pytest.fixture(scope="module")
def sessions():
    """Sessions that ask packages for everything, in one order, in the other, and after importing everything."""
    return [anew(session, order) for order in ("forwards", "backwards", "imported")]


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


#: Where a word has another default than elsewhere, as it has to.
OTHER_DEFAULTS = {
    "batch_size": {"tuned_lens": 8},  # of a training: another number is another lens
    "direction": {"path_patching": "noising"},  # each as it was published
    "held_out": {"tuned_lens": 0.2, "encoder_probes": 0.33},  # probes are judged by clip, of which there are few
    "max_new_tokens": {"trace": None, "ground": 200, "grounding_study": 200},  # one pass; long lists of times
    "n": {"demo": 60, "check_top": 10},  # questions; places of a map
    "positions": {"logit_lens": "last"},  # all others take every position, of which the lens would print too many
    "queries": {"evaluate": None, "prompt_attention": None},  # each change's own rows; all rows that fit
    "seed": {"evaluate": None},  # nothing is drawn: it is kept with the result
    "steps": {"attribution_patching": 8, "tuned_lens": 250, "train": None},  # of integration; of training
}


def asking():
    """Every public function that asks a model, by name, with what it takes."""
    public = {id(getattr(room, name)): getattr(room, name) for room in (ma, *ROOMS.values()) for name in room.__all__}
    for function in filter(inspect.isfunction, public.values()):
        taken = inspect.signature(function).parameters
        if [*taken][:1] == ["model"]:
            yield function.__name__, taken


def test_what_asks_a_model_gives_a_word_one_default():
    defaults = {}
    for name, taken in asking():
        for word, parameter in taken.items():
            if parameter.default is not parameter.empty:
                defaults.setdefault(word, {})[name] = parameter.default
    assert len(defaults) > 60
    for word, by_name in defaults.items():
        others = OTHER_DEFAULTS.get(word, {})
        assert {name: by_name.pop(name) for name in others} == others, word
        assert len({repr(default) for default in by_name.values()}) <= 1, f"{word}: {by_name}"


def test_every_analysis_of_questions_takes_how_many_at_once_and_shows_how_far_it_is():
    of_questions = {name: taken for name, taken in asking() if [*taken][1:2] in (["questions"], ["clean"])}
    lacking = {
        name: [word for word in ("batch_size", "progress") if word not in taken]
        for name, taken in of_questions.items()
        if not {"batch_size", "progress"} <= {*taken}
    }
    assert len(of_questions) > 20
    assert lacking == {
        "contrast": ["batch_size", "progress"],  # one pair of batches
        "prompt": ["batch_size", "progress"],  # one batch
        "prompt_attention": ["batch_size", "progress"],  # one prompt
        "train": ["progress"],  # prints its losses
    }


def test_what_asks_a_model_takes_the_rest_by_name_and_in_one_order():
    first = {}
    for name, taken in asking():
        places = [word for word, parameter in taken.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        assert len(places) <= 2 or places[2:] == ["variants"] or name == "ground", f"{name}: {places}"
        for pair in combinations([word for word in taken if word not in places], 2):
            first.setdefault(pair, name)
    assert len(first) > 400
    assert {pair: (name, first[pair[::-1]]) for pair, name in first.items() if pair[::-1] in first} == {}

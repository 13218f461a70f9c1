import functools
import gc
import inspect
import os
import types
import typing
from pathlib import Path

import beartype.door  # noqa: F401 - before nnsight, which gives every object a method that this import trips over

# Those not used here come in before mechaudio does: what its modules import, while the tests check their types, is
# compiled anew in every process.
import datasets  # noqa: F401
import jaxtyping._decorator
import joblib
import nnsight  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch
import transformers.modeling_utils
from hypothesis import settings

TESTS = Path(__file__).parent

torch.set_num_threads(int(os.environ.get("MECHAUDIO_TEST_THREADS", "1")))
settings.register_profile("mechaudio", deadline=None, derandomize=True, database=None)  # the same examples everywhere
settings.load_profile("mechaudio")


def has_shapes(hint):
    """Whether a type says something of an array's shape, in any part of it."""
    parts = hint if isinstance(hint, list) else typing.get_args(hint)
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(has_shapes, parts))


def jaxtyped(*given, original=jaxtyping.jaxtyped, **how):
    """Check arguments and result of a function in one go, and compare shapes only where it has any.

    What jaxtyping does by itself checks arguments twice, and takes ten times as long for a function without shapes.
    """
    if not given:
        return functools.partial(jaxtyped, **how)
    (function,) = given
    try:
        hints = typing.get_type_hints(function, include_extras=True) if inspect.isfunction(function) else None
    except NameError:  # a name that is only there while types are checked without running
        hints = None
    if hints is None:
        return original(function, **how)
    copied = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__, copied.__annotations__ = function.__kwdefaults__, hints
    checked = how["typechecker"](copied)
    if any(map(has_shapes, hints.values())):
        checked = original(checked, typechecker=None)

    def either(*args, **kwargs):
        return (function if config.jaxtyping_disable else checked)(*args, **kwargs)  # noqa: F821 - given below

    names = {"__name__": "jaxtyping", "config": jaxtyping.config}  # a frame that warnings look through
    return functools.wraps(function)(types.FunctionType(either.__code__, names, closure=either.__closure__))


jaxtyping.jaxtyped = jaxtyping._decorator.jaxtyped = jaxtyped


def pytest_itemcollected(item):
    if item.path.relative_to(TESTS).parts[0] in ("interventions", "tracing", "variants"):
        item.add_marker("ground")


def pytest_collection_modifyitems(items):
    """Skip what is tested of a class that this transformers does not have yet."""
    from mechaudio.models.registry import ADAPTERS  # here, where plugins let its types be checked

    named = {adapter.family: adapter.network_class for adapter in ADAPTERS if adapter.network is None}
    lacking = {family for family, name in named.items() if not hasattr(transformers, name)}
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        params = [part for value in params for part in (value if isinstance(value, tuple) else (value,))]
        for family in lacking.intersection(value for value in params if isinstance(value, str)):
            reason = f"transformers {transformers.__version__} has no {named[family]}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    gc.freeze()  # the millions of objects of what was imported, which every full collection would go through


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    return min(8, joblib.cpu_count())  # the cores that this process may use; each worker takes about a gigabyte


@pytest.fixture(scope="module")
def without_proofs():
    """Models open without their proofs, which the tests of opening hold for every class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mechaudio.tracing.check.prove_hook_points", lambda model: None)
        yield


@pytest.fixture
def as_process(monkeypatch):
    """Gives this process a place among several."""

    def become(rank, n):
        for name, value in (("RANK", rank), ("WORLD_SIZE", n), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, str(value))

    return become


@pytest.fixture(scope="module")
def toy():
    import mechaudio as ma  # here, where plugins let its types be checked

    return ma.load("toy", prove=False)


@pytest.fixture(scope="module")
def tiny():
    import mechaudio as ma

    return ma.load("tiny", prove=False)

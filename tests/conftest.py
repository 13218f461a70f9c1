import gc
import os
import tempfile
from importlib import import_module
from pathlib import Path

import beartype.door  # noqa: F401 - before nnsight, which gives every object a method that this import trips over
import joblib
import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
#: What libraries keep on the disk, which goes with the process: nothing is left in anybody's home.
KEPT = tempfile.TemporaryDirectory(prefix="mechaudio-tests-", ignore_cleanup_errors=True)
os.environ["HF_DATASETS_CACHE"] = KEPT.name

#: What mechaudio imports.
IMPORTED = (
    "datasets",
    "nnsight",
    "scipy.stats",
    "sklearn.linear_model",
    "transformers.modeling_utils",
)

settings.register_profile("mechaudio", deadline=None, derandomize=True, database=None)  # the same examples everywhere
settings.load_profile("mechaudio")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Import these before the types of mechaudio are checked: what is imported later is compiled anew in every process.

    A process that hands all tests to workers needs none of them, and would keep its workers waiting.
    """
    if config.getoption("dist", "no") == "no" or config.option.collectonly:
        gc.disable()  # until all tests are collected: until then next to nothing is garbage
        for name in IMPORTED:
            import_module(name)
        torch = import_module("torch")
        torch.set_num_threads(int(os.environ.get("MECHAUDIO_TEST_THREADS", "1")))
        # Threads do not come with a process that is forked, and OpenMP waits for them.
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def pytest_itemcollected(item):
    if item.path.relative_to(TESTS).parts[0] in ("interventions", "tracing", "variants"):
        item.add_marker("ground")


def pytest_collection_modifyitems(items):
    """Skip what is tested of a class that this transformers does not have yet."""
    import transformers

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
    gc.set_threshold(20_000, 10, 10)  # 30 times the default: to look so often takes a fourteenth of the time
    gc.enable()


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


@pytest.fixture(scope="session")
def chromium():
    from tests.devtools import browser  # here, as it needs a package that a short way through the tests does not

    with browser() as tab:
        yield tab


@pytest.fixture
def tab(chromium):
    """A page in a browser, as wide as a desk's and light."""
    chromium.look(1100, 900)
    return chromium


@pytest.fixture(scope="session")
def toy():
    import mechaudio as ma  # here, where plugins let its types be checked

    return ma.load("toy", prove=False)


@pytest.fixture(scope="session")
def tiny():
    import mechaudio as ma

    return ma.load("tiny", prove=False)

"""Models that verbs open are proven in the tests of `check` and `demo`; here, opening them is quick."""

from importlib import import_module

import pytest


@pytest.fixture(scope="package", autouse=True)
def without_proofs():
    loading = import_module("mechaudio.tracing.load")
    with pytest.MonkeyPatch.context() as patch:
        load = loading.load
        patch.setattr(loading, "load", lambda name, *, prove=True: load(name, prove=False))
        yield

"""Models that verbs open are proven in the tests of `check` and `demo`; here, opening them is quick."""

from importlib import import_module

import pytest

import mechaudio as ma


@pytest.fixture(scope="module", autouse=True)
def without_proofs():
    load = ma.load  # looked up once and for all, so before it is replaced
    loading = import_module("mechaudio.tracing.load")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", lambda name, *, prove=True, **options: load(name, prove=False, **options))
        yield

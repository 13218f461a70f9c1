"""Models that verbs open are proven in the tests of `check` and `demo`; here, opening them is quick."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def opening_is_quick(without_proofs):
    """Every module of this folder has it."""

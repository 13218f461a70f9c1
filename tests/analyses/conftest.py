"""The trained model that tests of analyses share."""

import pytest


@pytest.fixture(scope="module")
def tiny():
    """The shipped model with a window of 4 s, as no test here needs longer clips."""
    from tests.shorter import shorter  # here, where plugins let its types be checked

    return shorter()

import pytest

import mechaudio as ma


@pytest.fixture(scope="module")
def question():
    return ma.data.soundscapes.questions(1, seed=0)[0]

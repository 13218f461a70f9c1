"""Models and questions that tests of patching share."""

import pytest

import mechaudio as ma
from mechaudio.data.toy_questions import questions


@pytest.fixture(scope="module")
def toy():
    return ma.load("toy", prove=False)


@pytest.fixture(scope="module")
def asked():
    return list(questions(6, seed=0))


@pytest.fixture(scope="module")
def tiny():
    return ma.load("tiny", prove=False)


@pytest.fixture(scope="module")
def scenes():
    return list(ma.data.soundscapes.questions(4, seed=3, duration=4.0))

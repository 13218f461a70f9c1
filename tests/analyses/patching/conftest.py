"""Models and questions that tests of patching share."""

import pytest

import mechaudio as ma
from mechaudio.data.toy_questions import questions


@pytest.fixture(scope="module")
def asked():
    return list(questions(6, seed=0))


@pytest.fixture(scope="module")
def scenes():
    return list(ma.data.soundscapes.questions(4, seed=3, duration=4.0))


@pytest.fixture
def stopped_once(monkeypatch):
    """Makes a function, or a method, stop at its second call, and gives what it returned at the others."""

    def stop(home, name):
        returned, original, stopping = [], getattr(home, name), [True]

        def wrapped(*args, **options):
            if stopping and len(returned) == 1:
                stopping.clear()
                raise KeyboardInterrupt
            returned.append(original(*args, **options))
            return returned[-1]

        monkeypatch.setattr(home, name, wrapped)
        return returned

    return stop

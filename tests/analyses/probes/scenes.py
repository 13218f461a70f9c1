"""Clips of four tokens, half a second each, made up for tests."""

import numpy as np

from mechaudio.analyses.probes.clip_states import ClipStates
from mechaudio.audio.events import Event


def clip(*events, name="a"):
    """A clip of two seconds; its events as `(label, onset, offset)`."""
    states = {"embed": np.arange(8.0).reshape(4, 2)}
    heard = tuple(Event(*event) for event in events)
    return ClipStates(states, np.arange(5) / 2, heard, key=name, name=name, question=None, correct=False)

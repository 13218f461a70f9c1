"""The parts of a prompt that a map goes over: positions, roles, seconds of sound, events.

Conventions: a place holds positions of every prompt, none in a prompt that has no such part; `last`, the position that
the answer is read from, is a role of its own here and no part of `template`; a window of seconds holds the audio tokens
whose middle lies in it, and is called by the second at which it begins; an event holds the audio tokens that hear any
of it, and where the answer's event and another sound at once, the answer's has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.audio_attention import ROLES, roles_of
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Positions

Along = Literal["position", "role", "second", "event"]
ALONG: tuple[str, ...] = get_args(Along)
#: Audio tokens by what sounds: an event whose label is the answer, others, or none.
EVENTS = ("answer's event", "other events", "no event")
#: Labels of a place, in the order of a map's axis, and their positions.
Places = dict[int | str | float, Positions]


@dataclass(frozen=True, eq=False)
class Ground:
    """The places of a map in one tensor of activations, gradients or features.

    Attributes:
        row: Which pair each entry of the tensor's first two axes belongs to.
        places: Label of a place -> the entries it holds.
    """

    row: Int[np.ndarray, "clip frame"]
    places: dict[Any, Bool[np.ndarray, "clip frame"]]

    def per_pair(self, numbers: Float[np.ndarray, "clip frame head"], n_pairs: int) -> Float[np.ndarray, "head pair"]:
        """Sums over all entries of every pair."""
        return np.stack([numbers[self.row == pair].sum(0) for pair in range(n_pairs)], axis=-1)

    def summed(
        self, numbers: Float[np.ndarray, "clip frame head"], n_pairs: int
    ) -> Float[np.ndarray, "head place pair"]:
        """Sums over the entries of every place and pair."""
        sums = [self.per_pair(numbers * mask[..., None], n_pairs) for mask in self.places.values()]
        return np.stack(sums, axis=1)

    def there(self, n_pairs: int) -> Bool[np.ndarray, "place pair"]:
        """Mark the pairs that have each place."""
        return np.array(
            [[(mask & (self.row == pair)).any() for pair in range(n_pairs)] for mask in self.places.values()]
        )


def places(batch: PromptBatch, along: Along, window: float | int = 1.0, within: Positions | None = None) -> Places:
    """Divide the prompts into places, in windows of so many seconds, and count only the positions `within` each prompt.

    Raises:
        ValueError: Positions of prompts of unequal length, windows that are no longer than zero, seconds or events
            of a prompt whose audio tokens have no known time, or questions without events.
    """
    if along == "position":
        divided = _positions(batch)
    elif along == "role":
        divided = _roles(batch)
    elif along == "second":
        divided = seconds(token_middles(batch), window)
    elif along == "event":
        divided = _events(batch)
    else:
        raise ValueError(f"a prompt is divided into {', '.join(ALONG)}, got {along!r}")
    if within is None:
        return divided
    kept = [set(prompts) for prompts in within]
    cut = {
        label: tuple(tuple(p for p in positions if p in keep) for positions, keep in zip(prompts, kept, strict=True))
        for label, prompts in divided.items()
    }
    return {label: prompts for label, prompts in cut.items() if any(prompts)}


def token_middles(batch: PromptBatch) -> list[dict[int, float]]:
    """Per prompt, the position of every audio token and the middle of its stretch of sound, in seconds.

    Raises:
        ValueError: A prompt whose audio tokens have no known time: without sound, or with several clips.
    """
    for row, clock in enumerate(batch.clock):
        if clock is not None and not clock.contiguous:
            raise ValueError(
                f"the audio tokens of prompt {row} hear several stretches each, or have no time: divide it into roles "
                "or positions"
            )
        if clock is None:
            raise ValueError(
                f"the audio tokens of prompt {row} have no known time (it has no sound, or several clips): divide it "
                "into roles or positions"
            )
    return [
        dict(zip(positions, (clock.edges_seconds[1:] + clock.edges_seconds[:-1]) / 2, strict=True))
        for positions, clock in zip(batch.spans["audio"], batch.clock, strict=True)
    ]


def seconds(middles: Sequence[dict[int, float]], window: float | int) -> Places:
    """Windows of seconds from the middles of tokens, or of frames.

    Raises:
        ValueError: Windows that are no longer than zero, or shorter than a token.
    """
    if not (window > 0 and math.isfinite(window)):
        raise ValueError(f"window_seconds= is the length of a window in seconds, above 0; got {window}")
    shortest = min((max(of_prompt.values()) / len(of_prompt) for of_prompt in middles if of_prompt), default=0.0)
    if window < shortest / 2:
        raise ValueError(
            f"window_seconds= is shorter than a token, which hears about {shortest:.3g} s: give that, or more; got "
            f"{window}"
        )
    of = [
        {position: int(np.floor(middle / window + 1e-9)) for position, middle in of_prompt.items()}
        for of_prompt in middles
    ]
    n = max((index for of_prompt in of for index in of_prompt.values()), default=-1) + 1
    return {
        round(index * window, 6): tuple(tuple(p for p, at in of_prompt.items() if at == index) for of_prompt in of)
        for index in range(n)
    }


def frame_windows(
    row: Int[np.ndarray, "clip frame"], middle: Float[np.ndarray, "clip frame"] | None, window: float | int | None
) -> dict[str | float, Bool[np.ndarray, "clip frame"]]:
    """Divide frames of a tower or its features by their middles into windows of seconds, or take all as one place.

    Raises:
        ValueError: Windows that are no longer than zero.
    """
    if window is None:
        return {"": np.ones(row.shape, dtype=bool)}
    assert middle is not None, "windows of seconds divide what has a time"
    flat = [
        {int(at): float(middle.flat[at]) for at in np.flatnonzero(row == prompt)} for prompt in range(row.max() + 1)
    ]
    windows = {}
    for label, rows in seconds(flat, window).items():
        windows[label] = np.zeros(row.shape, dtype=bool)
        windows[label].flat[[at for prompt in rows for at in prompt]] = True
    return windows


def _positions(batch: PromptBatch) -> Places:
    real = batch.inputs.get("attention_mask")
    if real is not None and not bool(real.bool().all()):
        lengths = sorted({int(n) for n in real.sum(1)})
        raise ValueError(
            f"the prompts have {lengths[0]} to {lengths[-1]} positions, so that one position is not the same thing in "
            "all of them: go over roles or seconds, or over prompts of one length at a time"
        )
    return {position: ((position,),) * batch.n_rows for position in range(batch.n_positions)}


def _roles(batch: PromptBatch) -> Places:
    last = batch.spans["last"]
    by_role: Places = {
        role: tuple(
            tuple(p for p in positions if p not in end) for positions, end in zip(batch.spans[role], last, strict=True)
        )
        for role in ROLES
        if role in roles_of(batch)
    }
    return {**{role: positions for role, positions in by_role.items() if any(positions)}, "last": last}


def _events(batch: PromptBatch) -> Places:
    by_event: dict[str, list[tuple[int, ...]]] = {name: [] for name in EVENTS}
    for row, (middles, question) in enumerate(zip(token_middles(batch), batch.questions, strict=True)):
        if not question.events:
            raise ValueError(
                f"question {question.id!r} has no events: go over seconds, or set AudioQuestion(events=...)"
            )
        heard: dict[str, set[int]] = {name: set() for name in EVENTS}
        for event in question.events:
            name = EVENTS[0] if event.label == question.answer else EVENTS[1]
            tokens = batch.clock[row].tokens_between(event.onset, event.offset)
            heard[name].update(batch.spans["audio"][row][tokens])
        heard[EVENTS[1]] -= heard[EVENTS[0]]
        heard[EVENTS[2]] = set(middles) - heard[EVENTS[0]] - heard[EVENTS[1]]
        for name, positions in heard.items():
            by_event[name].append(tuple(sorted(positions)))
    return {name: tuple(rows) for name, rows in by_event.items() if any(rows)}

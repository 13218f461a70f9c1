"""Scores of answers in the model's own words, question by question and over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float

from mechaudio.metrics import captions

#: Scores by name, each of a text and its reference.
WRITTEN: Mapping[str, Callable[..., float]] = {
    score.__name__: score
    for score in (
        captions.exact_match,
        captions.normalised_match,
        captions.containment,
        captions.word_error_rate,
        captions.character_error_rate,
        captions.rouge,
        captions.meteor,
    )
}
#: Those that need no further package.
DEFAULT = ("exact_match", "normalised_match", "containment")
#: Names of scores, functions of a text and its reference, or both by name.
Scores = Annotated[
    Sequence[str | Callable[..., float]] | Mapping[str, Callable[..., float]],
    "names of scores, or functions of a text and its reference",
    "names or functions",
]


def chosen_scores(scores: Scores) -> dict[str, Callable[..., float]]:
    """The functions that are meant, by name.

    Raises:
        ValueError: A name that is no score, or two scores of one name.
        TypeError: Something else than names and functions.
    """
    if isinstance(scores, Mapping):
        named = list(scores.items())
    else:
        named = [(score if isinstance(score, str) else getattr(score, "__name__", "score"), score) for score in scores]
    functions = dict[str, Callable[..., float]]()
    for name, score in named:
        if isinstance(score, str):
            if score not in WRITTEN:
                raise ValueError(f"scores= names one of {', '.join(WRITTEN)}, or is a function; got {score!r}")
            score = WRITTEN[score]
        if not callable(score):
            raise TypeError(f"scores= are names, or functions of a text and its reference; got {score!r}")
        if name in functions:
            raise ValueError(f"two scores are named {name!r}: give scores={{name: function}} with names of their own")
        functions[name] = score
    return functions


def scored(
    functions: Mapping[str, Callable[..., float]],
    texts: Sequence[str],
    options: Sequence[Sequence[str]],
    answers: Sequence[str | None],
) -> dict[str, Float[np.ndarray, " question"]]:
    """Each score of each text; NaN of a question with choices, or without a known answer."""
    return {
        name: np.array(
            [
                np.nan if choices or answer is None else float(score(text, answer))
                for text, choices, answer in zip(texts, options, answers, strict=True)
            ]
        )
        for name, score in functions.items()
    }

"""Patching on the pairs of several batches: measured one by one, kept, and put together into one map.

Batches differ in how many choices their questions have, and in which places their prompts have: what one of them lacks
is NaN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mechaudio.analyses.audio_attention import ROLES
from mechaudio.analyses.kept_batches import KeptBatches
from mechaudio.analyses.patching.pairs import Contrast, contrasts
from mechaudio.analyses.patching.places import EVENTS
from mechaudio.analyses.patching.scale import Metric, value
from mechaudio.data.clip_names import clip_names
from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import Targets
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance, Result, digest_of
from mechaudio.tracing.audio_lm import AudioLM

FOLDER = "pairs"

#: Keys of the clean and of the corrupted question of a pair.
PairKeys = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MeasuredPairs(Result):
    """Measurements of the pairs of one batch.

    Attributes:
        ids: `Contrast.ids`.
        clip_keys: `Contrast.clip_keys`.
        labels: Labels of the third axis of places, if this batch may lack some of them.
        heads: Heads (or bands) of the map, or those that were patched together; `None` where neither was asked for.
    """

    ids: tuple[str, ...]
    clip_keys: tuple[PairKeys, ...]
    labels: tuple[Any, ...] = ()
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PatchedPairs(MeasuredPairs):
    """The answers of some pairs with every place patched, and without a patch.

    Attributes:
        logits: Logits of the choices, with each place patched; NaN where there is no such place.
        clean: In the clean runs; `right`, `texts` and `wrong` are those of the `Contrast`.
        corrupted: In the corrupted runs.
        ways: How the places were computed.
    """

    logits: Float[np.ndarray, "*place pair choice"]
    clean: Float[np.ndarray, "pair choice"]
    corrupted: Float[np.ndarray, "pair choice"]
    right: Bool[np.ndarray, "pair choice"]
    texts: Int[np.ndarray, "pair choice"]
    wrong: Int[np.ndarray, " pair"]
    ways: tuple[str, ...]


Measured = TypeVar("Measured", bound=MeasuredPairs)


def measured_pairs(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"],
    measure: Callable[[Contrast, Provenance], Measured],
    *,
    targets: Targets,
    settings: Mapping[str, Any],
    out: str | os.PathLike | None = None,
    batch_size: int | None,
    **options: Any,
) -> list[Measured]:
    """Measure pairs batch by batch, but for the batches that are kept.

    `settings` are what has to be the same for a run to be taken up, beside the targets; `measure` is given the
    provenance of the run. Options are those of `contrasts`.

    Raises:
        ValueError: With a folder, forward hooks of others on the network; it holds a batch of another run, or a damaged
            one; and as `contrasts`.
        NotADirectoryError: There is something else in the folder's place.
    """
    run = {**settings, **targets.given, "batch_size": batch_size}
    kept = KeptBatches(None if out is None else Path(out) / FOLDER, model, run)
    options |= {"targets": targets, "batch_size": batch_size, "batch_positions": kept.most_positions}
    pairs = contrasts(model, clean, corrupted=corrupted, **options)
    return kept.measured(pairs, lambda pair: measure(pair, kept.provenance), asked=_digest_of_prompts)


def patched_pairs(
    pair: Contrast,
    logits: Float[np.ndarray, "*place pair choice"],
    clean: Float[np.ndarray, "pair choice"],
    corrupted: Float[np.ndarray, "pair choice"],
    **more: Any,
) -> PatchedPairs:
    """The answers of the pairs of a batch, with what is asked of them."""
    return PatchedPairs(
        logits=logits,
        clean=clean,
        corrupted=corrupted,
        right=pair.right,
        texts=pair.texts,
        wrong=pair.wrong(clean, corrupted),
        ids=pair.ids,
        clip_keys=pair.clip_keys,
        **more,
    )


def _digest_of_prompts(pair: Contrast) -> str:
    questions = [(question.id, question.choices, question.answer) for question in pair.clean.questions]
    return digest_of((tuple(questions), pair.clean.aims, *(dict(side.inputs) for side in (pair.clean, pair.corrupted))))


def joined(
    parts: Sequence[PatchedPairs], metric: Metric, axes: dict[str, tuple[Any, ...]], labels: Sequence[Any] = ()
) -> dict[str, Any]:
    """The fields of a `PatchingMap` that the runs of all pairs give.

    Axes have as many places as the parts, in their order; labels are those of the third axis of places, of all parts
    together.
    """
    n_choices = max(part.clean.shape[-1] for part in parts)
    placed = [with_choices(spread(part.logits, part.labels, labels), n_choices) for part in parts]
    logits = np.concatenate(placed, axis=-2)
    logits = logits.reshape(*map(len, axes.values()), *logits.shape[-2:])
    clean, corrupted, right, texts = (
        np.concatenate([with_choices(getattr(part, name), n_choices) for part in parts])
        for name in ("clean", "corrupted", "right", "texts")
    )
    wrong = np.concatenate([part.wrong for part in parts])
    return {
        **measured(metric, logits, clean, corrupted, right, wrong, texts),
        "axes": axes,
        "metric": metric,
        "logits": logits,
        "clean_logits": clean,
        "corrupted_logits": corrupted,
        "right": right,
        "texts": texts,
        "wrong": wrong,
        "ways": tuple(dict.fromkeys(way for part in parts for way in part.ways)),
        **named(parts),
    }


def named(parts: Sequence[MeasuredPairs]) -> dict[str, tuple[str, ...]]:
    """The names of all pairs and of their clips, as fields of a map."""
    return {
        "ids": tuple(name for part in parts for name in part.ids),
        "clips": pair_clips([keys for part in parts for keys in part.clip_keys]),
    }


def pair_clips(keys: Sequence[PairKeys]) -> tuple[str, ...]:
    """Name the clip of each pair: pairs that share a recording on either side are about one.

    A recording that all pairs are corrupted with is a condition, as silence is, and makes no two of them alike.
    """
    everywhere = set.intersection(*(set(corrupted) for _, corrupted in keys))
    return clip_names([(*clean, *(key for key in corrupted if key not in everywhere)) for clean, corrupted in keys])


def measured(
    metric: Metric,
    logits: Float[np.ndarray, "*axis pair choice"],
    clean: Float[np.ndarray, "pair choice"],
    corrupted: Float[np.ndarray, "pair choice"],
    right: Bool[np.ndarray, "pair choice"],
    wrong: Int[np.ndarray, " pair"],
    texts: Int[np.ndarray, "pair choice"] | None,
) -> dict[str, np.ndarray]:
    """The metric with every place patched, and in the clean and the corrupted runs, as fields of a map."""
    nowhere = np.isnan(logits).all(-1)
    values = value(metric, np.where(nowhere[..., None], 0.0, logits), right, wrong, clean, texts)
    return {
        "values": np.where(nowhere, np.nan, values),
        "clean": value(metric, clean, right, wrong, clean, texts),
        "corrupted": value(metric, corrupted, right, wrong, clean, texts),
    }


def with_choices(values: Shaped[np.ndarray, "*axis choice"], n: int) -> Shaped[np.ndarray, "*axis n"]:
    """Numbers of choices filled up to so many choices with NaN, marks with `False`, and places with 0."""
    nothing = np.nan if values.dtype.kind == "f" else 0
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, n - values.shape[-1])], constant_values=nothing)


def spread(
    values: Float[np.ndarray, "layer head own *pair"], own: Sequence[Any], labels: Sequence[Any]
) -> Float[np.ndarray, "layer head place *pair"]:
    """Numbers of one batch's places among the places of all batches; as they are, if these are not told apart."""
    if not labels:
        return values
    wide = np.full((*values.shape[:2], len(labels), *values.shape[3:]), np.nan)
    wide[:, :, [labels.index(label) for label in own]] = values
    return wide


def join_labels(parts: Sequence[Sequence[Any]], along: str | None) -> list[Any]:
    """The labels of all parts together, in the order of the axis.

    Raises:
        ValueError: Positions of prompts of unequal length.
    """
    labels = list(dict.fromkeys(label for part in parts for label in part))
    if along == "position" and any(part[-1] != parts[0][-1] for part in parts):
        raise ValueError(
            "the prompts of different batches have different lengths, so that one position is not the same thing in "
            "all of them: go over roles or seconds"
        )
    order = {"role": (*ROLES, "last"), "event": EVENTS}.get(along)
    return sorted(labels) if order is None else [label for label in order if label in labels]

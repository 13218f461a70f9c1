"""A check of an estimate: the places with the largest estimated effects are patched, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from mechaudio.analyses.patching.activation_patching import patched_at
from mechaudio.analyses.patching.attribution_patching import AttributionMap, axes_of
from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.analyses.patching.feature_axes import FeatureAxes, features_of, with_features
from mechaudio.analyses.patching.joined import PatchedPairs, joined, measured_pairs, patched_pairs
from mechaudio.analyses.patching.pairs import Contrast, turned
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame
from mechaudio.models.targets import Targets
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.run import measured_logits


@checks_arguments
def check_top(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    estimated: AttributionMap,
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    n: int = 10,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> EffectMap:
    """Patch the places with the largest estimated effects, one by one: what an estimate is worth (arXiv 2403.00745).

    Args:
        model: The model that the estimates are of.
        estimated: The map.
        clean: The questions or prompts that the map was made from; what was measured behind them is measured again.
        corrupted: The same.
        n: How many places.
        batch_size: Pairs at a time.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        A map with the axes of the estimated one: the exact effects at these places, NaN everywhere else.
        `ma.analyses.agreement(estimated, exact)` compares the two where both are known.

    Raises:
        ValueError: Other pairs than those of the map, or no place to check.
        TypeError: A number of places that is not whole.
    """
    if checked.whole("n", n) < 1:
        raise ValueError(f"n= is how many places are patched, at least 1; got {n}")
    have = estimated.axes
    rest = (estimated.direction, have.get("layer"), have.get("head", estimated.heads), estimated.positions)
    wanted = axes_of(model, tuple(have), estimated.hook_point, *rest, estimated.window_seconds)
    chosen = [labels for labels, _ in estimated.top(n)]
    targets = Targets.of_settings(estimated.provenance.settings)
    settings = {"checked": len(chosen), "method": estimated.method}
    measure = partial(_patched, wanted, chosen)
    running: dict[str, Any] = {"targets": targets, "batch_size": batch_size, "progress": progress}
    parts = measured_pairs(model, clean, corrupted, measure, settings=settings, what="checking", **running)
    exact = joined(parts, estimated.metric, {"place": tuple(range(len(chosen)))})
    if exact["ids"] != estimated.ids:
        raise ValueError(
            f"the estimates are of other pairs: {estimated.ids[:3]} and so on, and these are {exact['ids'][:3]}"
        )
    values = np.full(estimated.values.shape, np.nan)
    for labels, of_place in zip(chosen, exact["values"], strict=True):
        values[tuple(have[name].index(label) for name, label in labels.items())] = of_place
    return EffectMap(
        axes=have,
        values=values,
        direction=estimated.direction,
        hook_point=estimated.hook_point,
        heads=estimated.heads,
        window_seconds=estimated.window_seconds,
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
        **{name: exact[name] for name in ("clean", "corrupted", "metric", "ids", "clips")},
    )


def _patched(
    wanted: PatchedPlaces, chosen: Sequence[dict[str, Any]], pair: Contrast, provenance: Provenance
) -> PatchedPairs:
    """Patch the chosen places of some pairs."""
    if not isinstance(wanted, FeatureAxes):
        places = [(labels.get("layer"), labels.get("head"), labels.get(wanted.along or "", "")) for labels in chosen]
        return patched_at(wanted, pair, provenance, chosen=places, progress=False)
    source, base = pair.sides(wanted.direction)
    there, here = (measured_logits(wanted.model, side) for side in (source, base))
    logits = _with_patched_features(wanted, pair, source, base, chosen)
    return patched_pairs(pair, logits, *turned(wanted.direction, there, here), provenance=provenance, ways=())


def _with_patched_features(
    wanted: FeatureAxes, pair: Contrast, source: PromptBatch, base: PromptBatch, chosen: Sequence[dict[str, Any]]
) -> Float[np.ndarray, "place pair choice"]:
    """Choice logits with each chosen part of the features from the source; NaN of pairs that lack it."""
    model, axis = wanted.model, wanted.model.adapter.frames_axis
    theirs = features_of(model, source, base)
    ours = base.inputs[model.adapter.features]
    along = by_frame(model.adapter, theirs)
    where = wanted.ground(pair, along.shape[:2])
    logits = []
    for labels in chosen:
        frames = where.places.get(labels.get("second", ""), np.zeros(along.shape[:2], dtype=bool))
        part = torch.from_numpy(frames)[..., None].expand(along.shape).clone()
        if "band" in labels:
            part[..., np.arange(along.shape[2]) != labels["band"]] = False
        part = part.view(theirs.movedim(axis, 1).shape).movedim(1, axis).to(theirs.device)
        answers = measured_logits(model, with_features(model, base, torch.where(part, theirs, ours)))
        has = np.array([(frames & (where.row == row)).any() for row in range(pair.clean.n_rows)])
        logits.append(np.where(has[:, None], answers, np.nan))
    return np.stack(logits)

"""A check of an estimate: the places with the largest estimated effects are patched, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from mechaudio.analyses.patching.attribution_patching import AttributionMap, axes_of
from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.analyses.patching.feature_axes import FeatureAxes, features_of, with_features
from mechaudio.analyses.patching.grounds import ground
from mechaudio.analyses.patching.pairs import Contrast, contrasts, turned
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.scale import Metric, value
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.sweep import sweep
from mechaudio.metrics import checked
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame
from mechaudio.models.targets import Targets
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.run import measured_logits, run


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
    wanted = axes_of(model, tuple(have), estimated.hook_point, *rest, estimated.window)
    chosen = [labels for labels, _ in estimated.top(n)]
    targets = Targets.of_settings(estimated.provenance.settings)
    found = [
        _patched(wanted, pair, chosen, estimated.metric)
        for pair in contrasts(
            model,
            clean,
            corrupted=corrupted,
            targets=targets,
            batch_size=batch_size,
            what="checking",
            progress=progress,
        )
    ]
    ids = tuple(name for _, _, _, own in found for name in own)
    if ids != estimated.ids:
        raise ValueError(f"the estimates are of other pairs: {estimated.ids[:3]} and so on, and these are {ids[:3]}")
    values = np.full(estimated.values.shape, np.nan)
    exact = np.concatenate([own for own, *_ in found], axis=-1)
    for labels, own in zip(chosen, exact, strict=True):
        values[tuple(have[name].index(label) for name, label in labels.items())] = own
    settings = {"checked": len(chosen), "method": estimated.method}
    return EffectMap(
        axes=have,
        values=values,
        clean=np.concatenate([own for _, own, *_ in found]),
        corrupted=np.concatenate([own for _, _, own, _ in found]),
        metric=estimated.metric,
        direction=estimated.direction,
        hook_point=estimated.hook_point,
        ids=ids,
        clips=estimated.clips,
        heads=estimated.heads,
        window=estimated.window,
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
    )


def _patched(
    wanted: PatchedPlaces | FeatureAxes, pair: Contrast, chosen: Sequence[dict[str, Any]], metric: Metric
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """The metric with each chosen place patched `[place, pair]`, in the clean and corrupted runs, and ids."""
    model = wanted.model
    source, base = pair.sides(wanted.direction)
    if isinstance(wanted, FeatureAxes):
        there, here = (measured_logits(model, side) for side in (source, base))
        logits, has = _with_patched_features(wanted, pair, source, base, chosen)
    else:
        there = measured_logits(model, source)
        recorded = run(model, source, record=[wanted.point], logits=None).cache
        wanted.count_heads(recorded)
        by_layer = wanted.patches(pair, recorded, base)
        keys = [(labels.get("layer"), labels.get("head"), labels.get(wanted.along or "", "")) for labels in chosen]
        known = [index for index, (layer, _, label) in enumerate(keys) if label in by_layer[layer]]
        patches = [by_layer[keys[index][0]][keys[index][2]] for index in known]
        variants = [own.make(*keys[index][:2]) for own, index in zip(patches, known, strict=True)]
        swept = sweep(model, base, variants, progress=False)
        here = swept.clean.numpy()
        logits, has = np.full((len(keys), *here.shape), np.nan), np.zeros((len(keys), pair.clean.n_rows), dtype=bool)
        logits[known], has[known] = swept.logits.numpy(), [own.has for own in patches]
    clean, corrupted = turned(wanted.direction, there, here)
    wrong = pair.wrong(clean, corrupted)
    measured = [value(metric, one, pair.right, wrong, clean) for one in (logits, clean, corrupted)]
    return np.where(has, measured[0], np.nan), measured[1], measured[2], pair.ids


def _with_patched_features(
    wanted: FeatureAxes, pair: Contrast, source: PromptBatch, base: PromptBatch, chosen: Sequence[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Choice logits with each chosen part of the features from the source, and which pairs have that part."""
    model, axis = wanted.model, wanted.model.adapter.frames_axis
    theirs = features_of(model, source, base)
    ours = base.inputs[model.adapter.features]
    along = by_frame(model.adapter, theirs)
    where = ground(wanted, pair, tuple(along.shape[:2]))
    logits, has = [], []
    for labels in chosen:
        frames = where.places.get(labels.get("second", ""), np.zeros(along.shape[:2], dtype=bool))
        part = torch.from_numpy(frames)[..., None].expand(along.shape).clone()
        if "band" in labels:
            part[..., np.arange(along.shape[2]) != labels["band"]] = False
        part = part.view(theirs.movedim(axis, 1).shape).movedim(1, axis).to(theirs.device)
        logits.append(measured_logits(model, with_features(model, base, torch.where(part, theirs, ours))))
        has.append([(frames & (where.row == own)).any() for own in range(pair.clean.n_rows)])
    return np.stack(logits), np.array(has)

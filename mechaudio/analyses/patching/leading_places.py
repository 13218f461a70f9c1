"""Places that hold all that differs up to some position: patched into the other run's place, for less work.

Between two layers the residual stream at all positions is all there is. A run that is given the other run's residual
stream wherever the two differ up to a position is therefore, from there on, the other run, with this one's residual
stream behind that position. A patch costs the positions from its first one on: of a place that is long and has little
behind it, such as all audio tokens, the second reading costs a fraction of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.places import Places
from mechaudio.interventions.patch import Patch
from mechaudio.interventions.sweep import sweep
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run
from mechaudio.tracing.teacher_forced import is_whole
from mechaudio.variants.shared_pass import why_not_shared

_RESIDUAL_STREAM = ("resid_pre", "resid_mid", "resid_post")


def sweep_places(
    wanted: PatchedPlaces, pair: Contrast, patches: Sequence[tuple[int | None, Any, Intervention]], **options: Any
) -> tuple[Float[np.ndarray, "pair choice"], Float[np.ndarray, "place pair choice"], tuple[str, ...]]:
    """Patch every place by itself, given its layer, label and patch, each in the run in which it costs less.

    Returns:
        The choices' logits without a patch and with each one, and how they were computed, each way once.
    """
    source, base = pair.sides(wanted.direction)
    behind = _behind(wanted, pair)
    here = [patch for _, label, patch in patches if label not in behind]
    there = [(layer, behind[label]) for layer, label, _ in patches if label in behind]
    swept = sweep(wanted.model, base, here or [[]], **options)
    if not there:
        return swept.clean.numpy(), swept.logits.numpy(), tuple(dict.fromkeys(swept.ways))
    kept = run(wanted.model, base, record=[wanted.point], logits=None).cache
    rest = [Patch(wanted.name, kept[wanted.name, layer], layer, positions=positions) for layer, positions in there]
    other = sweep(wanted.model, source, rest, **options)
    logits = {False: iter(swept.logits.numpy()), True: iter(other.logits.numpy())}
    values = np.stack([next(logits[label in behind]) for _, label, _ in patches])
    return swept.clean.numpy(), values, tuple(dict.fromkeys((*swept.ways, *other.ways)))


def _behind(wanted: PatchedPlaces, pair: Contrast) -> Places:
    """Map places that hold all that differs before, and at least as much as is behind them, to what is behind."""
    if wanted.name not in _RESIDUAL_STREAM or is_whole(pair.clean) or why_not_shared(wanted.model) is not None:
        return {}  # words behind the prompt have met this run's residual stream in the layers before
    n, first = pair.clean.n_positions, pair.first.tolist()
    return {
        label: tuple(tuple(range(positions[-1] + 1, n)) for positions in where)
        for label, where in wanted.places_of(pair).items()
        if all(
            positions and positions == tuple(range(begin, positions[-1] + 1))
            for positions, begin in zip(where, first, strict=True)
        )
        and all(len(positions) >= n - 1 - positions[-1] > 0 for positions in where)
    }

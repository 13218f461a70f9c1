"""Maps of effects made up for tests."""

import numpy as np

from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.results import Provenance


def effect_map(values, clean=None, corrupted=None, axes=None, **fields):
    """A map of one axis, `role`, unless `axes` says otherwise; the clean runs have 1 and the corrupted ones 0."""
    values = np.asarray(values, float)
    n = values.shape[-1]
    axes = {"role": tuple("abcdefgh"[: len(values)])} if axes is None else axes
    named = {"metric": "logit_difference", "direction": "denoising", "hook_point": "resid_pre"}
    return EffectMap(
        axes=axes,
        values=values,
        clean=np.ones(n) if clean is None else np.asarray(clean, float),
        corrupted=np.zeros(n) if corrupted is None else np.asarray(corrupted, float),
        ids=tuple(f"q{pair}" for pair in range(n)),
        provenance=Provenance(checkpoint="tiny"),
        **{**named, **fields},
    )

"""Attribution patching: activation patching of every place at once, estimated from gradients.

What a place would do if it were patched is estimated as (source - base) . gradient, where the base is the run that is
patched (corrupted when denoising, clean when noising), the source the other one, and the gradient that of the metric in
the base run (Nanda 2023, "Attribution patching: activation patching at industrial scale"; Syed et al., arXiv
2310.10348). Two forward passes and a backward one give every place of a map. It is a straight line through a function
that bends, and `METHODS` are ways to bend with it:

- `gradient`: the line itself; AtP in Kramar et al., "AtP*", arXiv 2403.00745.
- `integrated`: the mean gradient on the way from base to source at this hook point, all of a layer's places together
  (integrated gradients, Sundararajan et al., arXiv 1703.01365, equation 1, here with the activation as the input). The
  places of a layer then sum to the effect of patching the whole layer. `steps` passes for every layer.
- `eap-ig`: the mean gradient on the way from base to source at the input: the decoder's embeddings, or the features for
  places in the tower (EAP-IG, Hanna et al., arXiv 2403.17806). `steps` passes in all.
- `qk-fix`: for queries and keys, the softmax is computed again with the patched ones, and only what comes after it is
  a line (the fix of attention saturation in AtP*). A head that attends to one key with all its weight has no gradient
  at its queries and keys, whatever another query would do.
- `atp*`: the fix at queries and keys, and everywhere GradDrop as we read it: one backward pass for every layer, in
  which nothing flows back through what its attention and its MLP add to the residual stream, and the mean size of
  the estimates from these gradients. A direct effect and an indirect one that cancel each other at the base then do not
  hide the place. Without its own layer a place in it has no gradient, and the mean is over the other layers; a
  `resid_pre` or `resid_mid`, which the layer reads, has one, and the mean is over all. AtP* gives a size; it has the
  sign of the mean here, pair by pair, so that means over pairs can cancel where AtP* takes the mean of sizes.

Conventions: integrals by Gauss-Legendre quadrature; labels of axes as in `activation_patching`, and `band`, the number
in a frame of the features (its mel band, where features are mel spectrograms).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mechaudio.analyses.patching.effect_map import Direction, EffectMap
from mechaudio.analyses.patching.estimates import METHODS, EstimatedPairs, Estimator, Method
from mechaudio.analyses.patching.feature_axes import FEATURES, FeatureAxes
from mechaudio.analyses.patching.joined import measured_pairs, named, spread
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.scale import METRICS, Metric
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.selecting import check_choice
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where
from mechaudio.models.targets import Targets, Words
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance, kept_or_written
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import bare


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AttributionMap(EffectMap):
    """Estimated effects: `values` are the metric of the run that is patched plus the estimated change.

    Attributes:
        method: How they were estimated.
        steps: Gradients on the way from base to source, for the methods that take several.
        positions: The positions that were patched, `None` for all.
    """

    method: Method
    steps: int | None
    positions: Any

    @property
    def passes(self) -> str:
        """The passes that the estimate of one batch of pairs cost."""
        return {
            "gradient": "2 forward, 1 backward",
            "integrated": f"2 forward, then {self.steps} forward and backward for each layer",
            "eap-ig": f"2 forward, then {self.steps} forward and backward",
            "qk-fix": "2 forward, 1 backward",
            "atp*": "2 forward, then 1 backward for each layer behind the input",
        }[self.method]


@checks_arguments
def attribution_patching(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    over: str | Sequence[str] = ("layer", "position"),
    hook_point: str | None = None,
    direction: Direction = "denoising",
    metric: Metric = "logit_difference",
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    positions: Where | None = None,
    window_seconds: float | int = 1.0,
    method: Method = "gradient",
    steps: int = 8,
    out: str | os.PathLike | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AttributionMap:
    """Estimate what patching each place by itself would do to the answer.

    ```python
    found = ma.analyses.attribution_patching(model, questions, over=("layer", "head"))
    sound = ma.analyses.attribution_patching(model, questions, over=("second", "band"), hook_point="features")
    exact = ma.analyses.check_top(model, found, questions, n=10)      # the ten largest, patched
    ma.analyses.agreement(found, exact)
    ```

    Memory: activations and gradients at the hook point in all layers of the map, and what a backward pass keeps of a
    forward one, for `batch_size` pairs. `pattern` and the fix of queries and keys keep whole patterns.

    Args:
        model: The opened model. Its weights are left as they are.
        clean: Questions with known answers, or prompts.
        corrupted: Questions or prompts that pair with them, or `silence` in the place of their clips.
        target: Words that are measured behind the prompts in the place of the choices' letters, for all pairs or one
            text per pair (`PromptBatch.aimed`); of open questions, the clean one's answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced: then every pass holds each prompt with its target behind
            it, and again with its foil. What is patched are places of the prompt.
        over: The axes of the map, as in `activation_patching`: `layer`, `head`, and at most one of `position`, `role`,
            `second` and `event`; of `features`, `second` and `band`.
        hook_point: What is patched: as in `activation_patching`; or `features`, what the tower hears, of which `layer`,
            `head` and positions of the prompt do not exist. By default `z` if the map goes over heads, and otherwise
            `resid_pre`.
        direction: `denoising`, clean activations into the corrupted run; or `noising`, the other way round.
        metric: What is read off the answers: `logit_difference`, `margin` or `probability`.
        layers: Layers of the map; all that have the hook point by default.
        heads: Heads of the map; if it does not go over heads, those that are patched together. Of `k` and `v`,
            key-value heads.
        positions: Patch these positions only (query rows of `pattern`): spans, seconds of sound, positions. Every
            prompt needs some, unless `over` divides it.
        window_seconds: Length of a window.
        method: One of `METHODS`; the head of this module says what each is.
        steps: How many gradients `integrated` and `eap-ig` take on the way.
        out: A folder to write the estimates of each batch to; the same call takes up a run that was stopped.
        batch_size: Pairs at a time.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The map; `undefined` names pairs whose clean and corrupted runs agree in the metric.

    Raises:
        ValueError: An `out` that holds another run, or a damaged one; an unknown method; a metric without a gradient
            (`answer`); the fix of queries and keys at another
            hook point, or in a tower that attends by code of its own; a class that runs its tower without gradients;
            or whatever `activation_patching` refuses.
        KeyError: No such hook point or span.
        IndexError: A layer or head that there is not.
        NoSuchHookPoint: A hook point that this family has in none of these layers.
    """
    wanted = axes_of(model, over, hook_point, direction, layers, heads, positions, window_seconds)
    _check(wanted.name, metric, method, steps)
    targets = Targets(target, foil, whole=whole)
    settings = {"over": wanted.over, "method": method, "window_seconds": float(window_seconds)}
    more = {
        "hook_point": wanted.name,
        "direction": direction,
        "metric": metric,
        "steps": steps,
        "layers": tuple(wanted.layers),
        "heads": wanted.counted,
        "positions": kept_or_written(wanted.positions),
    }

    def measure(pair: Contrast, provenance: Provenance) -> EstimatedPairs:
        return Estimator(wanted, pair, metric, method, steps).part(provenance)

    running: dict[str, Any] = {"targets": targets, "out": out, "batch_size": batch_size, "progress": progress}
    parts = measured_pairs(model, clean, corrupted, measure, settings=settings | more, what="attributing", **running)
    labels, axes = wanted.joined(parts)
    values = np.concatenate([spread(part.values, part.labels, labels) for part in parts], axis=-1)
    return AttributionMap(
        **named(parts),
        axes=axes,
        values=values.reshape(*map(len, axes.values()), -1),
        clean=np.concatenate([part.clean for part in parts]),
        corrupted=np.concatenate([part.corrupted for part in parts]),
        metric=metric,
        direction=direction,
        hook_point=wanted.name,
        method=method,
        steps=steps if method in ("integrated", "eap-ig") else None,
        positions=wanted.positions,
        heads=wanted.together,
        window_seconds=float(window_seconds),
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
    )


def axes_of(model: AudioLM, over: str | Sequence[str], hook_point: str | None, *rest: Any) -> PatchedPlaces:
    """Make the places that are patched, at a hook point or of the features."""
    return FeatureAxes(model, over, *rest) if hook_point == FEATURES else PatchedPlaces(model, over, hook_point, *rest)


def _check(name: str, metric: str, method: str, steps: int) -> None:
    check_choice("metric", metric, METRICS)
    if metric == "answer":
        raise ValueError(
            "metric='answer' jumps from 0 to 1 and has no gradient: take 'logit_difference', 'margin' or 'probability'"
        )
    check_choice("method", method, METHODS)
    if method == "qk-fix" and bare(name) not in ("q", "k"):
        raise ValueError(
            f"'qk-fix' computes the softmax again with patched queries or keys, and {name!r} is neither: name 'q' or "
            "'k', or take another method"
        )
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps= is how many gradients are taken on the way, a whole number from 1 on; got {steps}")

"""Activation patching: which layer, head, position or second of sound carries what tells two prompts apart.

Every place in turn is given the activation of the other run, and the answer is read (Vig et al., "Investigating Gender
Bias in Language Models Using Causal Mediation Analysis", arXiv 2004.12265; Meng et al., arXiv 2202.05262; good practice
after Zhang and Nanda, arXiv 2309.16042). Denoising puts clean activations into the corrupted run and finds what is
enough to restore the answer; noising puts corrupted ones into the clean run and finds what the answer cannot do
without. They agree where one path carries the answer, and differ where several do.

Conventions: positions before the first one at which the two prompts differ are left out, as their activations are
equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.patching.effect_map import Direction, EffectMap
from mechaudio.analyses.patching.joined import PatchedPairs, joined, measured, measured_pairs, patched_pairs
from mechaudio.analyses.patching.leading_places import sweep_places
from mechaudio.analyses.patching.pairs import Contrast, turned
from mechaudio.analyses.patching.patched_places import Axis, PatchedPlaces
from mechaudio.analyses.patching.scale import METRICS, Metric, chosen
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.selecting import check_choice
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where
from mechaudio.models.targets import Targets, Words
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import measured_logits, run
from mechaudio.tracing.teacher_forced import is_whole


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PatchingMap(EffectMap):
    """The answers with every place patched, and what they say of the place.

    Attributes:
        logits: Logits of the choices, with each place patched; NaN where there is no such place, or no such choice.
        clean_logits: In the clean runs.
        corrupted_logits: In the corrupted runs.
        right: Which choices are right for the clean prompt.
        wrong: The wrong choice that the logit difference is taken against.
        ways: How the places were computed (`Sweep.ways`), each way once.
        texts: The place at which each choice's text first stands, as a question may have one twice; `None` if each
            choice has a text of its own.
    """

    logits: Float[np.ndarray, "*axis pair choice"]
    clean_logits: Float[np.ndarray, "pair choice"]
    corrupted_logits: Float[np.ndarray, "pair choice"]
    right: Bool[np.ndarray, "pair choice"]
    wrong: Int[np.ndarray, " pair"]
    ways: tuple[str, ...]
    texts: Int[np.ndarray, "pair choice"] | None = None

    def by(self, metric: Metric) -> PatchingMap:
        """Measure the same runs otherwise: `logit_difference`, `margin`, `probability` or `answer`.

        Raises:
            ValueError: An unknown metric.
        """
        runs = self.logits, self.clean_logits, self.corrupted_logits
        return replace(self, metric=metric, **measured(metric, *runs, self.right, self.wrong, self.texts))

    @property
    def flips(self) -> Float[np.ndarray, "*axis"]:
        """Share of the pairs with this place whose answer has another text than without the patch."""
        base = self.corrupted_logits if self.direction == "denoising" else self.clean_logits
        there = ~np.isnan(self.logits).all(-1)
        n_choices = (~np.isnan(self.clean_logits)).sum(-1)
        flipped = (chosen(self.logits, n_choices, self.texts) != chosen(base, n_choices, self.texts)) & there
        with np.errstate(invalid="ignore"):
            return flipped.sum(-1) / there.sum(-1)


@checks_arguments
def activation_patching(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    over: Axis | Sequence[Axis] = ("layer", "position"),
    hook_point: str | None = None,
    direction: Direction = "denoising",
    metric: Metric = "logit_difference",
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    positions: Where | None = None,
    window_seconds: float | int = 1.0,
    out: str | os.PathLike | None = None,
    batch_size: int | None = None,
    memory: int | float | None = None,
    one_by_one: bool = False,
    progress: bool | None = None,
) -> PatchingMap:
    """Patch every place by itself, and measure what becomes of the answer.

    ```python
    found = ma.analyses.activation_patching(model, questions, over=("layer", "second"))
    found.mean()                     # [layer, second]: 0 as with silence, 1 as with the clip
    found.by("probability").top(5)
    heads = ma.analyses.activation_patching(model, questions, over=("layer", "head"), positions="last")
    ```

    All places of a batch share the work of the prompt, as far as causality lets them (`ma.sweep`): a patch costs the
    positions from its first one on, in the layers from its own on. Of the residual stream, a place that holds all that
    differs up to its end, such as the role `audio`, costs the positions behind it instead.

    Args:
        model: The opened model.
        clean: Questions with known answers, or prompts.
        corrupted: Questions or prompts that pair with them, or `silence` in the place of their clips.
        target: Words that are measured behind the prompts in the place of the choices' letters, for all pairs or one
            text per pair (`PromptBatch.aimed`); of open questions, the clean one's answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced; by default the first one counts, and all of words that
            begin with the same token.
        over: One axis of the map or several: `layer`, `head`, and at most one of `position`, `role` (`last` apart from
            the template), `second` and `event` (the answer's event, other events, no event).
        hook_point: What is patched: any hook point of the decoder's layers, `embed`, or one of the audio tower's layers
            (`audio.resid_post`, whose frames go by `second`). By default `z` if the map goes over heads, and otherwise
            `resid_pre`.
        direction: `denoising`, clean activations into the corrupted run; or `noising`, the other way round.
        metric: What is read off the answers; `PatchingMap.by` gives the others without another run.
        layers: Layers of the map; all that have the hook point by default.
        heads: Heads of the map; if it does not go over heads, those that are patched together. Of `k` and `v`,
            key-value heads.
        positions: Patch these positions only (query rows of `pattern`): spans, seconds of sound, positions. Every
            prompt needs some, unless `over` divides it.
        window_seconds: Length of a window.
        out: A folder to write the answers of each batch to; the same call takes up a run that was stopped.
        batch_size: Pairs at a time.
        memory: Bytes that a sweep may use beside the weights.
        one_by_one: Give every place a forward pass of its own: slower, and to the last bit what `ma.run` gives.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The map; `undefined` names pairs whose clean and corrupted runs agree in the metric.

    Raises:
        ValueError: Axes that make no map of this hook point, an unknown metric or direction, or pairs that do not
            match (`ma.analyses.contrast`); an `out` that holds another run, or a damaged one.
        KeyError: No such hook point or span.
        IndexError: A layer or head that there is not.
        NoSuchHookPoint: A hook point that this family has in none of these layers.
    """
    wanted = PatchedPlaces(model, over, hook_point, direction, layers, heads, positions, window_seconds)
    check_choice("metric", metric, METRICS)
    alone = isinstance(clean, PromptBatch) or isinstance(corrupted, PromptBatch)
    targets = Targets(target, foil, whole=whole)
    settings = {
        "over": wanted.over,
        "positions": positions if isinstance(positions, (str, int)) or positions is None else repr(positions),
        "window_seconds": float(window_seconds),
        "one_by_one": one_by_one,
    }
    more = {"hook_point": wanted.name, "direction": direction, "layers": wanted.layers, "heads": wanted.counted}
    options: dict[str, Any] = {"memory": memory, "progress": progress if alone else False}
    measure = partial(patched_at, wanted, one_by_one=one_by_one, **options)
    running: dict[str, Any] = {"targets": targets, "out": out, "batch_size": batch_size, "progress": progress}
    parts = measured_pairs(model, clean, corrupted, measure, settings=settings | more, what="patching", **running)
    labels, axes = wanted.joined(parts)
    return PatchingMap(
        **joined(parts, metric, axes, labels),
        direction=direction,
        hook_point=wanted.name,
        heads=wanted.together,
        window_seconds=float(window_seconds),
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
    )


def patched_at(
    wanted: PatchedPlaces,
    pair: Contrast,
    provenance: Provenance,
    *,
    chosen: Sequence[tuple[int | None, int | None, Any]] | None = None,
    one_by_one: bool = False,
    **options: Any,
) -> PatchedPairs:
    """Patch every place of some pairs, or some places, and read the answers.

    Places that are chosen, by layer, head and label, are then one axis; by default all are patched.
    """
    source, base = pair.sides(wanted.direction)
    given = run(wanted.model, source, record=[wanted.point], logits="last")
    wanted.count_heads(given.cache)
    by_layer = wanted.patches(pair, given.cache, base)
    labels = tuple(by_layer[wanted.layers[0]])
    places = list(product(wanted.layers, wanted.heads, labels)) if chosen is None else chosen
    of_places = [by_layer[layer].get(label) for layer, _, label in places]
    patches = [
        (layer, label, some.make(layer, head))
        for (layer, head, label), some in zip(places, of_places, strict=True)
        if some is not None
    ]
    if one_by_one:
        unchanged, patched = _each(wanted.model, base, [patch for _, _, patch in patches])
        ways = ("one by one: as asked",)
    else:
        unchanged, patched, ways = sweep_places(wanted, pair, patches, **options)
    other = measured_logits(wanted.model, source) if is_whole(source) else choice_logits(source, given.logits[:, -1])
    clean, corrupted = turned(wanted.direction, other, unchanged)
    logits = np.full((len(places), *unchanged.shape), np.nan, dtype=patched.dtype)
    known = [place for place, some in enumerate(of_places) if some is not None]
    logits[known] = patched[: len(known)]  # one more, the clean run, where none is known
    logits[~np.array([[False] * pair.clean.n_rows if some is None else some.has for some in of_places])] = np.nan
    if chosen is None:
        logits = logits.reshape(len(wanted.layers), len(wanted.heads), len(labels), *unchanged.shape)
    return patched_pairs(
        pair,
        logits,
        clean,
        corrupted,
        provenance=provenance,
        ways=ways,
        labels=labels if chosen is None else (),
        heads=wanted.counted,
    )


def _each(
    model: AudioLM, batch: PromptBatch, variants: Sequence[Intervention]
) -> tuple[Float[np.ndarray, "pair choice"], Float[np.ndarray, "variant pair choice"]]:
    """Every variant in a forward pass of its own."""
    unchanged, *patched = (
        measured_logits(model, batch, interventions) for interventions in ([], *([v] for v in variants))
    )
    return unchanged, np.stack(patched)

"""Estimates of what patching would do, from gradients; `attribution_patching` says what each method is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from mechaudio.analyses.patching.feature_axes import FEATURES, FeatureAxes, features_of, with_features
from mechaudio.analyses.patching.joined import MeasuredPairs
from mechaudio.analyses.patching.objective import Objective
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.scale import Metric
from mechaudio.interventions.patch import HEAD_AXIS
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame
from mechaudio.provenance import Provenance
from mechaudio.tracing.cache import Key
from mechaudio.tracing.gradients import Graph, Layer, graph
from mechaudio.tracing.hook_points import ROW_POINTS, HookPoint, bare, stack_of
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run

Method = Literal["gradient", "integrated", "eap-ig", "qk-fix", "atp*"]
METHODS: tuple[str, ...] = get_args(Method)
Place = Key | Literal["features"]
#: Estimates of one batch.
Estimates = Float[np.ndarray, "layer head place pair"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EstimatedPairs(MeasuredPairs):
    """Estimates on some pairs.

    Attributes:
        values: The metric with each place patched, as estimated; NaN where there is no such place.
        clean: The metric in the clean runs.
        corrupted: In the corrupted runs.
    """

    values: Float[np.ndarray, "layer head place pair"]
    clean: Float[np.ndarray, " pair"]
    corrupted: Float[np.ndarray, " pair"]


class Estimator:
    """The estimates of some pairs, by one method."""

    def __init__(self, wanted: PatchedPlaces, pair: Contrast, metric: Metric, method: Method, steps: int):
        self.wanted, self.pair, self.method, self.steps = wanted, pair, method, steps
        self.model, self.n_pairs = wanted.model, pair.clean.n_rows
        self.objective = Objective(wanted.model, pair, wanted.direction, metric)
        self.source, self.base = self.objective.source, self.objective.base
        self.from_features = isinstance(wanted, FeatureAxes)
        self.keys: list[Place] = [FEATURES] if self.from_features else [(wanted.name, layer) for layer in wanted.layers]
        self.points = [] if isinstance(wanted, FeatureAxes) else [wanted.point]

    def part(self, provenance: Provenance) -> EstimatedPairs:
        """Run the pairs and estimate every place."""
        given = run(self.model, self.source, record=self.points, logits="last")
        self.objective.see_source(given.logits)
        self.towards: dict[Place, Tensor] = dict(given.cache)
        if isinstance(self.wanted, FeatureAxes):
            self.towards = {FEATURES: features_of(self.model, self.source, self.base)}
            self.wanted.count_bands(self.towards[FEATURES])
        else:
            self.wanted.count_heads(given.cache)
        self.grounds = {}
        for place in self.keys:
            along = self._per_place(self.towards[place]).shape[:2]
            where = self.wanted.ground(self.objective.pair, along)
            self.grounds[place] = replace(where, row=where.row % self.n_pairs)  # a pair's rows add up
        change = {
            "gradient": self._by_gradient,
            "qk-fix": self._by_gradient,
            "integrated": self._integrated,
            "eap-ig": self._along_inputs,
            "atp*": self._with_dropping,
        }[self.method]()
        there = np.stack([self.grounds[place].there(self.n_pairs) for place in self.keys])[:, None]
        clean, corrupted = self.objective.ends()
        unpatched = corrupted if self.wanted.direction == "denoising" else clean
        return EstimatedPairs(
            provenance=provenance,
            values=np.where(there, unpatched + change, np.nan),
            clean=clean,
            corrupted=corrupted,
            ids=self.pair.ids,
            clip_keys=self.pair.clip_keys,
            labels=tuple(self.grounds[self.keys[0]].places),
            heads=self.wanted.counted,
        )

    def _graph(self, points: Sequence[HookPoint], base: PromptBatch, **options: Any) -> Graph:
        return graph(self.model, base, points, self.objective, features=self.from_features, **options)

    def _by_gradient(self) -> Estimates:
        made = self._fixed_graph()
        return self._estimates(made, made.gradients())

    def _fixed_graph(self, gated: Sequence[Layer] = ()) -> Graph:
        """The base run; with the patterns of the layers, where the softmax is to be computed again."""
        point = bare(self.wanted.name)
        if self.from_features or self.method == "gradient" or point not in ("q", "k"):
            return self._graph(self.points, self.base, gated=gated)
        pattern = replace(self.points[0], name=self.wanted.name.removesuffix(point) + "pattern")
        return self._graph([*self.points, pattern], self.base, gated=gated, attended=True)

    def _estimates(self, made: Graph, gradients: dict[Place, Tensor]) -> Estimates:
        """Estimates from one set of gradients."""
        parts = []
        for place in self.keys:
            here = self.base.inputs[self.model.adapter.features] if place == FEATURES else made.values[place]
            if place == FEATURES or not made.attended:
                parts.append(self._on_a_line(place, _difference(self.towards[place], here) * gradients[place].float()))
            else:
                pattern = (self.wanted.name[:-1] + "pattern", place[1])
                parts.append(self._through_softmax(place, made, gradients[pattern]))
        return np.stack(parts)

    def _on_a_line(self, place: Place, product: Tensor) -> Float[np.ndarray, "head place pair"]:
        numbers = self._per_place(product).double().cpu().numpy()
        return self._chosen(self.grounds[place].summed(numbers, self.n_pairs))

    def _through_softmax(self, place: Key, made: Graph, gradient: Tensor) -> Float[np.ndarray, "head place pair"]:
        """The fix: gradient of the pattern times its change when queries or keys are patched and the softmax follows.

        A query changes its own row, so that rows add up; a key changes the row of every query, so that each place is
        computed by itself.
        """
        attended, where = made.attended[place[1]], self.grounds[place]
        towards = self.towards[place].to(attended.query)
        scores = attended.scores()
        pattern = _softmax(scores)
        weight = gradient.float()
        if self.wanted.name.endswith("q"):
            change = ((_softmax(attended.scores(query=towards)) - pattern) * weight).sum(-1)
            numbers = rearrange(change, "clip head query -> clip query head").double().cpu().numpy()
            return self._chosen(where.summed(numbers, self.n_pairs))
        other = attended.scores(key=towards)
        parts = []
        for mask in where.places.values():
            patched = torch.from_numpy(mask).to(scores.device)[:, None, None, :]
            change = ((_softmax(torch.where(patched, other, scores)) - pattern) * weight).sum(-1)
            by_head = reduce(change, "clip (kv group) query -> clip query kv", "sum", kv=self.towards[place].shape[2])
            parts.append(where.per_pair(by_head.double().cpu().numpy(), self.n_pairs))
        return self._chosen(np.stack(parts, axis=1))

    def _integrated(self) -> Estimates:
        ours = self._unpatched(self.points)
        parts = []
        for place in self.keys:
            step = self._of_prompts(place, _difference(self.towards[place], ours[place]))
            mean = torch.zeros_like(step)
            for share, weight in _quadrature(self.steps):
                between = ours[place] + (share * step).to(ours[place])
                made = self._at(place, between)
                mean += weight * made.gradients()[place].float()
            parts.append(self._on_a_line(place, step * mean))
        return np.stack(parts)

    def _of_prompts(self, place: Place, step: Tensor) -> Tensor:
        """Zero a step at the words of a whole text, which are no place of the map."""
        if self.from_features or self.wanted.in_tower or not self.base.n_forced:
            return step
        axis = 2 if place[0] in ROW_POINTS else 1
        step.narrow(axis, step.shape[axis] - self.base.n_forced, self.base.n_forced).zero_()
        return step

    def _at(self, place: Place, there: Tensor, points: Sequence[HookPoint] = ()) -> Graph:
        """The base run with one hook point replaced, and the gradient at others, or there."""
        if place == FEATURES:
            return self._graph(points, with_features(self.model, self.base, there))
        point = HookPoint(place[0], layers=None if place[1] is None else [place[1]])
        return self._graph(points or [point], self.base, interventions=[Edit(point, lambda _: there)])

    def _along_inputs(self) -> Estimates:
        in_tower = self.from_features or self.wanted.in_tower
        ours = self._unpatched([*self.points] if in_tower else [*self.points, *({"embed"} - {self.wanted.name})])
        if in_tower:
            start = self.base.inputs[self.model.adapter.features]
            step = _difference(features_of(self.model, self.source, self.base), start)
        else:
            start = ours["embed", None]
            given = self.towards.get(("embed", None))
            if given is None:
                given = run(self.model, self.source, record=[HookPoint("embed")], logits=None).cache["embed"]
            step = _difference(given, start)
        mean = dict.fromkeys(self.keys, 0.0)
        for share, weight in _quadrature(self.steps):
            between = start + (share * step).to(start)
            made = self._at(FEATURES if in_tower else ("embed", None), between, self.points)
            gradients = made.gradients()
            mean = {place: mean[place] + weight * gradients[place].float() for place in self.keys}
        return np.stack(
            [self._on_a_line(place, _difference(self.towards[place], ours[place]) * mean[place]) for place in self.keys]
        )

    def _unpatched(self, record: Sequence[str | HookPoint]) -> dict[Place, Tensor]:
        """The run that is patched, as it is without a patch."""
        out = run(self.model, self.base, record=record, logits="last")
        self.objective.see_base(out.logits)
        if self.from_features:
            return {FEATURES: self.base.inputs[self.model.adapter.features]}
        return dict(out.cache)

    def _first_stack(self, stacks: Sequence[str]) -> int:
        """The list of layers that the patched place is in, or comes before."""
        if self.from_features or self.wanted.name == "projector_out":
            return 0
        return stacks.index(stack_of(self.wanted.name))

    def _with_dropping(self) -> Estimates:
        every = list(self.model.site_map.layers)
        parts = every[self._first_stack(every) :]
        gated = [
            (part, layer)
            for part in parts
            for layer, sites in enumerate(self.model.site_map.layers[part])
            if "attn_out" in sites or "mlp_out" in sites
        ]
        if len(gated) < 2:
            raise ValueError("'atp*' leaves out one layer after the other, and this network has only one")
        made = self._fixed_graph(gated)
        dropped = np.stack([self._estimates(made, made.gradients(without=layer)) for layer in gated])
        before = bare(self.wanted.name) in ("resid_pre", "resid_mid")
        estimates = []
        for index, layer in enumerate(self.wanted.layers):  # what lies in a layer has no gradient without it
            others = [number for number, other in enumerate(gated) if before or other != (parts[0], layer)]
            changed = dropped[others, index]
            sign = np.where(changed.mean(0) < 0, -1.0, 1.0)
            estimates.append(sign * np.abs(changed).mean(0))
        return np.stack(estimates)

    def _per_place(self, product: Tensor) -> Float[Tensor, "clip frame head"]:
        """Sums over whatever is neither a place nor a head (or a band)."""
        if self.from_features:
            return by_frame(self.model.adapter, product)
        point = bare(self.wanted.name)
        if point in ROW_POINTS:
            return reduce(product, "clip head query key -> clip query head", "sum")
        if point in HEAD_AXIS:
            return reduce(product, "clip frame head d -> clip frame head", "sum")
        return reduce(product, "clip frame d -> clip frame 1", "sum")

    def _chosen(self, numbers: Float[np.ndarray, "head place pair"]) -> Float[np.ndarray, "chosen place pair"]:
        """The heads of the map, or those that are patched together, summed."""
        if self.wanted.heads != [None]:
            return numbers[self.wanted.heads]
        together = self.wanted.heads_given
        return (numbers if together is None else numbers[list(together)]).sum(0, keepdims=True)


def _difference(source: Tensor, base: Tensor) -> Float[Tensor, "..."]:
    """Source minus base in single precision; nothing where they are equal, masked scores included."""
    return torch.where(source == base, 0.0, source.float() - base.float())


def _softmax(scores: Float[Tensor, "clip head query key"]) -> Float[Tensor, "clip head query key"]:
    return scores.softmax(-1).masked_fill(scores.isneginf().all(-1, keepdim=True), 0.0)


def _quadrature(steps: int) -> Iterator[tuple[float, float]]:
    """Places between 0 and 1 and their weights (Gauss and Legendre)."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    yield from zip(((places + 1) / 2).tolist(), (weights / 2).tolist(), strict=True)

"""Directions from silence to audio, question by question, and the interventions that steer along them.

"Audio-specialist heads" (arXiv 2603.06854), eq. 4-9. Every question runs twice, with its clip and with silence of the
same length, hence as many audio tokens; the difference at the last prompt position is what hearing adds there. Three
ways to add more of it:

- layer-guided: differences of the residual stream, averaged over layers by how many specialists each has, added to the
  last layer's output (eq. 4-6);
- from a single layer, as its comparison;
- head by head: differences of the specialists' outputs, added to the same heads (eq. 7-9).

Conventions: heads are `(layer, head)`; `resid_post` is the residual stream after a layer and before any norm; all
differences are audio minus silence, in float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float

from mechaudio.analyses.attention_and_answers import rows_of
from mechaudio.analyses.query_rows import query_rows
from mechaudio.analyses.specialist_heads import Head
from mechaudio.analyses.streaming import Questions, prepared_batches, required_questions
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.interventions.selecting import numbers
from mechaudio.interventions.steer import Steer
from mechaudio.interventions.steer_heads import SteerHeads
from mechaudio.metrics import checked
from mechaudio.metrics.clips import clip_numbers, questions_of
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import as_prompts
from mechaudio.models.silence import silenced
from mechaudio.results import Provenance, Result
from mechaudio.temporal.draws import digest
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run

Norm = Literal["pre", "post"]
Kind = TypeVar("Kind", Steer, SteerHeads)


def points(batch: PromptBatch, queries: str) -> tuple[HookPoint, ...]:
    """List the hook points that directions are differences of, at some rows of the prompts."""
    where, _ = query_rows(batch, queries)
    return tuple(HookPoint(name, positions=where) for name in ("resid_post", "z", "final_norm"))


@checks_arguments
def layer_weights(heads: Sequence[Head]) -> dict[int, float]:
    """Share of the heads that each layer has, of the layers that have one (eq. 4 and 5); the shares sum to 1.

    Raises:
        ValueError: No heads, or one that is named twice.
        TypeError: A layer or head that is not a whole number.
    """
    pairs = [numbers("heads", pair) for pair in heads]
    if not pairs or len(set(pairs)) < len(pairs) or any(pair is None or len(pair) != 2 for pair in pairs):
        raise ValueError(f"heads= lists (layer, head) pairs, at least one and each once; got {list(heads)}")
    counts = Counter(layer for layer, _ in heads)
    return {layer: counts[layer] / len(heads) for layer in sorted(counts)}


@dataclass(frozen=True, eq=False, kw_only=True)
class SteeringDirections(Result):
    """Audio minus silence at the last prompt position or in the mean over other rows, of every question.

    The methods give interventions with a direction for every question, in the order of `ids`: for a batch of some of
    the questions, take `of(ids)` first. `dataclasses.replace(intervention, keep_norm=True)` keeps a `Steer`'s length.

    Attributes:
        residual: Difference of the residual stream after each layer, before any norm.
        final_norm: Difference of the last layer's after the final norm.
        z: Difference of each head's output before the output projection (eq. 7), by layer; layers without attention are
            left out.
        ids: Ids of the questions.
        clips: Name of the clip of each question; without them, each is about a clip of its own.
        queries: The rows at which directions are differences; `last` is the paper's.
    """

    residual: Float[np.ndarray, "question layer d_model"]
    final_norm: Float[np.ndarray, "question d_model"]
    z: Mapping[int, Float[np.ndarray, "question head d_head"]]
    ids: tuple[str, ...]
    clips: tuple[str, ...] = ()
    queries: str = "last"

    _table_axes = ("question", "layer")
    _derived = ("norms",)

    @property
    def norms(self) -> Float[np.ndarray, "question layer"]:
        """Length of each direction of the residual stream."""
        return np.linalg.norm(self.residual, axis=-1)

    @staticmethod
    def concatenated(parts: Sequence[SteeringDirections], clips: Sequence[str] = ()) -> SteeringDirections:
        """Join the differences of several groups of questions, one behind another.

        Args:
            parts: Of each group.
            clips: Name of the clip of each question; a name depends on which questions are named together.

        Raises:
            ValueError: For ids that come twice.
        """
        first, ids = parts[0], tuple(name for part in parts for name in part.ids)
        checked.unique("questions", ids)
        return replace(
            first,
            residual=np.concatenate([part.residual for part in parts]),
            final_norm=np.concatenate([part.final_norm for part in parts]),
            z={layer: np.concatenate([part.z[layer] for part in parts]) for layer in first.z},
            ids=ids,
            clips=tuple(clips),
            provenance=replace(first.provenance, settings=dict(first.provenance.settings) | {"n": len(ids)}),
        )

    def of(self, ids: Sequence[str]) -> SteeringDirections:
        """Take the directions of some questions, in their order.

        Raises:
            ValueError: A question that there are no directions for.
        """
        known = {name: place for place, name in enumerate(self.ids)}
        unknown = [name for name in ids if name not in known]
        if unknown:
            raise ValueError(
                f"there are no directions for {n_of(len(unknown), 'question')} ({', '.join(map(repr, unknown[:3]))}): "
                "make them with ma.analyses.steering_directions(model, questions)"
            )
        places = [known[name] for name in ids]
        clips = tuple(self.clips[place] for place in places) if self.clips else ()
        return replace(self._at(places), ids=tuple(ids), clips=clips)

    def shuffled(self, seed: int = 0) -> SteeringDirections:
        """Give each direction to a question about another clip: a control for what is the question's own.

        Where more than half of the questions are about one clip, some directions are given twice.

        Raises:
            ValueError: There is no other clip.
        """
        n, rng = len(self.ids), np.random.default_rng(seed)
        clips = clip_numbers(self.clips or None, n)
        sizes = np.bincount(clips)
        if len(sizes) < 2:
            raise ValueError(
                f"to shuffle directions takes questions about at least 2 clips, got {questions_of(n, self.clips)}"
            )
        order = rng.permutation(n)
        first = np.full(len(sizes), n)
        np.minimum.at(first, clips[order], np.arange(n))
        order = order[np.argsort(first[clips[order]], kind="stable")]  # clip by clip
        given = np.empty(n, dtype=np.int64)
        given[order] = np.roll(order, sizes.max())  # as far as the largest clip: nobody gets one of their own clip
        for place in np.flatnonzero(clips[given] == clips):
            given[place] = rng.choice(np.flatnonzero(clips != clips[place]))
        return self._at(given.tolist())

    def layer_guided(self, heads: Sequence[Head], strength: float = 1.0, *, norm: Norm = "pre") -> Steer:
        """Steer the last layer's output along the layers' directions, weighted by their share of the heads (eq. 4-6).

        Args:
            heads: The specialists, or as a control as many random heads.
            strength: The paper's lambda; not comparable between the two norms, as states before and after the final
                norm differ in length.
            norm: `pre`: add to the residual stream before the final norm. `post`: add behind it, the last layer's
                direction being taken there too, which is what transformers' `hidden_states` give.

        Raises:
            ValueError: No heads, a head twice, a layer that there is not, or an unknown norm.
            TypeError: A layer or head that is not a whole number.
        """
        return self._steer(layer_weights(heads), strength, norm)

    def single_layer(self, layer: int, strength: float = 1.0, *, norm: Norm = "pre") -> Steer:
        """Steer the last layer's output along one layer's direction; arguments and errors as `layer_guided`."""
        return self._steer({checked.whole("layer", layer): 1.0}, strength, norm)

    def head_level(
        self, heads: Sequence[Head], strength: float = 1.0, *, share: Literal["sum", "heads", "layer"] = "sum"
    ) -> SteerHeads:
        """Steer each head along its own direction (eq. 7-9); what follows in the same forward pass is computed anew.

        Heads are steered at the rows that directions are differences at.

        Args:
            heads: The specialists, or as a control as many random heads.
            strength: The paper's lambda.
            share: `sum` adds every head's direction whole; `heads` divides by the number of heads, `layer` by the
                number of them in the same layer.

        Raises:
            ValueError: No heads, a head twice, one that there is not, or an unknown share.
            TypeError: A layer or head that is not a whole number.
        """
        weights = layer_weights(heads)
        if share not in ("sum", "heads", "layer"):
            raise ValueError(f"share= is 'sum', 'heads' or 'layer', got {share!r}")
        for layer, head in heads:
            if layer not in self.z or not 0 <= head < self.z[layer].shape[1]:
                raise ValueError(f"there is no head {head} in layer {layer}; layers with heads: {sorted(self.z)}")
        divisors = {
            layer: {"sum": 1.0, "heads": len(heads), "layer": weight * len(heads)}[share]
            for layer, weight in weights.items()
        }
        widest = max(self.z[layer].shape[-1] for layer in weights)
        directions = np.zeros((len(self.ids), len(heads), widest), dtype=np.float32)
        for place, (layer, head) in enumerate(heads):
            of_head = self.z[layer][:, head]
            directions[:, place, : of_head.shape[-1]] = of_head / np.float32(divisors[layer])
        return SteerHeads(directions, heads=tuple(heads), strength=strength, per_question=True, positions=self.queries)

    def random_direction(self, intervention: Kind, seed: int = 0) -> Kind:
        """An intervention of these questions with random directions of the same lengths in its directions' place.

        Directions are drawn from a Gaussian, by seed and question: a question's is the same in any batch.

        Raises:
            ValueError: It has directions for another number of questions.
        """
        name = "direction" if isinstance(intervention, Steer) else "directions"
        given = np.asarray(getattr(intervention, name))
        if len(given) != len(self.ids):
            raise ValueError(
                f"the intervention has directions for {n_of(len(given), 'question')}, and here are {len(self.ids)}"
            )
        drawn = np.stack(
            [
                np.random.default_rng(digest("random direction", seed, own)).standard_normal(given.shape[1:])
                for own in self.ids
            ]
        )
        if isinstance(intervention, SteerHeads):
            for place, (layer, _) in enumerate(intervention.heads):
                drawn[:, place, self.z[layer].shape[-1] :] = 0  # a head may be narrower than the widest
        size, drawn_size = (np.linalg.norm(one, axis=-1, keepdims=True) for one in (given, drawn))
        lengths = np.divide(size, drawn_size, out=np.zeros_like(drawn_size), where=drawn_size > 0)
        return replace(intervention, **{name: (drawn * lengths).astype(np.float32)})

    def _steer(self, weights: Mapping[int, float], strength: float, norm: Norm) -> Steer:
        if norm not in ("pre", "post"):
            raise ValueError(f"norm= is 'pre' or 'post' the final norm, got {norm!r}")
        last = self.residual.shape[1] - 1
        unknown = [layer for layer in weights if not 0 <= layer <= last]
        if unknown:
            raise ValueError(f"there is no layer {unknown[0]}: these directions are of layers 0 to {last}")
        share = np.zeros(last + 1, dtype=np.float32)
        share[list(weights)] = list(weights.values())
        behind = share[last] if norm == "post" else np.float32(0)
        share[last] -= behind
        direction = share @ self.residual + behind * self.final_norm
        where = {"layers": [last]} if norm == "pre" else {"hook_point": "final_norm"}
        return Steer(direction, strength, per="question", **where)

    def _at(self, places: Sequence[int]) -> SteeringDirections:
        return replace(
            self,
            residual=self.residual[places],
            final_norm=self.final_norm[places],
            z={layer: own[places] for layer, own in self.z.items()},
        )


@checks_arguments
def steering_directions(
    model: AudioLM,
    questions: Questions,
    *,
    queries: str = "last",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> SteeringDirections:
    """Measure what hearing adds at the last prompt position, in two forward passes per question.

    ```python
    directions = ma.analyses.steering_directions(model, questions)
    batch = ma.prompt(model, questions)
    ma.answer(model, batch, interventions=[directions.layer_guided(scores.top(20), strength=1.0)])
    ```

    What is kept takes layers x d_model x 8 bytes per question (1 MB for a model of 7 billion parameters).

    Args:
        model: The opened model.
        questions: Any number of them, open ones too, as no answer is measured, each with an id of its own. Clips are
            read ahead of the model.
        queries: The rows whose difference is taken, as in `attention_and_answers`; by default the last one, as
            published. Layer-guided steering adds at the last position whatever they are, as the answer is read there.
        batch_size: Questions per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions, for ids that are blank or come twice, a batch size below one, or a class in which
            silence makes another prompt.
    """
    questions, queries = rows_of(model, questions, queries, progress=progress)
    parts, keys = [], []
    make = partial(heard_and_silent, model)
    for _, prompts in prepared_batches(
        model, questions, make, batch_size=batch_size, what="audio and silence", progress=progress
    ):
        caches = [run(model, batch, record=points(batch, queries), logits=None).cache for batch in prompts]
        parts.append(directions_in(model, prompts, queries, *caches))
        keys += [clip_keys(question) for question in prompts[0].questions]
    every = SteeringDirections.concatenated(parts, clip_names(keys))
    return replace(every, provenance=Provenance.collect(model, settings=every.provenance.settings))


def heard_and_silent(model: AudioLM, asked: Questions) -> tuple[PromptBatch, PromptBatch]:
    """The prompts of some questions with their clips, and with silence of the same lengths.

    Raises:
        TypeError: A dict of the network's own inputs.
        ValueError: A class in which silence makes another prompt, or prompts that were not made with audio.
    """
    required_questions(asked)
    prompts = as_prompts(model, asked)
    return prompts, silenced(model, prompts)


def directions_in(
    model: AudioLM, prompts: tuple[PromptBatch, PromptBatch], queries: str, heard: Cache, silent: Cache
) -> SteeringDirections:
    """Subtract two runs of some questions that recorded `points`, in the mean over their rows, clips without names.

    Raises:
        ValueError: For ids that are blank or come twice.
    """
    ids = tuple(question.id for question in prompts[0].questions)
    if not all(ids):
        raise ValueError(
            "directions are found again by the questions' ids, and some have none: set AudioQuestion(id=...)"
        )
    checked.unique("questions", ids)
    shares = torch.from_numpy(query_rows(prompts[0], queries)[1]).float()

    def mean(key: tuple) -> np.ndarray:
        apart = (heard[key].float() - silent[key].float()).cpu()
        return (apart * shares.reshape(*shares.shape, *[1] * (apart.ndim - 2))).sum(1).numpy()

    attending = sorted(layer for name, layer in heard if name == "z" and layer is not None)
    return SteeringDirections(
        residual=np.stack([mean(("resid_post", layer)) for layer in range(model.n_layers)], axis=1),
        final_norm=mean(("final_norm", None)),
        z={layer: mean(("z", layer)) for layer in attending},
        ids=ids,
        queries=queries,
        provenance=Provenance.collect(model, settings={"n": len(ids), "queries": queries}),
    )

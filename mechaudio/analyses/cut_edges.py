"""The right answer with edges of the prompt cut, in windows of layers: what knock-outs between roles measure.

Conventions: an edge is (source, target), keys first, as information moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_and_answers import refuse_all_right, refuse_unknown
from mechaudio.analyses.patching.scale import value
from mechaudio.analyses.streaming import required_questions
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.interventions.knock_out import KnockOutAttention
from mechaudio.interventions.sweep import sweep
from mechaudio.metrics.choices import are_right, likeliest, refuse_nan, right_choices, warn_of_unanswered
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, select
from mechaudio.models.targets import Targets
from mechaudio.tracing.audio_lm import AudioLM

Edge = Annotated[
    tuple[str, str], "a pair of spans, such as ('audio', 'last')", "pairs of spans, such as ('audio', 'last')"
]
Windows = tuple[tuple[int, ...], ...]
ALL: Edge = ("audio", "behind")
"""The edge whose cut hides the sound from every row."""


@dataclass(frozen=True, eq=False)
class CutAnswers:
    """The right answer under every cut.

    Attributes:
        fields: Those of an `AttentionFlow` that are measured.
        there: Whether the prompt has both ends of the edge. Where it has not, nothing is cut: its answer is the one
            without a cut, and `attention` NaN.
    """

    fields: dict[str, Any]
    there: Bool[np.ndarray, "edge question"]

    def part(self, edges: Sequence[int], windows: slice) -> dict[str, Any]:
        """The fields, of some edges in some windows."""
        cut = {
            name: self.fields[name][list(edges), windows] for name in ("probability", "margin", "correct", "attention")
        }
        # Laid out as they are once they were kept: sums depend on it in the last bit.
        return self.fields | {name: np.ascontiguousarray(values) for name, values in cut.items()}


def cut_edges(
    model: AudioLM,
    batches: Iterable[PromptBatch],
    edges: Sequence[Edge],
    windows: Windows,
    targets: Targets,
    *,
    place: Callable[[PromptBatch, str], Where] = lambda batch, role: role,  # noqa: ARG005
) -> CutAnswers:
    """Cut each edge in each window of layers, in one sweep per batch.

    `place` gives the positions of a role in some prompts.

    Raises:
        ValueError: A question without a known answer or without a wrong choice, or words that cannot be measured.
        KeyError: A role that the prompts do not have.
    """
    attending = [layer for layer, sites in enumerate(model.site_map.layers["decoder"]) if "pattern" in sites]
    parts: list[dict[str, np.ndarray]] = []
    ids: list[str] = []
    keys: list[tuple[str, ...]] = []
    places: list[int] = []
    ends: list[np.ndarray] = []
    for prompts in batches:
        batch = targets.of(prompts)
        refuse_unknown(required_questions(batch, str(batch.condition)))
        refuse_all_right(batch.questions)
        places_of_edges = [(place(batch, source), place(batch, target)) for source, target in edges]
        there = np.array([_ends_meet(batch, source, target) for source, target in places_of_edges])
        before = len(places)
        kinds, kind_of_row = np.unique(there, axis=1, return_inverse=True)
        for number, kind in enumerate(kinds.T):
            rows = np.flatnonzero(kind_of_row.reshape(-1) == number).tolist()
            alike = batch if len(rows) == batch.n_rows else batch[rows]
            layers = [[layer for layer in window if layer in attending] for window in windows]
            variants = [
                [KnockOutAttention(layers=within, queries=place(alike, target), keys=place(alike, source))]
                if within and cut
                else []
                for (source, target), cut in zip(edges, kind, strict=True)
                for within in layers
            ]
            swept = sweep(model, alike, variants, progress=False)
            ends.append(there[:, rows])
            places += [before + row for row in rows]
            parts.append(_measured(swept.logits.numpy(), swept.clean.numpy(), alike, swept.mass_before.numpy()))
            ids += [question.id for question in alike.questions]
            keys += [clip_keys(question) for question in alike.questions]
    order = np.argsort(places)
    measured = {name: np.concatenate([part[name] for part in parts], axis=-1)[..., order] for name in parts[0]}
    shape = len(edges), len(windows), len(ids)
    fields: dict[str, Any] = {
        name: values if name.startswith("clean_") else values.reshape(shape) for name, values in measured.items()
    }
    fields |= {"ids": tuple(ids[place] for place in order), "clips": clip_names([keys[place] for place in order])}
    return CutAnswers(fields, there=np.concatenate(ends, axis=1)[:, order])


def _ends_meet(batch: PromptBatch, source: Where, target: Where) -> list[bool]:
    """Per prompt, whether it has both ends of an edge, and the target one position that can see the source."""
    ends = zip(select(batch, source), select(batch, target), strict=True)
    return [bool(keys and queries) and max(queries) > min(keys) for keys, queries in ends]


def _measured(
    logits: Float[np.ndarray, "variant question choice"],
    clean: Float[np.ndarray, "question choice"],
    batch: PromptBatch,
    attention: Float[np.ndarray, "variant question"],
) -> dict[str, np.ndarray]:
    """Probability, margin and being right, with and without a cut, and the attention that was cut."""
    questions = batch.questions
    right = right_choices([question.choices for question in questions], [question.answer for question in questions])
    unused, n_choices = np.zeros(len(right), dtype=np.int64), [len(question.choices) for question in questions]
    refuse_nan([question.id for question in questions], clean, n_choices, "the run without a cut")
    every = np.concatenate([logits, clean[None]])
    measures = {name: value(name, every, right, unused, clean) for name in ("probability", "margin")}
    chosen = likeliest(every, n_choices)
    warn_of_unanswered([question.id for question in questions], chosen)
    measures["correct"] = are_right(chosen, right)
    without = {f"clean_{name}": values[-1] for name, values in measures.items()}
    return {name: values[:-1] for name, values in measures.items()} | {"attention": attention.astype(float)} | without

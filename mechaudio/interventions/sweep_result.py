"""A sweep's result: logits under every variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechaudio.data.clip_names import clips_of
from mechaudio.labelled import choice_labels, grid_coordinates
from mechaudio.metrics import checked
from mechaudio.metrics.choices import NO_ANSWER, are_right, likeliest, margin, right_choices, warn_of_unanswered
from mechaudio.models.batch import PromptBatch
from mechaudio.results import Result, as_numpy, kept_or_written
from mechaudio.variants.execute import SHARED

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Sweep(Result):
    """The logits of every variant, at the last position.

    It is saved without the sound of its prompts: `batch` of a loaded sweep is to be read, not to be run again.

    Attributes:
        logits: `[variant, question, choice]` of the choices' letters, or of target and foil (of whole texts, their
            log-probabilities); `nan` where a question has fewer choices; of
            plain inputs `[variant, row, vocab]`. Of choices they are on the CPU in float32 or wider, of plain inputs
            as the network made them.
        clean: The same without any intervention, `[question, choice]` or `[row, vocab]`.
        variants: The interventions.
        ways: Per variant, `shared prefix`, or `one by one` and why.
        mass_before: Per variant and question, the share of attention on the keys that the variant acts on, in the mean
            over the layers, heads and query rows that it acts in (of the last row, if it acts in all); `nan` for one
            that does not change attention scores.
        mass_after: The same with the variant.
        batch: The prompts.
        axes: The parameters of a grid and their values; empty for a list of variants.
    """

    logits: Float[Tensor, "variant question choice"]
    clean: Float[Tensor, "question choice"]
    variants: tuple[tuple[Any, ...], ...]
    ways: tuple[str, ...]
    mass_before: Float[Tensor, "variant question"]
    mass_after: Float[Tensor, "variant question"]
    batch: PromptBatch
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self):
        """Check nothing before it is saved: interventions may hold functions."""

    def _as_kept(self) -> Sweep:
        """Write interventions that hold a function as their text."""
        variants = tuple(tuple(map(kept_or_written, variant)) for variant in self.variants)
        return replace(self, variants=variants, axes=kept_axes(self.axes))

    @property
    def _table_axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(self.axes or ("variant",)), "question" if self.batch.questions else "row")

    @property
    def accuracy(self) -> Float[np.ndarray, " variant"]:
        """The share of right answers of every variant.

        Raises:
            ValueError: As `correct`.
        """
        return self.correct.numpy().mean(1)

    @property
    def _tensor_labels(self) -> dict[str, str]:
        ids = ", ".join(question.id for question in self.batch.questions)
        return {**super()._tensor_labels, "ids": ids, "logits": "variant question choice", "clean": "question choice"}

    @property
    def clips(self) -> tuple[str, ...]:
        """Name of the clip of each question; without questions, none."""
        return clips_of(self.batch.questions) if self.batch.questions else ()

    @property
    def unanswered(self) -> Bool[Tensor, "variant question"]:
        """Questions without an answer under a variant, because logits of their choices are NaN or overflow."""
        return torch.from_numpy(self._chosen(self.logits) == NO_ANSWER)

    @property
    def correct(self) -> Bool[Tensor, "variant question"]:
        """The right answers: each variant's likeliest choice is right; not where there is no answer (`unanswered`).

        Raises:
            ValueError: The sweep was made from plain inputs, or a question has no known answer.
        """
        return self._is_right(self.logits)

    @property
    def clean_correct(self) -> Bool[Tensor, " question"]:
        """The right answers without any intervention."""
        return self._is_right(self.clean[None])[0]

    @property
    def margin(self) -> Float[Tensor, "variant question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where there is no answer (`unanswered`).

        Raises:
            ValueError: As `correct`, or all choices of a question are right.
        """
        return self._margin(self.logits)

    @property
    def clean_margin(self) -> Float[Tensor, " question"]:
        """The margin without any intervention."""
        return self._margin(self.clean[None])[0]

    def _margin(self, logits: Float[Tensor, "variant question choice"]) -> Float[Tensor, "variant question"]:
        right, asked = self._right().numpy(), self.batch.questions
        n_choices = [len(question.choices) for question in asked]
        checked.some_wrong([question.id for question in asked], n_choices, right)
        return torch.from_numpy(margin(logits.numpy(), right, n_choices))

    def _is_right(self, logits: Float[Tensor, "variant question choice"]) -> Bool[Tensor, "variant question"]:
        right, chosen = self._right().numpy(), self._chosen(logits)
        warn_of_unanswered([question.id for question in self.batch.questions], chosen)
        return torch.from_numpy(are_right(chosen, right))

    def _chosen(self, logits: Float[Tensor, "variant question choice"]) -> Int[np.ndarray, "variant question"]:
        if not self.batch.questions:
            raise ValueError("these are plain inputs, so there are no choices; use .logits")
        return likeliest(logits.numpy(), [len(question.choices) for question in self.batch.questions])

    def _right(self) -> Bool[Tensor, "question choice"]:
        """Which choices are right: a choice may stand there twice."""
        unknown = [question.id for question in self.batch.questions if question.answer is None]
        if not self.batch.questions or unknown:
            which = f"question {unknown[0]!r} has no known answer" if unknown else "these are plain inputs"
            raise ValueError(f"{which}, so there is no right choice; use .logits")
        questions = self.batch.questions
        return torch.from_numpy(
            right_choices([question.choices for question in questions], [question.answer for question in questions])
        )

    def to_xarray(self) -> xarray.Dataset:
        """Everything as a labelled dataset, with an axis for every parameter of a grid.

        Its variables are `logits`, `clean`, `mass_before` and `mass_after`; from questions with known answers also
        `correct`, `clean_correct`, `margin` and `clean_margin`. `sweep.to_xarray().correct.mean("question")` is the
        accuracy of every variant, and `ma.viz.sweep_map` draws it.

        Raises:
            ValueError: All choices of a question are right.
        """
        import xarray

        rows = "question" if self.batch.questions else "row"
        last = "choice" if self.batch.questions else "token"
        names = tuple(self.axes) or ("variant",)
        shape = tuple(len(values) for values in self.axes.values()) or (len(self.variants),)
        coords: dict[str, Any] = dict(grid_coordinates(self.axes, self.variants))
        if self.batch.questions:
            coords["question"] = [question.id for question in self.batch.questions]
            coords["clip"] = ("question", list(self.clips))
            coords["choice"] = list(choice_labels(self.provenance.settings, self.clean.shape[-1]))

        def per_variant(values: Tensor, *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
            return (*names, *dims), as_numpy(values).reshape(*shape, *values.shape[1:])

        variables = {
            "logits": per_variant(self.logits, rows, last),
            "clean": ((rows, last), as_numpy(self.clean)),
            "mass_before": per_variant(self.mass_before, rows),
            "mass_after": per_variant(self.mass_after, rows),
        }
        if self.batch.questions and all(question.answer is not None for question in self.batch.questions):
            variables["correct"] = per_variant(self.correct, rows)
            variables["clean_correct"] = ((rows,), self.clean_correct.numpy())
            variables["margin"] = per_variant(self.margin, rows)
            variables["clean_margin"] = ((rows,), self.clean_margin.numpy())
        return xarray.Dataset(variables, coords, self._attrs)

    def __repr__(self) -> str:
        """The size, and how many variants shared what comes before them."""
        axes = " x ".join(f"{len(values)} {name}" for name, values in self.axes.items())
        shared = self.ways.count(SHARED)
        size = axes or f"{len(self.variants)} variants"
        alone = len(self.variants) - shared
        lacking = int(self.unanswered.sum()) if self.batch.questions else 0
        ways = f"{shared} with a shared prefix, {alone} one by one" + (
            f", {lacking} answers are NaN" if lacking else ""
        )
        return f"<Sweep of {size} on {len(self.clean)} prompts: {ways}>"


def kept_axes(axes: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """The parameters of a grid as they are kept: lists as tuples, what holds a function as its text."""
    plain = {
        name: [tuple(value) if isinstance(value, (list, range)) else value for value in values]
        for name, values in axes.items()
    }
    return {name: tuple(map(kept_or_written, values)) for name, values in plain.items()}

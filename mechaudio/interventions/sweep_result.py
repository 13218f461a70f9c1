"""Results of many variants: the logits of a sweep, and the texts that are written under every variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.data.clip_names import clips_of
from mechaudio.interventions.grid import size_of
from mechaudio.labelled import choice_labels, grid_coordinates
from mechaudio.metrics import checked
from mechaudio.metrics.choices import NO_ANSWER, are_right, likeliest, margin, right_choices, warn_of_unanswered
from mechaudio.models.batch import PromptBatch
from mechaudio.results import Result, as_numpy, kept_or_written
from mechaudio.tracing.run_result import names_of
from mechaudio.variants.execute import SHARED

if TYPE_CHECKING:
    import xarray

#: Ids of new tokens, `[row, new token]`; every variant writes as many as it does.
Tokens = Int[Tensor, "row _"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class VariantsResult(Result):
    """What many variants make of the same prompts.

    It is saved without the sound of its prompts: `batch` of a loaded one is to be read, not to be run again.

    Attributes:
        variants: The interventions.
        ways: Per variant, `shared prefix`, or `one by one` and why.
        batch: The prompts.
        axes: The parameters of a grid and their values, or `variant` and the names of a dict; empty for a list.
    """

    variants: tuple[tuple[Any, ...], ...]
    ways: tuple[str, ...]
    batch: PromptBatch
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self):
        """Check nothing before it is saved: interventions may hold functions."""

    def _as_kept(self) -> VariantsResult:
        """Write interventions that hold a function as their text, and lists of a grid as tuples."""
        variants = tuple(tuple(map(kept_or_written, variant)) for variant in self.variants)
        plain = {
            name: [tuple(value) if isinstance(value, (list, range)) else value for value in values]
            for name, values in self.axes.items()
        }
        axes = {name: tuple(map(kept_or_written, values)) for name, values in plain.items()}
        return replace(self, variants=variants, axes=axes)

    @property
    def _prompt_axis(self) -> str:
        return "question" if self.batch.questions else "row"

    @property
    def _table_axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(self.axes or ("variant",)), self._prompt_axis)

    @property
    def _coordinates(self) -> dict[str, Any]:
        return dict(grid_coordinates(self.axes, self.variants))

    def _per_variant(self, values: np.ndarray, *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Values with an axis for every parameter of a grid in the place of the first one."""
        shape = [len(each) for each in self.axes.values()] or [len(self.variants)]
        return (*(self.axes or ("variant",)), *dims), values.reshape(*shape, *values.shape[1:])

    def __repr__(self) -> str:
        """The size, and how many variants shared what comes before them."""
        shared = self.ways.count(SHARED)
        return (
            f"<{type(self).__name__} of {self._size} on {n_of(self.batch.n_rows, 'prompt')}: {shared} with a shared "
            f"prefix, {len(self.variants) - shared} one by one{self._summary}>"
        )

    @property
    def _size(self) -> str:
        return n_of(len(self.variants), "variant")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Sweep(VariantsResult):
    """The logits of every variant, at the last position.

    Attributes:
        logits: `[variant, question, choice]` of the choices' letters, or of target and foil (of whole texts, their
            log-probabilities); `nan` where a question has fewer choices; of
            plain inputs `[variant, row, vocab]`. Of choices they are on the CPU in float32 or wider, of plain inputs
            as the network made them.
        clean: The same without any intervention, `[question, choice]` or `[row, vocab]`.
        mass_before: Per variant and question, the share of attention on the keys that the variant acts on, in the mean
            over the layers, heads and query rows that it acts in (of the last row, if it acts in all); `nan` for one
            that does not change attention scores.
        mass_after: The same with the variant.
    """

    logits: Float[Tensor, "variant question choice"]
    clean: Float[Tensor, "question choice"]
    mass_before: Float[Tensor, "variant question"]
    mass_after: Float[Tensor, "variant question"]

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

        rows, last = self._prompt_axis, "choice" if self.batch.questions else "token"
        coords = self._coordinates
        if self.batch.questions:
            coords["question"] = [question.id for question in self.batch.questions]
            coords["clip"] = ("question", list(self.clips))
            coords["choice"] = list(choice_labels(self.provenance.settings, self.clean.shape[-1]))
        variables = {
            "logits": self._per_variant(as_numpy(self.logits), rows, last),
            "clean": ((rows, last), as_numpy(self.clean)),
            "mass_before": self._per_variant(as_numpy(self.mass_before), rows),
            "mass_after": self._per_variant(as_numpy(self.mass_after), rows),
        }
        if self.batch.questions and all(question.answer is not None for question in self.batch.questions):
            variables["correct"] = self._per_variant(self.correct.numpy(), rows)
            variables["clean_correct"] = ((rows,), self.clean_correct.numpy())
            variables["margin"] = self._per_variant(self.margin.numpy(), rows)
            variables["clean_margin"] = ((rows,), self.clean_margin.numpy())
        return xarray.Dataset(variables, coords, self._attrs)

    @property
    def _size(self) -> str:
        return size_of({name: values for name, values in self.axes.items() if name != "variant"}) or super()._size

    @property
    def _summary(self) -> str:
        unanswered = int(self.unanswered.sum()) if self.batch.questions else 0
        return f", {n_of(unanswered, 'answer is', 'answers are')} NaN" if unanswered else ""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Generations(VariantsResult):
    """Greedy generations under every variant.

    Attributes:
        tokens: Per variant the ids of the new tokens, `[row, new token]`, padded with the padding id after a row's end.
        texts: Per variant the new tokens as text, one per prompt; `()` each without a processor.
        clean_tokens: The same without any intervention.
        clean_texts: The same without any intervention.
    """

    tokens: tuple[Tokens, ...]
    texts: tuple[tuple[str, ...], ...]
    clean_tokens: Tokens
    clean_texts: tuple[str, ...]

    def to_xarray(self) -> xarray.Dataset:
        """Return what was written as a labelled dataset, with an axis for every parameter of a grid.

        Its variables are `text` (or the token ids as a text, without a processor) and `clean_text`, and `changed`:
        whether the first differs from the second.
        """
        import xarray

        prompts = self._prompt_axis
        clean = np.array(_texts(self.clean_texts, self.clean_tokens))
        texts = np.array([_texts(*pair) for pair in zip(self.texts, self.tokens, strict=True)])
        data = {
            "text": self._per_variant(texts, prompts),
            "clean_text": (prompts, clean),
            "changed": self._per_variant(texts != clean, prompts),
        }
        return xarray.Dataset(data, self._coordinates | {prompts: names_of(self.batch)}, self._attrs)


def _texts(texts: tuple[str, ...], tokens: Tokens) -> list[str]:
    return list(texts) or [" ".join(map(str, row)) for row in tokens.tolist()]

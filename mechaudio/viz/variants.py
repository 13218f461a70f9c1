"""Common parts of figures of sweeps: variants and questions out of a labelled dataset, with the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.multiple_choice import accuracy
from mechaudio.metrics.significance import paired_difference

if TYPE_CHECKING:
    import xarray

_FROM = {
    "margin": "margins come from the letters' logits of questions with known answers, not from written answers",
    "mass_before": "attention masses are measured by ma.sweep, not by ma.evaluate",
    "mass_after": "attention masses are measured by ma.sweep, not by ma.evaluate",
}


@dataclass(frozen=True, eq=False)
class Variants:
    """The variants of a sweep in a row, whatever axes they have.

    Attributes:
        axes: Parameter -> the labels of its values.
        correct: Whether each question was answered right.
        clean_correct: The same without any intervention.
        names: Per variant, its parameters in words.
        clips: Name of the clip of each question; without them, each is about a clip of its own.
    """

    axes: dict[str, tuple[str, ...]]
    correct: Bool[np.ndarray, "variant question"]
    clean_correct: Bool[np.ndarray, " question"]
    names: tuple[str, ...]
    clips: tuple[str, ...] = ()

    @classmethod
    def of(cls, sweep: xarray.Dataset) -> Variants:
        """Take a dataset of `Sweep.to_xarray()` or `Comparison.to_xarray()` apart.

        Raises:
            TypeError: Something else.
            ValueError: The right answers are not known in it, or it has no question left.
        """
        if not hasattr(sweep, "data_vars"):
            raise TypeError(f"a figure of a sweep is drawn from sweep.to_xarray(), got {type(sweep).__name__}")
        if "correct" not in sweep or "question" not in sweep.correct.dims:
            held = ", ".join(map(str, sweep.data_vars))
            raise ValueError(
                "a figure of a sweep needs `correct` of every question: sweep questions with known answers, and take "
                f"no mean before; this dataset holds {held}"
            )
        if not sweep.sizes["question"]:
            raise ValueError("the dataset has no question left")
        names = [str(name) for name in sweep.correct.dims if name != "question"]
        axes = {name: tuple(_written(value) for value in sweep[name].values) for name in names}
        grid = np.indices([len(labels) for labels in axes.values()]).reshape(len(axes), -1).T
        words = (
            ", ".join(f"{name} {labels[index]}" for (name, labels), index in zip(axes.items(), point, strict=True))
            for point in grid
        )
        return cls(
            axes=axes,
            correct=in_rows(sweep, "correct"),
            clean_correct=sweep.clean_correct.values,
            clips=tuple(map(str, sweep["clip"].values)) if "clip" in sweep.coords else (),
            names=tuple(words),
        )

    @property
    def n(self) -> int:
        """The number of questions."""
        return len(self.clean_correct)

    def accuracies(self, confidence: float) -> list[Proportion]:
        """The share of right answers of every variant, with Wilson's interval."""
        return [accuracy(answers, clips=self.clips or None, confidence=confidence) for answers in self.correct]

    def changes(self, confidence: float) -> list[Estimate]:
        """Estimate the change against no intervention, question by question."""
        return [
            paired_difference(self.clean_correct, answers, clips=self.clips or None, confidence=confidence)
            for answers in self.correct
        ]


def labelled(sweep: Any) -> Any:
    """A `Sweep` or `Comparison` as a labelled dataset; a dataset as it is."""
    return sweep.to_xarray() if hasattr(sweep, "to_xarray") else sweep


def in_rows(
    sweep: xarray.Dataset, name: str
) -> Float[np.ndarray, "variant question"] | Bool[np.ndarray, "variant question"]:
    """One variable of a dataset with all its axes but the questions in one, in the order of a nested loop.

    Raises:
        ValueError: The dataset does not hold it, or not of every question.
    """
    if name not in sweep or "question" not in sweep[name].dims:
        held = ", ".join(map(str, sweep.data_vars))
        why = f": {_FROM[name]}" if name in _FROM else ""
        raise ValueError(f"this figure needs `{name}` of every question, and the dataset holds {held}{why}")
    values = sweep[name].transpose(..., "question").values
    return values.reshape(-1, values.shape[-1])


def excludes_zero(estimate: Estimate) -> bool:
    """Return whether the interval lies wholly above or wholly below zero."""
    return estimate.low > 0 or estimate.high < 0


def _written(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)

"""Texts written under many variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from mechaudio.interventions.sweep_result import SHARED, kept_axes
from mechaudio.labelled import grid_coordinates
from mechaudio.models.batch import PromptBatch
from mechaudio.results import Result, kept_or_written
from mechaudio.tracing.run_result import names_of

if TYPE_CHECKING:
    import xarray

#: Ids of new tokens, `[row, new token]`; every variant writes as many as it does.
Tokens = Int[Tensor, "row _"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Generations(Result):
    """Greedy generations under every variant.

    It is saved without the sound of its prompts: `batch` of a loaded one is to be read, not to be run again.

    Attributes:
        tokens: Per variant the ids of the new tokens, `[row, new token]`, padded with the padding id after a row's end.
        texts: Per variant the new tokens as text, one per prompt; `()` each without a processor.
        clean_tokens: The same without any intervention.
        clean_texts: The same without any intervention.
        variants: The interventions.
        ways: Per variant, `shared prefix`, or `one by one` and why.
        batch: The prompts.
        axes: The parameters of a grid and their values; empty for a list of variants.
    """

    tokens: tuple[Tokens, ...]
    texts: tuple[tuple[str, ...], ...]
    clean_tokens: Tokens
    clean_texts: tuple[str, ...]
    variants: tuple[tuple[Any, ...], ...]
    ways: tuple[str, ...]
    batch: PromptBatch
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self):
        """Check nothing before it is saved: interventions may hold functions."""

    def _as_kept(self) -> Generations:
        """Write interventions that hold a function as their text."""
        variants = tuple(tuple(map(kept_or_written, variant)) for variant in self.variants)
        return replace(self, variants=variants, axes=kept_axes(self.axes))

    @property
    def _table_axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(self.axes or ("variant",)), "question" if self.batch.questions else "row")

    def to_xarray(self) -> xarray.Dataset:
        """Return what was written as a labelled dataset, with an axis for every parameter of a grid.

        Its variables are `text` (or the token ids as a text, without a processor) and `clean_text`, and `changed`:
        whether the first differs from the second.
        """
        import xarray

        names = tuple(self.axes) or ("variant",)
        shape = tuple(len(values) for values in self.axes.values()) or (len(self.variants),)
        prompts = "question" if self.batch.questions else "row"
        clean = np.array(_texts(self.clean_texts, self.clean_tokens))
        texts = np.array([_texts(*pair) for pair in zip(self.texts, self.tokens, strict=True)])
        coords: dict[str, Any] = {**grid_coordinates(self.axes, self.variants), prompts: names_of(self.batch)}
        data = {
            "text": ((*names, prompts), texts.reshape(*shape, -1)),
            "clean_text": (prompts, clean),
            "changed": ((*names, prompts), (texts != clean).reshape(*shape, -1)),
        }
        return xarray.Dataset(data, coords, self._attrs)

    def __repr__(self) -> str:
        """The size, and how many variants shared what comes before them."""
        shared = self.ways.count(SHARED)
        return (
            f"<Generations of {len(self.variants)} variants on {self.batch.n_rows} prompts: {shared} with a shared "
            f"prefix, {len(self.variants) - shared} one by one>"
        )


def _texts(texts: tuple[str, ...], tokens: Tokens) -> list[str]:
    return list(texts) or [" ".join(map(str, row)) for row in tokens.tolist()]

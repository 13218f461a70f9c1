"""The metric that estimates take gradients of, read off the run that is patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechaudio.analyses.patching.pairs import Contrast, turned
from mechaudio.analyses.patching.scale import Metric, value
from mechaudio.models.grouping import part_of
from mechaudio.models.targets import forced_alike
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import ChoiceColumns, choice_logits
from mechaudio.tracing.run import measured_logits
from mechaudio.tracing.teacher_forced import is_whole, logits_of_texts, with_texts

if TYPE_CHECKING:
    from mechaudio.analyses.patching.effect_map import Direction


class Objective:
    """The metric of some pairs in the run that is patched, as a function of its logits.

    Where whole texts are measured, the prompts are run with all words of their targets behind them, and once more with
    those of their foils.

    Attributes:
        source: The prompts that activations are taken from, as they are run.
        base: Those that they are put into.
        pair: The pairs as they are run, without the words.
        n_pairs: How many pairs there are; each has `len(pair.ids) / n_pairs` rows.
    """

    def __init__(self, model: AudioLM, pair: Contrast, direction: Direction, metric: Metric):
        self._model, self._given = model, pair
        self._direction: Direction = direction
        self._metric: Metric = metric
        self._sides = self.source, self.base = pair.sides(direction)
        self.pair, self.n_pairs = pair, pair.clean.n_rows
        self._whole = is_whole(pair.clean)
        if self._whole:
            self.base = with_texts(model.adapter, self.base)
            rows = [*range(self.n_pairs)] * (self.base.n_rows // self.n_pairs)
            self.pair = Contrast(*(part_of(model.adapter, side, rows) for side in (pair.clean, pair.corrupted)))
            self.source = forced_alike(self.pair.sides(direction)[0], self.base)
        self._wrong: Int[np.ndarray, " pair"] | None = None

    def see_source(self, logits: Float[Tensor, "row 1 vocab"]) -> None:
        """Note the answers of the run that activations are taken from, given its last logits."""
        self._theirs = self._measured(0, logits)

    def see_base(self, logits: Float[Tensor, "row 1 vocab"]) -> None:
        """Note the answers of the run that is patched, given its last logits."""
        self._note(self._measured(1, logits))

    def _measured(self, side: int, logits: Float[Tensor, "row 1 vocab"]) -> Float[np.ndarray, "pair choice"]:
        if self._whole:
            return measured_logits(self._model, self._sides[side])
        return choice_logits(self._sides[side], logits[:, -1])

    def _note(self, unchanged: Float[np.ndarray, "pair choice"]) -> Int[np.ndarray, " pair"]:
        """Keep the answers of the run that is patched, and which wrong choices are compared with."""
        self._unchanged = unchanged
        self._wrong = self._given.wrong(*turned(self._direction, self._theirs, unchanged))
        return self._wrong

    def __call__(self, logits: Float[Tensor, "row word vocab"]) -> Float[Tensor, " pair"]:
        """Read the metric of every pair off the run that is patched, or off one on the way to the other."""
        numbers = self._read(logits.double(), -torch.inf)
        wrong = self._wrong
        if wrong is None:
            seen = logits.detach()
            wrong = self._note(
                self._read(seen.double(), torch.nan).cpu().numpy()
                if self._whole
                else choice_logits(self.base, seen[:, -1])
            )
        return differentiable(self._metric, numbers, self._given.right, wrong)

    def _read(self, logits: Float[Tensor, "row word vocab"], lacking: float) -> Float[Tensor, "pair choice"]:
        if self._whole:
            return logits_of_texts(self._sides[1], logits, lacking=lacking)
        columns = ChoiceColumns(self.base, self._given.right.shape[1], logits.device)
        return columns.of(logits[:, -1], lacking)

    def ends(self) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
        """Return the metric in the clean and in the corrupted runs, once both are seen."""
        assert self._wrong is not None, "the base was run"
        clean, corrupted = turned(self._direction, self._theirs, self._unchanged)
        of_clean, of_corrupted = (
            value(self._metric, side, self._given.right, self._wrong, clean) for side in (clean, corrupted)
        )
        return of_clean, of_corrupted


def differentiable(
    metric: Metric,
    logits: Float[Tensor, "pair choice"],
    right: Bool[np.ndarray, "pair choice"],
    wrong: Int[np.ndarray, " pair"],
) -> Float[Tensor, " pair"]:
    """Compute `scale.value` with a gradient, of logits that are minus infinity where there is no such choice.

    Raises:
        ValueError: A metric that has no gradient.
    """
    is_right = torch.from_numpy(right).to(logits.device)
    of_right = logits.masked_fill(~is_right, -torch.inf).amax(-1)
    if metric == "logit_difference":
        return of_right - logits.gather(1, torch.from_numpy(wrong).to(logits.device)[:, None])[:, 0]
    if metric == "margin":
        return of_right - logits.masked_fill(is_right, -torch.inf).amax(-1)
    if metric == "probability":
        return logits.softmax(-1).masked_fill(~is_right, 0.0).sum(-1)
    raise ValueError(f"metric {metric!r} has no gradient")

"""The variants of a job: chunks of those that share the pass of the prompts, and why the others run one by one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from mechaudio.interventions.fronts import behind_fronts
from mechaudio.interventions.jobs import chunks_of
from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.shared_prefix import Prefix
from mechaudio.tracing.suffixes import Suffixes
from mechaudio.tracing.variants import Variant, take_apart

_BEFORE = "it changes more than the last position, and a clean run keeps that one only"


class TakenApart:
    """Variants as changes of single hook points, in chunks that run together.

    Attributes:
        taken: By their places among all, the variants that share, and why the others run one by one. Known once the
            pass of the prompts is under way; of those that change something before the decoder, once they have run.
    """

    def __init__(
        self,
        model: AudioLM,
        batch: PromptBatch,
        variants: Mapping[int, Sequence[Intervention]],
        budget: float,
        *,
        clean: Prefix | None = None,
        keeps: bool = False,
    ):
        """Hold the variants; they are taken apart when the first chunks are asked for.

        Args:
            model: The opened model.
            batch: The prompts.
            variants: Their interventions, by place.
            budget: Bytes, of which half are for a chunk.
            clean: What a clean run left behind, where the prompts ran before.
            keeps: Whether keys and values of variants are kept.
        """
        self.model, self.batch, self.variants, self.budget = model, batch, variants, budget
        self.clean, self.keeps = clean, keeps
        self.taken: dict[int, Variant | str] = {}
        self._chosen: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def chunks(self) -> list[Suffixes]:
        """Those that change nothing before the decoder; the first chunk rides along if the prompts have yet to run."""
        known: dict[Hashable, Any] = {}
        for index, one in self.variants.items():
            variant = take_apart(self.model, self.batch, index, one, known)
            early = isinstance(variant, Variant) and self.clean is not None and variant.start < self._kept(self.clean)
            self.taken[index] = _BEFORE if early else variant
        together = self._together([one for one in self._shared() if not one.front], self.budget)
        riding = self.clean is None
        return [self._suffixes(chunk, riding=riding and turn == 0) for turn, chunk in enumerate(together)]

    def rows_later(self) -> int:
        """How many rows the others have at most."""
        return self.batch.n_positions - min((one.start for one in self._with_front()), default=self.batch.n_positions)

    def chunks_behind_fronts(self, prefix: Prefix) -> Iterator[Suffixes]:
        """Those that change something before the decoder, which is computed here.

        Args:
            prefix: What the clean run left behind.
        """
        for made in behind_fronts(self.model, self.batch, self._with_front(), prefix, self.budget / 4):
            self.taken.update(made)
            for chunk in self._together([one for one in made.values() if isinstance(one, Variant)], self.budget / 2):
                yield self._suffixes(chunk, riding=False)

    def alone(self) -> dict[int, str]:
        """Those that run one by one, and why."""
        return {index: why for index, why in self.taken.items() if isinstance(why, str)}

    def _shared(self) -> list[Variant]:
        return [one for one in self.taken.values() if isinstance(one, Variant)]

    def _with_front(self) -> list[Variant]:
        return [one for one in self._shared() if one.front]

    def _kept(self, clean: Prefix) -> int:
        """The first position that a clean run kept."""
        return self.batch.n_positions - clean.n_rows

    def _together(self, variants: Sequence[Variant], budget: float) -> Iterator[list[Variant]]:
        return chunks_of(self.model, self.batch, variants, budget, keeps=self.keeps)

    def _suffixes(self, chunk: Sequence[Variant], *, riding: bool) -> Suffixes:
        return Suffixes(self.batch, chunk, self.model.network.dtype, riding=riding, known=self._chosen)

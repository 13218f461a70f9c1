"""A control: the same change of attention, on as many keys of text as there are of audio, drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mechaudio.interventions.selecting import AttentionIntervention, Heads, Value
from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.score_edit import ScoreEdit

_TEXT = ("caption", "question", "choices", "template")


@dataclass(frozen=True, repr=False, eq=False)
class OnTextKeys(Value):
    """An intervention on attention to audio, made on attention to text instead.

    Of the prompt's tokens of text, as many are drawn as the clip has audio tokens; all of them, where there are fewer.
    The draw depends on the seed and the question alone, not on the batch.

    Attributes:
        intervention: What is done to the scores, in which layers, heads and query rows.
        seed: Seed of the draw.
    """

    intervention: AttentionIntervention
    seed: int = 0

    @property
    def _sentence(self) -> str:
        return f"{self.intervention}; on as many tokens of text in place of its keys"

    @property
    def heads(self) -> Heads:
        """The heads that it acts in, `None` for all."""
        return self.intervention.heads

    def edits(self, model: AudioLM, batch: PromptBatch) -> Iterable[ScoreEdit]:
        """The intervention's own, on the keys that are drawn."""
        keys = []
        for row, question in enumerate(batch.questions):
            text = sorted(position for role in _TEXT for position in batch.spans.get(role, ((),) * batch.n_rows)[row])
            first = text[0]  # counted from there, a draw is the same whatever the padding
            drawn = hashlib.sha256(f"{self.seed} {question.id} {question.text}".encode()).digest()[:8]
            rng = np.random.default_rng(int.from_bytes(drawn, "big"))
            n = min(len(batch.spans["audio"][row]), len(text))
            chosen = rng.choice(np.array(text) - first, size=n, replace=False) + first
            keys.append(tuple(int(position) for position in np.sort(chosen)))
        return replace(self.intervention, keys=tuple(keys)).edits(model, batch)

    def of_rows(self, rows: Sequence[int]) -> OnTextKeys:  # noqa: ARG002 - drawn anew, and the same, for any rows
        """Return this intervention: it is the same for some prompts."""
        return self

"""Knock-out: some queries do not see some keys."""

from __future__ import annotations

from dataclasses import dataclass

from mechaudio.interventions.selecting import AttentionIntervention, placed
from mechaudio.tracing.formulas import Block, Formula


@dataclass(frozen=True, repr=False, eq=False)
class KnockOutAttention(AttentionIntervention):
    """Keep some queries from seeing some keys; the attention of those is shared out among the keys that are left.

    Attention knock-out of Geva et al. 2023, Dissecting Recall of Factual Associations. A query that sees no key any
    more attends to nothing: its heads give zeros.

    ```python
    ma.KnockOutAttention(layers=range(4, 8), queries="last", keys="audio[1.0:2.5]")
    ```
    """

    @property
    def _sentence(self) -> str:
        return f"Keeps {placed(self.keys)} from being seen by {self._place}"

    @property
    def formula(self) -> Formula:
        """Minus infinity."""
        return Block()

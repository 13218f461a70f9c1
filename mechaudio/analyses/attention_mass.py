"""The share of attention on each role of token, for every query and head at once, at the price of fused attention.

No score matrix is made. One indicator column per role is appended to the values of each layer: the fused kernel's extra
output columns are then the sums of the attention weights over the role's keys.

Conventions: shares of one query over all roles sum to 1, up to the network's own precision (3e-3 in bf16, 1e-6 in
fp32).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange
from jaxtyping import Float

from mechaudio.analyses.audio_attention import roles_of
from mechaudio.analyses.streaming import Questions
from mechaudio.arguments import checks_arguments
from mechaudio.models.prompt import as_prompts
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionMass(Result):
    """Attention of every query on each role.

    Attributes:
        mass: Share of each query's attention on each role; NaN at padding and in layers without attention.
        roles: Names of the roles.
        query_role: Per question and position, the role of the query itself; `""` at padding.
        ids: Ids of the questions.
    """

    mass: Float[np.ndarray, "question layer head position role"]
    roles: tuple[str, ...]
    query_role: tuple[tuple[str, ...], ...]
    ids: tuple[str, ...]

    _table_axes = ("question", "layer", "head", "position")
    _labels = (("query_role", ("question", "position")),)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row per question, layer, head and query, without padding."""
        table = super().to_pandas()
        return table[table["query_role"] != ""].reset_index(drop=True)

    def between(self) -> Float[np.ndarray, "question layer head from_role to_role"]:
        """Mean attention from the queries of each role to the keys of each; NaN where a question lacks the role."""
        flows = []
        for question, names in enumerate(self.query_role):
            rows = [np.array(names) == role for role in self.roles]
            missing = np.full((*self.mass.shape[1:3], len(self.roles)), np.nan)
            flows.append(
                np.stack([self.mass[question][:, :, row].mean(2) if row.any() else missing for row in rows], axis=2)
            )
        return np.stack(flows)


@checks_arguments
def attention_mass(model: AudioLM, questions: Questions, *, condition: str = "audio") -> AttentionMass:
    """Measure, for every query of every prompt, the share of attention on each role of token.

    Args:
        model: The opened model.
        questions: Questions, prompts, or a dict of the network's own inputs.
        condition: What the model is given, where questions are asked; see `ma.prompt`.

    Returns:
        The shares of all queries, layers and heads.
    """
    batch = as_prompts(model, questions, condition)
    roles = roles_of(batch)
    out = run(model, batch, record=[HookPoint("mass", keys=roles)], logits="last")
    mass = rearrange(
        out.cache.stack("mass", missing=math.nan).float().cpu().numpy(),
        "layer question head query role -> question layer head query role",
    )
    names = np.full((batch.n_rows, batch.n_positions), "", dtype=object)
    for role in roles:
        names[batch.span_mask(role).cpu().numpy()] = role
    padding = rearrange(names == "", "question query -> question 1 1 query 1")
    return AttentionMass(
        mass=np.where(padding, np.nan, mass),
        roles=roles,
        query_role=tuple(tuple(row) for row in names),
        ids=tuple(question.id for question in batch.questions) or tuple(str(row) for row in range(batch.n_rows)),
        provenance=Provenance.collect(model, settings={"condition": batch.condition}),
    )

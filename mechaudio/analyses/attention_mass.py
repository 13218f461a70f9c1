"""The share of attention on each role of token, for every query and head at once, at the price of fused attention.

No score matrix is made. One indicator column per role is appended to the values of each layer: the fused kernel's extra
output columns are then the sums of the attention weights over the role's keys.

Conventions: shares of one query over all roles sum to 1, up to the network's own precision (3e-3 in bf16, 1e-6 in
fp32).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange
from jaxtyping import Float

from mechaudio.analyses.audio_attention import ROLES, roles_of
from mechaudio.analyses.streaming import Questions, batches_of, concatenated
from mechaudio.arguments import checks_arguments
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
def attention_mass(
    model: AudioLM,
    questions: Questions,
    *,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AttentionMass:
    """Measure, for every query of every prompt, the share of attention on each role of token.

    Args:
        model: The opened model.
        questions: Questions, prompts, or a dict of the network's own inputs.
        condition: What the model is given, where questions are asked; see `ma.prompt`.
        batch_size: Questions per forward pass; by default as many as fit.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The shares of all queries, layers and heads.

    Raises:
        ValueError: Without questions.
    """
    batches = batches_of(model, questions, condition, batch_size=batch_size, what="attention mass", progress=progress)
    masses, names, ids, given = [], [], [], set[Any]()
    for batch in batches:
        present = roles_of(batch)
        out = run(model, batch, record=[HookPoint("mass", keys=present)], logits="last")
        mass = rearrange(
            out.cache.stack("mass", missing=math.nan).float().cpu().numpy(),
            "layer question head query role -> question layer head query role",
        )
        name = np.full((batch.n_rows, batch.n_positions), "", dtype=object)
        every = 0 * np.repeat(mass[..., :1], len(ROLES), axis=-1)  # NaN in layers without attention
        for role in present:
            name[batch.span_mask(role).cpu().numpy()] = role
            every[..., ROLES.index(role)] = mass[..., present.index(role)]
        padding = rearrange(name == "", "question query -> question 1 1 query 1")
        masses.append(np.where(padding, np.nan, every))
        names.append(name)
        ids += [question.id for question in batch.questions] or [str(row) for row in range(batch.n_rows)]
        given.add(batch.condition)
    query_role = concatenated(names, "", in_front=True)
    roles = tuple(role for role in ROLES if (query_role == role).any())
    return AttentionMass(
        mass=concatenated([mass[..., [ROLES.index(role) for role in roles]] for mass in masses], np.nan, in_front=True),
        roles=roles,
        query_role=tuple(tuple(map(str, row)) for row in query_role),
        ids=tuple(ids),
        provenance=Provenance.collect(model, settings={"condition": given.pop()}),
    )

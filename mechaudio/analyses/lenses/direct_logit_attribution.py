"""Direct logit attribution: what each part of the network writes towards one token and away from another.

The last row's residual stream is a sum: what entered the first layer, and what each layer's attention and MLP added.
With the length that the final norm divides by frozen at what it was, norm and unembedding are linear, and the
difference of two logits is the sum of these parts' own differences (Elhage et al., *A Mathematical Framework for
Transformer Circuits*, 2021; Wang et al., arXiv 2211.00593). What attention added is further the sum of its heads,
through the output projection, and a head at the last row the sum over the keys it looks at of pattern x value: by role
of the key, and for audio by second.

How parts are found. What attention added is `resid_mid - resid_pre`, and what the MLP added `resid_post - resid_mid`:
norms behind attention and MLP and multipliers are thereby inside, and so is, in the MLP's part, all else that a class
adds behind attention (Gemma 4's per-layer inputs). Where a class scales its whole stream at the end of a layer, or
before something is added to it (Muse Spark's gates), all earlier parts are scaled with it. A layer without `resid_mid`
adds one part, that of its mixer. A norm behind attention is frozen like the final one before it is divided among heads,
and so is what heads are multiplied by in front of the output projection. A softcap of logits is no sum: what is
explained is the difference before it.

Conventions: logits, in double precision; NaN where a layer has no such part; seconds; all at the last position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mechaudio.analyses.audio_attention import in_seconds, roles_of
from mechaudio.analyses.lenses.parts import attribute
from mechaudio.analyses.streaming import Questions, batches_of, concatenated
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.metrics.ranking import largest_first
from mechaudio.models.targets import OTHERS, Targets, Words, refuse_whole
from mechaudio.models.tokens import token_id, token_text
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.unembedding import refuse_several_streams


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectLogitAttribution(Result):
    """The difference of two logits at the last position of each question, as a sum.

    `embed`, `attention`, `mlp`, `mixer` and `constant` sum to `explained`; `heads` and `attention_bias` of a layer to
    its `attention`; `by_role` of a head to the head; `over_time` to its part of the role `audio`.

    Attributes:
        towards: The token whose logit is counted for, per question.
        away: The one whose logit is counted against; blank where the first stands alone.
        logit_difference: Between the two in the network's logits, before a softcap.
        capped_difference: The same behind the softcap; equal to it where there is none.
        explained: The sum of all parts.
        embed: What entered the first layer.
        attention: What each layer's attention added.
        mlp: What its MLP added.
        mixer: What a layer without attention and MLP added, such as a Mamba block.
        constant: The unembedding's biases.
        heads: Each head's share of what attention added.
        attention_bias: The output projection's bias.
        by_role: Each head's, by role of the key that it came from.
        roles: Names of the roles.
        over_time: Each head's, by audio token; 0 past a question's last.
        n_tokens: Audio tokens of each question.
        edges: Seconds at which audio tokens begin and end; NaN past the last.
        ids: Ids of the questions.
        texts: Texts of the questions.
        clips: Name of the clip of each question, a cluster in every interval; without them, each is about a clip of its
            own.
    """

    towards: tuple[str, ...]
    away: tuple[str, ...]
    logit_difference: Float[np.ndarray, " question"]
    capped_difference: Float[np.ndarray, " question"]
    explained: Float[np.ndarray, " question"]
    embed: Float[np.ndarray, " question"]
    attention: Float[np.ndarray, "question layer"]
    mlp: Float[np.ndarray, "question layer"]
    mixer: Float[np.ndarray, "question layer"]
    constant: Float[np.ndarray, " question"]
    heads: Float[np.ndarray, "question layer head"]
    attention_bias: Float[np.ndarray, "question layer"]
    by_role: Float[np.ndarray, "question layer head role"]
    roles: tuple[str, ...]
    over_time: Float[np.ndarray, "question layer head token"]
    n_tokens: Int[np.ndarray, " question"]
    edges: Float[np.ndarray, "question edge"]
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    clips: tuple[str, ...] = ()

    _table_axes = ("question", "layer", "head")
    _labels = (("towards", "question"), ("away", "question"))

    def __repr__(self) -> str:
        """How much was divided among how many."""
        questions, layers, heads = self.heads.shape
        return (
            f"<DirectLogitAttribution of a mean logit difference of {self.logit_difference.mean():+.2f} on "
            f"{n_of(questions, 'question')} among {n_of(layers, 'layer')} of {n_of(heads, 'head')}>"
        )

    def role(self, name: str) -> Float[np.ndarray, "question layer head"]:
        """Return the part that came from keys of one role.

        Raises:
            KeyError: No such role.
        """
        if name not in self.roles:
            raise KeyError(f"no role {name!r}; these prompts have {list(self.roles)}")
        return self.by_role[..., self.roles.index(name)]

    def per_second(self, question: int = 0) -> Float[np.ndarray, "layer head second"]:
        """Return the part from each whole second of one question's clip; the last second may be shorter."""
        n = int(self.n_tokens[question])
        if not n:
            raise ValueError(
                f"question {question} has no sound whose tokens follow one another in time, so nothing can be said to "
                "come from a second of it"
            )
        return in_seconds(self.over_time[question, :, :, :n], self.edges[question, : n + 1])

    def top_heads(self, k: int = 5) -> list[tuple[int, int]]:
        """The heads with the largest mean contribution over questions, towards or away, as `(layer, head)`."""
        mean = self.heads.mean(axis=0)
        largest = largest_first(np.abs(mean))[:k]
        return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(largest, mean.shape), strict=True)]


@checks_arguments
def direct_logit_attribution(
    model: AudioLM,
    questions: Questions,
    *,
    target: Words = None,
    foil: Words = None,
    between: tuple[str | int, str | int] | None = None,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> DirectLogitAttribution:
    """Divide a difference of two logits among the parts of the network that wrote it.

    ```python
    written = ma.analyses.direct_logit_attribution(model, batch)            # right minus best wrong choice
    written.mlp, written.heads, written.role("audio"), written.per_second(0)
    ma.analyses.direct_logit_attribution(model, batch, between=("dog", "rain"))
    ```

    It names who *wrote* the answer at the last row, not who found it: a head whose output a later layer turns into
    letters has no direct effect, however much depends on it. Patching and knock-out say that.

    Args:
        model: The opened model.
        questions: Prompts, a dict of the network's own inputs, or questions.
        target: Words to count for, by their first token, for all questions or one text per question
            (`PromptBatch.aimed`); of open questions, their answer by default.
        foil: Words to count against, likewise; without any, the target's logit by itself is divided.
        between: The token to count for and the one to count against, as ids or text, of any prompts; by default target
            and foil, or the right choice's letter and that of the wrong choice with the highest logit.
        condition: Condition of the questions.
        batch_size: Number of questions in a batch; values of every position are kept, as in a key-value cache.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: A question without a known answer or a dict of inputs, without `between`; text of `between` that is
            not one token; both `target` and `between`; words that cannot be measured; or forward hooks of others on
            attention, its output projection or the unembedding.
        NotImplementedError: The decoder has several residual streams.
        TypeError: Its norms are no RMS norms, or the output projections and the unembedding no linear layers.
    """
    refuse_several_streams(model, "a layer predicts and corrects all of them together")
    pair = None if between is None else (token_id(model, between[0]), token_id(model, between[1]))
    if pair is not None and (target is not None or foil is not None):
        raise ValueError("target= and foil= say which words to compare, and so does between=: give one of them")
    targets = Targets(target, foil, required=pair is None)
    parts: list[dict[str, np.ndarray]] = []
    roles: list[tuple[str, ...]] = []
    tokens: list[tuple[int, int]] = []
    ids: list[str] = []
    texts: list[str] = []
    keys: list[tuple[str, ...]] = []
    for batch in batches_of(
        model, questions, condition, batch_size=batch_size, what="direct logit attribution", progress=progress
    ):
        batch = batch if pair is not None else targets.of(batch)
        refuse_whole(
            batch, "direct_logit_attribution", "name words that differ in it; attribution_patching takes whole texts"
        )
        arrays, pairs = attribute(model, batch, pair)
        parts.append(arrays)
        tokens += pairs
        roles.append(roles_of(batch))
        ids += [question.id for question in batch.questions] or [str(row) for row in range(batch.n_rows)]
        texts += [question.text for question in batch.questions] or [""] * batch.n_rows
        keys += [clip_keys(question) for question in batch.questions]
    named = tuple(dict.fromkeys(role for batch_roles in roles for role in batch_roles))
    for part, batch_roles in zip(parts, roles, strict=True):
        whole = np.zeros((*part["by_role"].shape[:3], len(named)))
        whole[..., [named.index(role) for role in batch_roles]] = part["by_role"]
        part["by_role"] = whole
    settings = {"between": between, "condition": condition}
    return DirectLogitAttribution(
        towards=tuple(token_text(model, one) for one, _ in tokens),
        away=tuple("" if other == OTHERS else token_text(model, other) for _, other in tokens),
        roles=named,
        ids=tuple(ids),
        texts=tuple(texts),
        clips=clip_names(keys),
        provenance=Provenance.collect(model, settings=settings | (targets.settings() if pair is None else {})),
        **{name: concatenated([part[name] for part in parts], np.nan if name == "edges" else 0) for name in parts[0]},
    )

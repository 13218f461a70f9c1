"""Attention by place in a prompt, and by moment in the recording.

For chosen query rows (the last by default: the row the answer is read from), the share of attention on each role of
token, per layer and head, and its distribution over the audio tokens, in seconds. Only these rows are computed: memory
grows with the prompt's length, not with its square. For every query at once see `attention_mass`.

Conventions: shares of one query row over all roles sum to 1; several query rows are averaged first; seconds from the
start of the clip; entropy in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from mechaudio.analyses.query_rows import query_rows
from mechaudio.analyses.streaming import Questions, batches_of, concatenated
from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import Event
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.models.batch import PromptBatch
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run

#: Roles of tokens, in the order of figures and tables; together they cover a prompt, each position once.
ROLES = ("audio", "audio_padding", "transcript", "caption", "history", "question", "choices", "template", "text")


@dataclass(frozen=True, eq=False, kw_only=True)
class EventFocus:
    """How much of the audio attention falls inside events.

    Attributes:
        question: Index of the question that each event belongs to.
        label: The event's label.
        inside: Share of the *audio* attention inside the event's interval.
        chance: Share of the clip's audio tokens inside the interval: what evenly spread attention would give.
    """

    question: Int[np.ndarray, " event"]
    label: tuple[str, ...]
    inside: Float[np.ndarray, "event layer head"]
    chance: Float[np.ndarray, " event"]


@dataclass(frozen=True, eq=False, kw_only=True)
class AudioAttention(Result):
    """Attention of chosen query rows, per question, layer and head; NaN in layers without attention.

    Attributes:
        mass: Share of attention on each role of token; sums to 1 over roles.
        roles: Names of the roles.
        over_time: Attention on each audio token; 0 past a question's last one.
        n_tokens: Audio tokens of each question.
        edges: Seconds at which audio tokens begin and end; NaN past the last, and where tokens hear several stretches
            each or have no time.
        duration: Seconds of sound that the model was given; for a dict of inputs, the end of its audio tokens. Tokens
            past it hear padding.
        entropy: Entropy of the distribution over the tokens that hear the clip, not the padding behind it, in nats.
        peak: Middle of the most attended one of these tokens, in seconds; NaN where it has no one time.
        events: Labelled events of each clip.
        ids: Ids of the questions.
        texts: Their texts.
        queries: Which query rows.
        clips: Name of the clip of each question, a cluster in every interval; without them, each is about a clip of its
            own.
    """

    mass: Float[np.ndarray, "question layer head role"]
    roles: tuple[str, ...]
    over_time: Float[np.ndarray, "question layer head token"]
    n_tokens: Int[np.ndarray, " question"]
    edges: Float[np.ndarray, "question edge"]
    duration: Float[np.ndarray, " question"]
    entropy: Float[np.ndarray, "question layer head"]
    peak: Float[np.ndarray, "question layer head"]
    events: tuple[tuple[Event, ...], ...]
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    queries: str
    clips: tuple[str, ...] = ()

    _table_axes = ("question", "layer", "head")

    @property
    def _summary(self) -> str:
        return f"{np.nanmean(self.share('audio')):.1%} of attention on audio, queries {self.queries!r}"

    def share(self, role: str) -> Float[np.ndarray, "question layer head"]:
        """Share of attention on one role of token.

        Raises:
            KeyError: No such role.
        """
        if role not in self.roles:
            raise KeyError(f"no role {role!r}; these prompts have {list(self.roles)}")
        return self.mass[..., self.roles.index(role)]

    def per_second(self, question: int = 0) -> Float[np.ndarray, "layer head second"]:
        """Attention summed over each whole second of one question's clip; the last second may be shorter.

        A token that spans a boundary is divided in proportion.

        Raises:
            ValueError: Its audio tokens hear several stretches each, or have no time.
        """
        edges = self.edges_of(question)
        return in_seconds(self.over_time[question, :, :, : len(edges) - 1], edges)

    def edges_of(self, question: int) -> Float[np.ndarray, " edge"]:
        """Seconds at which the audio tokens of one question begin and end.

        Raises:
            ValueError: They hear several stretches each, or have no time.
        """
        edges = self.edges[question, : int(self.n_tokens[question]) + 1]
        if np.isnan(edges).any():
            raise ValueError(
                f"the audio tokens of question {self.ids[question]!r} do not follow one another in time: they hear "
                "several stretches each, or have no time. Its shares by role say what they do not: mass, share(role)"
            )
        return edges

    def inside_events(self) -> EventFocus:
        """How much of the audio attention falls inside each labelled event, against what chance gives.

        Both count the sound alone: tokens that hear padding behind the clip are left out, and a token that an event
        enters or leaves is divided in proportion.

        Raises:
            ValueError: A question has events and audio tokens that hear several stretches each, or have no time.
        """
        question, label, inside, chance = [], [], [], []
        for index, events in enumerate(self.events):
            if not events:
                continue
            edges = self.edges_of(index)
            tokens = self.over_time[index, :, :, : len(edges) - 1]
            in_clip = _overlap(edges, 0.0, self.duration[index])
            audio = tokens @ (in_clip / np.diff(edges))
            for event in events:
                within = _overlap(edges, event.onset, min(event.offset, self.duration[index]))
                part = tokens @ (within / np.diff(edges))
                question.append(index)
                label.append(event.label)
                inside.append(np.divide(part, audio, out=np.full_like(part, np.nan), where=audio > 0))
                chance.append(within.sum() / in_clip.sum() if in_clip.sum() > 0 else np.nan)
        layers_heads = self.entropy.shape[1:]
        return EventFocus(
            question=np.array(question, dtype=np.int64),
            label=tuple(label),
            inside=np.array(inside, dtype=np.float64).reshape(-1, *layers_heads),
            chance=np.array(chance, dtype=np.float64),
        )


def in_seconds(
    over_time: Float[np.ndarray, "*axes token"], edges: Float[np.ndarray, " edge"]
) -> Float[np.ndarray, "*axes second"]:
    """Sum values of audio tokens over each whole second; a token that spans a boundary is divided in proportion."""
    seconds = np.arange(np.ceil(edges[-1] - 1e-9) + 1)
    overlap = np.clip(
        np.minimum(edges[1:, None], seconds[None, 1:]) - np.maximum(edges[:-1, None], seconds[None, :-1]), 0, None
    )
    return over_time @ (overlap / np.diff(edges)[:, None])


@checks_arguments
def audio_attention(
    model: AudioLM,
    questions: Questions,
    *,
    condition: str = "audio",
    queries: str = "last",
    interventions: Sequence[Intervention] = (),
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AudioAttention:
    """Measure where the attention of some query rows goes.

    Args:
        model: The opened model.
        questions: Questions, prompts with audio, or a dict of the network's own inputs.
        condition: What the model is given, where questions are asked; see `ma.prompt`.
        queries: A span: `last` (the row that the answer is read from), `keyword`, `question`, `choices`, ...; rows of a
            span are averaged.
        interventions: What to change while it attends.
        batch_size: Questions per forward pass; by default as many as fit.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        Shares per role, and the distribution over the audio tokens.

    Raises:
        ValueError: Without questions, a prompt without audio, or one in which the span is empty.
        KeyError: No such span.
    """
    if queries == "all":
        raise ValueError("every query at once is a job of its own: ma.analyses.attention_mass(model, questions)")
    batches = batches_of(model, questions, condition, batch_size=batch_size, what="audio attention", progress=progress)
    return attention_in(model, batches, queries, interventions)


def attention_in(
    model: AudioLM, batches: Iterable[PromptBatch], queries: str = "last", interventions: Sequence[Intervention] = ()
) -> AudioAttention:
    """Measure it in prompts that come a batch at a time."""
    parts, keys = [], []
    for batch in batches:
        _refuse_without_time(batch)
        rows, weights = query_rows(batch, queries)
        pattern_of_rows = HookPoint("pattern", queries=rows)
        out = run(model, batch, record=[pattern_of_rows], interventions=interventions, logits="last")
        pattern = out.cache.stack("pattern", missing=math.nan).float().cpu().numpy()
        attention = np.einsum("lqhrk,qr->qlhk", pattern.astype(np.float64), weights)
        parts.append(_summarise(model, batch, attention, queries))
        keys += [clip_keys(question) for question in batch.questions]
    return _joined(parts, clip_names(keys))


def _refuse_without_time(batch: PromptBatch) -> None:
    """Refuse prompts that do not have one clip each.

    Raises:
        ValueError: They have several, or none.
    """
    crowded = [row for row, clock in enumerate(batch.clock) if batch.spans["audio"][row] and clock is None]
    if crowded:
        raise ValueError(
            f"rows {crowded} of this batch hold several clips each, which have no common time: measure one clip per "
            "row, or the share of each with ma.HookPoint('mass', keys=('audio.0', 'audio.1'))"
        )
    silent = [row for row, positions in enumerate(batch.spans["audio"]) if not positions]
    if silent:
        raise ValueError(
            f"rows {silent} of this batch hold no audio (condition {batch.condition!r}), so there is no audio "
            "attention to measure"
        )


def _overlap(edges: Float[np.ndarray, " edge"], onset: float, offset: float) -> Float[np.ndarray, " token"]:
    """Seconds that each token shares with an interval."""
    return np.clip(np.minimum(edges[1:], offset) - np.maximum(edges[:-1], onset), 0.0, None)


def _summarise(
    model: AudioLM, batch: PromptBatch, attention: Float[np.ndarray, "question layer head key"], queries: str
) -> AudioAttention:
    roles = roles_of(batch)
    indicators = np.stack([batch.span_mask(role).cpu().numpy().astype(np.float64) for role in roles], axis=-1)
    mass = np.einsum("qlhk,qkr->qlhr", attention, indicators)
    n_tokens = np.array([len(positions) for positions in batch.spans["audio"]], dtype=np.int64)
    over_time = np.zeros((*attention.shape[:3], n_tokens.max()))
    edges = np.full((len(n_tokens), n_tokens.max() + 1), np.nan)
    for row, positions in enumerate(batch.spans["audio"]):
        over_time[row, :, :, : len(positions)] = attention[row][:, :, list(positions)]
        if batch.clock[row].contiguous:
            edges[row, : len(positions) + 1] = batch.clock[row].edges_seconds
    questions = batch.questions
    duration = np.array(
        [clock.end if given is None else given for given, clock in zip(batch.durations, batch.clock, strict=True)]
    )
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    sounding = (middles < duration[:, None])[:, None, None]
    audible = np.where(sounding | ~sounding.any(-1, keepdims=True), over_time, 0.0)
    total = audible.sum(-1, keepdims=True)
    within = np.divide(audible, total, out=np.full_like(audible, np.nan), where=total > 0)
    entropy = -np.sum(within * np.log(np.where(within > 0, within, 1.0)), axis=-1)
    top = audible.argmax(-1)
    deaf = np.isnan(entropy)  # layers without attention
    peak = np.where(deaf, np.nan, np.take_along_axis(middles[:, None, None], top[..., None], axis=-1)[..., 0])
    return AudioAttention(
        mass=mass, roles=roles, over_time=over_time, n_tokens=n_tokens, edges=edges,
        duration=duration,
        entropy=entropy, peak=peak,
        events=tuple(tuple(question.events) for question in questions) or tuple(() for _ in n_tokens),
        ids=tuple(question.id for question in questions) or tuple(str(row) for row in range(len(n_tokens))),
        texts=tuple(question.text for question in questions) or tuple("" for _ in n_tokens),
        queries=queries,
        provenance=Provenance.collect(model, settings={"queries": queries, "condition": batch.condition}),
    )  # fmt: skip


def _joined(parts: Sequence[AudioAttention], clips: tuple[str, ...]) -> AudioAttention:
    """The questions of several batches behind one another; a role that a batch lacks has no share there."""
    roles = tuple(role for role in ROLES if any(role in part.roles for part in parts))
    masses = [
        np.stack([part.share(role) if role in part.roles else 0 * part.mass[..., 0] for role in roles], axis=-1)
        for part in parts
    ]
    per_question = ("n_tokens", "duration", "entropy", "peak")
    return replace(
        parts[0],
        mass=np.concatenate(masses),
        roles=roles,
        over_time=concatenated([part.over_time for part in parts], 0.0),
        edges=concatenated([part.edges for part in parts], np.nan),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in per_question},
        **{name: sum((getattr(part, name) for part in parts), ()) for name in ("events", "ids", "texts")},
        clips=clips,
    )


def roles_of(batch: PromptBatch) -> tuple[str, ...]:
    """The roles that occur in a batch."""
    return tuple(role for role in ROLES if role in batch.spans and any(batch.spans[role]))

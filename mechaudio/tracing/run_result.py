"""Results of a run and of a generation: logits, texts, and the hook points that were kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.kinds import MaybeNone
from mechaudio.metrics.choices import REMEDY_OF_NAN
from mechaudio.models.batch import PromptBatch
from mechaudio.notices import warn
from mechaudio.question import Answer
from mechaudio.results import Result, as_numpy
from mechaudio.showing import NamesTheWay
from mechaudio.tracing.answers import answers_in
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.effects import Effects
from mechaudio.tracing.elsewhere import OF_RUN
from mechaudio.tracing.labels import LabelledTensors
from mechaudio.tracing.teacher_forced import is_whole

if TYPE_CHECKING:
    import pandas
    import xarray

#: Next tokens of each prompt whose texts a run is saved with.
LIKELIEST = 50


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Run(NamesTheWay, Result):
    """The results of one forward pass.

    It is saved without the sound of its prompts: `batch` of a loaded run is to be read, not to be run again.

    Attributes:
        logits: Next-token logits, `[batch, position, vocab]`, or `[batch, 1, vocab]` if only the last position was
            asked for; `None` if none were.
        cache: The hook points that were recorded.
        batch: The prompts.
        tower_calls: How often the audio tower ran: 0 means that nothing was heard.
        effects: For each intervention on attention, in their order, what it did to attention: nothing in any layer,
            for one that leaves scores as they are.
    """

    _elsewhere = OF_RUN

    logits: Float[Tensor, "batch position vocab"] | MaybeNone
    cache: Cache
    batch: PromptBatch
    tower_calls: int
    effects: tuple[Effects, ...] = ()

    def __post_init__(self):
        """Check nothing before it is saved: to look at every tensor would take time in every run."""

    def _as_kept(self) -> Run:
        """Keep the texts of the likeliest next tokens beside those of the prompts."""
        if self.logits is None:
            return self
        last = self.logits[:, -1]
        return replace(
            self, batch=self.batch._as_kept(last.topk(min(LIKELIEST, last.shape[-1])).indices.unique().tolist())
        )

    def __getitem__(self, key: Any) -> NoReturn:
        """Refuse to be taken for logits, a cache, or a pair of both.

        Raises:
            TypeError: Always, with the names of its parts.
        """
        raise TypeError("a Run is neither a tensor nor a pair: its parts are out.logits and out.cache['resid_post', 3]")

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The likeliest choice of each question.

        Raises:
            ValueError: The prompts have no choices, or no logits were asked for.
        """
        if self.logits is None or not self.batch.questions or any(one.is_open for one in self.batch.questions):
            raise ValueError(
                'this run answers no questions: that takes logits="last" or "all", and prompts made from questions '
                "with choices"
            )
        return tuple(answers_in(self.batch, self.logits[:, -1]))

    @property
    def accuracy(self) -> float:
        """The share of right answers.

        Raises:
            ValueError: As `answers`, or the answer to a question is not known.
        """
        answers = self.answers
        unknown = [answer.question_id for answer in answers if answer.correct is None]
        if unknown:
            raise ValueError(f"question {unknown[0]!r} has no known answer, so there is no accuracy")
        return float(np.mean([bool(answer.correct) for answer in answers]))

    def to_xarray(self) -> xarray.Dataset:
        """Return logits and every hook point with named axes, layers together; on the CPU, bfloat16 as float32."""
        tensors = LabelledTensors(self.batch)
        if self.logits is not None:
            tensors.add("logits", {None: self.logits})
        tensors.add_cache(self.cache)
        return tensors.dataset(self._attrs | {"tower_calls": self.tower_calls})

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row per question: its answer, and each choice's logit and probability.

        Without choices, or where all tokens of some words count, it is the likeliest next token of each prompt; without
        logits a row per prompt, hook point and layer, with the root mean square of what was kept.
        """
        import pandas

        if self.logits is None:
            return pandas.DataFrame(
                {"question": name, "hook_point": point, "layer": layer, "rms": float(rows[row].square().mean().sqrt())}
                for (point, layer), values in self.cache.items()
                for rows in [values.float().nan_to_num(neginf=0.0)]
                for row, name in enumerate(names_of(self.batch) if len(rows) == self.batch.n_rows else ())
            )
        closed = self.batch.questions and not any(question.is_open for question in self.batch.questions)
        if closed and not is_whole(self.batch):
            return pandas.DataFrame([_answer_row(answer) for answer in self.answers])
        likeliest = self.logits[:, -1].float().softmax(-1).max(-1)
        decode = getattr(self.batch.tokenizer, "decode", None)
        tokens = likeliest.indices.tolist()
        texts = [decode([token]) for token in tokens] if decode else [str(token) for token in tokens]
        return pandas.DataFrame(
            {
                "question": names_of(self.batch),
                "token_id": tokens,
                "token": texts,
                "probability": likeliest.values.tolist(),
            }
        )

    @property
    def _tensor_labels(self) -> dict[str, str]:
        tensors = LabelledTensors(self.batch)
        return {**super()._tensor_labels, "ids": ", ".join(names_of(self.batch)), **tensors.axes_of_cache(self.cache)}

    def __repr__(self) -> str:
        """The prompts, and what was kept."""
        logits = "no logits" if self.logits is None else f"logits {list(self.logits.shape)}"
        sound = "" if self.tower_calls else ", nothing heard"
        return f"<Run of {n_of(self.batch.n_rows, 'prompt')}: {logits}, {recorded(self.cache)}{sound}>"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Generation(Result):
    """The results of a greedy generation.

    It is saved without the sound of its prompts: `batch` of a loaded one is to be read, not to be run again.

    Attributes:
        tokens: Ids of the new tokens, padded with the padding id after a row's end.
        texts: The new tokens as text, `()` without a processor.
        steps: What was recorded in each forward pass: `steps[0]` in the prompt, `steps[t]` at the t-th new token, where
            positions are 1 long and keys grow.
        batch: The prompts.
        tower_calls: How often the audio tower ran.
        effects: For each intervention on attention, in their order, what it did to attention in the prompt.
    """

    tokens: Int[Tensor, "batch new_token"]
    texts: tuple[str, ...]
    steps: tuple[Cache, ...]
    batch: PromptBatch
    tower_calls: int
    effects: tuple[Effects, ...] = ()

    def __post_init__(self):
        """Check nothing before it is saved, as a `Run`."""

    def __enter__(self) -> NoReturn:
        """Refuse to be the head of a block: nnsight's `generate` opens one, and this has run already.

        Raises:
            TypeError: Always, with what opens one.
        """
        raise TypeError(
            "model.generate(batch) writes at once: a block is `with ma.trace(model, batch, max_new_tokens=8):`"
        )

    def __exit__(self, *raised: object) -> None:
        """Do nothing: no block is ever entered."""

    def to_xarray(self) -> xarray.Dataset:
        """Return tokens and texts, and of what was recorded that of the prompt, with named axes."""
        tensors = LabelledTensors(self.batch)
        data = tensors.dataset(self._attrs | {"tower_calls": self.tower_calls})
        data = data.assign(tokens=((tensors.prompts, "new_token"), as_numpy(self.tokens)))
        if self.texts:
            data = data.assign(text=(tensors.prompts, np.array(self.texts)))
        if self.steps:
            tensors.add_cache(self.steps[0])
            data = data.merge(tensors.dataset({}))
        return data

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row per prompt: what was written, beside the answer where it is known."""
        import pandas

        columns: dict[str, Any] = {"question": names_of(self.batch)}
        if self.batch.questions:
            columns["asked"] = [question.text for question in self.batch.questions]
            columns["answer"] = [question.answer for question in self.batch.questions]
        columns["text"] = self.texts or [" ".join(map(str, row)) for row in self.tokens.tolist()]
        return pandas.DataFrame(columns)

    @property
    def _tensor_labels(self) -> dict[str, str]:
        return {**super()._tensor_labels, "ids": ", ".join(names_of(self.batch)), "tokens": "batch new_token"}

    def __repr__(self) -> str:
        """The prompts, the beginning of the first text, and what was kept."""
        first = f", the first {self.texts[0][:40]!r}" if self.texts else ""
        kept = f"; {recorded(self.steps[0])} at every step" if self.steps else ""
        return (
            f"<Generation of {n_of(self.tokens.shape[1], 'token')} for "
            f"{n_of(self.batch.n_rows, 'prompt')}{first}{kept}>"
        )


def names_of(batch: PromptBatch) -> list[str]:
    """The id of each question of a batch, the number of the row where there is none."""
    if not batch.questions:
        return [str(row) for row in range(batch.n_rows)]
    return [question.id or str(row) for row, question in enumerate(batch.questions)]


def warn_of_nan(cache: Cache, batch: PromptBatch) -> None:
    """Say that what a run kept holds NaN: from where on, and of which prompts.

    Warns:
        UserWarning: It does.
    """
    if not cache:
        return
    # A sum reads as much, and needs no memory; it is NaN as well where both infinities are among its terms. They are
    # looked at together, for which a GPU is waited for once.
    device = next(iter(cache.values())).device
    sums = torch.stack([value.sum().isnan().to(device) for value in cache.values()]).tolist()
    with_nan = [key for key, is_nan in zip(cache, sums, strict=True) if is_nan and bool(cache[key].isnan().any())]
    if not with_nan:
        return
    (name, layer), value = with_nan[0], cache[with_nan[0]]
    where = name if layer is None else f"{name} of layer {layer}"
    prompts = names_of(batch)
    lost = value.flatten(1).isnan().any(-1).tolist() if len(value) == len(prompts) else []
    rows = [prompt for prompt, is_lost in zip(prompts, lost, strict=False) if is_lost]
    named = f" in {len(rows)} of {n_of(len(prompts), 'prompt')} ({rows[0]!r} first)" if rows else ""
    warn(
        f"{where} holds NaN{named}, as {len(with_nan)} of the {len(cache)} tensors that were kept do: nothing can be "
        f"measured in them. {REMEDY_OF_NAN}"
    )


def recorded(cache: Cache) -> str:
    """Describe a cache in words: `recorded resid_post in 6 layers, logits`."""
    if not cache:
        return "nothing recorded"
    layers: dict[str, int] = {}
    for name, layer in cache:
        layers[name] = layers.get(name, 0) + (layer is not None)
    return "recorded " + ", ".join(f"{name} in {n_of(n, 'layer')}" if n else name for name, n in layers.items())


def _answer_row(answer: Answer) -> dict[str, Any]:
    letters = [chr(ord("A") + place) for place in range(len(answer.choices))]
    known = {
        "question": answer.question_id,
        "choice": answer.choice,
        "letter": answer.letter,
        "correct": answer.correct,
    }
    logits = {f"logit_{letter}": value for letter, value in zip(letters, answer.choice_logits, strict=True)}
    shares = {f"probability_{letter}": value for letter, value in zip(letters, answer.probabilities, strict=True)}
    return known | logits | shares

"""A batch of prompts: what the network receives, and what each position of it is.

Conventions: rows are padded on the left, positions count from 0 in the padded row, audio tokens from 0 within the clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import torch
from jaxtyping import Bool
from torch import Tensor

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clock import TokenClock
from mechaudio.data.clip_names import KNOWN_AS, clips_of
from mechaudio.kinds import MaybeNone, whole_number
from mechaudio.models.positions import Where, select
from mechaudio.models.spans import PromptFormat
from mechaudio.models.targets import Aim, Words, aimed
from mechaudio.question import AudioQuestion
from mechaudio.results import keep
from mechaudio.showing import NamesTheWay, Shown

#: What prompts are asked for by people who know transformers.
_OF_BATCH: Mapping[str, str] = {
    **dict.fromkeys(
        ("input_ids", "attention_mask", "input_features"), "batch.inputs, by name: batch.inputs['input_ids']"
    ),
    **dict.fromkeys(("keys", "items", "values", "data"), "batch.inputs, a dict"),
    **dict.fromkeys(("str_tokens", "to_str_tokens"), "batch.tokens(row)"),
    "shape": "batch.n_rows and batch.n_positions",
    **dict.fromkeys(("cuda", "cpu"), "batch.to(device)"),
}


def _label(stretches: tuple[tuple[float, float], ...]) -> str:
    """An audio token by when it begins to hear."""
    if not stretches:
        return "♪"
    return f"♪ {stretches[0][0]:.2f} s" + (" …" if len(stretches) > 1 else "")


class _Spans(dict):
    """Positions by name; asking for a name that is not there says which are."""

    def __repr__(self) -> str:
        """Count the positions of each span in each prompt."""
        counts = {name: sorted({len(row) for row in rows}) for name, rows in self.items() if rows}
        said = [f"{name} {each[0]}" + (f" to {each[-1]}" if len(each) > 1 else "") for name, each in counts.items()]
        return f"<positions of {n_of(len(next(iter(self.values()), ())), 'prompt')}: {', '.join(said)}>"

    def __missing__(self, name: str) -> tuple[tuple[int, ...], ...]:
        if name == "audio.0" and name.removesuffix(".0") in self:  # the only clip of each row
            return self["audio"]
        advice = ""
        if name == "listening":
            advice = (
                ". Rows that listen are found first: ma.analyses.where_it_listens(model, questions).queries names them"
            )
        raise KeyError(f"no span {name!r} in this batch; it has {sorted(self)}{advice}")


@dataclass(frozen=True)
class TokenTexts:
    """The texts of the tokens of a batch that was kept with a result, in the place of its tokenizer.

    Attributes:
        texts: Text of each token id.
    """

    texts: Mapping[int, str]

    def decode(self, ids: Iterable[int]) -> str:
        """Join the texts of some tokens; of one that was not kept, its id."""
        return "".join(self.texts.get(token, f"[{token}]") for token in ids)


@dataclass(frozen=True, eq=False)
class PromptBatch(NamesTheWay, Shown):
    """Prompts ready for one model. `ma.prompt` makes them; a plain dict of model inputs is turned into one.

    Attributes:
        inputs: Keyword arguments of the network's forward, on its device.
        spans: Name to, per row, the positions in the padded row (none where the row has no such thing). From questions:
            the roles `audio`, `audio_padding`, `question`, `choices`, `caption` and `template`, which share out every
            position but padding; `keyword`, inside the question; and `last`. From a dict of inputs: `audio`,
            `audio_padding`, `text` and `last`. `audio_padding` are audio tokens that hear nothing of the clip, only
            what it was filled up with. Where the prompt holds what is said in a clip, `transcript` are those words.
            Beside several clips in a row, `audio.0`, `audio.1` ... are those of each; in conversations, `turn.0`
            ... are the texts and sounds of each turn, `system`, `user` and `assistant` those of all turns of a speaker,
            and `history` the texts before the last turn.
        clocks: Per row, for each of its clips, when each of its tokens in the span `audio` is; empty without audio,
            and in a dict of inputs with several clips, which does not say where one ends.
        questions: What is asked in each row; empty for a dict of inputs.
        condition: What the model is given, `None` for a dict of inputs.
        choice_ids: Per row, the token id of each choice's letter as the tokenizer writes it behind this very prompt;
            of a row with a target, the first ids of target and foil (`mechaudio.models.targets`).
        family: Family of the model that the batch was made for.
        made_for: That model: its checkpoint, or its class.
        vocabulary: Number of token ids of that model.
        cut: Per row, seconds at the end of its clips that the model does not hear.
        given: Per row, seconds of each clip that the model was given, without what was cut off or filled up; empty in a
            row without audio, and in a dict of inputs.
        audio_token: Id of the placeholder for an audio token.
        tokenizer: Makes readable labels, `None` if there is none.
        written: Per row, the prompt as its chat template writes it, one placeholder per clip; a blank text where
            training tokenised answers apart from it, `None` where the tokenizer writes tokens itself. Empty for a dict
            of inputs.
        aims: Per row, the words that are measured in the place of letters, `None` for letters; empty without any.
        n_forced: Positions at the end that hold words of a target, not of the prompt.
        layout: How captions and choices are written; `None` for a dict of inputs, and where a row is a conversation.
    """

    _elsewhere = _OF_BATCH

    inputs: dict[str, Any]
    spans: Mapping[str, tuple[tuple[int, ...], ...]]
    clocks: tuple[tuple[TokenClock, ...], ...]
    questions: tuple[AudioQuestion, ...]
    condition: str | None
    choice_ids: tuple[tuple[int, ...], ...]
    family: str
    made_for: str
    vocabulary: int
    cut: tuple[float, ...]
    given: tuple[tuple[float, ...], ...]
    audio_token: int
    tokenizer: Any = field(default=None, repr=False)
    written: tuple[str | None, ...] = ()
    aims: tuple[Aim | None, ...] = ()
    n_forced: int = 0
    layout: PromptFormat | None = None

    def __post_init__(self):
        object.__setattr__(self, "spans", _Spans(self.spans))

    def __len__(self) -> int:
        """Number of prompts."""
        return self.n_rows

    def __getitem__(self, rows: SupportsIndex | slice | Sequence[SupportsIndex]) -> PromptBatch:
        """Some prompts as a batch of their own: one, a slice, or a list of them.

        They keep their padding, so that positions and numbers are those that they have in this batch.

        Raises:
            IndexError: A row that there is not.
            TypeError: Something else than numbers of rows.
            ValueError: No row at all.
        """
        from mechaudio.models.grouping import part_of  # these two know batches
        from mechaudio.models.registry import adapter_of_family

        return part_of(adapter_of_family(self.family), self, self._numbers(rows))

    def _numbers(self, rows: Any) -> list[int]:
        if isinstance(rows, slice):
            numbers = list(range(self.n_rows))[rows]
        else:
            several = isinstance(rows, Iterable) and not isinstance(rows, str) and getattr(rows, "ndim", 1)
            try:
                numbers = [whole_number(row) for row in (rows if several else [rows])]
            except TypeError:
                raise TypeError(
                    "batch[...] takes the number of a row, a slice or a list of numbers, for a mask np.flatnonzero; "
                    f"got {rows!r}. What the network receives is in batch.inputs"
                ) from None
        outside = [row for row in numbers if not -self.n_rows <= row < self.n_rows]
        if outside:
            raise IndexError(f"row {outside[0]} is outside this batch of {n_of(self.n_rows, 'prompt')}")
        if not numbers:
            raise ValueError(f"batch[{rows!r}] names no row of the {self.n_rows} prompts: a batch has one at least")
        return [row % self.n_rows for row in numbers]

    def to(self, device: str | int | torch.device) -> PromptBatch:
        """Put its inputs on another device; a run puts no inputs anywhere by itself.

        Raises:
            TypeError: Something else than a device.
            ValueError: A text that names none, or a device that this machine does not have.
        """
        if not isinstance(device, (str, int, torch.device)):
            raise TypeError(
                f"batch.to takes a device, such as model.device, 'cuda' or 'cpu'; got {type(device).__name__}: inputs "
                "are given in the model's number format by ma.prompt"
            )
        try:
            torch.empty(0, device=device)
        except (AssertionError, RuntimeError) as error:  # torch built without CUDA asserts
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"device= is one that this machine has, such as 'cpu' or 'cuda:0'; got {device!r}: {reason}"
            ) from None
        return replace(
            self,
            inputs={
                name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.inputs.items()
            },
        )

    def _as_kept(self, more: Iterable[int] = ()) -> PromptBatch:
        """Leave out the sound, which a result does not need to be read.

        Inputs are the token ids and their mask, questions have no recordings and of `meta` what is plain, and the
        tokenizer is replaced by the texts of the tokens that occur, and of `more`.
        """
        if isinstance(self.tokenizer, TokenTexts):
            return self  # was left out before
        kept = {name: value for name, value in self.inputs.items() if name in ("input_ids", "attention_mask")}
        decode = getattr(self.tokenizer, "decode", None)
        ids = sorted({*kept["input_ids"].unique().tolist(), *more}) if decode else []
        return replace(
            self,
            inputs=kept,
            questions=tuple(map(_without_sound, self.questions, clips_of(self.questions))),
            tokenizer=TokenTexts({token: decode([token]) for token in ids}) if decode else None,
        )

    @property
    def clock(self) -> tuple[TokenClock | MaybeNone, ...]:
        """Per row, when each audio token is; `None` for a row without audio, or with several clips (`clocks`)."""
        return tuple(clocks[0] if len(clocks) == 1 else None for clocks in self.clocks)

    @property
    def durations(self) -> tuple[float | MaybeNone, ...]:
        """Per row, seconds of its only clip that the model was given; `None` where there is none, or not known."""
        return tuple(seconds[0] if len(seconds) == 1 else None for seconds in self.given)

    @property
    def n_rows(self) -> int:
        """Number of prompts."""
        return self.inputs["input_ids"].shape[0]

    @property
    def n_positions(self) -> int:
        """Positions of a row, padding included."""
        return self.inputs["input_ids"].shape[1]

    @property
    def audio_positions(self) -> tuple[tuple[int, ...], ...]:
        """Per row, the positions of all audio tokens, those of padding included."""
        padding = self.spans["audio_padding"] if "audio_padding" in self.spans else ((),) * self.n_rows
        return tuple(
            tuple(sorted((*heard, *filled))) for heard, filled in zip(self.spans["audio"], padding, strict=True)
        )

    @property
    def choice_names(self) -> tuple[tuple[str, ...], ...]:
        """Per row, what figures and tables call its choices: their letters; of a row with a target, the words."""
        aims = self.aims or (None,) * len(self.questions)
        return tuple(
            question.letters if aim is None else question.choices
            for question, aim in zip(self.questions, aims, strict=True)
        )

    @checks_arguments
    def aimed(self, *, target: Words = None, foil: Words = None, whole: bool | None = None) -> PromptBatch:
        """Measure the prompts on words that could follow them, in the place of the letters of choices.

        ```python
        batch = ma.prompt(model, [question]).aimed(target="dog", foil="cat")
        found = ma.sweep(model, batch, variants)
        found.margin                                  # logit of "dog" minus that of "cat"
        ```

        Everything that takes a margin or a probability takes it of these words then. Each question counts as one with
        two choices, the target, which is right, and the foil.

        Args:
            target: Words to count for, of all questions or one text per question; by default the letter of the right
                choice, and of an open question its answer.
            foil: Words to count against, likewise; by default everything else that could follow, so that the margin is
                the log-odds of the target and its probability is exact.
            whole: Count all tokens of the words, teacher-forced: the sum of their log-probabilities. By default the
                first token of each counts, and all of them where target and foil begin with the same one;
                `batch.aims` says which.

        Raises:
            TypeError: Something else than words.
            ValueError: Plain inputs; an open question without target and answer; a foil, but no target, for a question
                with choices; words for another number of questions, or blank ones; words that melt into the prompt,
                have no token, are the same, or begin with the same token as their foil where `whole=False` is given.
        """
        return aimed(self, target, foil, whole=whole, required=True)

    @checks_arguments
    def span_mask(self, name: Where) -> Bool[Tensor, "batch position"]:
        """Mark the positions of a span or of several (`"question+choices"`, `"audio[1.0:2.5]"`), or those given.

        The mask is on the device of the inputs.

        Raises:
            KeyError: No such span; the message lists those there are.
            IndexError: A position outside the prompts.
            TypeError: Neither spans nor positions.
        """
        mask = torch.zeros(self.n_rows, self.n_positions, dtype=torch.bool)
        for row, positions in enumerate(select(self, name)):
            mask[row, list(positions)] = True
        return mask.to(self.inputs["input_ids"].device)

    def tokens(self, row: int) -> list[str]:
        """A readable label for every position of a row.

        Text is as it reads (as its token id without a tokenizer), audio tokens are `♪ 0.12 s` (`♪ 0.12 s …` where they
        hear several stretches), those of padding `♪ –`, padding is `<pad>`.
        """
        ids = self.inputs["input_ids"][row].tolist()
        real = self.inputs.get("attention_mask", torch.ones_like(self.inputs["input_ids"]))[row].bool().tolist()
        times = iter([_label(clock.intervals(i)) for clock in self.clocks[row] for i in range(clock.n_tokens)])
        sounding = set(self.spans["audio"][row])
        labels = []
        for position, (token, is_real) in enumerate(zip(ids, real, strict=True)):
            if not is_real:
                labels.append("<pad>")
            elif token == self.audio_token and position not in sounding:
                labels.append("♪ –")
            elif token == self.audio_token:
                labels.append(next(times) if self.clocks[row] else "♪")
            elif self.tokenizer is None:
                labels.append(str(token))
            else:
                labels.append(self.tokenizer.decode([token]).replace("\n", "⏎"))
        return labels

    def __repr__(self) -> str:
        """The batch's size and what is in it."""
        return (
            f"PromptBatch({n_of(self.n_rows, 'row')} x {n_of(self.n_positions, 'position')} for {self.family}, "
            f"condition={self.condition!r}, spans {sorted(self.spans)})"
        )


def _without_sound(question: AudioQuestion, clip: str) -> AudioQuestion:
    """The question without its recording, which is known by the name of its clip."""
    plain = {name: value for name, value in question.meta.items() if isinstance(value, (str, int, float, bool))}
    return replace(question, audio=None, meta=plain | {KNOWN_AS: clip})


for kept in (TokenTexts, PromptBatch):
    keep(kept)

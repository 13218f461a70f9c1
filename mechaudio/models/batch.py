"""A batch of prompts: what the network receives, and what each position of it is.

Conventions: rows are padded on the left, positions count from 0 in the padded row, audio tokens from 0 within the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mechaudio.audio.clock import TokenClock
from mechaudio.models.selection import select
from mechaudio.question import AudioQuestion


def _label(stretches: tuple[tuple[float, float], ...]) -> str:
    """An audio token by when it begins to hear."""
    if not stretches:
        return "♪"
    return f"♪ {stretches[0][0]:.2f} s" + (" …" if len(stretches) > 1 else "")


class _Spans(dict):
    """Positions by name; asking for a name that is not there says which are."""

    def __missing__(self, name: str) -> tuple[tuple[int, ...], ...]:
        if name == "audio.0" and name.removesuffix(".0") in self:  # the only clip of each row
            return self["audio"]
        raise KeyError(f"no span {name!r} in this batch; it has {sorted(self)}")


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts ready for one model. `ma.prompt` makes them; a plain dict of model inputs is turned into one.

    Attributes:
        inputs: Keyword arguments of the network's forward, on its device.
        spans: Name to, per row, the positions in the padded row (none where the row has no such thing). From questions:
            the roles `audio`, `audio_padding`, `question`, `choices`, `caption` and `template`, which share out every
            position but padding; `keyword`, inside the question; and `last`. From a dict of inputs: `audio`,
            `audio_padding`, `text` and `last`. `audio_padding` are audio tokens that hear nothing of the clip, only
            what it was filled up with.
            Beside several clips in a row, `audio.0`, `audio.1` ... are those of each; in conversations, `turn.0`
            ... are the texts and sounds of each turn, `system`, `user` and `assistant` those of all turns of a speaker,
            and `history` the texts before the last turn.
        clocks: Per row, for each of its clips, when each of its tokens in the span `audio` is; empty without audio,
            and in a dict of inputs with several clips, which does not say where one ends.
        questions: What is asked in each row; empty for a dict of inputs.
        condition: What the model is given, `None` for a dict of inputs.
        choice_ids: Per row, the token id of each choice's letter as the tokenizer writes it behind this very prompt.
        family: Family of the model that the batch was made for.
        made_for: That model: its checkpoint, or its class.
        vocabulary: Number of token ids of that model.
        cut: Per row, seconds at the end of its clips that the model does not hear.
        given: Per row, seconds of each clip that the model was given, without what was cut off or filled up; empty in a
            row without audio, and in a dict of inputs.
        audio_token: Id of the placeholder for an audio token.
        tokenizer: Makes readable labels, `None` if there is none.
    """

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

    def __post_init__(self):
        object.__setattr__(self, "spans", _Spans(self.spans))

    @property
    def clock(self) -> tuple[TokenClock | None, ...]:
        """Per row, when each audio token is; `None` for a row without audio, or with several clips (`clocks`)."""
        return tuple(clocks[0] if len(clocks) == 1 else None for clocks in self.clocks)

    @property
    def durations(self) -> tuple[float | None, ...]:
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

    def span_mask(self, name: str) -> Bool[Tensor, "batch position"]:
        """Which positions belong to a span or to several (`"question+choices"`, `"audio[1.0:2.5]"`).

        The mask is on the device of the inputs.

        Raises:
            KeyError: No such span; the message lists those there are.
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
        heard = set(self.spans["audio"][row])
        labels = []
        for position, (token, is_real) in enumerate(zip(ids, real, strict=True)):
            if not is_real:
                labels.append("<pad>")
            elif token == self.audio_token and position not in heard:
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
            f"PromptBatch({self.n_rows} rows x {self.n_positions} positions for {self.family}, "
            f"condition={self.condition!r}, spans {sorted(self.spans)})"
        )

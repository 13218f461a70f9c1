"""Words whose logit is measured behind prompts, in the place of the letters of choices.

A target is text that could follow a prompt, such as "a dog"; a foil is what it is held against, such as "a cat", or
everything else that could follow. By default the first token of each counts: the margin is the target's logit minus the
foil's, and without a foil the log-odds of the target against the rest of the vocabulary, whose softmax is its exact
probability. With `whole`, and by default where target and foil begin with the same token, the prompt is extended by all
tokens of the text (teacher forcing), and their log-probabilities are summed.

To everything behind it, a question with a target is one with two choices: the target, which is right, and the foil.

Conventions: words are tokenised where they stand, right behind the very prompt; log-probabilities are over the whole
vocabulary, in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.labelled import ANYTHING_ELSE
from mechaudio.models.continuation import continuation
from mechaudio.question import AudioQuestion
from mechaudio.results import keep

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch

#: Words for all questions, or for each its own; `None` among them is the question's own choices or answer.
Words = Annotated[str | Sequence[str | None] | None, "words, or a list of words per question", "words or their lists"]
#: Stands in the place of a token id for all tokens of the vocabulary but the target's.
OTHERS = -1


@dataclass(frozen=True)
class Aim:
    """The words that are measured behind one prompt.

    Attributes:
        target: The words to count for.
        foil: The words to count against; `None` for everything else that could follow.
        target_ids: The target's tokens behind this prompt.
        foil_ids: The foil's; none without one.
        whole: All tokens count, teacher-forced; otherwise the first one.
    """

    target: str
    foil: str | None
    target_ids: tuple[int, ...]
    foil_ids: tuple[int, ...]
    whole: bool = False


keep(Aim)


def aimed(batch: PromptBatch, target: Words, foil: Words, *, whole: bool | None, required: bool) -> PromptBatch:
    """Measure prompts on words; `PromptBatch.aimed` says how.

    Args:
        batch: Prompts made from questions.
        target: Words to count for.
        foil: Words to count against.
        whole: Count all tokens, or the first; `None` for the first where it tells target and foil apart.
        required: Refuse an open question with neither a target nor an answer; otherwise it stays as it is, unless a
            foil is given.

    Raises:
        ValueError: As `PromptBatch.aimed`.
    """
    if not batch.questions:
        if target is not None or foil is not None or whole:
            raise ValueError(
                "target= and foil= stand behind questions, and these are plain inputs, whose text is not known: make "
                "prompts with ma.prompt(model, questions)"
            )
        return batch
    targets, foils = (per_row(name, given, batch.n_rows) for name, given in (("target", target), ("foil", foil)))
    before = batch.aims or (None,) * batch.n_rows
    words = [
        _words(question, aim, mine, against, whole, required)
        for question, aim, mine, against in zip(batch.questions, before, targets, foils, strict=True)
    ]
    if whole and not any(words):
        raise ValueError("whole=True counts all tokens of words, and these questions have choices: give target=, too")
    if not required:  # an answer that the model has no token for is nothing to read, and nobody asked for it
        unknown = batch.tokenizer.unk_token_id
        words = [
            None
            if targets[row] is foils[row] is None and wanted and _ids(batch, row, wanted[0])[0] == unknown
            else wanted
            for row, wanted in enumerate(words)
        ]
    return aimed_at(batch, words)


def aimed_at(batch: PromptBatch, words: Sequence[tuple[str, str | None, bool | None] | None]) -> PromptBatch:
    """Measure prompts on target, foil and all tokens or the first; `None` leaves a row as it is.

    Where it is not said which, all tokens count of words that begin with the same one.

    Raises:
        ValueError: As `PromptBatch.aimed`.
    """
    if not any(words):
        return batch
    aims = list(batch.aims or [None] * batch.n_rows)
    questions, choice_ids = list(batch.questions), list(batch.choice_ids)
    for row, wanted in enumerate(words):
        if wanted is None:
            continue
        target, foil, whole = wanted
        for_it, against = (_ids(batch, row, text) for text in (target, foil))
        aim = Aim(target, foil, for_it, against, for_it[:1] == against[:1] if whole is None else whole)
        _refuse_unknown(batch, aim)
        _refuse_alike(batch, row, aim)
        names = (_named(target), ANYTHING_ELSE if foil is None else _named(foil))
        aims[row] = aim
        questions[row] = replace(questions[row], choices=names, answer=names[0])
        choice_ids[row] = (aim.target_ids[0], aim.foil_ids[0] if aim.foil_ids else OTHERS)
    return replace(batch, questions=tuple(questions), aims=tuple(aims), choice_ids=tuple(choice_ids))


def per_row(name: str, given: Words, n_rows: int) -> Sequence[str | None]:
    """The words of each row.

    Raises:
        ValueError: Words for another number of questions, or blank ones.
    """
    words = [given] * n_rows if given is None or isinstance(given, str) else list(given)
    if len(words) != n_rows:
        raise ValueError(
            f"{name}= has words for {n_of(len(words), 'question')}, and there are {n_rows}: give one for each"
        )
    for text in words:
        if text is not None and not text.strip():
            raise ValueError(f"{name}= is blank, {text!r}: give words that could follow the prompt")
    return words


def _words(
    question: AudioQuestion,
    before: Aim | None,
    target: str | None,
    foil: str | None,
    whole: bool | None,
    required: bool,
) -> tuple[str, str | None, bool | None] | None:
    """The target and foil of a question, and whether all their tokens count; `None` leaves the question as it is."""
    if target is None and before is None and not question.is_open:
        if foil is not None:
            raise ValueError(
                f"question {question.id!r} has choices, so foil={foil!r} needs to know which words it is held against: "
                "give target=, too"
            )
        return None
    if target is None and foil is None and before is not None and whole in (None, before.whole):
        return None
    words = target or (before.target if before else question.answer)
    if words is None and (required or foil is not None):
        raise ValueError(
            f"question {question.id!r} ({question.text!r}) is open and its answer is not known, so there is no word to "
            "measure: give target=, or AudioQuestion(answer=...)"
        )
    return None if words is None else (words, foil or (before.foil if before and target is None else None), whole)


def _ids(batch: PromptBatch, row: int, text: str | None) -> tuple[int, ...]:
    return () if text is None else continuation(batch.tokenizer, batch.written[row], text)


def _refuse_unknown(batch: PromptBatch, aim: Aim) -> None:
    """Refuse words of which a token that counts is the one for unknown words."""
    for text, ids in ((aim.target, aim.target_ids), (aim.foil, aim.foil_ids)):
        if batch.tokenizer.unk_token_id in (ids if aim.whole else ids[:1]):
            raise ValueError(
                f"the tokenizer has no token for {'some' if aim.whole else 'the beginning'} of {text!r}, so the model "
                "cannot say it: choose other words"
            )


def _refuse_alike(batch: PromptBatch, row: int, aim: Aim) -> None:
    """Refuse words that cannot be told apart by what is measured."""
    same_words = aim.target_ids == aim.foil_ids
    if same_words or (not aim.whole and aim.target_ids[:1] == aim.foil_ids[:1]):
        token = batch.tokenizer.decode([aim.target_ids[0]])
        remedy = (
            "name two different ones"
            if same_words
            else "leave out what they share, or whole=False, without which all tokens of both are measured"
        )
        raise ValueError(
            f"target {aim.target!r} and foil {aim.foil!r} begin with the same token ({token!r}) behind the prompt of "
            f"question {batch.questions[row].id!r}, so their logits cannot be told apart: {remedy}"
        )


def _named(text: str) -> str:
    """Words in one line."""
    return " ⏎ ".join(text.splitlines())


class Targets:
    """Targets and foils of questions that come batch by batch, in order.

    Args:
        target: Words to count for, of all questions or one per question.
        foil: Words to count against.
        whole: Count all tokens, or the first; `None` for the first where it tells target and foil apart.
        required: Refuse open questions without any words.
    """

    def __init__(self, target: Words, foil: Words, *, whole: bool | None = None, required: bool = True):
        self._given = {"target": target, "foil": foil}
        self._options = {"whole": whole, "required": required}
        self._n, self._used = 0, list[dict[str, Any] | None]()

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Targets:
        """Return the targets that a result's provenance says were measured."""
        used = settings.get("targets")
        if used is None:
            return cls(None, None)
        target, foil = ([row and row.get(name) for row in used] for name in ("target", "foil"))
        counted = {row["whole"] for row in used if row}
        return cls(target, foil, whole=counted.pop() if len(counted) == 1 else None)

    @property
    def given(self) -> dict[str, Any]:
        """The words as they were given, and `whole`, for what says which run this is; nothing of what was not."""
        words = {
            name: given if isinstance(given, str) else tuple(given) for name, given in self._given.items() if given
        }
        return words | {name: whole for name, whole in [("whole", self._options["whole"])] if whole is not None}

    def of(self, batch: PromptBatch) -> PromptBatch:
        """The next prompts, measured on their words.

        Raises:
            ValueError: As `PromptBatch.aimed`.
        """
        next_words = {name: self._next(name, words, batch.n_rows) for name, words in self._given.items()}
        self._n += batch.n_rows
        prompts = aimed(batch, next_words["target"], next_words["foil"], **self._options)
        self._used += tokens_used(prompts)
        return prompts

    def _next(self, name: str, words: Words, n_rows: int) -> Words:
        if words is None or isinstance(words, str):
            return words
        part = words[self._n : self._n + n_rows]
        if len(part) < n_rows:
            raise ValueError(
                f"{name}= has words for {n_of(len(words), 'question')}, and there are more: give one for each"
            )
        return part

    def settings(self) -> dict[str, Any]:
        """For a result's provenance: the words and tokens that were measured, of each question; none of letters.

        Raises:
            ValueError: Words were left over.
        """
        for name, words in self._given.items():
            if words is not None and not isinstance(words, str) and len(words) != self._n:
                raise ValueError(f"{name}= has words for {n_of(len(words), 'question')}, and there are {self._n}")
        return {"targets": self._used} if any(self._used) else {}


def tokens_used(batch: PromptBatch) -> list[dict[str, Any] | None]:
    """Per row, the words and the tokens that are measured; `None` where it is letters."""
    return [aim and _used(batch.tokenizer, aim) for aim in batch.aims or [None] * batch.n_rows]


def _used(tokenizer: Any, aim: Aim) -> dict[str, Any]:
    def texts(ids: Iterable[int]) -> list[str]:
        return [tokenizer.decode([token]) for token in (ids if aim.whole else list(ids)[:1])]

    used = {"target": aim.target, "target_tokens": texts(aim.target_ids), "whole": aim.whole}
    return used | ({} if aim.foil is None else {"foil": aim.foil, "foil_tokens": texts(aim.foil_ids)})


def refuse_whole(batch: PromptBatch, call: str, instead: str) -> None:
    """Refuse texts of which all tokens count, where only the first can.

    Raises:
        ValueError: For prompts with such a text.
    """
    whole = next((aim for aim in batch.aims if aim is not None and aim.whole), None)
    if whole is not None:
        alike = whole.target_ids[:1] == whole.foil_ids[:1]
        why = f", and {whole.target!r} and {whole.foil!r} begin with the same one" if alike else ""
        raise ValueError(f"{call} measures the first token of a target, not the whole text{why}: {instead}")


def forced(batch: PromptBatch, text: int, n: int) -> PromptBatch:
    """The prompts extended by the first tokens of their target or foil, measured on the token that comes next.

    Every row is extended by as many tokens, so that all positions of the prompts stay what they are; a row whose text
    is shorter repeats its last token, and what is measured there says nothing.

    Args:
        batch: Prompts with aims.
        text: 0 for the target, 1 for the foil.
        n: How many tokens.
    """
    filled = filled_tokens(batch, text, n + 1)
    names = ("the next token", ANYTHING_ELSE)
    return replace(
        extended(batch, filled[:, :n]),
        questions=tuple(replace(question, choices=names, answer=names[0]) for question in batch.questions),
        choice_ids=tuple((int(ids[n]), OTHERS) for ids in filled),
    )


def filled_tokens(batch: PromptBatch, text: int, n: int) -> Int[Tensor, "prompt token"]:
    """Return the first tokens of the targets (0) or foils (1); a text that is shorter repeats its last token."""
    words = [((aim.target_ids, aim.foil_ids)[text] or (0,)) if aim else (0,) for aim in batch.aims]
    return torch.tensor([[*ids[:n], *[ids[-1]] * (n - len(ids))] for ids in words], dtype=torch.long)


def forced_alike(batch: PromptBatch, longer: PromptBatch) -> PromptBatch:
    """The prompts extended by the tokens that `forced` put behind others, and measured on what those are.

    Args:
        batch: As many prompts, of as many positions as the others had.
        longer: The others, extended or not.
    """
    more = longer.inputs["input_ids"][:, longer.n_positions - longer.n_forced :]
    return replace(extended(batch, more), choice_ids=longer.choice_ids)


def extended(batch: PromptBatch, more: Int[Tensor, "prompt token"]) -> PromptBatch:
    """Put more tokens behind the prompts."""
    n = more.shape[1]
    inputs = dict(batch.inputs)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more.to(inputs["input_ids"])], dim=1)
    inputs["attention_mask"] = torch.cat(
        [inputs["attention_mask"], torch.ones_like(more).to(inputs["attention_mask"])], dim=1
    )
    if "position_ids" in inputs:
        inputs["position_ids"] = torch.cat(
            [inputs["position_ids"], inputs["position_ids"][:, -1:] + 1 + torch.arange(n).to(inputs["position_ids"])],
            dim=1,
        )
    return replace(batch, inputs=inputs, aims=(), n_forced=n)

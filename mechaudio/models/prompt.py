"""Questions in, prompts out: chat template, clip, spans, clock and the ids of the choices' letters.

How a question is written out, and why so, is said in `mechaudio.models.spans`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.chat import EncodedPrompt, encode
from mechaudio.models.clips import samples_of, token_clock, too_short
from mechaudio.models.features import silence, stack_features
from mechaudio.models.hearing import audio_token_id
from mechaudio.models.inputs import as_batch, name_of, place, vocabulary_of
from mechaudio.models.spans import PromptFormat, TextBlock, positions_by_role, text_block
from mechaudio.question import CONDITIONS, AudioQuestion

__all__ = ["PromptBatch", "PromptFormat", "as_batch", "prompt", "silenced"]


@dataclass(frozen=True, eq=False)
class _Row:
    block: TextBlock
    encoded: EncodedPrompt
    cut: float
    duration: float | None


@checks_arguments
def prompt(
    model: Any,
    questions: Iterable[AudioQuestion],
    condition: str = "audio",
    *,
    layout: PromptFormat | None = None,
    allow_cut: bool = False,
) -> PromptBatch:
    """Write questions out for a model.

    ```python
    batch = ma.prompt(model, [question], condition="audio")
    batch.spans["audio"][0]          # positions of row 0
    batch.clock[0].seconds(3)        # (onset, offset) of audio token 3
    ```

    Args:
        model: An opened model with a processor.
        questions: At least one.
        condition: `audio`; `caption` (no audio at all); `audio+caption`; `silence` (zeros of the same length, as many
            audio tokens).
        layout: How caption and choices are written; by default as in `PromptFormat()`.
        allow_cut: Take the beginning of clips that are longer than the model hears; `PromptBatch.cut` says what was
            lost.

    Returns:
        One row per question, padded on the left, on the network's device.

    Raises:
        ValueError: No question; an unknown condition; a question without the clip or the caption that the condition
            needs; a clip too long or too short for the model; a text that the tokenizer would read as control tokens; a
            prompt longer than the model's context.
        TypeError: No processor, something else than questions, or a class that takes none.
    """
    asked = _questions(questions)
    if condition not in CONDITIONS:
        raise ValueError(f"condition is one of {CONDITIONS}, got {condition!r}")
    if model.adapter.no_questions is not None:
        raise TypeError(f"{model.adapter.network_class} takes no questions: {model.adapter.no_questions}")
    if model.processor is None:
        raise TypeError(
            f"this {model.adapter.network_class} was opened without a processor, so questions cannot be written out. "
            "Open it with one, AudioLM(network, processor), or pass a dict of the network's own inputs instead of a "
            "batch"
        )
    rows = [_encode(model, question, condition, layout or PromptFormat(), allow_cut) for question in asked]
    _warn_of_unknown_words(model.processor.tokenizer, rows)
    return _together(model, asked, condition, rows)


def _questions(questions: Iterable[AudioQuestion]) -> tuple[AudioQuestion, ...]:
    if isinstance(questions, AudioQuestion):
        raise TypeError("questions is a list of AudioQuestion; put the one question into a list: [question]")
    asked = tuple(questions)
    if not asked:
        raise ValueError("no question: questions is an empty list, and a batch has at least one row")
    for question in asked:
        if not isinstance(question, AudioQuestion):
            raise TypeError(
                f"questions is a list of AudioQuestion, but holds a {type(question).__name__}: {question!r}"
            )
    return asked


def _encode(model: Any, question: AudioQuestion, condition: str, layout: PromptFormat, allow_cut: bool) -> _Row:
    adapter: Adapter = model.adapter
    if "caption" in condition and question.caption is None:
        raise ValueError(
            f"question {question.id!r} has no caption, which condition={condition!r} needs: set "
            "AudioQuestion(caption=...)"
        )
    block = text_block(question, question.caption if "caption" in condition else None, layout)
    if condition == "caption":
        return _Row(block, encode(model.processor, adapter, block.text, None, question.letters), 0.0, None)
    samples, cut = samples_of(question, model.processor, adapter, allow_cut=allow_cut)
    encoded = encode(model.processor, adapter, block.text, samples, question.letters)
    n_tokens = _heard(model, encoded)
    if n_tokens == 0:
        raise too_short(question, len(samples), adapter)
    if condition == "silence":
        encoded = replace(encoded, features=_silent(model, question, len(samples), n_tokens))
    return _Row(block, encoded, cut, len(samples) / adapter.sampling_rate)


def _warn_of_unknown_words(tokenizer: Any, rows: Sequence[_Row]) -> None:
    """Say which words the model will not read, where its vocabulary has none for them."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    words = {
        row.block.text[span[0] : span[1]]
        for row in rows
        for token, span in zip(row.encoded.ids, row.encoded.offsets, strict=True)
        if token == unknown and span is not None
    }
    if words:
        warnings.warn(
            f"the model has no token for {sorted(words)} and reads {tokenizer.unk_token!r} instead: it cannot tell "
            "them apart from one another or from any other unknown word",
            stacklevel=3,
        )


def _heard(model: Any, encoded: EncodedPrompt) -> int:
    return encoded.ids.count(audio_token_id(model.network.config, model.adapter))


def silenced(model: Any, batch: PromptBatch) -> PromptBatch:
    """The same prompts with zeros of the same lengths in the place of their clips, which are not read again.

    It is what `prompt(model, batch.questions, condition="silence")` makes.

    Args:
        model: The opened model.
        batch: Prompts of condition `audio`.

    Raises:
        ValueError: Prompts of another condition, or a class that makes tokens by content.
    """
    if batch.condition != "audio":
        raise ValueError(f"silence takes the place of the clips of condition 'audio', got {batch.condition!r}")
    features = [
        _silent(model, question, round(seconds * model.adapter.sampling_rate), len(tokens))
        for question, seconds, tokens in zip(batch.questions, batch.durations, batch.spans["audio"], strict=True)
    ]
    placed = place(model.network, model.adapter, stack_features(model.adapter, features))
    return replace(batch, inputs=batch.inputs | placed, condition="silence")


def _silent(model: Any, question: AudioQuestion, n_samples: int, n_tokens: int) -> dict[str, Tensor]:
    """Features of zeros in a clip's place. That as many tokens come out is counted, not assumed."""
    found = silence(model, n_samples)
    if found.n_tokens != n_tokens:
        raise ValueError(
            f"question {question.id!r}: the clip gives {n_tokens} audio tokens, silence of the same length "
            f"{found.n_tokens}: the processor of {model.adapter.network_class} makes tokens by content, and "
            "positions could not be compared"
        )
    return found.features


def _together(model: Any, questions: tuple[AudioQuestion, ...], condition: str, rows: Sequence[_Row]) -> PromptBatch:
    """Rows behind one another, padded on the left to the longest."""
    adapter, network = model.adapter, model.network
    width = max(len(row.encoded.ids) for row in rows)
    _refuse_overlong(network, adapter, width)
    audio_token = audio_token_id(network.config, adapter)
    ids = torch.full((len(rows), width), _padding_id(model.processor.tokenizer, audio_token))
    mask = torch.zeros_like(ids)
    spans: dict[str, list[tuple[int, ...]]] = {}
    clocks = []
    for index, row in enumerate(rows):
        start = width - len(row.encoded.ids)
        ids[index, start:] = torch.tensor(row.encoded.ids)
        mask[index, start:] = 1
        audio = [token == audio_token for token in row.encoded.ids]
        for name, positions in positions_by_role(row.encoded.offsets, row.block.parts, audio).items():
            spans.setdefault(name, []).append(tuple(start + position for position in positions))
        clocks.append(token_clock(adapter.timing, sum(audio), adapter.sampling_rate) if any(audio) else None)
    features = stack_features(adapter, [row.encoded.features for row in rows])
    return PromptBatch(
        inputs=place(network, adapter, {"input_ids": ids, "attention_mask": mask, **features}),
        spans={name: tuple(positions) for name, positions in spans.items()},
        clock=tuple(clocks),
        questions=questions,
        condition=condition,
        choice_ids=tuple(row.encoded.choice_ids for row in rows),
        family=adapter.family,
        made_for=name_of(model),
        vocabulary=vocabulary_of(network, adapter),
        cut=tuple(row.cut for row in rows),
        durations=tuple(row.duration for row in rows),
        audio_token=audio_token,
        tokenizer=model.processor.tokenizer,
    )


def _padding_id(tokenizer: Any, audio_token: int) -> int:
    """What stands in masked positions: any id would do but the audio placeholder, which networks count there too."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None and token != audio_token:
            return token
    raise ValueError(
        f"the tokenizer {type(tokenizer).__name__} has neither a padding nor an end token (the audio placeholder does "
        "not count): set tokenizer.pad_token"
    )


def _refuse_overlong(network: Any, adapter: Adapter, width: int) -> None:
    longest = getattr(adapter.decoder.own_config(network.config), "max_position_embeddings", None)
    if longest is not None and width > longest:
        raise ValueError(
            f"the longest prompt has {width} tokens, {adapter.network_class} was built for {longest} positions: use "
            "shorter clips or texts"
        )

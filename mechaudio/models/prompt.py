"""Questions in, prompts out: chat template, clip, spans, clock and the ids of the choices' letters.

How a question is written out, and why so, is said in `mechaudio.models.spans`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.audio.stored import opened
from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.chat import EncodedPrompt, encode
from mechaudio.models.clips import samples_of, token_clock, too_short
from mechaudio.models.features import silence, stack_features
from mechaudio.models.hearing import audio_token_id
from mechaudio.models.inputs import as_batch, name_of, place, vocabulary_of
from mechaudio.models.spans import PromptFormat, TextBlock, positions_by_role
from mechaudio.models.turns import Turn, joined, of_messages, of_question, question_of, recordings
from mechaudio.notices import warn
from mechaudio.question import CONDITIONS, AudioQuestion

__all__ = ["PromptBatch", "PromptFormat", "as_batch", "as_prompts", "prompt", "silenced"]


#: A conversation in transformers' chat format.
Conversation = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class _Row:
    turns: tuple[Turn, ...]
    block: TextBlock
    encoded: EncodedPrompt
    cut: float
    seconds: tuple[float, ...]


@checks_arguments
def prompt(
    model: Any,
    questions: Iterable[AudioQuestion | Conversation],
    *,
    condition: str = "audio",
    layout: PromptFormat | None = None,
    allow_cut: bool = False,
) -> PromptBatch:
    """Write questions, or whole conversations, out for a model.

    ```python
    batch = ma.prompt(model, [question], condition="audio")
    batch.spans["audio"][0]          # positions of row 0
    batch.clock[0].seconds(3)        # (onset, offset) of audio token 3

    sound = {"type": "audio", "audio": "clip.wav"}
    chat = ma.prompt(model, [[{"role": "user", "content": [sound, {"type": "text", "text": "What is this?"}]}]])
    ```

    Args:
        model: An opened model with a processor.
        questions: At least one: questions, or conversations in transformers' chat format (turns of system, user and
            assistant, audio anywhere), whose last turn the model answers. A question with several clips is heard in
            their order.
        condition: `audio`; `caption` (no audio at all); `audio+caption`; `silence` (zeros of the same length, as many
            audio tokens).
        layout: How caption and choices are written; by default as in `PromptFormat()`.
        allow_cut: Take the beginning of clips that are longer than the model hears; `PromptBatch.cut` says what was
            lost.

    Returns:
        One row per question, padded on the left, on the network's device.

    Raises:
        ValueError: No question; an unknown condition; a question without the clip or the caption that the condition
            needs; several clips in a class that takes one; a conversation whose last turn is not the user's; a clip too
            long or too short for the model; a text that the tokenizer would read as control tokens; a prompt longer
            than the model's context.
        TypeError: No processor, something else than questions, or a class that takes none.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition is one of {CONDITIONS}, got {condition!r}")
    asked = _asked(questions, condition, layout or PromptFormat())
    if model.adapter.no_questions is not None:
        raise TypeError(f"{model.adapter.network_class} takes no questions: {model.adapter.no_questions}")
    if model.processor is None:
        raise TypeError(
            f"this {model.adapter.network_class} was opened without a processor, so questions cannot be written out. "
            "Open it with one, AudioLM(network, processor), or pass a dict of the network's own inputs instead of a "
            "batch"
        )
    rows = [_encode(model, question, turns, condition, allow_cut) for question, turns in asked]
    _warn_of_unknown_words(model.processor.tokenizer, rows)
    return _together(model, tuple(question for question, _ in asked), condition, rows)


def _asked(
    questions: Iterable[AudioQuestion | Conversation], condition: str, layout: PromptFormat
) -> list[tuple[AudioQuestion, tuple[Turn, ...]]]:
    """Questions and what is written for each; a conversation stands for the question that it ends with."""
    rows = list(questions)
    if not rows:
        raise ValueError("no question: questions is an empty list, and a batch has at least one row")
    asked = []
    for row in rows:
        if isinstance(row, AudioQuestion):
            asked.append((row, of_question(row, condition, layout)))
        elif isinstance(row, Sequence) and not isinstance(row, (str, bytes)):
            turns = of_messages(row)
            asked.append((question_of(turns), turns))
            if "caption" in condition:
                raise ValueError(f"a conversation has no caption, which condition={condition!r} needs")
        else:
            raise TypeError(f"questions is a list of AudioQuestion, but holds a {type(row).__name__}: {row!r}")
    return asked


def as_prompts(
    model: Any,
    questions: PromptBatch | Mapping[str, Any] | Iterable[AudioQuestion | Conversation],
    condition: str = "audio",
) -> PromptBatch:
    """Prompts for this model from whatever may stand for them.

    Args:
        model: An opened model.
        questions: Prompts, returned as they are; a dict of the network's own inputs; or questions and conversations,
            which are written out.
        condition: What the model is given, where questions are written out.

    Raises:
        TypeError: Something else.
        ValueError: Prompts that were made in another condition, or as `prompt` and `as_batch`.
    """
    if isinstance(questions, (PromptBatch, Mapping)):
        condition_of(questions, condition)
        return as_batch(model, questions)
    return prompt(model, questions, condition=condition)


def condition_of(questions: Any, condition: str) -> str:
    """The condition in which something is asked: of prompts, the one they were made in; else the one that is given.

    Raises:
        ValueError: Prompts that were made in another one than the one given, where that is not the default.
    """
    made = questions.condition if isinstance(questions, PromptBatch) else None
    if made is not None and condition not in ("audio", made):
        raise ValueError(
            f"these prompts were made with condition={made!r}, got {condition=}: give the questions, or prompts made "
            f"with ma.prompt(model, questions, {condition=})"
        )
    return made or condition


def _encode(model: Any, question: AudioQuestion, turns: tuple[Turn, ...], condition: str, allow_cut: bool) -> _Row:
    adapter: Adapter = model.adapter
    owner = f"question {question.id!r}"
    kept = [opened(recording) for recording in recordings(turns)]
    if not kept and condition != "caption" and question.recordings == () and len(turns) == 1:
        raise ValueError(
            f"{owner} has no audio: a prompt without audio is condition='caption'. Give the question a clip, or ask it "
            "so"
        )
    heard = [samples_of(clip, owner, model.processor, adapter, allow_cut=allow_cut) for clip in kept]
    clips = iter([samples for samples, _ in heard])
    encoded = encode(model.processor, adapter, [turn.with_clips(clips) for turn in turns], question.letters)
    for sound, (samples, _) in zip(encoded.sounds, heard, strict=True):
        if sound.n_tokens == 0:
            raise too_short(owner, len(samples), adapter)
    if condition == "silence":
        silent = [
            replace(sound, features=_silent(model, owner, len(samples), sound.n_tokens))
            for sound, (samples, _) in zip(encoded.sounds, heard, strict=True)
        ]
        encoded = replace(encoded, sounds=tuple(silent))
    seconds = tuple(len(samples) / adapter.sampling_rate for samples, _ in heard)
    return _Row(turns, joined(turns), encoded, sum((lost for _, lost in heard), 0.0), seconds)


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
        warn(
            f"the model has no token for {sorted(words)} and reads {tokenizer.unk_token!r} instead: it cannot tell "
            "them apart from one another or from any other unknown word"
        )


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
        _silent(model, f"question {question.id!r}", round(length * model.adapter.sampling_rate), clock.n_tokens)
        for question, given, clocks in zip(batch.questions, batch.given, batch.clocks, strict=True)
        for length, clock in zip(given, clocks, strict=True)
    ]
    placed = place(model.network, model.adapter, stack_features(model.adapter, features))
    return replace(batch, inputs=batch.inputs | placed, condition="silence")


def _silent(model: Any, owner: str, n_samples: int, n_tokens: int) -> dict[str, Tensor]:
    """Features of zeros in a clip's place. That as many tokens come out is counted, not assumed."""
    silent = silence(model, n_samples)
    if silent.n_tokens != n_tokens:
        raise ValueError(
            f"{owner}: the clip gives {n_tokens} audio tokens, silence of the same length "
            f"{silent.n_tokens}: the processor of {model.adapter.network_class} makes tokens by content, and "
            "positions could not be compared"
        )
    return silent.features


def _together(model: Any, questions: tuple[AudioQuestion, ...], condition: str, rows: Sequence[_Row]) -> PromptBatch:
    """Rows behind one another, padded on the left to the longest."""
    adapter, network = model.adapter, model.network
    width = max(len(row.encoded.ids) for row in rows)
    _refuse_overlong(network, adapter, width)
    audio_token = audio_token_id(network.config, adapter)
    ids = torch.full((len(rows), width), _padding_id(model.processor.tokenizer, audio_token))
    mask = torch.zeros_like(ids)
    spans: list[dict[str, tuple[int, ...]]] = []
    for index, row in enumerate(rows):
        start = width - len(row.encoded.ids)
        ids[index, start:] = torch.tensor(row.encoded.ids)
        mask[index, start:] = 1
        spans.append(
            {name: tuple(start + place for place in places) for name, places in _spans(row, audio_token).items()}
        )
    names = dict.fromkeys(name for row_spans in spans for name in row_spans)
    features = stack_features(adapter, [sound.features for row in rows for sound in row.encoded.sounds])
    return PromptBatch(
        inputs=place(network, adapter, {"input_ids": ids, "attention_mask": mask, **features}),
        spans={name: tuple(row_spans.get(name, ()) for row_spans in spans) for name in names},
        clocks=tuple(
            tuple(token_clock(adapter.timing, sound.n_tokens, adapter.sampling_rate) for sound in row.encoded.sounds)
            for row in rows
        ),
        questions=questions,
        condition=condition,
        choice_ids=tuple(row.encoded.choice_ids for row in rows),
        family=adapter.family,
        made_for=name_of(model),
        vocabulary=vocabulary_of(network, adapter),
        cut=tuple(row.cut for row in rows),
        given=tuple(row.seconds for row in rows),
        audio_token=audio_token,
        tokenizer=model.processor.tokenizer,
        written=tuple(row.encoded.written for row in rows),
    )


def _spans(row: _Row, audio_token: int) -> dict[str, tuple[int, ...]]:
    """Positions by name in one prompt without padding: roles, clips and turns where there are several."""
    encoded = row.encoded
    spans = positions_by_role(encoded.offsets, row.block.parts, [token == audio_token for token in encoded.ids])
    ends = [0, *accumulate(sound.n_tokens for sound in encoded.sounds)]
    clips = [spans["audio"][first:end] for first, end in pairwise(ends)]
    if len(clips) > 1:
        spans |= {f"audio.{number}": clip for number, clip in enumerate(clips)}
    following = iter(clips)
    for number, turn in enumerate(row.turns if len(row.turns) > 1 else ()):
        sounds = [position for _ in recordings([turn]) for position in next(following)]
        for name in (f"turn.{number}", turn.speaker):
            spans[name] = tuple(sorted({*spans.get(name, ()), *sounds}))
    return spans


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

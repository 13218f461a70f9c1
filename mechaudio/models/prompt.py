"""Questions in, prompts out: chat template, clip, spans, clock and the ids of the choices' letters.

How a question is written out, and why so, is said in `mechaudio.models.spans`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clock import TokenClock
from mechaudio.audio.stored import opened
from mechaudio.models.adapter import Adapter, OpenedModel
from mechaudio.models.batch import PromptBatch
from mechaudio.models.chat import EncodedPrompt, encode
from mechaudio.models.clips import audio_spans, by_name, samples_of, too_short
from mechaudio.models.features import refuse_changed_torch, stack_features
from mechaudio.models.hearing import audio_token_id, guesses
from mechaudio.models.inputs import as_batch, merged, name_of, place, vocabulary_of
from mechaudio.models.padding import left_padded, padding_id, with_positions
from mechaudio.models.processor import refuse_foreign_processor
from mechaudio.models.silence import silent_features
from mechaudio.models.spans import PromptFormat, TextBlock, positions_by_role
from mechaudio.models.transcripts import transcripts_of
from mechaudio.models.turns import Turn, joined, of_messages, of_question, question_of, recordings, transcripts_in
from mechaudio.notices import warn
from mechaudio.question import EVERY_CONDITION, NO_QUESTIONS, NO_TRANSCRIPT, AudioQuestion

__all__ = ["PromptBatch", "PromptFormat", "as_batch", "as_prompts", "prompt"]


#: A conversation in transformers' chat format.
Conversation = Sequence[Mapping[str, Any]]
#: Prompts, a dict of the network's own inputs, or what is written out as prompts.
Inputs = PromptBatch | Mapping[str, Any] | Iterable[AudioQuestion | Conversation]


@dataclass(frozen=True, eq=False)
class _Row:
    turns: tuple[Turn, ...]
    block: TextBlock
    encoded: EncodedPrompt
    cut: float
    seconds: tuple[float, ...]


@checks_arguments
def prompt(
    model: OpenedModel,
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
            audio tokens, and the transcript of the clip in a class that reads one); `silence_no_transcript`, in such a
            class: silence, and the transcript of silence.
        layout: How caption and choices are written; by default as in `PromptFormat()`.
        allow_cut: Take the beginning of clips that are longer than the model hears; `PromptBatch.cut` says what was
            lost.

    Returns:
        One row per question, padded on the left, on the network's device.

    Raises:
        ValueError: No question; an unknown condition; a question without the clip or the caption that the condition
            needs; several clips in a class that takes one; a conversation whose last turn is not the user's; a clip too
            long or too short for the model; a text that the tokenizer would read as control tokens; a prompt longer
            than the model's context; a processor with other settings than the network's tower takes; or torch was told
            to use another type or device by default.
        TypeError: No processor, something else than questions, or a class that takes none.
    """
    if condition not in EVERY_CONDITION:
        raise ValueError(f"condition is one of {EVERY_CONDITION}, got {condition!r}")
    layout, rows_asked = layout or PromptFormat(), list(questions)
    written = _asked(rows_asked, condition, layout, model.adapter)
    if model.adapter.no_questions is not None:
        raise TypeError(f"{model.adapter.network_class} takes no questions: {model.adapter.no_questions}")
    if model.processor is None:
        raise TypeError(
            f"this {model.adapter.network_class} was opened without a processor, so questions cannot be written out. "
            "Open it with one, AudioLM(network, processor), or pass a dict of the network's own inputs instead of a "
            "batch"
        )
    refuse_changed_torch()
    refuse_foreign_processor(model.processor, model.network, model.adapter)
    rows = [_encode(model, question, turns, condition, allow_cut) for question, turns in written]
    _warn_of_unknown_words(model.processor.tokenizer, rows)
    if condition == "audio":
        _warn_of_guesses(model, [question for question, _ in written])
    batch = _together(model, tuple(question for question, _ in written), condition, rows)
    return replace(batch, layout=layout) if all(isinstance(row, AudioQuestion) for row in rows_asked) else batch


def _asked(
    rows: Sequence[AudioQuestion | Conversation], condition: str, layout: PromptFormat, adapter: Adapter
) -> list[tuple[AudioQuestion, tuple[Turn, ...]]]:
    """Questions and what is written for each; a conversation stands for the question that it ends with."""
    if not rows:
        raise ValueError(NO_QUESTIONS)
    written = []
    for index, row in enumerate(rows):
        if isinstance(row, AudioQuestion):
            if not row.recordings and condition != "caption":
                raise ValueError(
                    f"question {row.id!r} has no audio: a prompt without audio is condition='caption', or a "
                    "conversation. Give the question a clip, or ask it so"
                )
            written.append((row, of_question(row, condition, layout, text_first=adapter.text_first)))
        elif isinstance(row, Sequence) and not isinstance(row, (str, bytes)):
            turns = of_messages(row)
            written.append((question_of(turns, transcripts_in(row)), turns))
            if "caption" in condition:
                raise ValueError(f"a conversation has no caption, which condition={condition!r} needs")
        else:
            raise TypeError(f"questions are AudioQuestion or conversations, but number {index} is {row!r}")
    return written


def as_prompts(
    model: OpenedModel,
    questions: Inputs,
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


def layout_of(questions: Any, layout: PromptFormat | None) -> PromptFormat:
    """Return the layout that is given; else that of prompts, or the usual one."""
    made = questions.layout if isinstance(questions, PromptBatch) else None
    return layout or made or PromptFormat()


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


def _encode(
    model: OpenedModel, question: AudioQuestion, turns: tuple[Turn, ...], condition: str, allow_cut: bool
) -> _Row:
    adapter = model.adapter
    owner = f"question {question.id!r}"
    kept = [opened(recording) for recording in recordings(turns)]
    sampled = [samples_of(clip, owner, model.processor, adapter, allow_cut=allow_cut) for clip in kept]
    clips = iter([samples for samples, _ in sampled])
    written = [turn.with_clips(clips) for turn in turns]
    transcripts = transcripts_of(model, question, [samples for samples, _ in sampled], condition)
    encoded = encode(model.processor, adapter, written, question.letters, transcripts)
    sounds = []
    for sound, (samples, _) in zip(encoded.sounds, sampled, strict=True):
        if sound.n_tokens == 0:
            raise too_short(owner, len(samples), adapter)
        features = sound.features
        if condition in ("silence", NO_TRANSCRIPT):
            features = silent_features(model, owner, len(samples), sound.n_tokens)
        sounds.append(replace(sound, features=merged(model, features)))
    encoded = replace(encoded, sounds=tuple(sounds))
    seconds = tuple(len(samples) / adapter.sampling_rate for samples, _ in sampled)
    return _Row(turns, joined(turns), encoded, sum((lost for _, lost in sampled), 0.0), seconds)


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


def _warn_of_guesses(model: OpenedModel, questions: Sequence[AudioQuestion]) -> None:
    """Say which choices name what the model never heard, where it says what it was trained on."""
    trained = getattr(model, "trained_choices", ())
    untrained = guesses(trained, (choice for question in questions for choice in question.choices))
    if untrained:
        warn(
            f"the model was never trained to hear {', '.join(map(repr, untrained))}: how probable it makes these "
            f"choices is a guess, however sure it looks. It knows {len(trained)} (model.trained_choices), such as "
            f"{', '.join(map(repr, trained[:3]))}"
        )


def _together(
    model: OpenedModel, questions: tuple[AudioQuestion, ...], condition: str, rows: Sequence[_Row]
) -> PromptBatch:
    """Rows behind one another, padded on the left to the longest."""
    adapter, network = model.adapter, model.network
    audio_token = audio_token_id(network.config, adapter)
    padding = padding_id(model.processor.tokenizer, audio_token)
    padded = left_padded([row.encoded.ids for row in rows], padding=True, pad=padding)
    width = padded["input_ids"].shape[1]
    _refuse_overlong(network, adapter, width)
    spans: list[dict[str, tuple[int, ...]]] = []
    clocks: list[tuple[TokenClock, ...]] = []
    for row in rows:
        start = width - len(row.encoded.ids)
        made, timed = _spans(adapter, row, audio_token)
        spans.append({name: tuple(start + place for place in places) for name, places in made.items()})
        clocks.append(timed)
    features = stack_features(adapter, [sound.features for row in rows for sound in row.encoded.sounds])
    return PromptBatch(
        inputs=with_positions(network, place(network, adapter, {**padded, **features})),
        spans=by_name(spans),
        clocks=tuple(clocks),
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


def _spans(adapter: Adapter, row: _Row, audio_token: int) -> tuple[dict[str, tuple[int, ...]], tuple[TokenClock, ...]]:
    """Positions by name in one prompt without padding: roles, clips and turns where there are several. And clocks."""
    encoded = row.encoded
    spans = positions_by_role(encoded.offsets, row.block.parts, [token == audio_token for token in encoded.ids])
    ends = [0, *accumulate(sound.n_tokens for sound in encoded.sounds)]
    clips = [spans["audio"][first:end] for first, end in pairwise(ends)]
    audio, clocks = audio_spans(adapter, encoded.sounds, row.seconds, spans["audio"])
    spans |= audio
    if adapter.transcribes is not None:
        spoken = [
            position
            for positions, sound in zip(clips, encoded.sounds, strict=True)
            for position in range(positions[-1] + 1, positions[-1] + 1 + len(sound.tokens) - sound.n_tokens)
        ]
        spans["transcript"] = tuple(spoken)
        spans["template"] = tuple(position for position in spans["template"] if position not in set(spoken))
    following = iter(clips)
    for number, turn in enumerate(row.turns if len(row.turns) > 1 else ()):
        sounds = [position for _ in recordings([turn]) for position in next(following)]
        for name in (f"turn.{number}", turn.speaker):
            spans[name] = tuple(sorted({*spans.get(name, ()), *sounds}))
    return spans, clocks


def _refuse_overlong(network: Any, adapter: Adapter, width: int) -> None:
    longest = getattr(adapter.decoder.own_config(network.config), "max_position_embeddings", None)
    if longest is not None and width > longest:
        raise ValueError(
            f"the longest prompt has {n_of(width, 'token')}, {adapter.network_class} was built for "
            f"{n_of(longest, 'position')}: use shorter clips or texts"
        )

"""One prompt through a family's own processor and chat template.

What comes out: token ids, features, and which characters of the text each token holds.

Prompts are encoded one by one and put together later (`mechaudio.models.prompt`): a padding option given to a processor
also reaches its audio in some families, and nothing of the user's processor has to be set and put back.

Two ways lead to the same `EncodedPrompt`. A chat template written in Jinja renders to text, which a fast tokenizer
splits with offsets. Mistral's tokenizer has neither: it writes token ids at once, and the bytes of every token add up
to the text.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.models.adapter import Adapter
from mechaudio.models.continuation import continuation
from mechaudio.models.spans import TextBlock
from mechaudio.models.turns import Turn, recordings, texts

#: Stands for a text while the chat template is rendered around it; private-use characters, so that nobody's text holds
#: it.
_SLOT = "\ue000text {}\ue001"


@dataclass(frozen=True, eq=False)
class Sound:
    """One clip as a processor writes it.

    Attributes:
        tokens: The ids in its place: audio tokens, in some families between control tokens or in front of a
            transcript.
        n_tokens: How many of them are audio tokens.
        features: The adapter's audio inputs, `[window, ...]`.
    """

    tokens: tuple[int, ...]
    n_tokens: int
    features: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One prompt without padding.

    Attributes:
        ids: Token ids, one placeholder per audio token.
        offsets: Per token, which characters of the turns' texts, behind one another, it holds; `None` where it holds
            none.
        sounds: Its clips, in order.
        choice_ids: The token id of each letter behind this prompt.
        written: The prompt as text, one placeholder per clip, as far as answers are tokenised behind it: empty where
            training tokenised them apart, None where the tokenizer writes tokens itself.
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int] | None, ...]
    sounds: tuple[Sound, ...]
    choice_ids: tuple[int, ...]
    written: str | None


def encode(
    processor: Any,
    adapter: Adapter,
    turns: Sequence[Turn],
    letters: Sequence[str] = (),
    transcripts: Sequence[str] = (),
) -> EncodedPrompt:
    """Encode turns, up to where the model answers.

    Args:
        processor: The family's processor.
        adapter: The facts about the family.
        turns: Texts, and the samples of clips at the adapter's rate.
        letters: Letters of the choices.
        transcripts: The words of each clip, in a family whose prompts hold them.

    Raises:
        ValueError: A text holds a control token; the chat template changes a text, has no place for it or for audio, or
            does not take the turns; several clips in a class that takes one; a letter melts into the end of the prompt,
            or two letters begin with the same token.
        TypeError: The tokenizer says neither characters nor bytes of its tokens.
    """
    tokenizer = processor.tokenizer
    if len(recordings(turns)) > 1 and adapter.one_clip is not None:
        raise ValueError(
            f"{adapter.network_class} takes one clip a prompt, got {len(recordings(turns))}: {adapter.one_clip}"
        )
    if getattr(tokenizer, "is_fast", False):
        encoded = _through_template(processor, adapter, turns, letters, transcripts)
    elif hasattr(tokenizer, "tokenizer") and hasattr(tokenizer.tokenizer, "instruct_tokenizer"):
        encoded = _through_mistral(processor, adapter, turns, letters)
    else:
        raise TypeError(
            f"{type(tokenizer).__name__} does not say which characters its tokens hold: spans need a fast tokenizer "
            "(transformers' PreTrainedTokenizerFast) or Mistral's own"
        )
    unknown = [
        letter
        for letter, choice_id in zip(letters, encoded.choice_ids, strict=True)
        if choice_id == tokenizer.unk_token_id and choice_id is not None
    ]
    if unknown:
        raise ValueError(
            f"the tokenizer has no token for the letters {', '.join(unknown)} of the choices: the model cannot answer "
            f"with them. Ask with {n_of(len(letters) - len(unknown), 'choice')} at most"
        )
    seen: dict[int, str] = {}
    for letter, choice_id in zip(letters, encoded.choice_ids, strict=True):
        if choice_id in seen:
            raise ValueError(
                f"choices {seen[choice_id]} and {letter} begin with the same token (id {choice_id}, "
                f"{tokenizer.decode([choice_id])!r}): their logits cannot be told apart. Ask with fewer choices, or "
                "use a tokenizer that writes letters as single tokens"
            )
        seen[choice_id] = letter
    return encoded


def encode_alone(
    processor: Any, adapter: Adapter, samples: Float[np.ndarray, " samples"], transcripts: Sequence[str] = ()
) -> Sound:
    """One clip, and its transcript in a family that has one, as the processor writes it in a prompt of its own."""
    turns = (Turn("user", (samples, TextBlock("?", ()))),)
    return encode(processor, adapter, turns, transcripts=transcripts).sounds[0]


def _through_template(
    processor: Any, adapter: Adapter, turns: Sequence[Turn], letters: Sequence[str], transcripts: Sequence[str]
) -> EncodedPrompt:
    tokenizer, clips = processor.tokenizer, recordings(turns)
    words = [block.text for block in texts(turns)]
    for text in (*words, *transcripts):
        _refuse_control_tokens(processor, text)
    between = _between_texts(processor, adapter, turns)
    rendered = _render(processor, adapter, turns, words)
    if rendered != _interleaved(between, words):
        raise ValueError(
            f"the chat template of {type(processor).__name__} rewrites its text: {' '.join(map(repr, words))} became "
            f"{rendered!r}"
        )
    placeholders = rendered.count(processor.audio_token)
    if placeholders != len(clips):
        raise ValueError(
            f"the chat template of {type(processor).__name__} wrote {placeholders} audio placeholders "
            f"({processor.audio_token!r}) for {n_of(len(clips), 'clip')}"
        )
    # Where a processor says what it writes for a clip, the line breaks around it may melt into the text's.
    written = getattr(processor, "full_audio_sequence", processor.audio_token)
    between = [part.replace(processor.audio_token, written) for part in between]
    prompt = _interleaved(between, words)
    split = tokenizer(prompt, return_offsets_mapping=True)
    placeholder = tokenizer.convert_tokens_to_ids(processor.audio_token)
    if len(clips) > 1:
        spoken = [transcripts[number : number + 1] for number in range(len(clips))]
        sounds = [encode_alone(processor, adapter, *alone) for alone in zip(clips, spoken, strict=True)]
    else:
        sounds = _as_written(processor, adapter, rendered, clips, transcripts, split["input_ids"], placeholder)
    ids, offsets, inside = list[int](), list[tuple[int, int] | None](), _InTexts(between, words)
    # Some processors write a single placeholder for a clip and grow it later, others every audio token at once.
    each = written.count(processor.audio_token)
    stands_for = iter([tokens for sound in sounds for tokens in (sound.tokens, *[()] * (each - 1))])
    for token, span in zip(split["input_ids"], split["offset_mapping"], strict=True):
        grown = next(stands_for) if token == placeholder else (token,)
        ids += grown
        offsets += [None] * len(grown) if token == placeholder else [inside(*span)]
    if adapter.answer == "apart":
        prompt, choice_ids = "", tuple(_alone(tokenizer, letter) for letter in letters)
    else:
        choice_ids = tuple(continuation(tokenizer, prompt, letter, split["input_ids"])[0] for letter in letters)
    return EncodedPrompt(tuple(ids), tuple(offsets), tuple(sounds), choice_ids, prompt)


def _as_written(
    processor: Any,
    adapter: Adapter,
    rendered: str,
    clips: Sequence[np.ndarray],
    transcripts: Sequence[str],
    split: list[int],
    placeholder: int,
) -> list[Sound]:
    """The clip of a prompt that has one at most, as the processor writes it there."""
    audio = {"audio": clips, "audio_kwargs": {"sampling_rate": adapter.sampling_rate}} if clips else {}
    audio |= {"transcripts": transcripts} if transcripts else {}
    made = processor(text=[rendered], return_tensors="pt", **audio)
    ids = made["input_ids"][0].tolist()
    grown = _grown(split, ids, placeholder)
    if grown is None:
        raise ValueError(
            f"{type(processor).__name__} makes other tokens than its own tokenizer for the same prompt: where each "
            f"part of the text is cannot be told ({n_of(len(ids), 'token')} against {len(split)})"
        )
    return [Sound(tuple(grown), grown.count(placeholder), _features(adapter, made))] if clips else []


def _between_texts(processor: Any, adapter: Adapter, turns: Sequence[Turn]) -> list[str]:
    """Return the template's text before the first text, between the texts, and behind the last."""
    slots = [_SLOT.format(number) for number in range(len(texts(turns)))]
    frame = rest = _render(processor, adapter, turns, slots)
    between = []
    for slot in slots:
        before, slotted, rest = rest.partition(slot)
        if not slotted:
            raise ValueError(
                f"the chat template of {type(processor).__name__} writes no text "
                f"{'beside' if recordings(turns) else 'without'} audio, or not that of every turn: {frame!r}"
            )
        between.append(before)
    return [*between, rest]


def _interleaved(between: Sequence[str], words: Sequence[str]) -> str:
    return "".join(part for pair in zip(between, [*words, ""], strict=True) for part in pair)


class _InTexts:
    """Characters of a rendered prompt -> characters of its texts, put behind one another."""

    def __init__(self, between: Sequence[str], words: Sequence[str]):
        self.places = list[tuple[int, int, int]]()
        rendered = joined = 0
        for before, text in zip(between, words, strict=False):
            rendered += len(before)
            self.places.append((rendered, rendered + len(text), joined))
            rendered, joined = rendered + len(text), joined + len(text)

    def __call__(self, start: int, stop: int) -> tuple[int, int] | None:
        """The characters of a text that a token holds, `None` where it holds none."""
        for first, end, base in self.places:
            if max(start, first) < min(stop, end):
                return base + max(start, first) - first, base + min(stop, end) - first
        return None


def _features(adapter: Adapter, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One clip's audio inputs among everything that a processor made, with a mask in any case."""
    features = made[adapter.features]
    inputs = {adapter.features: features}
    if adapter.features_mask is not None and adapter.features_mask not in made:
        inputs[adapter.features_mask] = torch.ones(features.shape[0], features.shape[adapter.frames_axis]).bool()
    elif adapter.features_mask is not None:
        inputs[adapter.features_mask] = made[adapter.features_mask]
    if adapter.features_sizes is not None:
        inputs[adapter.features_sizes] = made[adapter.features_sizes]
    return inputs | {name: made[name] for name in (*adapter.features_beside, adapter.lengths) if name is not None}


def _grown(written: list[int], ids: list[int], placeholder: int) -> list[int] | None:
    """Return the tokens in the placeholders' place: audio tokens, in some families between two control tokens.

    `None` if the tokens around it are not the written ones.
    """
    if placeholder not in written:
        return [] if written == ids else None
    at, behind = written.index(placeholder), written[::-1].index(placeholder)
    end = len(ids) - behind
    same = written[:at] == ids[:at] and written[len(written) - behind :] == ids[end:] and end >= at
    return ids[at:end] if same else None


def _render(processor: Any, adapter: Adapter, turns: Sequence[Turn], words: Sequence[str]) -> str:
    following = iter(words)
    as_text = adapter.turns == "text"
    written: list[dict[str, Any]] = []
    if adapter.system is not None and all(turn.speaker != "system" for turn in turns):
        written.append(_message("system", [{"type": "text", "text": adapter.system}], processor, as_text))
    for turn in turns:
        parts = [
            {"type": "text", "text": next(following)} if isinstance(part, TextBlock) else {"type": "audio"}
            for part in turn.parts
        ]
        written.append(_message(turn.speaker, parts, processor, as_text))
    return _filled_in(processor, turns, written, tokenize=False, add_generation_prompt=True)


def _filled_in(processor: Any, turns: Sequence[Turn], messages: Sequence[Any], **options: Any) -> Any:
    """The chat template of a processor, filled in; refused where it does not take these turns."""
    try:
        return processor.apply_chat_template(messages, **options)
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        homes = {name.partition(".")[0] for name in (type(error).__module__, frame.f_globals["__name__"])}
        if homes.isdisjoint(("jinja2", "mistral_common")):
            raise
        speakers = ", ".join(turn.speaker for turn in turns)
        raise ValueError(
            f"the chat template of {type(processor).__name__} does not take these turns ({speakers}): "
            f"{str(error).rstrip('.')}. Leave some out, or write their text into a turn that it takes"
        ) from error


def _message(speaker: str, parts: list[dict[str, str]], processor: Any, as_text: bool) -> dict[str, Any]:
    """One turn as a chat template takes it: as a list of parts, or as text with placeholders."""
    content = "".join(part.get("text", processor.audio_token) for part in parts) if as_text else parts
    return {"role": speaker, "content": content}


def _refuse_control_tokens(processor: Any, text: str) -> None:
    """Text from outside must stay text: a control token in a caption would end the turn or stand for audio."""
    added = processor.tokenizer.added_tokens_decoder.values()
    markers = getattr(processor, "added", ())  # words to other tokenizers, and to this model what it was trained to say
    control = {processor.audio_token, *markers, *(token.content for token in added if token.special)}
    present = sorted(token for token in control if token in text)
    if present:
        raise ValueError(
            f"the text holds {', '.join(map(repr, present))}, which the tokenizer of {type(processor).__name__} reads "
            f"as control, not as words: {text!r}. Write it differently"
        )


def _alone(tokenizer: Any, letter: str) -> int:
    """The token that a letter is as a text of its own, as which training tokenised answers."""
    ids = continuation(tokenizer, "", letter)
    if len(ids) != 1:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise ValueError(
            f"the letter {letter!r} is no token of this tokenizer but {pieces}, of which the first says nothing: ask "
            "with fewer choices, or take a tokenizer that has it"
        )
    return ids[0]


def _through_mistral(processor: Any, adapter: Adapter, turns: Sequence[Turn], letters: Sequence[str]) -> EncodedPrompt:
    tokenizer, clips = processor.tokenizer, recordings(turns)
    made = _filled_in(processor, turns, [[_mistral_message(turn, adapter) for turn in turns]])
    ids = made["input_ids"][0].tolist()
    pieces = tokenizer.tokenizer.instruct_tokenizer.tokenizer
    held = [b"" if pieces.is_special(token) else pieces.id_to_byte_piece(token) for token in ids]
    written, text = b"".join(held), "".join(block.text for block in texts(turns))
    if written != text.encode():
        raise ValueError(
            f"the chat format of {type(processor).__name__} rewrites its text: {text!r} became {written!r}"
        )
    character = [index for index, letter in enumerate(text) for _ in letter.encode()]
    ends = list(accumulate(map(len, held)))
    offsets = tuple(
        (character[end - len(piece)], character[end - 1] + 1) if piece else None
        for piece, end in zip(held, ends, strict=True)
    )
    if len(clips) > 1:
        sounds = [encode_alone(processor, adapter, clip) for clip in clips]
    else:
        audio_ids = tuple(token for token in ids if token == processor.audio_token_id)
        sounds = [Sound(audio_ids, len(audio_ids), {adapter.features: made[adapter.features]}) for _ in clips]
    choice_ids = tuple(continuation(tokenizer, None, letter)[0] for letter in letters)
    return EncodedPrompt(tuple(ids), offsets, tuple(sounds), choice_ids, None)


def _mistral_message(turn: Turn, adapter: Adapter) -> dict[str, Any]:
    """One turn in Mistral's chat format, which takes clips as files."""
    content: list[dict[str, str]] = []
    for part in turn.parts:
        if isinstance(part, TextBlock):
            content.append({"type": "text", "text": part.text})
        else:
            sound = base64.b64encode(AudioClip(part, adapter.sampling_rate).to_wav()).decode("ascii")
            content.append({"type": "audio", "base64": sound})
    return {"role": turn.speaker, "content": content}

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.audio.clip import AudioClip
from mechaudio.models.adapter import Adapter

#: Stands for the text while the chat template is rendered around it; private-use characters, so that nobody's text
#: holds it.
_SLOT = "\ue000text\ue001"


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One prompt without padding.

    Attributes:
        ids: Token ids, one placeholder per audio token.
        offsets: Per token, which characters of the question's text it holds; `None` where it holds none.
        features: The adapter's audio inputs, `[window, ...]`; empty without audio.
        choice_ids: The token id of each letter behind this prompt.
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int] | None, ...]
    features: dict[str, Tensor]
    choice_ids: tuple[int, ...]


def encode(
    processor: Any,
    adapter: Adapter,
    text: str,
    samples: Float[np.ndarray, " samples"] | None,
    letters: Sequence[str],
) -> EncodedPrompt:
    """Encode one user turn, up to where the model answers.

    Args:
        processor: The family's processor.
        adapter: The facts about the family.
        text: The text of the turn.
        samples: The clip at the adapter's rate, `None` for a turn without audio.
        letters: Letters of the choices.

    Raises:
        ValueError: The text holds a control token; the chat template changes the text or has no place for audio; a
            letter melts into the end of the prompt, or two letters begin with the same token.
        TypeError: The tokenizer says neither characters nor bytes of its tokens.
    """
    tokenizer = processor.tokenizer
    if getattr(tokenizer, "is_fast", False):
        encoded = _through_template(processor, adapter, text, samples, letters)
    elif hasattr(tokenizer, "tokenizer") and hasattr(tokenizer.tokenizer, "instruct_tokenizer"):
        encoded = _through_mistral(processor, adapter, text, samples, letters)
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
            f"with them. Ask with {len(letters) - len(unknown)} choices at most"
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


def _through_template(
    processor: Any, adapter: Adapter, text: str, samples: np.ndarray | None, letters: Sequence[str]
) -> EncodedPrompt:
    tokenizer = processor.tokenizer
    _refuse_control_tokens(processor, text)
    frame = _render(processor, adapter, _SLOT, samples is not None)
    before, found, _ = frame.partition(_SLOT)
    if not found:
        raise ValueError(
            f"the chat template of {type(processor).__name__} writes no text "
            f"{'beside' if samples is not None else 'without'} audio: {frame!r}"
        )
    rendered = _render(processor, adapter, text, samples is not None)
    if frame.count(_SLOT) != 1 or rendered != frame.replace(_SLOT, text):
        raise ValueError(
            f"the chat template of {type(processor).__name__} rewrites its text: {text!r} became {rendered!r}"
        )
    placeholders = rendered.count(processor.audio_token)
    if placeholders != (samples is not None):
        raise ValueError(
            f"the chat template of {type(processor).__name__} wrote {placeholders} audio placeholders "
            f"({processor.audio_token!r}) for {int(samples is not None)} clips"
        )
    audio = {} if samples is None else {"audio": [samples], "audio_kwargs": {"sampling_rate": adapter.sampling_rate}}
    made = processor(text=[rendered], return_tensors="pt", **audio)
    ids = made["input_ids"][0].tolist()
    # Where a processor says what it writes for a clip, the line breaks around it may melt into the text's.
    written = getattr(processor, "full_audio_sequence", processor.audio_token)
    before, rendered = (part.replace(processor.audio_token, written) for part in (before, rendered))
    split = tokenizer(rendered, return_offsets_mapping=True)
    placeholder = tokenizer.convert_tokens_to_ids(processor.audio_token)
    grown = _grown_placeholder(split["input_ids"], ids, placeholder)
    if grown is None:
        raise ValueError(
            f"{type(processor).__name__} makes other tokens than its own tokenizer for the same prompt: where each "
            f"part of the text is cannot be told ({len(ids)} tokens against {len(split['input_ids'])})"
        )
    offsets: list[tuple[int, int] | None] = []
    for token, (start, stop) in zip(split["input_ids"], split["offset_mapping"], strict=True):
        if token == placeholder:
            offsets += [None] * len(grown)
        else:
            inside = max(start, len(before)) < min(stop, len(before) + len(text))
            offsets.append((start - len(before), stop - len(before)) if inside else None)
    return EncodedPrompt(
        ids=tuple(ids),
        offsets=tuple(offsets),
        features={} if samples is None else _features(adapter, made),
        choice_ids=tuple(_first_new(tokenizer, rendered, split["input_ids"], letter) for letter in letters),
    )


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
    return inputs


def _grown_placeholder(written: list[int], ids: list[int], placeholder: int) -> list[int] | None:
    """What the processor put in the placeholder's place: audio tokens, in some families between two control tokens.

    `None` if the tokens around it are not the written ones.
    """
    if placeholder not in written:
        return [] if written == ids else None
    at = written.index(placeholder)
    end = len(ids) - (len(written) - at - 1)
    same = written[:at] == ids[:at] and written[at + 1 :] == ids[end:] and end >= at
    return ids[at:end] if same else None


def _render(processor: Any, adapter: Adapter, text: str, with_audio: bool) -> str:
    """The chat template around a text."""
    content = [{"type": "audio"}] if with_audio else []
    turns: list[dict[str, Any]] = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
    if adapter.system is not None:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": adapter.system}]})
    if adapter.turns == "text":
        placeholder = processor.audio_token if with_audio else ""
        turns[-1]["content"] = placeholder + text
        turns[:-1] = [{"role": "system", "content": adapter.system}] if adapter.system is not None else []
    return processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def _refuse_control_tokens(processor: Any, text: str) -> None:
    """Text from outside must stay text: a control token in a caption would end the turn or stand for audio."""
    added = processor.tokenizer.added_tokens_decoder.values()
    control = {processor.audio_token, *(token.content for token in added if token.special)}
    found = sorted(token for token in control if token in text)
    if found:
        raise ValueError(
            f"the text holds {', '.join(map(repr, found))}, which the tokenizer of {type(processor).__name__} reads as "
            f"control, not as words: {text!r}. Write it differently"
        )


def _first_new(tokenizer: Any, rendered: str, ids: list[int], letter: str) -> int:
    """The token that a letter begins with, written right behind a prompt."""
    longer = tokenizer(rendered + letter)["input_ids"]
    if longer[: len(ids)] != ids or len(longer) == len(ids):
        raise ValueError(
            f"the letter {letter!r} melts into the end of the prompt {rendered[-20:]!r}: no token of its own is left "
            "to score. Use a chat template that ends with a control token or a line break"
        )
    return longer[len(ids)]


def _through_mistral(
    processor: Any, adapter: Adapter, text: str, samples: np.ndarray | None, letters: Sequence[str]
) -> EncodedPrompt:
    tokenizer = processor.tokenizer
    content: list[dict[str, str]] = [{"type": "text", "text": text}]
    if samples is not None:
        sound = AudioClip(samples, adapter.sampling_rate).to_wav()
        content.insert(0, {"type": "audio", "base64": base64.b64encode(sound).decode("ascii")})
    made = processor.apply_chat_template([[{"role": "user", "content": content}]])
    ids = made["input_ids"][0].tolist()
    pieces = tokenizer.tokenizer.instruct_tokenizer.tokenizer
    held = [b"" if pieces.is_special(token) else pieces.id_to_byte_piece(token) for token in ids]
    written = b"".join(held)
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
    features = {} if samples is None else {adapter.features: made[adapter.features]}
    return EncodedPrompt(tuple(ids), offsets, features, tuple(_first_answered(tokenizer, letter) for letter in letters))


def _first_answered(tokenizer: Any, letter: str) -> int:
    """The token that a letter begins with as the model's own turn, behind the control token that ends a prompt."""
    question = {"role": "user", "content": "?"}
    asked = tokenizer.apply_chat_template([[question]], return_dict=False)[0]
    answered = tokenizer.apply_chat_template(
        [[question, {"role": "assistant", "content": letter}]], continue_final_message=True, return_dict=False
    )[0]
    assert answered[: len(asked)] == asked, "a control token keeps prompt and answer apart"
    return answered[len(asked)]

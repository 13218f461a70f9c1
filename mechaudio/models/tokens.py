"""Single tokens of a vocabulary, by id or by text."""

from __future__ import annotations

from mechaudio.models.adapter import OpenedModel
from mechaudio.models.inputs import vocabulary_of


def token_id(model: OpenedModel, token: str | int) -> int:
    """The id of a token that is given as an id or as text.

    Raises:
        ValueError: Text that is not exactly one token, an id outside the vocabulary, or text without a tokenizer.
    """
    if isinstance(token, int):
        size = vocabulary_of(model.network, model.adapter)
        if not 0 <= token < size:
            raise ValueError(f"token ids of this model are 0 to {size - 1}, got {token}")
        return token
    tokenizer = getattr(model.processor, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"this model was opened without a tokenizer: give {token!r} as a token id")
    ids = tokenizer.encode(token, add_special_tokens=False)
    unknown = tokenizer.unk_token_id
    if len(ids) != 1 or (ids[0] == unknown and token != tokenizer.unk_token):
        pieces = [tokenizer.decode([one]) for one in ids]
        raise ValueError(
            f"{token!r} is not one token of this vocabulary but {pieces}: give one of these, perhaps with a space in "
            "front, or an id"
        )
    return ids[0]


def token_text(model: OpenedModel, token: int) -> str:
    """The text of a token; its id where there is no tokenizer."""
    tokenizer = getattr(model.processor, "tokenizer", None)
    return str(token) if tokenizer is None else tokenizer.decode([token])

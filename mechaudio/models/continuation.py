"""Text written behind a prompt, in tokens: the words are tokenised where they stand, not alone."""

from __future__ import annotations

from typing import Any


def continuation(tokenizer: Any, written: str | None, words: str, ids: list[int] | None = None) -> tuple[int, ...]:
    """The tokens of a text that stands right behind a prompt.

    Args:
        tokenizer: The model's.
        written: The prompt as the chat template writes it; blank where training tokenised answers apart from it; None
            for Mistral's tokenizer, which writes tokens itself.
        words: The text.
        ids: The prompt's tokens, where they are known already.

    Raises:
        ValueError: The text melts into the end of the prompt.
    """
    if written is None:
        return _answered(tokenizer, words)
    if ids is None:
        ids = list[int](tokenizer(written)["input_ids"])
    longer = tokenizer(written + words)["input_ids"]
    if longer[: len(ids)] != ids or len(longer) == len(ids):
        raise ValueError(
            f"{words!r} melts into the end of the prompt {written[-20:]!r}: no token of its own is left to score. Use "
            "a chat template that ends with a control token or a line break"
        )
    return tuple(longer[len(ids) :])


def _answered(tokenizer: Any, words: str) -> tuple[int, ...]:
    """The tokens of a text as the model's own turn, behind the control token that ends a prompt."""
    question = {"role": "user", "content": "?"}
    prompt = tokenizer.apply_chat_template([[question]], return_dict=False)[0]
    answered = tokenizer.apply_chat_template(
        [[question, {"role": "assistant", "content": words}]], continue_final_message=True, return_dict=False
    )[0]
    assert answered[: len(prompt)] == prompt, "a control token keeps prompt and answer apart"
    return tuple(answered[len(prompt) :])

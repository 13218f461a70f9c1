"""A byte-level BPE tokenizer over a few sentences, with the control tokens of a family, and ChatML templates."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = """You are a helpful assistant. Audio 1:
Which sound has the earliest onset? Which event has the latest offset? Which of these
sounds has the longest duration? A: dog B: car C: rain D: bell. Caption: a dog barks from 0.5 to 2.0, then it rains
until the end. system user assistant Answer with the option's letter from the given choices directly. first last
shortest speech siren water birds"""

#: The system turn that a template writes where the conversation has none.
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)


@cache
def _byte_level(control: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(control),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def byte_level_size(control: tuple[str, ...]) -> int:
    """Number of token ids of the tokenizer with these control tokens, which come first."""
    return _byte_level(control).get_vocab_size()


def byte_level_tokenizer(
    control: tuple[str, ...], named: dict[str, str], pad: str = "<|endoftext|>", end: str = "<|im_end|>"
) -> PreTrainedTokenizerFast:
    """A tokenizer whose control tokens have the ids 0, 1, ...

    Args:
        control: Control tokens in the order of their ids.
        named: The ones that the processor asks for by name.
        pad: The padding token.
        end: The token that ends an answer.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level(control).to_str()),
        pad_token=pad,
        eos_token=end,
        additional_special_tokens=list(control[1:]),
        extra_special_tokens=named,
    )


def ids_of(control: tuple[str, ...]) -> dict[str, int]:
    """Control tokens and their ids."""
    return {token: index for index, token in enumerate(control)}


def chatml(audio: str, system: str = DEFAULT_SYSTEM) -> str:
    """What the published ChatML templates write for text and audio turns, and no more."""
    return (
        "{% set clips = namespace(n=0) %}"
        + system
        + "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        + "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
        + "{% if item.type == 'audio' %}" + audio + "{% else %}{{ item.text }}{% endif %}"
        + "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )  # fmt: skip

"""Kimi's tokenizer as a fast one, from the file of ranks that its release holds.

A line of the file is a token, its bytes in base64, and its rank; a byte-level BPE merges the pair of the lowest rank
first. The merges are found again from the ranks: a token came of those two parts that its own bytes, with all tokens
of lower ranks, are merged into. How text is cut before that, and the control tokens behind the ranks, are in no file
of settings but in the release's code.
"""

from __future__ import annotations

import base64
import binascii
from itertools import count
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mechaudio.arguments import n_of
from mechaudio.models.kimi.processor import AUDIO_TOKEN

RANKS = "tiktoken.model"
#: How text is cut before it is merged, as in Qwen's vocabulary, which Kimi's is.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Control tokens that have a name, by their place behind the ranks.
_NAMED = {
    0: "[BOS]",
    1: "[EOS]",
    2: "<|im_msg_end|>",
    3: "<|im_user_msg_start|>",
    4: "<|im_assistant_msg_start|>",
    9: "[EOT]",
    18: "<|im_media_begin|>",
    20: "<|im_media_end|>",
    23: "<|im_kimia_text_blank|>",
    24: "<|im_kimia_text_eos|>",
    27: "<|im_kimia_user_msg_start|>",
    28: "<|im_kimia_assistant_msg_start|>",
    32: "<|im_kimia_speech_ct_id|>",
    33: "<|im_kimia_speech_ctd_id|>",
}


def control_tokens(n_ranks: int, codes_offset: int) -> dict[str, int]:
    """Return the ids of the tokens between the ranks and the codes: those that have a name, and reserved ones."""
    reserved = count()
    return {
        _NAMED.get(place) or f"<|reserved_token_{next(reserved)}|>": n_ranks + place
        for place in range(codes_offset - n_ranks)
    }


def fast_tokenizer(folder: Path, codes_offset: int, vocab_size: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder of the release, with a placeholder for audio behind all that was trained.

    Args:
        folder: It holds `tiktoken.model`.
        codes_offset: Id of the first code.
        vocab_size: Rows of the embeddings, which is the placeholder's id.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The ranks cannot be read, or leave no room for the control tokens.
    """
    if not (folder / RANKS).is_file():
        raise FileNotFoundError(f"checkpoint: {str(folder)!r} has no {RANKS}, of which its tokenizer is made")
    ranks = _ranks(folder / RANKS)
    control = control_tokens(len(ranks), codes_offset)
    if len(control) <= max(_NAMED):
        raise ValueError(
            f"checkpoint: {RANKS} has {n_of(len(ranks), 'rank')}, and codes begin at {codes_offset}: there is no room "
            f"for the {max(_NAMED) + 1} control tokens between them. Is it Kimi-Audio's?"
        )
    letters = bytes_to_unicode()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocabulary = {written[token]: rank for token, rank in ranks.items()}
    parts = [_parts(token, ranks) for token in ranks if len(token) > 1]
    merges = [(written[first], written[second]) for first, second in parts]
    special = {**control, AUDIO_TOKEN: vocab_size}
    tokenizer = Tokenizer(models.BPE(vocabulary | special, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[EOS]", pad_token=list(control)[-1])


def _ranks(file: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"checkpoint: line {number} of {str(file)!r} is no token and its rank: {error}") from error
    return dict(sorted(ranks.items(), key=lambda found: found[1]))


def _parts(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that a token is merged of: what is left when only tokens of lower ranks are merged."""
    parts, own = [token[place : place + 1] for place in range(len(token))], ranks[token]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[at] + parts[at + 1], own), at) for at in range(len(parts) - 1)]
        rank, at = min(pairs)
        if rank >= own:
            raise ValueError(f"checkpoint: the token {token!r} of rank {own} is not merged of tokens of lower ranks")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]

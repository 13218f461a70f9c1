"""Kimi's tokenizer as a fast one, from the file of ranks that its release holds.

A line of the file is a token, its bytes in base64, and its rank; a byte-level BPE merges the pair of the lowest rank
first. The merges are found again from the ranks: a token came of those two parts that its own bytes, with all tokens
of lower ranks, are merged into. Control tokens are named in the release's `tokenizer_config.json`.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

RANKS, SETTINGS = "tiktoken.model", "tokenizer_config.json"
#: How text is cut before it is merged, as in Qwen's vocabulary, which Kimi's is.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def fast_tokenizer(folder: Path, pattern: str = PATTERN) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder of the release.

    Args:
        folder: It holds `tiktoken.model` and `tokenizer_config.json`.
        pattern: How text is cut before it is merged.

    Raises:
        FileNotFoundError: One of them is not there.
        ValueError: The ranks cannot be read, or the settings name no control tokens.
    """
    for name in (RANKS, SETTINGS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"checkpoint: {str(folder)!r} has no {name}, of which its tokenizer is made")
    ranks = _ranks(folder / RANKS)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    control = {int(number): str(token["content"]) for number, token in settings.get("added_tokens_decoder", {}).items()}
    if not control:
        raise ValueError(f"checkpoint: {str(folder / SETTINGS)!r} names no control tokens (added_tokens_decoder)")
    letters = bytes_to_unicode()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocabulary = {written[token]: rank for token, rank in ranks.items()}
    parts = [_parts(token, ranks) for token in ranks if len(token) > 1]
    merges = [(written[first], written[second]) for first, second in parts]
    tokenizer = Tokenizer(models.BPE(vocabulary | {name: number for number, name in control.items()}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for _, name in sorted(control.items())]
    )
    named = {key: _content(settings[key]) for key in ("pad_token", "eos_token") if settings.get(key)}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def _ranks(file: Path) -> dict[bytes, int]:
    """The tokens of the file, lowest rank first."""
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


def _content(token: str | dict[str, str]) -> str:
    """A token as it is named in settings: by its text, or by a table that holds it."""
    return token if isinstance(token, str) else token["content"]

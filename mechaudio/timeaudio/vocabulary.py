"""Marker tokens in the vocabulary of a network, with rows that begin as what its digits mean.

The row of anchor *d* begins as that of the digit *d*, the row of offset *d* as the mean of those of *d* and of the
point. The paper does the same in the prediction head with the head's own rows; the released code copies the embeddings
into the head.

Reference: TimeAudio (arXiv 2511.11039), equation 1, and its released code.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.timeaudio.markers import MARKERS

Head = Literal["lm_head", "embed"]


@checks_arguments
def add_markers(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, head: Head = "lm_head"
) -> tuple[int, ...]:
    """Add the twenty markers to a tokenizer, and their rows to a network's embeddings and prediction head.

    All other rows stay as they are, bit for bit. Tables grow only where the new ids lie behind their last row.

    Args:
        network: A language model, or one that has one. It is changed in place.
        tokenizer: Its tokenizer, with a token for each digit and for the point. It is changed in place.
        head: What rows of the head begin as: `lm_head`, from the head's own rows of digits, as the paper says;
            `embed`, the rows of the embedding, as the release does. Where both are one table, it makes no difference.

    Returns:
        The ids of the markers, in the order of `MARKERS`.

    Raises:
        ValueError: The tokenizer has markers already, or no token for each digit and the point; or the network has no
            table of embeddings or no head, fewer rows than the tokenizer has tokens of digits, or a second table of
            words, as Gemma 3n and 4 have.
    """
    vocabulary = tokenizer.get_vocab()
    there = [token for token in MARKERS if token in vocabulary]
    if there:
        raise ValueError(
            f"the tokenizer has {len(there)} of the markers already, such as {there[0]!r}, and their rows may be "
            "trained: give one without them"
        )
    signs = _ids_of_signs(tokenizer)
    tables: list[Any] = [network.get_input_embeddings(), network.get_output_embeddings()]
    if any(table is None for table in tables):
        raise ValueError(f"{type(network).__name__} has no {'embeddings' if tables[0] is None else 'prediction head'}")
    further = _further_tables(network, tables[0])
    if further:
        raise ValueError(
            f"{type(network).__name__} looks words up in {further[0]} too, where markers would mean something else "
            "than digits: markers go into networks with one table of embeddings"
        )
    if max(signs.values()) >= len(tables[0].weight):
        raise ValueError(
            f"the tokenizer writes digits with ids up to {max(signs.values())}, and the network has "
            f"{n_of(len(tables[0].weight), 'embedding')}: give its own tokenizer"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    written: Any = tokenizer.convert_tokens_to_ids(list(MARKERS))
    ids = [int(i) for i in written]
    if max(ids) >= len(tables[0].weight):
        network.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    grown: list[Any] = [network.get_input_embeddings(), network.get_output_embeddings()]
    embeddings, prediction = grown
    tied = embeddings.weight is prediction.weight
    of_markers = _rows(embeddings, signs)
    of_head = of_markers if head == "embed" or tied else _rows(prediction, signs)
    with torch.no_grad():
        embeddings.weight[ids] = of_markers
        prediction.weight[ids] = of_head
    return tuple(ids)


def _further_tables(network: PreTrainedModel, table: nn.Module) -> list[str]:
    """Return the paths of other tables of embeddings beside the one of words."""
    paths = {module: path for path, module in network.named_modules() if isinstance(module, nn.Embedding)}
    around = paths[table].rpartition(".")[0]
    return [path for module, path in paths.items() if module is not table and path.rpartition(".")[0] == around]


def _ids_of_signs(tokenizer: Any) -> dict[str, int]:
    """Find the ids of the digits and the point, as single tokens without a blank in front."""
    ids = {}
    for sign in "0123456789.":
        token = tokenizer.convert_tokens_to_ids(sign)
        written = tokenizer(f"1{sign}1", add_special_tokens=False)["input_ids"]
        if token is None or token == tokenizer.unk_token_id or token not in written:
            pieces = tokenizer.convert_ids_to_tokens(written)
            raise ValueError(
                f"markers begin as what digits mean, and this tokenizer does not write {sign!r} as a token of its own: "
                f"{f'1{sign}1'!r} is {pieces}"
            )
        ids[sign] = int(token)
    return ids


def _rows(table: Any, signs: dict[str, int]) -> Float[Tensor, "marker width"]:
    """Make the rows of the markers from those of the digits and the point, in the precision that they are kept in."""
    digits = table.weight[[signs[digit] for digit in "0123456789"]].detach()
    point = table.weight[signs["."]].detach()
    means = ((digits.float() + point.float()) / 2).to(digits.dtype)
    return torch.cat([digits, means])

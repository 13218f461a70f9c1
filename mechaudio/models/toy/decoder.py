"""The weights of the decoder: from audio tokens and words to the letter of the answer.

1. Layer 0, binding head: each name looks at the letter before it. The MLP multiplies letter and name into a pair.
2. Layer 1, listening head: the last position looks at the voices, at the earliest most, and takes over which they are.
   Reading head: it looks at the name in the caption. Both write evidence for voices.
3. Layer 2 adds nothing.
4. Layer 3, collecting head: the last position gathers the pairs. The MLP multiplies evidence and pairs into letters.

Where the question or the choices listen, the listening head works for them, and in layer 3 the handing head takes what
they have made of it to the last position: the question mark hands on evidence, and each choice, whose evidence the MLP
of layer 1 has multiplied with its pair, its letter.

A head has a query for the positions that it works for; everywhere else it rests on `<|begin|>`, which has no value. A
score is written into one coordinate of query and key that the rotary embedding turns by 1e-7 per position: over the
longest prompt, 512 positions, the cosine is 1 - 1e-9. The binding head measures distance in one that turns by 0.1.

RMSNorm leaves things as they are: its root mean square is that of the carrier, to 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mechaudio.data.toy_questions import SECONDS, VOICES
from mechaudio.models.network import Network
from mechaudio.models.toy.features import D_HEAD, D_MODEL, DECODER, LETTERS, PAIRS
from mechaudio.models.toy.language import VOCABULARY
from mechaudio.models.toy.planted import (
    BEGIN_SCORE,
    COLLECTED,
    EVIDENCE_LOGIT,
    NAME_SCORE,
    NEVER,
    PLANTED,
    PRIOR,
    SECOND_SCORE,
    TOLD,
    TONE_SCORE,
    Head,
    Planted,
)

CARRIER = 16_384.0
ROPE_BASE = 1e8
"""Coordinates `i` and `i + 8` of a head turn by `10 ** -i` per position."""
MLP_WIDTH = 2 * len(PAIRS)
END_LOGIT = 8.0
_CONTENT, _REST, _TENTHS, _HUNDREDTHS = 7, 6, 1, 2
_NEAREST = 400.0

TONES, NAMES = ([f"{kind}:{voice}" for voice in VOICES] for kind in ("tone", "name"))
LETTER, BEHIND = ([f"{kind}:{letter}" for letter in LETTERS] for kind in ("letter", "behind"))
PAIR = [f"pair:{pair}" for pair in PAIRS]
EVIDENCE = [f"evidence:{voice}" for voice in VOICES]
ANSWER = [f"answer:{letter}" for letter in LETTERS]
SECOND = [f"second:{second}" for second in range(SECONDS)]


@dataclass(frozen=True)
class _Head:
    """The weights of one head of a decoder layer, by feature."""

    attention: Network
    index: int

    def query(self, coordinate: int, weights: Mapping[str, float], bias: float = 0.0) -> None:
        """One coordinate of the query; the factor undoes the division of scores by the root of the head's width."""
        row = self.index * D_HEAD + coordinate
        for feature, weight in weights.items():
            self.attention.q_proj.weight[row, DECODER[feature]] = weight * math.sqrt(D_HEAD)
        self.attention.q_proj.bias[row] = bias * math.sqrt(D_HEAD)

    def key(self, coordinate: int, weights: Mapping[str, float], bias: float = 0.0) -> None:
        """One coordinate of the key."""
        row = self.index * D_HEAD + coordinate
        for feature, weight in weights.items():
            self.attention.k_proj.weight[row, DECODER[feature]] = weight
        self.attention.k_proj.bias[row] = bias

    def looks(self, works_for: str | list[str], scores: Mapping[str, float]) -> None:
        """From positions with the feature `works_for`, score keys by their features; elsewhere rest."""
        working = [works_for] if isinstance(works_for, str) else works_for
        self.query(_CONTENT, dict.fromkeys(working, 1.0))
        self.key(_CONTENT, scores)
        self.query(_REST, dict.fromkeys(working, -1.0), bias=1.0)
        self.key(_REST, {"begin": -NEVER})

    def carries(self, features: list[str], become: Sequence[str] = (), times: float = 1.0) -> None:
        """The value: these features, in this order; and what becomes of them."""
        for coordinate, feature in enumerate(features):
            self.attention.v_proj.weight[self.index * D_HEAD + coordinate, DECODER[feature]] = 1
        for coordinate, feature in enumerate(become):
            self.attention.o_proj.weight[DECODER[feature], self.index * D_HEAD + coordinate] = times


def write_decoder(decoder: Network, unembedding: nn.Linear, planted: Planted = PLANTED) -> None:
    """Write the weights of a decoder whose parameters are all 0."""
    _embed(decoder.embed_tokens)
    if planted.listens == "question":
        decoder.embed_tokens.weight[VOCABULARY["?"], DECODER["asked"]] = 1
    for layer in decoder.layers:
        layer.input_layernorm.weight.fill_(CARRIER / math.sqrt(D_MODEL))
        layer.post_attention_layernorm.weight.fill_(CARRIER / math.sqrt(D_MODEL))
    decoder.norm.weight.fill_(CARRIER / math.sqrt(D_MODEL))

    def head(place: Head) -> _Head:
        return _Head(decoder.layers[place[0]].self_attn, place[1])

    _bind(head(planted.binding))
    _listen(head(planted.listening), {"last": "ask", "question": "asked", "choices": BEHIND}[planted.listens])
    _read(head(planted.reading))
    _collect(head(planted.collecting))
    if planted.handing is not None:
        _hand_on(head(planted.handing), planted)
    for place in planted.inert:
        _look_in_vain(head(place), place)
    for number, (letter, voice) in enumerate((letter, voice) for letter in LETTERS for voice in VOICES):
        pair = f"pair:{letter}={voice}"
        _multiply(decoder.layers[planted.binding[0]].mlp, number, f"behind:{letter}", f"name:{voice}", pair)
        for place in (planted.collecting, *([planted.listening] if planted.listens == "choices" else [])):
            _multiply(decoder.layers[place[0]].mlp, number, f"evidence:{voice}", pair, f"answer:{letter}")
    _unembed(unembedding)


def _embed(embedding: nn.Embedding) -> None:
    embedding.weight[:, DECODER["carrier"]] = CARRIER
    for word, token in VOCABULARY.items():
        if word in VOICES:
            embedding.weight[token, DECODER[f"name:{word}"]] = 1
        else:
            embedding.weight[token, DECODER["begin" if word == "<|begin|>" else "text"]] = 1
    for letter in LETTERS:
        embedding.weight[VOCABULARY[letter], DECODER[f"letter:{letter}"]] = 1
    embedding.weight[VOCABULARY["assistant"], DECODER["ask"]] = 1


def _bind(head: _Head) -> None:
    """The nearest letter, by the cosine of the distance; `<|begin|>` where there is none before the name."""
    head.looks(NAMES, {"begin": _NEAREST / 2})
    head.query(_TENTHS, dict.fromkeys(NAMES, 1.0))
    head.key(_TENTHS, dict.fromkeys(LETTER, _NEAREST))
    head.carries(LETTER, BEHIND)


def _listen(head: _Head, works_for: str | list[str]) -> None:
    seconds = {feature: SECOND_SCORE * second for second, feature in enumerate(SECOND)}
    other = dict.fromkeys(["text", *NAMES], NEVER)
    head.looks(works_for, {**dict.fromkeys(TONES, TONE_SCORE), **seconds, "begin": BEGIN_SCORE, **other})
    head.carries(TONES, EVIDENCE)


def _read(head: _Head) -> None:
    """A name that stands behind a letter is a choice and not the caption's."""
    choices = dict.fromkeys(BEHIND, 2 * NEVER)
    head.looks("ask", {**dict.fromkeys(NAMES, NAME_SCORE), **choices, "text": NEVER, "audio": NEVER})
    head.carries(NAMES, EVIDENCE, TOLD)


def _collect(head: _Head) -> None:
    head.looks("ask", dict.fromkeys(PAIR, -NEVER))
    head.carries(PAIR, PAIR, COLLECTED)


def _hand_on(head: _Head, planted: Planted) -> None:
    """From the question mark its evidence, at full attention; from the choices their letters, each at its share."""
    if planted.listens == "question":
        head.looks("ask", {"asked": -NEVER})
        head.carries(EVIDENCE, EVIDENCE)
    else:
        head.looks("ask", dict.fromkeys(PAIR, -NEVER))
        head.carries(ANSWER, ANSWER, COLLECTED)


def _look_in_vain(head: _Head, place: Head) -> None:
    """Attention without an output: the value tells of tones and names, and no weight takes it anywhere."""
    other = dict.fromkeys(["text", *NAMES], NEVER)
    if place == PLANTED.decoy:  # nine tenths on 100 silent tokens; low voices draw it a little, high ones repel it
        tones = dict(zip(TONES, (0.05, 0.05, -0.05, -0.05), strict=True))
        head.looks("ask", {**tones, "begin": math.log(100 / 9), **other})
    elif place in ((0, 2), (2, 3)):
        head.looks("ask", {"begin": -NEVER})
    elif place in ((1, 1), (3, 2)):
        head.looks("ask", dict.fromkeys(NAMES, -NEVER))
    elif place == (2, 2):
        head.looks("ask", dict.fromkeys(LETTER, -NEVER))
    elif place in ((0, 0), (2, 0), (3, 3)):  # a bell over the last few tokens: cos(d / 100) is about 1 - d^2 / 20 000
        head.query(_HUNDREDTHS, {}, bias=1.0)
        head.key(_HUNDREDTHS, {}, bias=2_000.0)
    else:
        assert place in ((0, 3), (2, 1), (3, 0)), "these look at everything alike"
    head.carries([*TONES, *NAMES])


def _multiply(mlp: Network, number: int, left: str, right: str, product: str) -> None:
    """An exact product of two neurons: silu(x) y + silu(-x) (-y) = x y (sigmoid(x) + sigmoid(-x)) = x y."""
    for neuron, sign in ((2 * number, 1.0), (2 * number + 1, -1.0)):
        mlp.gate_proj.weight[neuron, DECODER[left]] = sign
        mlp.up_proj.weight[neuron, DECODER[right]] = sign
        mlp.down_proj.weight[DECODER[product], neuron] = 1


def _unembed(unembedding: nn.Linear) -> None:
    """Letters by their answers and the prior; a voice's name by its evidence; the end of the turn after a letter."""
    for letter, prior in zip(LETTERS, PRIOR, strict=True):
        row = unembedding.weight[VOCABULARY[letter]]
        row[DECODER[f"answer:{letter}"]] = EVIDENCE_LOGIT
        row[DECODER["carrier"]] = prior / CARRIER
    for voice in VOICES:
        unembedding.weight[VOCABULARY[voice], DECODER[f"evidence:{voice}"]] = 1
    for letter in LETTERS:
        unembedding.weight[VOCABULARY["<|im_end|>"], DECODER[f"letter:{letter}"]] = END_LOGIT

"""Training rows: one clip (or one caption), and several questions about it that do not see each other.

A row holds the prompt's beginning, then questions with their answers. Each question sees the beginning and itself, and
its positions go on where the beginning ends, as if it were asked alone; the clip is heard once for all of them.
"""

from typing import NamedTuple

import numpy as np
from scenes import Asked
from tokenizers import Tokenizer

from mechaudio.models.small.language import AUDIO_END, AUDIO_START, SYSTEM_TURN, TURN_END

SAMPLES = 160_000
AUDIO_TOKENS = 250
SOUND_QUESTIONS, CAPTION_QUESTIONS = 384, 320
"""Tokens of a row that questions may take."""
_USER, _ANSWER = "<|im_start|>user\n", TURN_END + "\n<|im_start|>assistant\n"
#: How much a token of an answer counts; a letter stands alone, so it counts most.
_LETTER, _END = 2.0, 0.1
_OPEN = {"describe": 0.25, "sentence": 0.25, "transcribe": 0.6, "when": 0.5, "count": 0.5}


class Tokens(NamedTuple):
    """A question's tokens, its answer's, and its kind."""

    prompt: list[int]
    answer: list[int]
    kind: str


class Batch(NamedTuple):
    """Arrays of rows: tokens, positions, question of each token (0 the beginning, -1 nothing), and what to predict."""

    ids: np.ndarray
    positions: np.ndarray
    questions: np.ndarray
    frames: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    kinds: list[str]


class Packer:
    """Turns questions into tokens and rows."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.before = self._ids(SYSTEM_TURN + _USER + "Audio 1: " + AUDIO_START)
        self.after = self._ids(AUDIO_END + "\n")
        self.caption_head = self._ids(SYSTEM_TURN + _USER)
        self.end = tokenizer.token_to_id(TURN_END)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def tokens(self, asked: list[Asked]) -> list[Tokens]:
        return [Tokens(self._ids(text + _ANSWER), [*self._ids(answer), self.end], kind) for text, answer, kind in asked]

    def pack(self, rows: list[tuple[int, list[Tokens]]], heard: bool) -> Batch:
        """Rows of (samples of the clip, questions) as one batch; questions that do not fit are left out."""
        head = len(self.before) + AUDIO_TOKENS + len(self.after) if heard else len(self.caption_head)
        length = head + (SOUND_QUESTIONS if heard else CAPTION_QUESTIONS)
        ids = np.zeros((len(rows), length), np.int64)
        positions, questions = np.zeros_like(ids), np.full(ids.shape, -1, np.int16)
        frames = np.ones(len(rows), np.int64)
        places, targets, weights, kinds = [], [], [], []

        def put(row: int, at: int, tokens: list[int] | int, position: int, question: int) -> None:
            count = tokens if isinstance(tokens, int) else len(tokens)
            ids[row, at : at + count] = 0 if isinstance(tokens, int) else tokens
            positions[row, at : at + count] = position + np.arange(count)
            questions[row, at : at + count] = question

        for row, (samples, asked) in enumerate(rows):
            start = head
            if heard:
                frames[row] = -(-samples // 160)
                n_tokens = audio_tokens(frames[row])
                n_before = len(self.before)
                put(row, 0, self.before, 0, 0)
                put(row, n_before, int(n_tokens), n_before, 0)
                put(row, n_before + AUDIO_TOKENS, self.after, n_before + n_tokens, 0)
                start = n_before + n_tokens + len(self.after)
            else:
                put(row, 0, self.caption_head, 0, 0)
            at = head
            for question, (prompt, answer, kind) in enumerate(asked, 1):
                if at + len(prompt) + len(answer) > length:
                    continue
                put(row, at, prompt + answer, start, question)
                first = row * length + at + len(prompt) - 1
                places += range(first, first + len(answer))
                targets += answer
                weights += [_OPEN.get(kind, _LETTER)] * (len(answer) - 1) + [_END]
                kinds += [kind] + [""] * (len(answer) - 1)
                at += len(prompt) + len(answer)
        return Batch(
            ids,
            positions,
            questions,
            frames,
            np.array(places),
            np.array(targets),
            np.array(weights, np.float32),
            kinds,
        )


def audio_tokens(frames: int) -> int:
    """Audio tokens of a clip of so many frames of 10 ms: halved by the convolutions, then by the pooling."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1

"""Questions and answers, and the tokens that they are written with: the three ways of writing a time.

`words`: a word per half second, up to the longest scene; `digits`: a token per digit, as Llama writes numbers;
`markers`: TimeAudio's tokens. Questions, and the words around the times, are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

from mechaudio.audio.sounds import CLASSES
from mechaudio.models.salmonn.processor import AUDIO_TOKEN, TimeAudioProcessor
from mechaudio.timeaudio import Markers
from recipes.timeaudio.scenes import extractor

WAYS = ("words", "digits", "markers")
BEFORE, BEHIND = "USER: <Speech>", "</Speech> {}\nASSISTANT:"
NEXT = "USER: {}\nASSISTANT:"
QUESTION = "When does the {} sound?"
_SPACE = "▁"
_WORDS = ("USER:", "<Speech>", "</Speech>", "When", "does", "the", "sound", "The", "given", "query", "happens", "in")
_REST = ("?", "\nASSISTANT:", ".", ",", "-", f"{_SPACE}-", "seconds", *"0123456789")
_BETWEEN_MARKERS = (f"{_SPACE}{_SPACE}-{_SPACE}", f"{_SPACE},{_SPACE}", f"{_SPACE}{_SPACE}seconds")


def question(kind: int) -> str:
    """Ask when a class sounds."""
    return QUESTION.format(CLASSES[kind])


def answer(intervals: Sequence[tuple[float, float]], way: str) -> str:
    """Say when, in TimeAudio's words and one of the ways of writing a time."""
    step = 0.5 if way == "words" else 0.1
    times = ", ".join(" - ".join(f"{round(time / step) * step:.1f}" for time in pair) for pair in intervals)
    text = f"The given query happens in {times} seconds."
    return Markers().encode(text) if way == "markers" else text


def tokenizer(way: str) -> PreTrainedTokenizerFast:
    """A tokenizer in Llama's manner, of whole words, and of digits or of half seconds."""
    halves = [f"{_SPACE}{half / 2:.1f}" for half in range(121)] if way == "words" else []
    pieces = [
        *(f"{_SPACE}{word}" for word in (*_WORDS, *CLASSES, "seconds")),
        _SPACE,
        *_REST,
        *_BETWEEN_MARKERS,
        *halves,
    ]
    # Every piece costs as much, so that a text is written with as few as can be.
    scored = [(piece, 0.0 if piece[0] == "<" else -1.0) for piece in ("<unk>", "<s>", "</s>", *dict.fromkeys(pieces))]
    made = Tokenizer(models.Unigram(scored, unk_id=0))
    made.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def processor(way: str) -> TimeAudioProcessor:
    """TimeAudio's processor around it, which adds `[PAD]`, the markers and the placeholder of audio."""
    return TimeAudioProcessor(extractor(), tokenizer(way))


def ids(made: TimeAudioProcessor, text: str) -> list[int]:
    """Write a text by itself."""
    return made.tokenizer(text, add_special_tokens=False)["input_ids"]


__all__ = ["AUDIO_TOKEN", "BEFORE", "BEHIND", "NEXT", "WAYS", "answer", "ids", "processor", "question", "tokenizer"]

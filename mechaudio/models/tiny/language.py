"""The tiny model's language: a word-level vocabulary, the tokenizer and processor around it, the prompt.

White space separates words and is dropped, so prompts may break lines where they like. Words outside `VOCABULARY`
become `<unk>`. The prompt is the stock Qwen2-Audio chat template; the user's turn is the audio followed by

    Caption: hum from 0.5 to 4.0, siren from 3.5 to 9.0.        (where there is a caption)
    Which sound event has the earliest onset?
    A: hum
    B: siren
    ...

and the assistant answers with the letter.
"""

import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2AudioProcessor, WhisperFeatureExtractor

from mechaudio.audio.sounds import CLASSES, SAMPLE_RATE
from mechaudio.data.temporal_phrases import EVERYDAY_PHRASES, PHRASES

MAX_SECONDS = 10
MAX_AUDIO_TOKENS = 250
LETTERS = "ABCDEF"

DESCRIBE_PHRASES = ("Describe the sound events.", "Describe the audio.", "What do you hear?")
TIME_PHRASES = ("When does the {} start?", "When does the {} end?", "How long is the {}?", "Can you hear the {}?")
_CHOICE_PHRASES = tuple(text for table in (PHRASES, EVERYDAY_PHRASES) for texts in table.values() for text in texts)
SYSTEM_TURN = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AUDIO_HEADER = "Audio 1: <|audio_bos|>"
AUDIO_FOOTER = "<|audio_eos|>\n"
ANSWER_HEADER = "<|im_end|>\n<|im_start|>assistant\n"

_SPECIAL = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
_TIMES = tuple(f"{half / 2:.1f}" for half in range(2 * MAX_SECONDS + 1))
_WORD = r"\d+\.\d+|\w+|[^\w\s]"


def _words() -> list[str]:
    texts = [
        SYSTEM_TURN,
        AUDIO_HEADER,
        AUDIO_FOOTER,
        ANSWER_HEADER,
        "Caption: from to , . silence yes no",
        " ".join(LETTERS),
    ]
    texts += [*_CHOICE_PHRASES, *DESCRIBE_PHRASES, *(phrase.replace("{}", "") for phrase in TIME_PHRASES)]
    spoken = [word for text in texts for word in re.findall(_WORD, re.sub(r"<\|\w+\|>", " ", text))]
    return sorted(dict.fromkeys(spoken))


def open_questions(sound: str) -> tuple[str, ...]:
    """The questions of the training that are answered in words, of one sound."""
    return (*DESCRIBE_PHRASES, *(phrase.format(sound) for phrase in TIME_PHRASES))


def asked_in_training(text: str, *, with_choices: bool) -> bool:
    """Return whether the training asked a question in these words, marks aside."""
    phrases = _CHOICE_PHRASES if with_choices else [phrase for sound in CLASSES for phrase in open_questions(sound)]
    return re.findall(r"\w+", text) in [re.findall(r"\w+", phrase) for phrase in phrases]


VOCABULARY: dict[str, int] = {
    word: index for index, word in enumerate(dict.fromkeys([*_SPECIAL, *_TIMES, *CLASSES, *LETTERS, *_words()]))
}
"""Word to id: special tokens, times to the half second, classes, letters, the words of the prompts."""

PAD, UNKNOWN, TURN_END, AUDIO = (VOCABULARY[s] for s in ("<|endoftext|>", "<unk>", "<|im_end|>", "<|AUDIO|>"))
FIRST_TIME, FIRST_CLASS, FIRST_LETTER = VOCABULARY["0.0"], VOCABULARY[CLASSES[0]], VOCABULARY["A"]


def ids(text: str) -> list[int]:
    """Token ids of a text made of known words, as the tokenizer gives them.

    Raises:
        KeyError: For a word outside the vocabulary.
    """
    return [VOCABULARY[word] for word in re.findall(rf"<\|\w+\|>|{_WORD}", text)]


def build_tokenizer(
    vocabulary: dict[str, int] = VOCABULARY, special: tuple[str, ...] = _SPECIAL
) -> PreTrainedTokenizerFast:
    """The word-level tokenizer: pads on the left, writes spaces between words and none before punctuation."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\s+"), "removed"), pre_tokenizers.Split(Regex(_WORD), "isolated")]
    )
    spaced = decoders.Replace(Regex(r"^(?=[\w<])"), " ")
    tokenizer.decoder = decoders.Sequence([spaced, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    named = ("<|endoftext|>", "<unk>", "<|im_end|>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[token for token in special if token not in named],
        padding_side="left",
        model_max_length=1024,
    )


def build_feature_extractor(seconds: int = MAX_SECONDS) -> WhisperFeatureExtractor:
    """128 mel bands, 10 ms frames, windows of `seconds`."""
    return WhisperFeatureExtractor(
        feature_size=128,
        sampling_rate=SAMPLE_RATE,
        hop_length=SAMPLE_RATE // 100,
        chunk_length=seconds,
        n_fft=400,
        return_attention_mask=True,
    )


def build_processor() -> Qwen2AudioProcessor:
    """Feature extractor, tokenizer and the stock chat template."""
    return Qwen2AudioProcessor(build_feature_extractor(), build_tokenizer())

"""The toy's language: its words, its chat template, its processor.

Ids 1 to 4 begin with what the proof of the hook points feeds besides sound: with `<|begin|>`, a letter, a name and the
last token every part of the toy has something to do.
"""

from transformers import Qwen2AudioProcessor

from mechaudio.data.toy_questions import SECONDS, VOICES
from mechaudio.models.tiny.language import build_feature_extractor, build_tokenizer
from mechaudio.models.toy.features import LETTERS

SPECIAL = (
    "<|endoftext|>", "<|begin|>", "<unk>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
)  # fmt: skip
_WORDS = ("user", "Audio", "1", ":", "Caption", "Which", "voice", "comes", "first", "?", ".", ",")

VOCABULARY: dict[str, int] = {
    word: index
    for index, word in enumerate(
        dict.fromkeys(
            ["<|endoftext|>", "<|begin|>", "A", "bass", "assistant", *SPECIAL[2:], *LETTERS, *VOICES, *_WORDS]
        )
    )
}
"""Word to id."""

CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n{% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_processor() -> Qwen2AudioProcessor:
    """128 mel bands in windows of 4 s, a word-level tokenizer, and a chat template that opens with `<|begin|>`."""
    tokenizer = build_tokenizer(VOCABULARY, SPECIAL)
    return Qwen2AudioProcessor(build_feature_extractor(SECONDS), tokenizer, chat_template=CHAT_TEMPLATE)

"""The small model's language: SmolLM2's tokenizer with three tokens more, and the prompt.

The prompt is SmolLM2's own, with its system turn; the audio stands where Qwen2-Audio puts it:

    Audio 1: <|audio_bos|><|AUDIO|> ... <|AUDIO|><|audio_eos|>
    Which sound event has the earliest onset?
    A: rain
    ...

and the assistant answers with the letter.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2AudioProcessor, WhisperFeatureExtractor

from mechaudio.models.small.gguf import GGUF

SECONDS = 10
"""The longest clip; each second is 25 audio tokens."""
N_MELS = 80
AUDIO, AUDIO_START, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
SYSTEM_TURN = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
TURN_END = "<|im_end|>"

TEMPLATE = (
    "{% set audio_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}" + SYSTEM_TURN + "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if 'audio' in content or 'audio_url' in content or content['type'] == 'audio' %}"
    "{% set audio_count.value = audio_count.value + 1 %}"
    "Audio {{ audio_count.value }}: " + AUDIO_START + AUDIO + AUDIO_END + "\n"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CONTROL = 3  # the type that GGUF gives to tokens which no text spells


def build_tokenizer(file: GGUF) -> Tokenizer:
    """Build SmolLM2's tokenizer from what its GGUF file says, and add the three tokens around the audio.

    Raises:
        ValueError: The file's tokenizer is of another kind.
    """
    kind = file.values.get("tokenizer.ggml.model"), file.values.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{file.path} holds a tokenizer of kind {kind}; SmolLM2's is ('gpt2', 'smollm')")
    words = file.values["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in file.values["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = file.values["tokenizer.ggml.token_type"]
    special = [word for word, of in zip(words, types, strict=True) if of == _CONTROL]
    tokenizer.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in (*special, AUDIO, AUDIO_START, AUDIO_END)]
    )
    return tokenizer


def build_processor(file: GGUF) -> Qwen2AudioProcessor:
    """Build the processor: Whisper's features of clips up to `SECONDS`, the tokenizer, the template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(file),
        bos_token="<|im_start|>",
        eos_token=TURN_END,
        pad_token=TURN_END,
        unk_token="<|endoftext|>",
        additional_special_tokens=[AUDIO, AUDIO_START, AUDIO_END],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    features = WhisperFeatureExtractor(feature_size=N_MELS, chunk_length=SECONDS, return_attention_mask=True)
    return Qwen2AudioProcessor(
        features,
        tokenizer,
        chat_template=TEMPLATE,
        audio_token=AUDIO,
        audio_bos_token=AUDIO_START,
        audio_eos_token=AUDIO_END,
    )

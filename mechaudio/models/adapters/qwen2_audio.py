"""Qwen2-Audio: Whisper encoder, two frames pooled into one token, Qwen2 decoder. R1-AQA is the same class."""

from mechaudio.models.adapter import Adapter, TokenTiming

QWEN2_AUDIO = Adapter(
    family="qwen2_audio",
    network_class="Qwen2AudioForConditionalGeneration",
    checkpoints=("Qwen/Qwen2-Audio-7B-Instruct", "Qwen/Qwen2-Audio-7B", "mispeech/r1-aqa"),
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=640, window=480_000, long_clips="cut"),
)

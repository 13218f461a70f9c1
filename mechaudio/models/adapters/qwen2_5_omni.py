"""Qwen2.5-Omni thinker: encoder over windows of two seconds, all clips packed behind one another, Qwen2.5 decoder.

Ke-Omni-R is the same class.
"""

from dataclasses import replace

from mechaudio.models.adapter import THINKER_UP_TO_5_20, WHISPER_ENCODER, Adapter, TokenTiming

QWEN2_5_OMNI = Adapter(
    family="qwen2_5_omni_thinker",
    network_class="Qwen2_5OmniThinkerForConditionalGeneration",
    checkpoints=("Qwen/Qwen2.5-Omni-7B", "Qwen/Qwen2.5-Omni-3B", "KE-Team/Ke-Omni-R", "KE-Team/Ke-Omni-R-3B"),
    encoder=replace(WHISPER_ENCODER, norm="model.audio_tower.ln_post", layout="packed"),
    projector="model.audio_tower.proj",
    timing=TokenTiming(samples=640, window=4_800_000, long_clips="cut"),
    projector_layout="packed",
    also_in=("qwen2_5_omni",),
    older_paths=THINKER_UP_TO_5_20,
    system=(
        "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and "
        "visual inputs, "
        "as well as generating text and speech."
    ),
)

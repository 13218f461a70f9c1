"""Audio Flamingo 3: Whisper-like encoder over windows of 30 seconds, up to 10 minutes, Qwen2.5 decoder.

Music Flamingo is the same, but that the encoder's output is turned by its time in the clip before the projector.
"""

from dataclasses import replace

from mechaudio.models.adapter import Adapter, TokenTiming

AUDIO_FLAMINGO_3 = Adapter(
    family="audioflamingo3",
    network_class="AudioFlamingo3ForConditionalGeneration",
    checkpoints=("nvidia/audio-flamingo-3-hf",),
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=640, window=480_000, long_clips="split"),
    features_mask="input_features_mask",
    one_clip="its processor takes one clip for each text",
)
MUSIC_FLAMINGO = replace(
    AUDIO_FLAMINGO_3,
    family="musicflamingo",
    network_class="MusicFlamingoForConditionalGeneration",
    checkpoints=("nvidia/music-flamingo-2601-hf",),
)

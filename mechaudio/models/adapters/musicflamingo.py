"""Music Flamingo: Audio Flamingo 3's encoder, whose output is turned by its time in the clip before the projector."""

from dataclasses import replace

from mechaudio.models.adapters.audioflamingo3 import AUDIO_FLAMINGO_3

MUSIC_FLAMINGO = replace(
    AUDIO_FLAMINGO_3,
    family="musicflamingo",
    network_class="MusicFlamingoForConditionalGeneration",
    checkpoints=("nvidia/music-flamingo-2601-hf",),
)

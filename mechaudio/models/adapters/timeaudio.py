"""TimeAudio: SALMONN with a table of times, and with the tokens of clips longer than 30 s merged."""

from dataclasses import replace

from mechaudio.models.adapters.salmonn import SALMONN

TIMEAUDIO = replace(
    SALMONN,
    family="timeaudio",
    network_class="TimeAudioForConditionalGeneration",
    network="mechaudio.models.salmonn.network:TimeAudioForConditionalGeneration",
    processor="mechaudio.models.salmonn.processor:TimeAudioProcessor",
    parts=("lysanderism/TimeAudio",),
    merging="audio_merging",
    exceptions=(
        SALMONN.exceptions[0],
        "clips of up to 120 s (config.max_seconds), in windows of 30 s filled up with silence; BEATs hears the whole "
        "clip at once, or each window by itself with config.beats_per_stretch, which takes less memory and gives other "
        "numbers",
        "the tokens of clips of more than one window are merged, 26 of every 44: 22 stay as they are, four are made "
        "of the others. Which windows a token hears is worked out when the prompt is made "
        "(`batch.clock[0].intervals(i)`), and interventions leave it alone. Where tokens hear several stretches, what "
        "goes over seconds refuses them",
        "as released, which tokens stay is decided by rounding (config.merging='released'): another machine may keep "
        "others. config.merging='paper' keeps those that others attend to, None merges nothing",
        *SALMONN.exceptions[2:],
    ),
)

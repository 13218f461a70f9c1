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
        "it hears clips of up to 120 s (config.max_seconds), in windows of 30 s filled up with silence. BEATs "
        "hears the whole clip at once. With config.beats_per_stretch it hears each window by itself, which takes "
        "less memory and gives other numbers",
        "the tokens of a clip of several windows are merged, 44 to 26: 22 stay as they are, and four are made of "
        "the others. The prompt settles which windows a token hears (`batch.clock[0].intervals(i)`), and "
        "interventions leave it alone. Methods that go over seconds refuse tokens that hear several stretches",
        "in the released code, rounding decides which tokens stay (config.merging='released'): another machine may "
        "keep others. config.merging='paper' keeps those that others attend to, and None merges nothing",
        *SALMONN.exceptions[2:],
    ),
)

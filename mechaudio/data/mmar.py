"""MMAR: 1,000 questions that need several steps of reasoning about speech, sound, music and their mixtures.

Ma et al., "MMAR: A Challenging Benchmark for Deep Reasoning in Speech, Audio, Music, and Their Mix", 2025.
`MMAR-meta.jsonl` (GitHub) or `MMAR-meta.json` (`BoJack/MMAR` on the hub), and `mmar-audio.tar.gz`, unpacked beside it.
Questions have 2 to 6 choices.
"""

from mechaudio.data.asked import one_text
from mechaudio.data.layout import Layout

META = ("category", "sub-category", "language", "source", "url", "timestamp")
LAYOUT = Layout(
    "MMAR",
    "CC-BY-NC-4.0",
    "BoJack/MMAR",
    needed=("id", "audio_path", "question", "choices", "answer", "modality", "category"),
    advice="is it MMAR?",
    ids="mmar",
    meta=lambda row, _: (
        {"task": one_text(row.get("modality"))} | {field: one_text(row[field]) for field in META if field in row}
    ),
)

load = LAYOUT.load
"""Load the questions of MMAR: see `mechaudio.data.layout.Layout.load`.

`meta["task"]` is the modality (sound, mix-sound-speech ...), `category` the layer; beside them `sub-category`,
`language`, and where the recording is from.
"""

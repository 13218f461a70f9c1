"""The wording of the three temporal questions that the shipped model was trained on.

Plain text, without imports, so that training and benchmark share one table. The first phrase of a task is its canonical
one.
"""

TASKS: tuple[str, ...] = ("earliest_onset", "latest_offset", "longest_duration")

KEYWORDS: dict[str, str] = {"earliest_onset": "earliest", "latest_offset": "latest", "longest_duration": "longest"}

PHRASES: dict[str, tuple[str, ...]] = {
    "earliest_onset": (
        "Which sound event has the earliest onset?",
        "Which sound has the earliest onset?",
        "Which event has the earliest onset?",
        "Which of these sounds has the earliest onset?",
        "Which sound event starts earliest?",
        "Which sound starts the earliest?",
    ),
    "latest_offset": (
        "Which sound event has the latest offset?",
        "Which sound has the latest offset?",
        "Which event has the latest offset?",
        "Which of these sounds has the latest offset?",
        "Which sound event ends latest?",
        "Which sound ends the latest?",
    ),
    "longest_duration": (
        "Which sound event has the longest duration?",
        "Which sound has the longest duration?",
        "Which event has the longest duration?",
        "Which of these sounds has the longest duration?",
        "Which sound event lasts longest?",
        "Which sound lasts the longest?",
    ),
}
"""Each holds its task's keyword once."""

EVERYDAY_PHRASES: dict[str, tuple[str, ...]] = {
    "earliest_onset": ("Which sound starts first?", "Which sound event comes first?", "What is the first sound?"),
    "latest_offset": ("Which sound ends last?", "Which sound event stops last?", "What is the last sound to end?"),
    "longest_duration": ("Which sound is the longest?", "Which sound event is longest?", "What is the longest sound?"),
}
"""Trained on as well, but kept out of the benchmark: most lack the keyword."""

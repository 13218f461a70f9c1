"""The choices that the model was trained to answer with: names of sounds, and words that are spoken."""

from mechaudio.audio.soundscape import CLASSES

RECORDED = (
    "snare drum", "cymbal", "tom drum", "bass drum", "tabla", "bell", "guitar", "crow", "burp", "door", "finger snap",
    "cash register", "record scratch", "telephone", "robot", "piano", "choir", "cowbell", "printer", "birds", "boat",
    "restaurant", "fire", "stream", "night insects", "wind", "man speaking", "woman speaking",
)  # fmt: skip
"""Names of recorded sounds, and of voices."""
SPOKEN = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "alpha", "bravo", "charlie",
    "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima", "mike", "november", "oscar", "papa",
    "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey", "zulu", "Sunday", "Monday", "Tuesday",
    "Wednesday", "Thursday", "Friday", "Saturday", "yes", "no", "left", "right", "up", "down", "stop", "go", "apple",
    "orange", "lemon", "water", "coffee", "paper", "window", "garden", "mountain", "river", "doctor", "teacher",
    "kitchen", "winter", "summer", "morning", "evening", "yellow", "purple", "silver",
)  # fmt: skip
"""Words whose place in a sentence was asked for."""
TRAINED = (*CLASSES, *RECORDED, *SPOKEN)

"""The words, sentences and voices of espeak-ng that the model is trained and tested on."""

import numpy as np

WORDS = (
    "zero one two three four five six seven eight nine "
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey zulu "
    "Sunday Monday Tuesday Wednesday Thursday Friday Saturday "
    "yes no left right up down stop go apple orange lemon water coffee paper window garden mountain river "
    "doctor teacher kitchen winter summer morning evening yellow purple silver"
).split()

#: Variants of espeak-ng's voices: who speaks, and whether for training or for testing.
VOICES = {
    "en-us": ("man", "train"),
    "en-us+m2": ("man", "train"),
    "en-gb+m4": ("man", "train"),
    "en-gb-scotland+m6": ("man", "train"),
    "en-us+f1": ("woman", "train"),
    "en-gb+f2": ("woman", "train"),
    "en-us+f3": ("woman", "train"),
    "en-gb-x-rp+f4": ("woman", "train"),
    "en-gb+m7": ("man", "test"),
    "en-us+f5": ("woman", "test"),
}
#: How many sentences are spoken.
SENTENCES = {"train": 360, "test": 60}

_ADJECTIVES = "red blue green small big old new happy sad fast slow cold warm tall short".split()
_NOUNS = "dog cat bird horse car boat house tree river table chair book door train ball city garden window".split()
_VERBS = "sees likes follows finds hears wants needs takes makes keeps".split()
_PLACES = "near under behind above beside inside".split()


def sentence(rng: np.random.Generator, index: int, split: str) -> str:
    """Draw a sentence; those for testing pair an adjective with its noun as no sentence for training does."""

    def noun() -> str:
        while True:
            adjective, noun = int(rng.integers(len(_ADJECTIVES))), int(rng.integers(len(_NOUNS)))
            if ((adjective + noun) % 5 == 0) == (split == "test"):
                return f"{_ADJECTIVES[adjective]} {_NOUNS[noun]}"

    first, second = noun(), noun()
    adjective = first.split()[0]
    return (
        f"the {first} is {rng.choice(_PLACES)} the {second}",
        f"a {first} {rng.choice(_VERBS)} the {second}",
        f"the {second} is {adjective}, and the {first} {rng.choice(_VERBS)} it",
    )[index % 3]

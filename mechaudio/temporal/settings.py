"""The choices that the published description of the benchmark leaves open, each with the reading taken by default."""

from dataclasses import dataclass

from mechaudio.arguments import check_fields
from mechaudio.data.temporal_phrases import PHRASES
from mechaudio.question import FEWEST_CHOICES, MOST_CHOICES
from mechaudio.showing import Shown
from mechaudio.temporal.tasks import DURATIONS

SCOPES = ("clip", "options")


@dataclass(frozen=True)
class Settings(Shown):
    """How questions are made of clips.

    Attributes:
        margin: By how many seconds the right answer leads: its onset is that much earlier, its offset that much later,
            or it lasts that much longer. 1.0 in the paper.
        n_choices: Options of a question. 4 in the paper.
        margin_scope: Whom it leads: every other sound of the clip (`clip`), or every other option alone (`options`), so
            that a sound close to the answer is not offered, and its question is not lost.
        duration: What counts as the duration of a sound that is heard again: `longest_segment`, `union` or `sum`.
        fewest_sounds: How many different sounds a clip needs. With one, all wrong options are sounds that the clip
            lacks, and the question is about what is heard, not about when.
        category: The entry of a clip's `meta` that names its category (TACOS: `subclass`, or the coarser
            `superclass`). Options from elsewhere come from clips of another category; where clips have no such entry,
            any sound that the clip lacks will do.
        paraphrase: How alike, from 0 to 1, the answer and another sound of the clip may be called before they pass for
            one sound in two wordings, and the question is dropped; None to drop none.
        wording: Which of `temporal_phrases.PHRASES` is asked, 0 being what the shipped model knows best; or a text with
            `{property}`, for which `earliest onset` ... is put in.

    Raises:
        ValueError: For a value that is none of these.
    """

    margin: float = 1.0
    n_choices: int = 4
    margin_scope: str = "clip"
    duration: str = "longest_segment"
    fewest_sounds: int = 2
    category: str = "subclass"
    paraphrase: float | None = None
    wording: int | str = 0

    def __post_init__(self):
        check_fields(self)
        if not self.margin >= 0:
            raise ValueError(f"margin is a number of seconds, 0 or more, got {self.margin!r}")
        if not FEWEST_CHOICES <= self.n_choices <= MOST_CHOICES:
            raise ValueError(f"n_choices is {FEWEST_CHOICES} to {MOST_CHOICES}, one letter each, got {self.n_choices}")
        if self.margin_scope not in SCOPES:
            raise ValueError(f"margin_scope is {' or '.join(map(repr, SCOPES))}, got {self.margin_scope!r}")
        if self.duration not in DURATIONS:
            raise ValueError(f"duration is one of {', '.join(map(repr, DURATIONS))}, got {self.duration!r}")
        if self.fewest_sounds < 1:
            raise ValueError(f"fewest_sounds is at least 1, got {self.fewest_sounds}")
        if self.paraphrase is not None and not 0 < self.paraphrase <= 1:
            raise ValueError(f"paraphrase is above 0 and at most 1, or None, got {self.paraphrase!r}")
        n_phrases = min(map(len, PHRASES.values()))
        if isinstance(self.wording, str):
            if "{property}" not in self.wording:
                raise ValueError(
                    f"wording needs '{{property}}', where 'earliest onset' is put in, got {self.wording!r}: write "
                    "'Which of the following sounds has the {property}?'"
                )
        elif not 0 <= self.wording < n_phrases:
            raise ValueError(f"wording is 0 to {n_phrases - 1}, or a text with '{{property}}', got {self.wording!r}")

    def question(self, task: str) -> str:
        """The text of a task's question."""
        if isinstance(self.wording, str):
            return self.wording.replace("{property}", task.replace("_", " "))
        return PHRASES[task][self.wording]

"""Questions about recordings, and answers.

Conventions: choices carry the letters A, B, C ... in their order; an answer is the *text* of a choice, so that of two
choices of the same text either is right; times are seconds from the start of the clip.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from mechaudio.arguments import n_of
from mechaudio.audio.clip import AudioClip, is_samples_and_rate
from mechaudio.audio.events import Event, checked_events
from mechaudio.audio.stored import StoredClip, opened, recording_of
from mechaudio.showing import Shown

#: What a model can be given: the clip; its caption instead; both; zeros of the clip's length.
CONDITIONS = ("audio", "caption", "audio+caption", "silence")
#: In classes that read a transcript beside the sound, silence keeps that of the clip; this is silence with its own,
#: that of nobody speaking.
NO_TRANSCRIPT = "silence_no_transcript"
Condition = Literal["audio", "caption", "audio+caption", "silence", "silence_no_transcript"]
EVERY_CONDITION: tuple[str, ...] = get_args(Condition)
#: Sound, or where it is read from.
Recording = AudioClip | StoredClip | str | os.PathLike
NO_QUESTIONS = "there is nothing to ask: no questions were given"
FEWEST_CHOICES, MOST_CHOICES = 2, len(ascii_uppercase)


@dataclass(frozen=True, eq=False, repr=False)
class AudioQuestion(Shown):
    """A recording, a text, the choices, and what is known beside.

    Attributes:
        audio: The recording in any form that `AudioClip.load` takes, such as `(samples, rate)`; a path or a
            `StoredClip` is read when `clip()` is called. A list of them, kept as a tuple, for several recordings in the
            order in which they are heard; None for a question that is asked by caption alone.
        text: The question, without the choices.
        choices: 2 to 26 texts of one line each, any iterable of them; kept as a tuple. Two may be the same text. An
            open question has none, `()`, and is answered in the model's own words.
        answer: The text of the right choice, or any text where there are no choices; None where it is not known.
        caption: The recording in words.
        events: What sounds when, in a question about one recording; kept as a tuple.
        id: A name for results and errors.
        meta: Anything else; read-only. `meta["task"]` names the temporal task, `meta["keyword"]` the word of the text
            that says what is compared, `meta["transcript"]` what is said in the recording (of several, a list), for
            models that read it.

    Raises:
        TypeError: For a field of another type.
        ValueError: For a blank text, an empty list of recordings, events beside several recordings, one choice or too
            many, a blank choice or answer, a choice with a line break, or an answer that is none of the choices.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    audio: Recording | tuple[Recording, ...] | None
    text: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    caption: str | None = None
    events: tuple[Event, ...] = ()
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    if TYPE_CHECKING:  # what it takes, beside what it keeps

        def __init__(
            self,
            audio: Any,
            text: str,
            choices: Iterable[str] = (),
            answer: str | None = None,
            caption: str | None = None,
            events: Iterable[Event] = (),
            id: str = "",
            meta: Mapping[str, Any] = ...,
        ) -> None: ...

    def __post_init__(self):
        owner = f"question {self.id!r}" if self.id else "the question"
        _check_text("text", self.text, owner)
        if self.caption is not None:
            _check_text("caption", self.caption, owner)
        if not isinstance(self.id, str):
            raise TypeError(f"id of a question is text, got {self.id!r}")
        object.__setattr__(self, "audio", _checked_audio(self.audio, owner))
        object.__setattr__(self, "choices", _checked_choices(self.choices, owner))
        object.__setattr__(self, "events", checked_events(self.events, owner))
        if self.events and isinstance(self.audio, tuple):
            raise ValueError(
                f"events of {owner} have no recording of their own: it has {len(self.audio)}; leave them out"
            )
        if not isinstance(self.meta, Mapping):
            raise TypeError(f"meta of {owner} is a mapping, got {self.meta!r}")
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        if self.answer is not None and self.is_open:
            _check_text("answer", self.answer, owner)
        elif self.answer is not None and self.answer not in self.choices:
            raise ValueError(self._answer_advice(owner))

    def _answer_advice(self, owner: str) -> str:
        wrong = f"answer {self.answer!r} of {owner} is not among its choices {self.choices}"
        if self.answer in self.letters:
            text = self.choices[self.letters.index(self.answer)]
            return f"{wrong}: give the text of the choice, answer={text!r}, not its letter"
        return f"{wrong}: give one of them, or None if the answer is not known"

    @property
    def is_open(self) -> bool:
        """True for a question without choices, which is answered in the model's own words."""
        return not self.choices

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of the choices: A, B, C ..."""
        return tuple(ascii_uppercase[: len(self.choices)])

    @property
    def answer_letter(self) -> str | None:
        """The first letter of `answer_letters`, None where the answer is not known or no choice."""
        return next(iter(self.answer_letters), None)

    @property
    def answer_letters(self) -> tuple[str, ...]:
        """The letters of all choices whose text is the answer; empty where it is not known or no choice."""
        return tuple(letter for letter, choice in zip(self.letters, self.choices, strict=True) if choice == self.answer)

    def clip(self) -> AudioClip:
        """The recording, read from where it is kept.

        Raises:
            ValueError: If the question has no recording or several, and all that `AudioClip.load` raises.
        """
        if self.audio is None:
            raise ValueError(f"question {self.id!r} has no recording: give audio=, or ask it by caption alone")
        if isinstance(self.audio, tuple):
            raise ValueError(f"question {self.id!r} has {n_of(len(self.audio), 'recording')}: clips() reads them all")
        return opened(self.audio)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings in the order in which they are heard, as they are kept: none, one or several."""
        if self.audio is None:
            return ()
        return self.audio if isinstance(self.audio, tuple) else (self.audio,)

    def clips(self) -> tuple[AudioClip, ...]:
        """All recordings, read from where they are kept.

        Raises:
            ValueError: All that `AudioClip.load` raises.
        """
        return tuple(opened(recording) for recording in self.recordings)

    def __repr__(self) -> str:
        shown = ", ".join(str(audio) if isinstance(audio, AudioClip) else repr(audio) for audio in self.recordings)
        audio = f"[{shown}]" if isinstance(self.audio, tuple) else shown or None
        known = [f"audio={audio}"] + ([] if self.is_open else [f"choices={self.choices}"])
        known += [f"{name}={getattr(self, name)!r}" for name in ("answer", "caption", "id") if getattr(self, name)]
        known += [n_of(len(self.events), "event")] if self.events else []
        return f"AudioQuestion({self.text!r}, {', '.join(known)})"


@dataclass(frozen=True)
class Answer(Shown):
    """A model's answer to one question.

    Attributes:
        question_id: `id` of the question.
        choices: The texts of the choices.
        choice: The text that the model chose; None where it has no answer, because a logit of a choice is NaN.
        letter: Its letter, None likewise.
        choice_logits: Logit of each choice's letter.
        probabilities: Softmax over the choices alone; they sum to 1.
        correct: Whether the chosen text is the answer, False without a choice; None where the answer is not known.
    """

    question_id: str
    choices: tuple[str, ...]
    choice: str | None
    letter: str | None
    choice_logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    correct: bool | None

    def __repr__(self) -> str:
        """The choice, how probable it is, and whether it is right."""
        known = {True: ", right", False: ", wrong", None: ""}[self.correct]
        if self.choice is None:
            return f"Answer({self.question_id!r}: none, its logits are NaN)"
        share = max(self.probabilities)
        return f"Answer({self.question_id!r}: {self.letter} {self.choice!r}, probability {share:.3f}{known})"


#: What can be done with an open question where an accuracy is not known.
BY_WORDS = "ma.sweep, patching, lenses and ma.analyses.specialist_heads measure target= against foil="


def only_questions(drawn: Iterable[Any]) -> Iterator[AudioQuestion]:
    """Go through questions as they are drawn.

    Raises:
        TypeError: Something else is among them.
    """
    for index, question in enumerate(drawn):
        if not isinstance(question, AudioQuestion):
            raise TypeError(f"questions are AudioQuestion, but number {index} is {question!r}")
        yield question


def refuse_open(questions: Iterable[AudioQuestion], call: str, instead: str) -> None:
    """Raise for the first open question among those that need choices.

    Args:
        questions: The questions.
        call: What needs choices, as a user writes it.
        instead: What to do with an open question.

    Raises:
        ValueError: For an open question.
    """
    for question in questions:
        if question.is_open:
            raise ValueError(
                f"{call} needs choices, and question {question.id!r} ({question.text!r}) is open: {instead}"
            )


def questions_by_id(questions: Iterable[AudioQuestion]) -> dict[str, AudioQuestion]:
    """Questions by id; an id that several have names none of them, and is left out."""
    questions = list(questions)
    times = Counter(question.id for question in questions)
    return {question.id: question for question in questions if times[question.id] == 1}


def _check_text(name: str, text: Any, owner: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} of {owner} is text, got {text!r}")
    if not text.strip():
        raise ValueError(f"{name} of {owner} is blank, {text!r}: say something, or leave out what may be left out")


def _checked_audio(audio: Any, owner: str) -> Recording | tuple[Recording, ...] | None:
    """A recording as it is kept, and a list of several as a tuple."""
    if isinstance(audio, (list, tuple)) and not is_samples_and_rate(audio):
        if not audio:
            raise ValueError(f"audio of {owner} is an empty list: name its recordings, or give None for no recording")
        recordings = tuple(recording_of(recording, owner) for recording in audio)
        return recordings if len(recordings) > 1 else recordings[0]
    return None if audio is None else recording_of(audio, owner)


def _checked_choices(choices: Any, owner: str) -> tuple[str, ...]:
    if isinstance(choices, (str, bytes, Mapping)) or not isinstance(choices, Iterable):
        raise TypeError(f"choices of {owner} are a tuple of texts, got {choices!r}: write choices=('dog', 'car')")
    kept = tuple(choices)
    if kept and not FEWEST_CHOICES <= len(kept) <= MOST_CHOICES:
        raise ValueError(
            f"{owner} needs {FEWEST_CHOICES} to {MOST_CHOICES} choices, one per letter, or none for an open question; "
            f"got {len(kept)}: {kept}"
        )
    for index, choice in enumerate(kept):
        _check_text(f"choices[{index}]", choice, owner)
        if choice.splitlines() != [choice]:
            raise ValueError(
                f"choices[{index}] of {owner} has a line break, {choice!r}, and would read as two: write it in one line"
            )
    return kept

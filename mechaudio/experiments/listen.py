"""One question asked with its recording and with silence in its place, and where the model looked: what a page shows.

Conventions: sound is mono, 16 kHz, 16-bit whole numbers; times in seconds; probabilities are over the choices alone.
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int16

from mechaudio.analyses.audio_attention import AudioAttention, audio_attention
from mechaudio.analyses.prompt_attention import PromptAttention, prompt_attention
from mechaudio.analyses.streaming import Questions, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.metrics.captions import normalised_match
from mechaudio.models.batch import PromptBatch
from mechaudio.models.hearing import guesses
from mechaudio.models.prompt import prompt
from mechaudio.question import NO_QUESTIONS, Answer, AudioQuestion
from mechaudio.results import Result, kept_or_written
from mechaudio.tracing.answers import answers_in
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.generation import generate
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, kw_only=True)
class Listening(Result):
    """A model's answers with a recording and without, and the attention of its last position to it.

    Attributes:
        id: Id of the question.
        text: The question.
        letters: Letters of the choices; none of an open question.
        choices: The options; none of an open question.
        answer: The right choice, or any text of an open question; None where it is not known.
        choice: What the model chose with the recording, or wrote to an open question.
        silence_choice: What it chose, or wrote, with zeros of the same length.
        correct: Whether `choice` is right, None where that is not known; of what was written, whether it equals the
            answer once both are normalised (`ma.metrics.captions.normalised_match`).
        probabilities: Probability of each choice with the recording; empty of an open question.
        silence_probabilities: Probability of each choice with silence.
        attention: From the last position, with the recording.
        silence_attention: The same with silence: attention on "audio" that does not depend on what is heard.
        waveform: The recording, as much of it as the model heard.
        sample_rate: Sample rate of `waveform`.
        source: The file that the recording came from, None if it was made in memory.
        cut: Seconds at the end of the recording that the model did not hear.
        task: The temporal task, None if the question names none.
        interventions: What was changed while it answered.
        unreadable: Words of the question and its choices that the model's tokenizer has no token for: all of them look
            the same to it.
        guesses: Choices that the model was never trained to tell by ear, where it says what it was trained on.
        unchanged_choice: What it chose, or wrote, with the recording and without `interventions`; None where there are
            none.
        unchanged_probabilities: Probability of each choice then.
        pattern: Attention of every position, with the recording, for the explorer on the page; None of a result that
            was kept, as it is large and quickly made again.
    """

    id: str
    text: str
    letters: tuple[str, ...]
    choices: tuple[str, ...]
    answer: str | None
    choice: str
    silence_choice: str
    correct: bool | None
    probabilities: Float[np.ndarray, " choice"]
    silence_probabilities: Float[np.ndarray, " choice"]
    attention: AudioAttention
    silence_attention: AudioAttention
    waveform: Int16[np.ndarray, " samples"]
    sample_rate: int = SAMPLE_RATE
    source: str | None = None
    cut: float = 0.0
    task: str | None = None
    unreadable: tuple[str, ...] = ()
    interventions: tuple[Any, ...] = ()
    guesses: tuple[str, ...] = ()
    unchanged_choice: str | None = None
    unchanged_probabilities: Float[np.ndarray, " choice"] | None = None
    pattern: PromptAttention | None = None

    def _as_kept(self) -> "Listening":
        """Copy the result without the pattern."""
        kept = copy(self)
        object.__setattr__(kept, "pattern", None)
        return kept

    _table_axes = ("choice",)
    _labels = (("letters", "choice"),)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row per choice; of an open question one row, with what the model wrote."""
        if self.choices:
            return super().to_pandas()
        import pandas

        said = {"text": self.choice, "silence_text": self.silence_choice, "correct": self.correct}
        said |= {} if self.unchanged_choice is None else {"unchanged_text": self.unchanged_choice}
        return pandas.DataFrame([{"question": self.id, "asked": self.text, "answer": self.answer, **said}])

    @property
    def _summary(self) -> str:
        return f"{self.choice!r}, with silence {self.silence_choice!r}"


@checks_arguments
def listen(
    model: AudioLM,
    question: AudioQuestion | Questions,
    *,
    interventions: Sequence[Intervention] = (),
    max_new_tokens: int = 32,
    allow_cut: bool = False,
) -> Listening:
    """Ask a question with its recording and with silence, and trace the attention of the last position.

    An open question is answered in the model's own words.

    Args:
        model: An `AudioLM`.
        question: With a recording, alone, in a list or as a prompt; its events are kept where it has any.
        interventions: What to change while it answers, with the recording and with silence; it is asked once more
            without a change.
        max_new_tokens: Most tokens of the answer to an open question.
        allow_cut: Take the beginning of a recording that is longer than the model hears; `Listening.cut` says what was
            lost.

    Raises:
        ValueError: Several questions; or where the question cannot be asked: no recording, or one that cannot be read,
            or one that is longer than the model hears; or where the model's logits are NaN.
    """
    question = _alone(question)
    clip = question.clip()
    heard, deaf = (
        prompt(model, [question], condition=condition, allow_cut=allow_cut) for condition in ("audio", "silence")
    )
    changes = tuple(interventions)
    with_sound, without = (_answered(model, batch, changes, max_new_tokens) for batch in (heard, deaf))
    unchanged = _answered(model, heard, (), max_new_tokens) if changes else None
    attention = audio_attention(model, heard, interventions=changes)
    cut = float(heard.cut[0])
    samples = clip.mono(SAMPLE_RATE)
    samples = samples[: len(samples) - round(cut * SAMPLE_RATE)]
    return Listening(
        provenance=attention.provenance,
        id=question.id,
        text=question.text,
        letters=tuple(question.letters),
        choices=tuple(question.choices),
        answer=question.answer,
        choice=with_sound.choice,
        silence_choice=without.choice,
        correct=with_sound.correct,
        probabilities=np.array(with_sound.probabilities, dtype=np.float64),
        silence_probabilities=np.array(without.probabilities, dtype=np.float64),
        attention=attention,
        silence_attention=audio_attention(model, deaf, interventions=changes),
        waveform=np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16),
        source=clip.source,
        cut=cut,
        task=question.meta.get("task"),
        unreadable=unreadable_words(model.processor.tokenizer, " ".join([question.text, *question.choices])),
        interventions=tuple(map(kept_or_written, changes)),
        guesses=guesses(getattr(model, "trained_choices", ()), question.choices),
        unchanged_choice=None if unchanged is None else unchanged.choice,
        unchanged_probabilities=None if unchanged is None else np.array(unchanged.probabilities, dtype=np.float64),
        pattern=prompt_attention(model, heard, interventions=changes),
    )


def _alone(question: AudioQuestion | Questions) -> AudioQuestion:
    """Return the question that is given alone.

    Raises:
        ValueError: Several questions.
    """
    questions = [question] if isinstance(question, AudioQuestion) else sequence_of(question)
    if not len(questions):
        raise ValueError(NO_QUESTIONS)
    if len(questions) > 1:
        raise ValueError(f"listen asks one question, got {len(questions)}: give one of them")
    return questions[0]


def _answered(model: AudioLM, batch: PromptBatch, changes: tuple[Intervention, ...], max_new_tokens: int) -> Answer:
    """Return the model's choice; of an open question its text, without logits of choices."""
    (question,) = batch.questions
    if not question.is_open:
        logits = run(model, batch, interventions=changes, logits="last").logits[:, -1]
        return answers_in(batch, logits, required=True)[0]
    text = generate(model, batch, max_new_tokens=max_new_tokens, interventions=changes).texts[0]
    correct = None if question.answer is None else bool(normalised_match(text, question.answer))
    return Answer(question.id, (), text, None, (), (), correct)


def unreadable_words(tokenizer: Any, text: str) -> tuple[str, ...]:
    """The words of a text for which a tokenizer has only its token for the unknown, in order, each once.

    Most tokenizers spell out whatever they do not know and have no such words; the shipped model's knows few words.
    """
    unknown = tokenizer.unk_token_id
    words = dict.fromkeys(re.findall(r"\w+", text))
    return tuple(word for word in words if unknown in tokenizer(word, add_special_tokens=False)["input_ids"])

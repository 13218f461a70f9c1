"""Knowledge of the sound, layer by layer: which event sounds, when it begins and ends, which of two comes first.

Linear probes on the vector of every audio token, in the audio tower, in front of the decoder and in the decoder, with
control tasks and baselines (`mechaudio.analyses.probes.probing`). Given questions, the probes also answer them, so that
a wrong answer can be laid at the door of the tower (the probe fails too) or of what comes behind it (the probe knows).

Tasks, each scored clip by clip:

- `present`, `onset`, `offset`: for every class, does it sound at this token, begin here, end here? Area under the ROC
  curve among the tokens of one clip. Control: a random label for every type of token, the set of classes that sound
  there (at onsets and offsets: before and behind).
- `order`: which of two events begins first, from one vector per clip, the mean over its tokens: a linear probe per
  class gives its onset, and the earlier one comes first. Share of pairs right. Control: onsets go through a random
  permutation of half seconds, another one for each class.
- `order_by_clock`: the same pairs, from the probe for `present`: a class begins where the stretch of tokens that scores
  most begins. Control: the same with the control's probe. It uses what the decoder has too, where a token stands.

Conventions: seconds; clips are split by their sound, so that two questions about one clip are on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.halves import in_calibration
from mechaudio.analyses.probes.audio_states import audio_states, places_of
from mechaudio.analyses.probes.clip_states import ClipStates
from mechaudio.analyses.probes.frame_tasks import FRAME_TASKS
from mechaudio.analyses.probes.probe_tasks import TASKS, fit_place
from mechaudio.analyses.streaming import asked_anew, batches_of
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.events import AnnotatedClip
from mechaudio.metrics.bootstrap import mean_estimate
from mechaudio.metrics.choices import REMEDY_OF_NAN
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.multiple_choice import accuracy
from mechaudio.models.batch import PromptBatch
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance, Result
from mechaudio.showing import Shown
from mechaudio.tracing.answers import answers_in
from mechaudio.tracing.audio_lm import AudioLM

__all__ = ["FRAME_TASKS", "TASKS", "EncoderProbes", "ProbeAnswers", "encoder_probes"]


@dataclass(frozen=True)
class ProbeAnswers(Shown):
    """How often the probes of one place answer the questions right.

    Attributes:
        all: On all held-out questions.
        model_right: On those that the model answers right, `None` if there are none.
        model_wrong: On those that it answers wrong, `None` if there are none.
        model: How often the model itself is right.
    """

    all: Proportion
    model_right: Proportion | None
    model_wrong: Proportion | None
    model: Proportion


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderProbes(Result):
    """Scores on held-out clips; NaN where a clip has nothing to score.

    Attributes:
        places: Hook points, from the tower's input to the decoder's last layer.
        tasks: Names of the tasks.
        score: Score of every held-out clip.
        control: Score of the control task's probe, on the control task.
        baseline: Without hearing anything: how often a label occurs at this time of a clip, or which of two classes
            more often came first in the training clips.
        penalty: The ridge penalty that cross-validation chose; of `order` the median over classes.
        onset_error: Median distance between an event's onset and the one that `order_by_clock` goes by.
        offset_error: The same of offsets.
        probe_correct: Whether the probes answer a held-out question right; 0 where nothing was asked.
        asked: Whether a question was asked that probes can answer.
        model_correct: Whether the model answered it right.
        classes: The events' labels that are probed.
        clips: Ids of the held-out clips or questions.
        n_training: Training clips.
        keys: Digest of the recording of each held-out clip; of several questions about one, the same.
    """

    places: tuple[str, ...]
    tasks: tuple[str, ...]
    score: Float[np.ndarray, "place task clip"]
    control: Float[np.ndarray, "place task clip"]
    baseline: Float[np.ndarray, "task clip"]
    penalty: Float[np.ndarray, "place task"]
    onset_error: Float[np.ndarray, " place"]
    offset_error: Float[np.ndarray, " place"]
    probe_correct: Bool[np.ndarray, "place clip"]
    asked: Bool[np.ndarray, " clip"]
    model_correct: Bool[np.ndarray, " clip"]
    classes: tuple[str, ...]
    clips: tuple[str, ...]
    n_training: int
    keys: tuple[str, ...] = ()

    _table_axes = ("place", "task", "clip")

    def estimate(self, task: str, place: str | int = -1, *, of: str = "score", seed: int = 0) -> Estimate:
        """The mean over held-out clips, with a bootstrap interval over clips; NaN where fewer than two have the number.

        Args:
            task: Its name.
            place: A hook point, or its index.
            of: `score`, `control`, `selectivity` (score minus control, clip by clip) or `baseline`.
            seed: Seed of the bootstrap.

        Raises:
            ValueError: No such task, place or number.
        """
        at, column = self._place(place), self._task(task)
        kinds = {
            "score": self.score[at, column],
            "control": self.control[at, column],
            "selectivity": self.score[at, column] - self.control[at, column],
            "baseline": self.baseline[column],
        }
        if of not in kinds:
            raise ValueError(f"of is one of {', '.join(kinds)}, got {of!r}")
        values = kinds[of][~np.isnan(kinds[of])]
        keys = self._keys[~np.isnan(kinds[of])]
        if len(set(keys.tolist())) < 2:
            return Estimate(np.nan, np.nan, np.nan, len(values), 0.95, "too few clips")
        return mean_estimate(values, clips=keys, seed=seed)

    def answers(self, place: str | int = -1) -> ProbeAnswers:
        """How the probes of one place answer the held-out questions, where the model is right and where it is wrong.

        Raises:
            ValueError: No questions were asked, or no such place.
        """
        if not self.asked.any():
            raise ValueError("the clips came without questions that probes can answer: give AudioQuestions with events")
        probe, model = self.probe_correct[self._place(place)][self.asked], self.model_correct[self.asked]
        clips = self._keys[self.asked]
        return ProbeAnswers(
            accuracy(probe, clips=clips),
            accuracy(probe[model], clips=clips[model]) if model.any() else None,
            accuracy(probe[~model], clips=clips[~model]) if not model.all() else None,
            accuracy(model, clips=clips),
        )

    @property
    def _keys(self) -> np.ndarray:
        """Keys of the recordings of held-out clips, each of which may be asked about several times."""
        return np.array(self.keys or tuple(map(str, range(len(self.clips)))))

    def _place(self, place: str | int) -> int:
        if isinstance(place, int) and -len(self.places) <= place < len(self.places):
            return place
        if place not in self.places:
            raise ValueError(f"no place {place!r}; there are {', '.join(self.places)}")
        return self.places.index(place)

    def _task(self, task: str) -> int:
        if task not in self.tasks:
            raise ValueError(f"no task {task!r}; there are {', '.join(self.tasks)}")
        return self.tasks.index(task)


@checks_arguments
def encoder_probes(
    model: AudioLM,
    clips: PromptBatch | Iterable[AnnotatedClip | AudioQuestion],
    *,
    places: Sequence[str] | None = None,
    held_out: float = 0.33,
    tokens_per_clip: int = 32,
    tolerance: float = 0.1,
    margin: float = 0.2,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> EncoderProbes:
    """Train probes at every depth on some clips and score them on others.

    ```python
    probes = ma.analyses.encoder_probes(model, ma.data.soundscapes.questions(600, seed=5))
    probes.estimate("order_by_clock", "audio.blocks.3.resid_post"), probes.answers("embed").model_wrong
    ```

    Of a training clip `tokens_per_clip` tokens are kept, of a held-out one all: 4 bytes per number of each place.

    Args:
        model: The opened model.
        clips: Clips with their events; or questions with theirs, which the model then answers too. Probes answer those
            whose `meta["task"]` is `earliest_onset`, `latest_offset` or `longest_duration`.
        places: Hook points of residual streams, `audio.blocks.1.resid_post`, `blocks.0.resid_post`, or `embed`, which
            is what the projector gives the decoder; by default all.
        held_out: Share of the clips to score on.
        tokens_per_clip: Drawn from each training clip for the tasks at every token.
        tolerance: Tokens whose middle is this close to an onset (an offset) are labelled with it.
        margin: Pairs of events whose onsets differ by less are left out of the order.
        seed: Seed of the split, the draws and the control tasks.
        batch_size: Clips per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Too few clips or events on one side of the split, a share outside 0 to 1, a tower whose frames do
            not fall evenly into audio tokens, or states or logits that are NaN.
        TypeError: Something else than clips and questions.
    """
    wanted = tuple(places_of(model) if places is None else places)
    if not wanted:
        raise ValueError("places= names no hook point: leave it out for all of them")
    if tokens_per_clip < 1:
        raise ValueError(f"tokens_per_clip is at least 1, got {tokens_per_clip}")
    training: list[ClipStates] = []
    testing: list[ClipStates] = []
    questions = map(_question, asked_anew(clips) if isinstance(clips, PromptBatch) else clips)
    for batch in batches_of(model, questions, batch_size=batch_size, what="clips", progress=progress):
        batch_questions = batch.questions
        any_answer = any(question.answer is not None for question in batch_questions)
        rows, out = audio_states(model, batch, wanted, logits=any_answer)
        answers = answers_in(batch, out.logits[:, -1], required=True) if any_answer else [None] * batch.n_rows
        for row, question in enumerate(batch_questions):
            key = _sound(question)
            train = bool(in_calibration([key], 1 - held_out, seed)[0])
            edges = batch.clock[row].edges_seconds
            nowhere = [place for place, value in rows[row].items() if not value.isfinite().all()]
            if nowhere:
                raise ValueError(
                    f"the states of {question.id!r} at {nowhere[0]} are NaN or infinite, and a probe is fitted to all "
                    f"clips. {REMEDY_OF_NAN}"
                )
            states = ClipStates(
                states={place: value.numpy() for place, value in rows[row].items()},
                edges=edges,
                events=tuple(question.events),
                key=key,
                name=question.id or key,
                question=None if question.answer is None else question,
                correct=bool(answers[row] is not None and answers[row].correct),
            )
            (training if train else testing).append(states.drawn(tokens_per_clip, seed) if train else states)
    classes = _classes(training, testing)
    fitted = [
        fit_place(place, training, testing, classes, tolerance=tolerance, margin=margin, seed=seed) for place in wanted
    ]
    settings = {
        "held_out": held_out, "tokens_per_clip": tokens_per_clip, "tolerance": tolerance, "margin": margin,
        "n": len(training) + len(testing),
    }  # fmt: skip
    by_place = ("score", "control", "penalty", "onset_error", "offset_error", "probe_correct")
    return EncoderProbes(
        places=wanted,
        tasks=TASKS,
        **{name: np.stack([fit[name] for fit in fitted]) for name in by_place},
        baseline=fitted[0]["baseline"],
        asked=fitted[0]["asked"],
        model_correct=np.array([clip.correct for clip in testing]),
        classes=classes,
        clips=tuple(clip.name for clip in testing),
        n_training=len(training),
        keys=tuple(clip.key for clip in testing),
        provenance=Provenance.collect(model, seed=seed, settings=settings),
    )


def _question(clip: AnnotatedClip | AudioQuestion) -> AudioQuestion:
    """A clip as something to ask; what stands behind the audio tokens does not change them."""
    if isinstance(clip, AnnotatedClip):
        return AudioQuestion(audio=clip.audio, text="?", choices=("A", "B"), events=clip.events, id=clip.id)
    if not isinstance(clip, AudioQuestion):
        raise TypeError(f"clips are AnnotatedClips or AudioQuestions, got {clip!r}")
    return clip


def _sound(question: AudioQuestion) -> str:
    """A name of the recording itself."""
    if not question.events:
        raise ValueError(f"question {question.id!r} has no events, so there is nothing to probe for: set events=")
    clip = question.clip()
    return hashlib.blake2b(np.ascontiguousarray(clip.waveform).tobytes(), digest_size=12).hexdigest()


def _classes(training: Sequence[ClipStates], testing: Sequence[ClipStates]) -> tuple[str, ...]:
    """Labels that enough clips of both sides have."""
    if len({clip.key for clip in training}) < 8 or len({clip.key for clip in testing}) < 2:
        raise ValueError(
            f"probes need at least 8 clips to train on and 2 to score, got {len(training)} and {len(testing)}: give "
            "more clips, or another held_out="
        )

    def counts(side: Sequence[ClipStates]) -> dict[str, int]:
        labels = [label for clip in side for label in {event.label for event in clip.events}]
        return {label: labels.count(label) for label in set(labels)}

    many, some = counts(training), counts(testing)
    classes = tuple(sorted(label for label, n in many.items() if n >= 8 and some.get(label, 0) >= 1))
    if len(classes) < 2:
        raise ValueError(
            "probes need at least two classes that sound in 8 training clips and a held-out one; "
            f"{n_of(len(training), 'training clip has', 'training clips have')} {dict(sorted(many.items()))}: give "
            "more clips, or broader labels"
        )
    return classes

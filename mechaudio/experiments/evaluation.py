"""Answers to many questions: each one, right or wrong, and the scores.

Conventions: accuracies are shares from 0 to 1; intervals are Wilson's at 95%, for
clips as clusters where several questions are about one (`mechaudio.metrics.clips`); an answer is the *text* of a
choice, so that of two choices of the same text either is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import checks_arguments, n_of, shown
from mechaudio.kinds import MaybeNone
from mechaudio.labelled import grid_coordinates
from mechaudio.metrics.bootstrap import mean_estimate
from mechaudio.metrics.captions import normalised_match
from mechaudio.metrics.checked import same_length
from mechaudio.metrics.choices import NO_ANSWER, NO_TEXT, margin, right_choices
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.multiple_choice import (
    AnswerChange,
    RandomFixRate,
    accuracy,
    answer_change,
    random_fix_rate,
)
from mechaudio.metrics.significance import share
from mechaudio.metrics.written_answers import string_match
from mechaudio.question import Condition
from mechaudio.results import Result, keep
from mechaudio.showing import Shown

if TYPE_CHECKING:
    import xarray


#: The setting that holds the ids of the questions that chose the rows where attention is changed.
CHOSE_ROWS = "chose_rows"


@dataclass(frozen=True)
class Failure(Shown):
    """A question that could not be asked.

    Attributes:
        index: Its place among the questions, from 0.
        id: Id of the question.
        error: What went wrong, such as a recording that is missing or damaged.
    """

    index: int
    id: str
    error: str


keep(Failure)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Result):
    """One answer per question.

    Questions that could not be asked are in `failures` alone. Those whose answer is not known are answered, and not
    scored.

    Attributes:
        condition: What the model was given: `audio`, `caption`, `audio+caption`, `silence`.
        ids: Ids of the questions.
        tasks: Tasks of the questions; an empty text where a question names none.
        options: The choices of each question.
        answers: The right choice of each, None where it is not known.
        chosen: Which choice the model chose, `[question]`; -1 where there is none: a text that names none or several,
            or logits that are NaN or overflow.
        logits: Logit of each choice's letter, `[question, choice]`, NaN where a question has fewer choices; None where
            the answer was generated.
        texts: What the model wrote, where the answer was generated; `[NaN]` where logits are NaN or overflow.
        interventions: What was changed while it answered.
        failures: Questions that could not be asked.
        scoring: `letter_logit` or `generate`.
        scores: Score of each written answer to an open question, by name, `[question]`; NaN of questions with choices
            and of those whose answer is not known.
        clips: Name of the clip of each question (`ma.analyses.clips_of`), whose questions intervals and tests take as a
            cluster; without them, each is about a clip of its own.
    """

    condition: Condition
    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    answers: tuple[str | None, ...]
    chosen: Int[np.ndarray, " question"]
    logits: Float[np.ndarray, "question choice"] | None = None
    texts: tuple[str, ...] = ()
    interventions: tuple[Any, ...] = ()
    failures: tuple[Failure, ...] = ()
    scoring: Literal["letter_logit", "generate"] = "letter_logit"
    clips: tuple[str, ...] = ()
    scores: Mapping[str, Float[np.ndarray, " question"]] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        texts = self.texts or self.ids
        same_length(
            ids=self.ids, tasks=self.tasks, options=self.options, answers=self.answers, chosen=self.chosen, texts=texts
        )
        n_options = np.array([len(options) for options in self.options], dtype=int)
        if ((self.chosen < NO_ANSWER) | (self.chosen >= n_options)).any():
            raise ValueError(f"chosen is the place of a choice, or {NO_ANSWER}; got {shown(self.chosen.tolist())}")

    @property
    def n_chose_rows(self) -> int:
        """The number of questions that chose the rows where attention is changed (`queries="listening"`)."""
        return len(self.provenance.settings.get(CHOSE_ROWS, ()))

    @property
    def _chose_rows(self) -> str:
        return f", rows chosen on {self.n_chose_rows} of these questions" if self.n_chose_rows else ""

    @cached_property
    def choices(self) -> tuple[str | None, ...]:
        """The chosen texts, None where they cannot be read."""
        pairs = zip(self.options, self.chosen.tolist(), strict=True)
        return tuple(None if place == NO_ANSWER else options[place] for options, place in pairs)

    @cached_property
    def correct(self) -> Bool[np.ndarray, " question"]:
        """The right answers as True; False where that is not known.

        A choice is right if it is the answer; a text in the model's own words, if it equals the answer once both are
        normalised (`ma.metrics.captions.normalised_match`).
        """
        texts = self.texts or ("",) * len(self.ids)
        rows = zip(self.options, self.choices, texts, self.answers, strict=True)
        return np.array([_is_right(*one) for one in rows], dtype=bool)

    @cached_property
    def scored(self) -> Bool[np.ndarray, " question"]:
        """The questions whose answer is known."""
        return np.array([answer is not None for answer in self.answers], dtype=bool)

    @property
    def margin(self) -> Float[np.ndarray, " question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where there is no answer, or no known one.

        Raises:
            ValueError: If answers were generated, so that there are no logits.
        """
        return _margin(self.logits, self)

    @property
    def overall(self) -> Proportion:
        """The share of right answers over all questions whose answer is known.

        Raises:
            ValueError: If there is none.
        """
        if not self.scored.any():
            raise ValueError(
                f"none of the {len(self.ids)} questions has a known answer, so there is no score; .choices says what "
                "the model chose"
            )
        return self._accuracy(self.scored)

    @property
    def accuracy(self) -> float:
        """The share of right answers over all questions whose answer is known; `overall` has its interval.

        Raises:
            ValueError: If there is none.
        """
        return self.overall.value

    def to_xarray(self) -> "xarray.Dataset":
        """Return everything by question: what was chosen and written, its scores, whether it is right, and logits."""
        data = super().to_xarray().assign(correct=("question", self.correct), scored=("question", self.scored))
        data = data.assign({name: ("question", values) for name, values in self.scores.items()})
        if any(self.options):
            data = data.assign(chosen_text=("question", np.array([choice or "" for choice in self.choices])))
        return data if self.logits is None else data.assign(margin=("question", self.margin))

    def by_score(self) -> dict[str, Estimate]:
        """The mean of each score over the open questions whose answer is known, with a bootstrap interval over clips.

        Raises:
            ValueError: If there is none.
        """
        which = self.scored & np.array([not options for options in self.options])
        if not which.any() or not self.scores:
            raise ValueError(
                "no open question with a known answer was asked here, so there is no written answer to score: "
                ".overall has the share of right choices"
            )
        clips = self.clips_among(which)
        return {name: mean_estimate(values[which], clips=clips) for name, values in self.scores.items()}

    def by_task(self) -> dict[str, Proportion]:
        """The share of right answers of each task that is named, in the order in which the tasks first come."""
        tasks = np.array(self.tasks)
        named = self.scored & (tasks != "")
        if not named.any():
            return {}
        return {task: self._accuracy(named & (tasks == task)) for task in dict.fromkeys(tasks[named].tolist())}

    @cached_property
    def unanswered(self) -> Bool[np.ndarray, " question"]:
        """Questions without an answer, because logits are NaN or overflow; they count as not right."""
        if self.logits is None:
            unwritten = [index for index, text in enumerate(self.texts) if text == NO_TEXT]
            return np.isin(np.arange(len(self.chosen)), unwritten)
        return self.chosen == NO_ANSWER

    def _accuracy(self, which: Bool[np.ndarray, " question"]) -> Proportion:
        share_of = accuracy(self.correct[which], clips=self.clips_among(which))
        return replace(share_of, unanswered=int(self.unanswered[which].sum()))

    @property
    def unparsed(self) -> Proportion:
        """The share of answers to questions with choices that name no choice, or several; they are wrong.

        Raises:
            ValueError: If all questions are open.
        """
        which = np.array([bool(options) for options in self.options])
        if not which.any():
            raise ValueError("all questions are open, so no answer has to name a choice: .by_score() has their scores")
        return share((self.chosen == NO_ANSWER)[which], clips=self.clips_among(which))

    @property
    def string_match(self) -> Proportion | None:
        """The share of right answers by the words of generated texts, MMAU's rule (`mechaudio.metrics.string_match`).

        Right answers without a word, such as `+`, cannot be compared so and are left out. None where no text was
        generated, or no question is left.
        """
        clips = self.clips or tuple(map(str, range(len(self.ids))))
        rows = zip(self.texts, self.options, self.answers, clips, strict=False)  # no texts: nothing to compare
        matched = [
            (string_match(text, answer, options), clip)
            for text, options, answer, clip in rows
            if options and answer is not None and any(character.isalnum() or character == "_" for character in answer)
        ]
        if not matched:
            return None
        right, named = zip(*matched, strict=True)
        return accuracy(right, clips=named if self.clips else None)

    @checks_arguments
    def clips_among(self, questions: Bool[np.ndarray, " question"]) -> tuple[str, ...] | None:
        """The clips of some of the questions, for `clips=` of the scores; None where they are not known.

        Raises:
            TypeError: Something else than an array that says of each question whether it is among them.
            ValueError: It is of another number of questions.
        """
        same_length(questions=questions, ids=self.ids)
        return tuple(compress(self.clips, questions.tolist())) if self.clips else None

    def __repr__(self) -> str:
        score = f"accuracy {self.overall.value:.3f}, " if self.scored.any() else ""
        score += f"{self.unanswered.sum()} without an answer (NaN), " if self.unanswered.any() else ""
        return (
            f"<Evaluation of {n_of(len(self.ids), 'question')}, condition {self.condition!r}: {score}"
            f"{len(self.failures)} not asked, interventions {list(self.interventions)}{self._chose_rows}>"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Result):
    """Questions answered without and with each of several interventions.

    `comparison[3]` is the `Evaluation` of variant 3, `comparison.change(3)` what it did to the answers; where variants
    have names, these stand for their numbers.

    Attributes:
        clean: The answers without interventions.
        variants: The interventions of each variant.
        chosen: Which choice the model chose, `[variant, question]`; -1 where that cannot be read.
        logits: Logit of each choice's letter, `[variant, question, choice]`; None where answers were generated.
        texts: Per variant what the model wrote, where answers were generated.
        scores: Score of each written answer to an open question, by name, `[variant, question]`.
        axes: The parameters of a grid and their values, or `variant` and the names of a dict; empty for a list.
        listens: Which rows listen, where `ma.evaluate` was told at which rows to change attention.
    """

    clean: Evaluation
    variants: tuple[tuple[Any, ...], ...]
    chosen: Int[np.ndarray, "variant question"]
    logits: Float[np.ndarray, "variant question choice"] | None = None
    texts: tuple[tuple[str, ...], ...] = ()
    scores: Mapping[str, Float[np.ndarray, "variant question"]] = field(default_factory=dict)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    listens: WhereItListens | MaybeNone = None

    @property
    def _table_axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(self.axes or ("variant",)), "question")

    @property
    def accuracy(self) -> Float[np.ndarray, " variant"]:
        """The share of right answers of each variant, over all questions whose answer is known.

        Raises:
            ValueError: If there is none.
        """
        return np.array([self[variant].accuracy for variant in range(len(self))])

    def __len__(self) -> int:
        """Count the variants."""
        return len(self.variants)

    def _place(self, variant: int | str) -> int:
        if not isinstance(variant, str):
            return variant
        names = self.axes.get("variant", ())
        if variant not in names:
            known = f"the names are {', '.join(names)}" if names else "these have numbers: give names as variants={...}"
            raise KeyError(f"there is no variant {variant!r}; {known}")
        return names.index(variant)

    def __getitem__(self, variant: int | str) -> Evaluation:
        """The answers with one of the variants, by its number or its name."""
        variant = self._place(variant)
        return replace(
            self.clean,
            interventions=self.variants[variant],
            chosen=self.chosen[variant],
            logits=None if self.logits is None else self.logits[variant],
            texts=self.texts[variant] if self.texts else (),
            scores={name: values[variant] for name, values in self.scores.items()},
        )

    @cached_property
    def correct(self) -> Bool[np.ndarray, "variant question"]:
        """The right answers (`Evaluation.correct`)."""
        return np.stack([self[variant].correct for variant in range(len(self))])

    @cached_property
    def unanswered(self) -> Bool[np.ndarray, "variant question"]:
        """The missing answers: logits of their choices are NaN (`Evaluation.unanswered`)."""
        return np.stack([self[variant].unanswered for variant in range(len(self))])

    @property
    def margin(self) -> Float[np.ndarray, "variant question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where there is no answer, or no known one.

        Raises:
            ValueError: If answers were generated, so that there are no logits.
        """
        return _margin(self.logits, self.clean)

    def change(self, variant: int | str) -> AnswerChange:
        """Accuracy before and after, net change, fix rate, break rate, and McNemar's test of one variant.

        Args:
            variant: Its number, or its name.

        Raises:
            KeyError: No variant has that name.
            ValueError: If no question has a known answer.
        """
        variant, known = self._place(variant), self.clean.scored
        clips = self.clean.clips_among(known)
        change = answer_change(self.clean.correct[known], self.correct[variant][known], clips=clips)
        before, after = (int(one.unanswered[known].sum()) for one in (self.clean, self[variant]))
        return replace(
            change,
            before=replace(change.before, unanswered=before),
            after=replace(change.after, unanswered=after),
        )

    @property
    def random_fix_rate(self) -> RandomFixRate:
        """The fix rate of one who answers at random, to hold the fix rates against.

        Raises:
            ValueError: If no answer is wrong without interventions.
        """
        return self.random_fix_rate_among(self.clean.scored)

    def random_fix_rate_among(self, known: Bool[np.ndarray, " question"]) -> RandomFixRate:
        """Return the random fix rate of some of the questions with known answers.

        Raises:
            ValueError: If none of their answers is wrong without interventions, or one of them is open.
        """
        bare = [name for name, options in zip(self.clean.ids, self.clean.options, strict=True) if not options]
        if bare:
            raise ValueError(
                f"nobody guesses the answer to an open question such as {bare[0]!r}: a random fix rate is one of "
                "questions with choices, so evaluate these by themselves"
            )
        n_choices = np.array([len(options) for options in self.clean.options])
        n_right = right_choices(self.clean.options, self.clean.answers).sum(1)
        return random_fix_rate(self.clean.correct[known], n_choices[known], n_right=n_right[known])

    def to_xarray(self) -> "xarray.Dataset":
        """Everything as a labelled dataset, with an axis for every parameter of a grid.

        Its variables are `correct` and `clean_correct`, and each of the `scores` likewise; where logits were read also
        `logits`, `margin` and `clean_margin`. `comparison.to_xarray().correct.mean("question")` is the accuracy of
        every variant, if all answers are known, and `ma.viz.sweep_map` draws it.
        """
        import xarray

        names = tuple(self.axes) or ("variant",)
        shape = tuple(map(len, self.axes.values())) or (len(self),)
        clean = self.clean.to_xarray()
        coords = {name: clean[name] for name in clean.coords if name != "text"}
        held: dict[str, Any] = {"correct": ((*names, "question"), self.correct.reshape(*shape, -1))}
        held["clean_correct"] = ("question", self.clean.correct)
        if self.texts:
            held["text"] = ((*names, "question"), np.array(self.texts).reshape(*shape, -1))
            held["clean_text"] = ("question", np.array(self.clean.texts))
        for name, values in self.scores.items():
            held[name] = ((*names, "question"), values.reshape(*shape, -1))
            held[f"clean_{name}"] = ("question", self.clean.scores[name])
        if self.logits is not None:
            held["logits"] = ((*names, "question", "choice"), self.logits.reshape(*shape, *self.logits.shape[1:]))
            held["margin"] = ((*names, "question"), self.margin.reshape(*shape, -1))
            held["clean_margin"] = ("question", self.clean.margin)
        return xarray.Dataset(held, grid_coordinates(self.axes, self.variants) | coords, self._attrs)

    def __repr__(self) -> str:
        return f"<Comparison of {n_of(len(self), 'variant')} with {self.clean!r}>"


def _is_right(options: Sequence[str], choice: str | None, text: str, answer: str | None) -> bool:
    if answer is None:
        return False
    return choice == answer if options else bool(normalised_match(text, answer))


def _margin(logits: Float[np.ndarray, "*variant question choice"] | None, asked: Evaluation) -> np.ndarray:
    if logits is None:
        raise ValueError("a margin is one of logits, and these answers were generated: use scoring='letter_logit'")
    return margin(logits, right_choices(asked.options, asked.answers), list(map(len, asked.options)))

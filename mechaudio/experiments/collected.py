"""From the rows of a run to its result: arrays over questions and variants, and what generated texts name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float

from mechaudio.experiments.asking import Asking, Logits, Variants
from mechaudio.experiments.evaluation import Comparison, Evaluation, Failure
from mechaudio.experiments.run_log import Row
from mechaudio.experiments.written import scored
from mechaudio.metrics.choices import NO_ANSWER, NO_TEXT, likeliest, warn_of_unanswered, warn_of_unwritten
from mechaudio.metrics.written_answers import parse_choice
from mechaudio.question import Condition
from mechaudio.results import Provenance, kept_or_written


def collected(
    provenance: Provenance,
    asking: Asking,
    variants: Variants,
    rows: Sequence[Row],
    axes: Mapping[str, Sequence[Any]],
    clips: Mapping[int, str],
    functions: Mapping[str, Callable[..., float]],
) -> Evaluation | Comparison:
    """The answers under the one list of interventions, or under the first and, compared with it, the others."""
    answered = [row for row in rows if not row.error]
    kept = [tuple(map(kept_or_written, variant)) for variant in variants]
    texts = [tuple(row.texts[which] for row in answered) for which in range(len(kept))] if answered[0].texts else []
    logits = None if texts else _array([row.logits for row in answered])
    if logits is None:
        chosen = np.array([[_named(text, row.options) for text in row.texts] for row in answered]).T
        warn_of_unwritten([row.id for row in answered], np.array(texts) != NO_TEXT)
    else:
        chosen = likeliest(logits, [len(row.options) for row in answered])
        warn_of_unanswered([row.id for row in answered], chosen)
    options, answers = tuple(row.options for row in answered), tuple(row.answer for row in answered)
    written = functions if texts and not all(options) else {}
    scores = [scored(written, own, options, answers) for own in texts]
    first = Evaluation(
        provenance=provenance,
        condition=cast("Condition", asking.condition),
        ids=tuple(row.id for row in answered),
        tasks=tuple(row.task for row in answered),
        options=options,
        answers=answers,
        chosen=chosen[0],
        logits=None if logits is None else logits[0],
        texts=texts[0] if texts else (),
        scores=scores[0] if texts else {},
        interventions=kept[0],
        failures=tuple(Failure(row.index, row.id, row.error) for row in rows if row.error),
        scoring=cast("Literal['letter_logit', 'generate']", asking.scoring),
        clips=tuple(clips[row.index] for row in answered),
    )
    if len(kept) == 1:
        return first
    return Comparison(
        provenance=provenance,
        clean=first,
        variants=tuple(kept[1:]),
        chosen=chosen[1:],
        logits=None if logits is None else logits[1:],
        texts=tuple(texts[1:]),
        scores={name: np.stack([own[name] for own in scores[1:]]) for name in written},
        axes={
            name: tuple(tuple(value) if isinstance(value, (list, range)) else value for value in values)
            for name, values in axes.items()
        },
    )


def _array(logits: Sequence[Sequence[Logits]]) -> Float[np.ndarray, "variant question choice"]:
    """Logits, NaN where a question has fewer choices than another."""
    width = max(len(own) for row in logits for own in row)
    filled = [[[*own, *[np.nan] * (width - len(own))] for own in row] for row in logits]
    return np.array(filled, dtype=np.float64).swapaxes(0, 1)


def _named(text: str, options: Sequence[str]) -> int:
    """Find the first choice with the text that a written one names; none of an open question, or without a text."""
    if not options or text == NO_TEXT:
        return NO_ANSWER
    choice = parse_choice(text, options).choice
    return NO_ANSWER if choice is None else options.index(choice)

"""Report on a map of activation patching: findings, the map, one pair under its sound, and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.analyses.patching.scale import ROUNDING
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import fewest
from mechaudio.metrics.choices import are_right, likeliest
from mechaudio.metrics.ranking import largest_first
from mechaudio.question import AudioQuestion, questions_by_id
from mechaudio.report.study_page import Part, Report, report_of
from mechaudio.report.tables import Cell, Column, Table, column_list
from mechaudio.viz.patching_map import patching_map
from mechaudio.viz.patching_over_sound import patching_over_sound

_LEAD = {
    "denoising": (
        "Every place in turn was given the activation of the clean run, in a run on the corrupted prompt. What brings "
        "the answer back was enough for it."
    ),
    "noising": (
        "Every place in turn was given the activation of the corrupted run, in a run on the clean prompt. What takes "
        "the answer away was needed for it."
    ),
}
#: By direction, and by whether the place moves the answer towards the run that is patched in.
_VERBS = {
    ("denoising", True): "brings the answer back most",
    ("denoising", False): "moves the answer most, and away from the clean one",
    ("noising", True): "takes the answer away most",
    ("noising", False): "moves the answer most, and away from the corrupted one",
}
_HOW = {
    "map": (
        "0 is what the corrupted run does and 1 what the clean one does; {nothing} is no effect. A number is the mean "
        "over pairs. Among many places some intervals exclude no effect by chance."
    ),
    "sound": (
        "The pair with the largest difference of clean and corrupted, on its own scale. On top is the sound, below it "
        "the known events; dotted lines carry their starts and ends down. A cell is a window of seconds in one layer."
    ),
}


@checks_arguments
def patching_figures(patching: PatchingMap, questions: Sequence[AudioQuestion]) -> dict[str, go.Figure]:
    """The map, and where it goes over seconds the pair with the largest difference under its sound.

    Args:
        patching: A map with one or two axes.
        questions: The clean questions.

    Raises:
        ValueError: The question of the pair that is drawn is none of them.
    """
    drawn = {"map": patching_map(patching)}
    if _over_seconds(patching):
        pair = _largest_pair(patching)
        drawn["sound"] = patching_over_sound(patching, _shown(patching, questions), pair=pair)
    return drawn


def _over_seconds(patching: PatchingMap) -> bool:
    return tuple(patching.axes) in (("second",), ("layer", "second"))


def _largest_pair(patching: PatchingMap) -> int:
    return int(np.argmax(np.abs(patching.clean - patching.corrupted)))


def _shown(patching: PatchingMap, questions: Sequence[AudioQuestion]) -> AudioQuestion:
    """Return the clean question of the pair that is drawn."""
    name = patching.ids[_largest_pair(patching)]
    question = questions_by_id(questions).get(name)
    if question is None:
        raise ValueError(
            f"the map is about {name!r}, which none or several of the questions are: give questions=, the clean ones, "
            "each with an id of its own"
        )
    return question


@checks_arguments
def patching_findings(patching: PatchingMap) -> tuple[str, ...]:
    """Describe a map, in sentences made from its numbers."""
    n = len(patching.ids)
    n_choices = (~np.isnan(patching.clean_logits)).sum(-1)
    chosen = [likeliest(logits, n_choices) for logits in (patching.clean_logits, patching.corrupted_logits)]
    right = [int(are_right(each, patching.right).sum()) for each in chosen]
    sentences = [
        f"With the clean prompts {right[0]} of {n} answers are right; with the corrupted ones {right[1]} of {n} are "
        "that same right answer."
    ]
    if patching.undefined:
        left = len(patching.undefined)
        sentences.append(
            f"{left} pair{'s are' if left > 1 else ' is'} left out: in {patching.metric.replace('_', ' ')} clean and "
            "corrupted run agree, and there is nothing to explain."
        )
    ((largest, mean),) = patching.top(1)
    if abs(mean - patching.no_effect) <= ROUNDING:
        return (
            *sentences,
            f"Patching {patching.hook_point} does nothing to the answers, in no place more than rounding.",
        )
    where = ", ".join(
        f"{axis} {label:g}" if isinstance(label, float) else f"{axis} {label}" for axis, label in largest.items()
    )
    at = tuple(labels.index(largest[axis]) for axis, labels in patching.axes.items())
    towards = (mean > patching.no_effect) == (patching.direction == "denoising")
    sentence = f"Patching {patching.hook_point} in {where} {_VERBS[patching.direction, towards]}: to {mean:.1%}"
    way = f"of the way from corrupted to clean{_beyond(mean)}."
    if patching.scale.n_clips < fewest():
        few = f"Pairs about fewer than {fewest()} clips give no intervals."
        return (*sentences, f"{sentence} {way}{_of_how_many(patching)} {few}")
    low, high = patching.interval()
    if np.isnan(low[at]):
        why = (
            f"pairs of fewer than {fewest()} clips have this place"
            if patching.scale.counted_clips(patching.values)[at] < fewest()
            else "in some of the samples drawn anew the corrupted runs do as well as the clean ones"
        )
        return (*sentences, f"{sentence} {way} It has no interval: {why}.")
    sentences.append(f"{sentence} [{100 * low[at]:.1f}, {100 * high[at]:.1f}] {way}{_of_how_many(patching)}")
    counted, apart = int((~np.isnan(low)).sum()), int(patching.excludes_no_effect(low, high).sum())
    sentences.append(
        f"The intervals of {apart} of {counted} places exclude no effect; if none had any, about "
        f"{0.05 * counted:.0f} would by chance."
    )
    return tuple(sentences)


@report_of.register
def _patching(patching: PatchingMap, *, questions: Sequence[AudioQuestion]) -> Report:
    nothing = "white" if len(patching.axes) == 2 else f"{patching.no_effect:g}"
    how = {name: sentence.format(nothing=nothing) for name, sentence in _HOW.items()}
    return Report(
        provenance=patching.provenance,
        lead=_LEAD[patching.direction],
        findings=patching_findings(patching),
        tables=patching_tables(patching),
        figures=patching_figures(patching, questions),
        parts=(Part("What each place does", ("top_places", "all_places"), how),),
        sounds={"sound": _shown(patching, questions).recordings[0]} if _over_seconds(patching) else {},
    )


def _beyond(mean: float) -> str:
    """Return whether a mean lies beyond one of the two runs, as far as it is written out."""
    written = round(100 * mean, 1)
    return ", beyond the clean run" if written > 100 else ", beyond the corrupted run" if written < 0 else ""


def _of_how_many(patching: PatchingMap) -> str:
    """Qualify an effect that is the largest of several."""
    effects = np.abs(patching.mean() - patching.no_effect)
    effects = effects[~np.isnan(effects)]
    if len(effects) == 1:
        return ""
    if np.ptp(effects) <= ROUNDING:
        return f" All {n_of(len(effects), 'place has', 'places have')} an effect of this size."
    return f" As the largest of {n_of(len(effects), 'place')} it is likely overstated."


TOP = 10


@checks_arguments
def patching_tables(patching: PatchingMap) -> tuple[Table, ...]:
    """The places with the largest effect, and all places in their order, with 95% intervals where there are any.

    Raises:
        ValueError: Clean and corrupted runs agree in all pairs.
    """
    mean = patching.mean()
    low = high = np.full(mean.shape, np.nan)
    if patching.scale.n_clips >= 2:
        low, high = patching.interval()
    counted, flips = patching.counted, patching.flips
    rows: dict[tuple[int, ...], tuple[Cell, ...]] = {}
    for place in np.ndindex(mean.shape):
        where = [labels[at] for labels, at in zip(patching.axes.values(), place, strict=True)]
        ends = None if np.isnan(low[place]) else (float(low[place]), float(high[place]))
        rows[place] = (*where, float(mean[place]), ends, int(counted[place]), float(flips[place]))
    places = list(rows)
    largest = [places[index] for index in largest_first(np.abs(mean - patching.no_effect))]
    columns = (
        *(
            Column(axis, "number" if isinstance(labels[0], (int, float)) else "text")
            for axis, labels in patching.axes.items()
        ),
        *column_list("on the scale: share, interval: interval, pairs: count, another answer: share"),
    )
    what = f"{patching.hook_point} by {' and '.join(patching.axes)}"
    note = (
        f"Patching {patching.hook_point}, {patching.direction}, {patching.metric.replace('_', ' ')}: 0% is the "
        f"corrupted run and 100% the clean one, so that {patching.no_effect:.0%} is no effect. Intervals are "
        "bootstrap over clips, which are drawn with all their pairs, of each place alone. Another answer: of all pairs "
        "that have the place, the share whose answer the patch changes."
    )
    top = [rows[place] for place in largest[:TOP]]
    return (
        Table("top_places", f"The {n_of(len(top), 'largest effect')} of {what}", note, columns, tuple(top)),
        Table("all_places", f"All effects of {what}", note, columns, tuple(rows.values())),
    )

"""What is told of a map of activation patching: findings, the map, one pair under its sound, and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.analyses.patching.scale import ROUNDING
from mechaudio.arguments import checks_arguments
from mechaudio.metrics.bootstrap import fewest
from mechaudio.metrics.choices import are_right, likeliest
from mechaudio.question import AudioQuestion
from mechaudio.report.patching_tables import patching_tables
from mechaudio.report.study_page import Part, Report, report_of
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
def patching_figures(found: PatchingMap, questions: Sequence[AudioQuestion]) -> dict[str, go.Figure]:
    """The map, and where it goes over seconds the pair with the largest difference under its sound.

    Args:
        found: A map with one or two axes.
        questions: The clean questions.
    """
    drawn = {"map": patching_map(found)}
    if tuple(found.axes) in (("second",), ("layer", "second")):
        pair = int(np.argmax(np.abs(found.clean - found.corrupted)))
        asked = next(question for question in questions if question.id == found.ids[pair])
        drawn["sound"] = patching_over_sound(found, asked, pair=pair)
    return drawn


@checks_arguments
def patching_findings(found: PatchingMap) -> tuple[str, ...]:
    """What a map says, in sentences made from its numbers."""
    n = len(found.ids)
    right = [_right(found, logits) for logits in (found.clean_logits, found.corrupted_logits)]
    told = [
        f"With the clean prompts {right[0]} of {n} answers are right; with the corrupted ones {right[1]} of {n} are "
        "that same right answer."
    ]
    if found.undefined:
        left = len(found.undefined)
        told.append(
            f"{left} pair{'s are' if left > 1 else ' is'} left out: in {found.metric.replace('_', ' ')} clean and "
            "corrupted run agree, and there is nothing to explain."
        )
    ((place, mean),) = found.top(1)
    if abs(mean - found.no_effect) <= ROUNDING:
        return (*told, f"Patching {found.hook_point} does nothing to the answers, in no place more than rounding.")
    where = ", ".join(
        f"{axis} {label:g}" if isinstance(label, float) else f"{axis} {label}" for axis, label in place.items()
    )
    at = tuple(labels.index(place[axis]) for axis, labels in found.axes.items())
    towards = (mean > found.no_effect) == (found.direction == "denoising")
    sentence = f"Patching {found.hook_point} in {where} {_VERBS[found.direction, towards]}: to {100 * mean:.1f} %"
    way = f"of the way from corrupted to clean{_beyond(mean)}."
    if found.scale.n_clips < fewest():
        few = f"Pairs about fewer than {fewest()} clips give no intervals."
        return (*told, f"{sentence} {way}{_of_how_many(found)} {few}")
    low, high = found.interval()
    if np.isnan(low[at]):
        why = (
            f"pairs of fewer than {fewest()} clips have this place"
            if found.scale.counted_clips(found.values)[at] < fewest()
            else "in some of the samples drawn anew the corrupted runs do as well as the clean ones"
        )
        return (*told, f"{sentence} {way} It has no interval: {why}.")
    told.append(f"{sentence} [{100 * low[at]:.1f}, {100 * high[at]:.1f}] {way}{_of_how_many(found)}")
    counted, apart = int((~np.isnan(low)).sum()), int(found.excludes_no_effect(low, high).sum())
    told.append(
        f"The intervals of {apart} of {counted} places exclude no effect; if none had any, about "
        f"{0.05 * counted:.0f} would by chance."
    )
    return tuple(told)


@report_of.register
def _patching(found: PatchingMap, *, questions: Sequence[AudioQuestion]) -> Report:
    nothing = "white" if len(found.axes) == 2 else f"{found.no_effect:g}"
    how = {name: sentence.format(nothing=nothing) for name, sentence in _HOW.items()}
    return Report(
        provenance=found.provenance,
        lead=_LEAD[found.direction],
        findings=patching_findings(found),
        tables=patching_tables(found),
        figures=patching_figures(found, questions),
        parts=(Part("What each place does", ("top_places", "all_places"), how),),
    )


def _beyond(mean: float) -> str:
    """Whether a mean lies beyond one of the two runs, as far as it is written out."""
    written = round(100 * mean, 1)
    return ", beyond the clean run" if written > 100 else ", beyond the corrupted run" if written < 0 else ""


def _of_how_many(found: PatchingMap) -> str:
    """What being the largest effect of several says of it."""
    effects = np.abs(found.mean() - found.no_effect)
    effects = effects[~np.isnan(effects)]
    if len(effects) == 1:
        return ""
    if np.ptp(effects) <= ROUNDING:
        return f" All {len(effects)} places have an effect of this size."
    return f" As the largest of {len(effects)} places it is likely overstated."


def _right(found: PatchingMap, logits: np.ndarray) -> int:
    n_choices = (~np.isnan(found.clean_logits)).sum(-1)
    return int(are_right(likeliest(logits, n_choices), found.right).sum())

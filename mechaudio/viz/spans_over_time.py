"""When a sound is heard, and when a model says so: spans of right answers above those of the model's.

Conventions: seconds from the start of the clip; rows are questions of grounding, and captions of dense ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.experiments.grounding_study import GroundingStudy
from mechaudio.metrics.captions import normalised
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.spans import Described, Interval
from mechaudio.viz.sound_track import SOUND_HEIGHT, domains, draw_mel
from mechaudio.viz.theme import CYCLE, FAINT, LEGEND_BELOW, faded, laid_out, plain

RIGHT, SAID = CYCLE[2], CYCLE[1]
LANE = 34
#: Rows of a figure where nothing else is asked for.
MOST = 14


@dataclass(frozen=True)
class _Row:
    label: str
    right: tuple[Interval, ...]
    said: tuple[Interval, ...]


@checks_arguments
def spans_over_time(
    study: GroundingStudy,
    *,
    questions: Sequence[int] | None = None,
    clip: AudioClip | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw the spans of right answers, and below each those that the model gave.

    Args:
        study: What `ma.experiments.grounding_study` gave.
        questions: Which of its questions, by number; by default as many of the first as fourteen rows hold.
        clip: The recording of the question, where one is drawn: its spectrogram lies below.
        title: Title of the figure; plotly's own markup is allowed, so pass words from outside through `theme.plain`.

    Raises:
        ValueError: Numbers of questions that there are not, none at all, or a recording beside several questions.
    """
    n = len(study.durations)
    drawn = list(range(n)) if questions is None else list(questions)
    if not drawn or not all(0 <= number < n for number in drawn):
        raise ValueError(f"questions= are numbers from 0 to {n - 1} in this study, got {drawn or 'none'}")
    if clip is not None and len(drawn) != 1:
        raise ValueError(f"clip= is the recording of one question, and {len(drawn)} are drawn: give questions=[number]")
    rows: list[_Row] = []
    starts: list[int] = []
    for place, number in enumerate(drawn):
        of_question = _rows(study, number)
        if questions is None and rows and len(rows) + len(of_question) > MOST:
            drawn = drawn[:place]
            break
        starts.append(len(rows))
        rows += of_question
    end = max(float(study.durations[number]) for number in drawn)
    figure = go.Figure()
    for name, colour, shift, spans in (
        ("right answer", RIGHT, -0.2, [row.right for row in rows]),
        ("model", SAID, 0.2, [row.said for row in rows]),
    ):
        flat = [(place, onset, offset) for place, each in enumerate(spans) for onset, offset in each]
        figure.add_bar(
            orientation="h",
            base=[onset for _, onset, _ in flat],
            x=[offset - onset for _, onset, offset in flat],
            y=[place + shift for place, *_ in flat],
            width=0.36,
            marker={"color": faded(colour, 0.55), "line": {"width": 1, "color": colour}},
            customdata=[(plain(rows[place].label), offset) for place, _, offset in flat],
            hovertemplate=f"%{{customdata[0]}}, {name}: %{{base:.1f}} to %{{customdata[1]:.1f}} s<extra></extra>",
            name=name,
        )
    for start in {*starts[1:]} - {0, len(rows)}:
        figure.add_hline(start - 0.5, line={"color": FAINT, "width": 1})
    parts, height = domains([SOUND_HEIGHT if clip else 0, LANE * max(len(rows), 1)])
    axis = {
        "tickvals": list(range(len(rows))),
        "ticktext": [plain(row.label, 36) for row in rows],
        "range": [len(rows) - 0.5, -0.5],
        "showgrid": False,
        "domain": parts[1],
    }
    if clip is not None:
        draw_mel(figure, clip)
        figure.update_layout(yaxis3={"domain": parts[0], "anchor": "x"})
    note = "above: when it is heard; below: when the model says so"
    if len(starts) > 1:
        note += "; lines between questions"
    if questions is None and len(drawn) < n:
        note += f"; the first {len(drawn)} of {n_of(n, 'question')}"
    return laid_out(
        figure,
        title or f"Spans of {plain(study.provenance.checkpoint)}, {questions_of(len(drawn))}",
        note,
        height=height + 170,
        barmode="overlay",
        xaxis={"title": {"text": "seconds"}, "range": [0, end], "anchor": "free", "position": 0},
        yaxis=axis,
        legend=LEGEND_BELOW,
    )


def _rows(study: GroundingStudy, number: int) -> list[_Row]:
    """Give the rows of one question: itself, or each caption of a dense one."""
    evaluation = study.evaluation
    right, said = study.described(number, of="right"), study.described(number, of="said")
    if evaluation.tasks[number] == "dac":
        there, reported = _by_caption(right), _by_caption(said)
        return [_Row(label, there.get(label, ()), reported.get(label, ())) for label in {**there, **reported}]
    return [_Row(evaluation.ids[number], _all(right), _all(said))]


def _by_caption(described: Described) -> dict[str, tuple[Interval, ...]]:
    grouped: dict[str, tuple[Interval, ...]] = {}
    for caption, run in zip(described.captions, described.intervals, strict=True):
        label = normalised(caption)
        grouped[label] = (*grouped.get(label, ()), *run)
    return grouped


def _all(described: Described) -> tuple[Interval, ...]:
    return tuple(interval for run in described.intervals for interval in run)

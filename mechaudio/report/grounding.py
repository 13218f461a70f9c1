"""Report on the study of when: scores by task, what was mended, the answers, and spans over time and sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.experiments.grounding_study import GroundingStudy
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.spans import Repairs
from mechaudio.question import AudioQuestion, Recording, questions_by_id
from mechaudio.report.study_page import Part, Report, report_of
from mechaudio.report.tables import Column, Table, column_list, finite
from mechaudio.viz.spans_over_time import spans_over_time
from mechaudio.viz.theme import plain

PAPER = "TimeAudio, arXiv 2511.11039, table 2"
_NAMES = {"dac": "dense captions", "tag": "grounding", "tss": "timelines", "tqa": "temporal questions"}
_LEAD = (
    "The model was asked in words when something is heard, and its answers were read: spans of seconds, and what "
    "stands beside them. What had to be mended in reading is counted."
)
_HOW_SPANS = "Each row is a question, or a caption: above when it is heard, below when the model says so."
_HOW_SOUND = "The same for the first question, over its recording's mel spectrogram."
_PARTS = (
    Part("Scores", ("scores", "repairs")),
    Part("When, and when the model says so", (), {"spans": _HOW_SPANS, "sound": _HOW_SOUND}),
    Part("Answers", ("answers",)),
)
#: Model -> scores in percent, in the order of `_PUBLISHED`.
_MODELS = {
    "Qwen2-Audio, zero-shot": (6.7, 9.8, 50.3, 32.1, 18.7, 10.8, 20.5, 17.4, 12.3, 13.3),
    "Qwen2-Audio, tuned on FTAR": (22.4, 36.5, 67.8, 72.8, 55.4, 26.8, 51.7, 40.0, 28.5, 85.2),
    "SALMONN-7B, tuned on FTAR": (19.9, 32.4, 68.0, 71.4, 55.8, 28.6, 51.9, 39.5, 28.7, 84.3),
    "TimeAudio": (20.4, 37.4, 70.5, 75.7, 61.2, 36.5, 57.8, 42.4, 30.8, 94.2),
}
_PUBLISHED = (
    "dense: METEOR", "dense: event F1", "dense: tag F1", "grounding: R@0.5", "grounding: R@0.7", "grounding: R@0.9",
    "grounding: mean IoU", "timelines: ROUGE-1", "timelines: ROUGE-L", "timelines: mean IoU",
)  # fmt: skip


@checks_arguments
def grounding_findings(study: GroundingStudy) -> tuple[str, ...]:
    """Say in sentences how well the model says when, task by task."""
    said = []
    if (of := study.grounding) is not None:
        recalls = ", ".join(f"{each.count} at {threshold:g}" for threshold, each in of.recall.items())
        said.append(
            f"Grounding: mean IoU {of.mean_iou.in_percent()}; of {n_of(of.unparsed.n, 'question')}, found by IoU: "
            f"{recalls}; no time can be read in {n_of(of.unparsed.count, 'answer')}."
        )
    if (of_dense := study.dense) is not None:
        said.append(
            f"Dense captions: event F1 {of_dense.events.f1.in_percent()}, clip-level F1 over classes "
            f"{of_dense.tags.macro_f1.in_percent()}; {of_dense.events.unmapped} of {of_dense.events.predicted} events "
            "are of no known class."
        )
    if (of_speech := study.timelines) is not None:
        said.append(
            f"Timelines: mean IoU {of_speech.mean_iou.in_percent()}, ROUGE-L "
            f"{of_speech.summaries.rouge_l.in_percent()}."
        )
    return tuple(said)


@checks_arguments
def grounding_tables(study: GroundingStudy) -> tuple[Table, ...]:
    """Lay out the scores with 95% intervals by clip, the repairs by task, and every answer."""
    scores: dict[tuple[str, str], Estimate | Proportion] = {}
    repairs: dict[str, Repairs] = {}
    if (tag := study.grounding) is not None:
        scores["tag", "mean IoU of unions"] = tag.mean_iou
        scores["tag", "mean IoU of best pairs"] = tag.best_iou
        scores |= {("tag", f"recall at {threshold:g}"): each for threshold, each in tag.recall.items()}
        scores["tag", "unparsed"] = tag.unparsed
        repairs["tag"] = tag.repairs
    if (dac := study.dense) is not None:
        scores["dac", "event F1"] = dac.events.f1
        scores["dac", "event F1, mean over classes"] = dac.events.macro_f1
        scores["dac", "clip-level F1, mean over classes"] = dac.tags.macro_f1
        scores["dac", "METEOR without synonyms"] = dac.meteor
        repairs["dac"] = dac.repairs
    if (tss := study.timelines) is not None:
        scores["tss", "ROUGE-1"] = tss.summaries.rouge_1
        scores["tss", "ROUGE-L"] = tss.summaries.rouge_l
        scores["tss", "METEOR without synonyms"] = tss.summaries.meteor
        scores["tss", "mean IoU in order"] = tss.mean_iou
        repairs["tss"] = tss.repairs
    shares = ("value", "low", "high")
    columns = (Column("task"), Column("score"), *(Column(each, "share") for each in shares), Column("n", "count"))
    note = "Intervals of 95%, by clip; of fewer than six clips there are none."
    rows = tuple(
        (_NAMES[task], name, *(finite(getattr(each, end)) for end in shares), each.n)
        for (task, name), each in scores.items()
    )
    tables = [Table("scores", "Scores by task", note, columns, rows)]
    if repairs:
        names = list(Repairs().as_dict())
        counted = tuple((_NAMES[task], *each.as_dict().values()) for task, each in repairs.items())
        heads = (Column("task"), *(Column(name, "count") for name in names))
        tables.append(Table("repairs", "What was mended in reading the answers", "", heads, counted))
    return (*tables, _answers(study))


def _answers(study: GroundingStudy) -> Table:
    columns = column_list("question, task, right answer, answer, IoU: score")
    evaluation = study.evaluation
    rows = tuple(
        (name, task, right, said, finite(float(iou)))
        for name, task, right, said, iou in zip(
            evaluation.ids, evaluation.tasks, evaluation.answers, evaluation.texts, study.iou, strict=True
        )
    )
    return Table("answers", "Every answer", "IoU of unions, of grounding questions.", columns, rows)


@checks_arguments
def grounding_figures(study: GroundingStudy, questions: Sequence[AudioQuestion] = ()) -> Mapping[str, go.Figure]:
    """Draw spans over time, and those of the first question over its sound, where the questions are given.

    Args:
        study: What `ma.experiments.grounding_study` gave.
        questions: What was asked.
    """
    drawn = {"spans": spans_over_time(study)}
    first = study.evaluation.ids[0]
    first_question = questions_by_id(questions).get(first)
    clip = first_question.clip() if first_question is not None else None
    if isinstance(clip, AudioClip):
        drawn["sound"] = spans_over_time(study, questions=[0], clip=clip, title=f"Over the sound of {plain(first)}")
    return drawn


@checks_arguments
def grounding_published() -> Table:
    """Tabulate the paper's own test sets; its collar and its mapping of captions are not said."""
    columns = (Column("model"), *(Column(name, "share") for name in _PUBLISHED))
    rows = tuple((model, *(percent / 100 for percent in numbers)) for model, numbers in _MODELS.items())
    note = "On AudioSet-Strong, AudioGrounding and CNN/DailyMail; other clips than those above."
    return Table("published", "What the paper reports", note, columns, rows)


@report_of.register
def _grounding(study: GroundingStudy, *, questions: Sequence[AudioQuestion] = ()) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=grounding_findings(study),
        tables=grounding_tables(study),
        figures=grounding_figures(study, questions),
        parts=_PARTS,
        paper=PAPER,
        published=(grounding_published(),),
        sounds=_sounds(study, questions),
    )


def _sounds(study: GroundingStudy, questions: Sequence[AudioQuestion]) -> dict[str, Recording]:
    """Return every answer's recording by its question's name, and that of the figure that lies over the first."""
    known = questions_by_id(questions)
    sounds = {name: question.recordings[0] for name, question in known.items() if len(question.recordings) == 1}
    first = study.evaluation.ids[0]
    return sounds | ({"sound": sounds[first]} if first in sounds else {})

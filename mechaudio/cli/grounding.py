"""`mechaudio grounding`: how well a model says when, on TimeAudio's tasks."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mechaudio.cli.ground import DESCRIBE
from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import EachOnce, add_batch_size, add_workers, at_least
from mechaudio.cli.questions import questions as load_questions
from mechaudio.cli.questions import refuse_recordings
from mechaudio.cli.studies import StudyVerb, given
from mechaudio.notices import warn
from mechaudio.question import AudioQuestion
from mechaudio.results import folder_of_run

ABOUT = "Explained in [TimeAudio's method](timeaudio.md)."
TASKS = ("dac", "tag", "tss")


class GroundingVerb(StudyVerb):
    """The study of when."""

    name = "grounding"
    does = "ask when sounds are heard, on TimeAudio's tasks, and score the answers"
    examples = (
        "mechaudio grounding --n 20",
        "mechaudio grounding --model timeaudio-folder --data ftar:FTAR/test --tasks tag dac",
    )
    makes = "GroundingStudy"
    title = "When {model} hears what, asked about {data}"
    fewest, n_made = 1, 40
    said = ("tasks", "instruction", "max_new_tokens")

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add the tasks, what is asked, and how much may be written."""
        verb.add_argument(
            "--tasks",
            nargs="+",
            action=EachOnce,
            choices=TASKS,
            metavar="TASK",
            help="dac: dense captions; tag: grounding of each sound; tss: timelines of speech (default: dac and tag; "
            "of tiny, dac)",
        )
        verb.add_argument(
            "--instruction",
            metavar="TEXT",
            help="what is asked in the place of the questions' own words, with {query} for the sound of a grounding "
            "question (default: the questions' own; of tiny, to describe all sounds)",
        )
        verb.add_argument(
            "--max-new-tokens", type=at_least(1), default=200, metavar="N", help="of an answer (default: 200)"
        )
        add_batch_size(verb)
        add_workers(verb)

    def settings(self, arguments: argparse.Namespace) -> tuple[str, ...]:
        """Choose the tasks."""
        if arguments.instruction is not None and not arguments.instruction.strip():
            raise UserMistakeError("--instruction is blank: write it out")
        if arguments.data.name not in ("soundscapes", "ftar"):
            raise UserMistakeError(
                f"--data is soundscapes, or ftar:FOLDER with FTAR's files, for questions of when; got {arguments.data}"
            )
        return tuple(arguments.tasks or (("dac",) if arguments.model == "tiny" else ("dac", "tag")))

    def questions(self, arguments: argparse.Namespace) -> "Sequence[AudioQuestion]":
        """Return FTAR's questions, or make them of soundscapes."""
        from mechaudio.data import ftar, soundscapes

        tasks: Any = self.settings(arguments)
        if arguments.data.name == "ftar":
            questions = load_questions(arguments.data, None, arguments.seed, arguments.audio)
            questions = [question for question in questions if question.meta["task"] in tasks][: arguments.n]
        else:
            refuse_recordings(arguments.data, arguments.audio)
            n = self.n_made if arguments.n is None else arguments.n
            clips = soundscapes.clips(n, arguments.seed)
            questions = list(ftar.build(clips, tasks, seed=arguments.seed))[:n]  # a clip gives at least one
        without = [task for task in tasks if task not in {question.meta["task"] for question in questions}]
        if not questions:
            raise UserMistakeError(f"{arguments.data} has no question of {', '.join(tasks)}")
        if without:
            among = "" if arguments.n is None else f" among the first {arguments.n}"
            warn(f"{arguments.data} has no question of {', '.join(without)}{among}, and none is scored")
        text = arguments.instruction or (DESCRIBE if arguments.model == "tiny" else None)
        if text is None:
            return questions
        return [replace(each, text=text.replace("{query}", str(each.meta.get("query", "")))) for each in questions]

    def study(self, arguments: argparse.Namespace, settings: Any, model: Any, questions: Any) -> Any:  # noqa: ARG002
        """Ask; the answers are kept, so that a study that was stopped goes on."""
        from mechaudio.experiments.grounding_study import grounding_study

        folder_of_run(arguments.out / "results", f"a {self.makes}", results=(self.makes,), begins=True)
        running = given(arguments, "max_new_tokens", "batch_size", "workers")
        return grounding_study(model, questions, out=arguments.out / "answers", **running)

    def report(self, result: Any, questions: Any) -> Any:
        """Say what is told of it, with the first recording."""
        from mechaudio.report.study_page import report_of

        return report_of(result, questions=questions)

    def numbers(self, result: Any) -> Mapping[str, Any]:
        """Return the scores by task."""
        dense, timelines = result.dense, result.timelines
        return {
            "grounding": result.grounding and result.grounding.as_dict(),
            "dense": dense and {"events": dense.events.as_dict(), "tags": dense.tags.as_dict()},
            "timelines": timelines
            and {"mean_iou": timelines.mean_iou.as_dict(), "summaries": timelines.summaries.as_dict()},
        }


add = GroundingVerb().add

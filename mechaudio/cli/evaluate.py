"""`mechaudio evaluate`: many questions, counted, without and with interventions."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import n_of
from mechaudio.cli.changes import add_where, attention_changes, refuse_unplaced
from mechaudio.cli.mistakes import UserMistakeError, opened
from mechaudio.cli.options import EachOnce, add_batch_size, add_verb, add_workers, at_least, finite, folder
from mechaudio.cli.outcome import Outcome
from mechaudio.cli.questions import MADE, add_source
from mechaudio.cli.questions import questions as load_questions
from mechaudio.cli.studies import given, left_out, with_source
from mechaudio.processes import launch
from mechaudio.question import EVERY_CONDITION
from mechaudio.results import refuse_kept

if TYPE_CHECKING:
    from mechaudio.experiments.evaluation import Comparison, Evaluation
    from mechaudio.metrics.estimates import Proportion

ABOUT = "Explained in [Evaluating](evaluating.md)."
MAX_NEW_TOKENS = 32
SCORINGS = ("letter_logit", "generate")


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "evaluate",
        does="ask a model many questions and count the right answers",
        leaves="It prints the counts with their intervals, and with --out leaves the answers and the result in a "
        "folder.",
        examples=(
            "mechaudio evaluate --condition silence --n 50",
            "mechaudio evaluate --data mmau:mmau-test-mini.json --audio recordings/ --out runs/mmau",
            "mechaudio evaluate --scale 0.5 2 --layers 3 4 --queries keyword+last",
        ),
    )
    add_source(verb, fewest=1)
    verb.add_argument(
        "--condition", default="audio", choices=EVERY_CONDITION, help="what the model is given (default: audio)"
    )
    verb.add_argument(
        "--scoring",
        default="letter_logit",
        choices=SCORINGS,
        help="the letter with the highest logit, or the text that the model writes (default: letter_logit)",
    )
    verb.add_argument(
        "--max-new-tokens", type=at_least(1), metavar="N", help=f"of what it writes (default: {MAX_NEW_TOKENS})"
    )
    for name, strength, does in (
        ("--scale", "FACTOR", "compare: attention scores of audio scaled"),
        ("--upweight", "BIAS", "compare: so much added to them"),
    ):
        verb.add_argument(name, type=finite, nargs="+", action=EachOnce, default=(), metavar=strength, help=does)
    add_where(verb, listening=True)
    add_batch_size(verb)
    add_workers(verb)
    verb.add_argument(
        "--allow-cut", action="store_true", help="ask about the beginning of recordings that are too long"
    )
    verb.add_argument("--strict", action="store_true", help="stop at the first question that cannot be asked")
    verb.add_argument(
        "--out",
        type=folder,
        metavar="DIR",
        help="write answers there as they come, and the result; the same command takes up a run that was stopped",
    )
    verb.set_defaults(run=run, resumes=True)


def run(arguments: argparse.Namespace) -> Outcome:
    """Ask a model many questions and count the right answers."""
    refuse_unplaced(arguments)
    if arguments.max_new_tokens is not None and arguments.scoring != "generate":
        raise UserMistakeError("--max-new-tokens is of written answers: give --scoring generate too")
    if arguments.out is None and launch().n > 1:
        raise UserMistakeError(f"{launch().n} processes share a run through its folder: give --out DIR")
    if arguments.out is not None:
        refuse_kept(arguments.out / "results", "a run of ma.evaluate")
    from mechaudio.experiments.evaluate import evaluate as experiment

    questions = load_questions(arguments.data, arguments.n, arguments.seed, arguments.audio)
    model = opened(arguments)
    result = experiment(
        model,
        questions,
        variants=attention_changes(arguments, model) or None,
        max_new_tokens=arguments.max_new_tokens or MAX_NEW_TOKENS,
        seed=_seed(arguments),
        queries=arguments.queries if arguments.scale or arguments.upweight else None,
        **given(arguments, "condition", "scoring", "allow_cut", "out", "strict", "batch_size", "workers"),
    )
    if arguments.out is not None:
        result = with_source(result, arguments)
        arguments.kept = result.save(arguments.out)
    return Outcome(_in_words(arguments, result), result=result, numbers=_numbers(arguments, result))


def _seed(arguments: argparse.Namespace) -> int | None:
    return arguments.seed if arguments.data.name in MADE else None


def _unparsed(clean: "Evaluation") -> int:
    """Count the written answers that name no choice, or several."""
    return clean.unparsed.count - int(clean.unanswered.sum()) if any(clean.options) else 0


def _parts(result: "Evaluation | Comparison") -> "tuple[Evaluation, Comparison | None]":
    """The answers without a change, and the comparison with changes, where there is one."""
    from mechaudio.experiments.evaluation import Evaluation

    return (result, None) if isinstance(result, Evaluation) else (result.clean, result)


def _numbers(arguments: argparse.Namespace, result: "Evaluation | Comparison") -> dict[str, Any]:
    clean, compared = _parts(result)
    overall = clean.overall if clean.scored.any() else None
    numbers: dict[str, Any] = {
        "model": arguments.model,
        "data": str(arguments.data),
        "seed": _seed(arguments),
        "condition": clean.condition,
        "scoring": clean.scoring,
        "n": 0 if overall is None else overall.n,
        "right": None if overall is None else overall.count,
        "accuracy": None if overall is None else overall.value,
        "interval": None if overall is None else [overall.low, overall.high],
        "tasks": {task: _score(score) for task, score in clean.by_task().items()},
        "answered": len(clean.ids),
        "unparsed": _unparsed(clean),
        "nan": int(clean.unanswered.sum()),
        "not_asked": [asdict(failure) for failure in clean.failures],
    }
    if clean.string_match is not None:
        numbers["string_match"] = _score(clean.string_match)
    if clean.scores:
        numbers["scores"] = {name: score.as_dict() for name, score in clean.by_score().items()}
    if compared is not None:
        numbers["rows_that_listen"] = None if compared.listens is None else list(compared.listens.rows)
        numbers["questions_that_chose_rows"] = clean.n_chose_rows
        numbers["variants"] = [
            {"interventions": [repr(intervention) for intervention in variant]}
            | (compared.change(place).as_dict() if overall else {})
            for place, variant in enumerate(compared.variants)
        ]
    return numbers


def _score(share: "Proportion") -> dict[str, int | float]:
    numbers = {"n": share.n, "right": share.count, "accuracy": share.value, "low": share.low, "high": share.high}
    return numbers | ({"nan": share.unanswered} if share.unanswered else {})


def _in_words(arguments: argparse.Namespace, result: "Evaluation | Comparison") -> str:
    from mechaudio.report.wording import heard_where

    clean, compared = _parts(result)
    made = f" (seed {arguments.seed})" if arguments.data.name in MADE else ""
    lines = [
        f"{arguments.model} on {arguments.data}{made}, condition {clean.condition}; in brackets, 95% intervals (Wilson)"
    ]
    scores = {**clean.by_task(), **({"all": clean.overall} if clean.scored.any() else {})}
    if clean.string_match is not None:
        scores["by MMAU's words"] = clean.string_match
    for name, score in scores.items():
        counts = f"{score.count:4d} of {score.n:4d} right"
        nan = f"  {score.unanswered} of them without an answer: NaN" if score.unanswered else ""
        interval = f"[{score.low:.1%}, {score.high:.1%}]"
        lines.append(f"{name.replace('_', ' '):18s}{counts}  {score.value:6.1%}  {interval}{nan}")
    if clean.scores:
        lines += [f"{name.replace('_', ' '):18s}{score}" for name, score in clean.by_score().items()]
    if not clean.scored.all():
        lines.append(f"{int((~clean.scored).sum())} answered without a known answer, not scored")
    if unparsed := _unparsed(clean):
        lines.append(f"{n_of(unparsed, 'answer names', 'answers name')} no choice, or several: wrong")
    if clean.failures:
        lines.append(left_out(arguments, clean.failures))
    if compared is not None and compared.listens is not None:
        lines += ["", *heard_where(compared.listens, [arguments.queries])]
    if clean.n_chose_rows:
        lines.append(
            f"These rows were chosen on {n_of(clean.n_chose_rows, 'question')}, from half of the clips, which are "
            f"among the {len(clean.ids)} counted here: for effects on others, name the rows and ask others."
        )
    if compared is not None and clean.scored.any():
        for place, variant in enumerate(compared.variants):
            lines += ["", " + ".join(map(repr, variant)), str(compared.change(place))]
    return "\n".join(lines)

"""Going through a stream of questions batch by batch, what a log does not have yet, with other processes or alone.

Questions that could not be asked when the log was taken up are tried once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

from mechaudio.analyses.ahead import Ahead, Waiting
from mechaudio.analyses.streaming import length_of
from mechaudio.arguments import n_of
from mechaudio.experiments.asking import Asking, Made, Written, in_halves, measured, write_out
from mechaudio.experiments.batches import WINDOW, Placed, batches, windows
from mechaudio.experiments.lookahead import Lookahead, Noted
from mechaudio.experiments.run_log import Row, SharedLog
from mechaudio.models.batch import PromptBatch
from mechaudio.processes import Work
from mechaudio.progress import bar
from mechaudio.question import NO_QUESTIONS, AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False)
class Together:
    """Questions that are asked together, perhaps `again`, or of which it is known already that they cannot be asked."""

    placed: Sequence[Placed]
    failed: Sequence[Row] = ()
    again: bool = False


def go_through(
    model: AudioLM,
    asking: Asking,
    questions: Iterable[AudioQuestion],
    log: SharedLog[Any],
    ask: Callable[[Sequence[Placed], PromptBatch], Made],
    keep: Callable[[Sequence[Made], Sequence[Row]], None],
    *,
    strict: bool,
    workers: int = 0,
    look: Callable[[Sequence[Placed]], None] = lambda _: None,
    note: Callable[[AudioQuestion], Noted],
    what: str,
    progress: bool | None,
) -> list[Noted]:
    """Ask what the log does not have yet, and what failed before, in batches that do not depend on who asks them.

    The header of the log says how many `batch_positions` and questions (`batch_size`) a batch may have. `ask` asks the
    questions of a batch, given their prompts, and `keep` writes to the log what was made of it, in one part or several,
    and which questions failed. `look` looks at each window of questions that is held; `note` works something out for
    each question that needs the bytes of its recordings, such as a digest, and threads call it while the model is busy.

    Returns:
        What was noted of each question.

    Raises:
        ValueError: No question, fewer than the log has, or another one in the place of one that the log has; none could
            be asked or, if `strict`, not all.
    """
    earlier, again = {index for index, known in log.known.items() if known.error}, list[Placed]()
    total = len(questions) if isinstance(questions, Sized) else None
    length = partial(length_of, model, condition=asking.condition)
    with (
        bar(what=what, unit="questions", total=total, progress=progress) as shown,
        Lookahead(length, note) as lookahead,
    ):

        def show() -> None:
            shown.update(len(log.known) - shown.n)

        def is_done(batch: Together) -> bool:
            log.refresh()
            show()
            known = [placed for placed in batch.placed if placed.index in log.known]
            for placed in known:
                log.check(placed.index, placed.question)
            failed = batch.again and any(log.known[placed.index].error for placed in known)
            return len(known) == len(batch.placed) and not failed

        def do(batch: Together, written: Written | None) -> None:
            parts, failed = [], batch.failed
            if not failed:
                parts, failed = in_halves(model, asking, ask, batch.placed, written)
            if failed and strict:
                first = failed[0]
                raise ValueError(f"question {first.id!r}: {first.error} (without strict=True it is listed instead)")
            keep(parts, failed)
            show()

        def write(batch: Together) -> Written | None:
            return None if batch.failed else write_out(model, asking, batch.placed)

        def looked_through() -> Iterator[list[Placed]]:
            for window in windows(questions, max(WINDOW, log.header["batch_size"])):
                look(window)
                yield window

        def batches_of_all() -> Iterator[Together]:
            for window in lookahead.windows(looked_through()):
                new = [placed for placed in window if placed.index not in log.known]
                for placed in window:
                    if placed.index in log.known:
                        log.check(placed.index, placed.question)
                again.extend(placed for placed in window if placed.index in earlier)
                yield from _cut(lookahead.length, new, log.header)
            if not lookahead.n:
                raise ValueError(NO_QUESTIONS)
            if log.known and max(log.known) >= lookahead.n:
                raise ValueError(
                    f"{log.did} {n_of(max(log.known) + 1, 'question')} before, and {lookahead.n} "
                    "are given: take it up with the same questions, or give another out="
                )

        def begin() -> None:
            log.begin()
            lookahead.begin()

        show()
        waiting = Waiting(what)
        ahead = Ahead(
            model, write, workers, refers_to=_known_to_both, first=log.forget, meanwhile=begin, waiting=waiting
        )
        work: Work[Together] = Work(
            log.shared, number=lambda batch: batch.placed[0].index, is_done=is_done, do=do, ahead=ahead
        )
        with waiting.kept(log.folder):
            work.do_all(batches_of_all())
            noted = lookahead.notes()  # no thread is busy where workers are forked anew
            work.do_all(_cut(lambda placed: length(placed.question), again, log.header, again=True))
    if all(known.error for known in log.known.values()):
        first = log.known[min(log.known)]
        raise ValueError(
            f"none of the {len(noted)} questions could be {log.done}; the first, {first.id!r}: {first.error}"
        )
    return noted


def _known_to_both(batch: Together) -> list[object]:
    """Return what a worker need not send back of a batch."""
    return [*batch.placed, *(placed.question for placed in batch.placed)]


def _cut(
    length: Callable[[Placed], int], window: Sequence[Placed], plan: Mapping[str, Any], *, again: bool = False
) -> Iterator[Together]:
    """Cut questions that are held into batches; those whose recording is missing, or no sound, are one of their own."""
    askable, failed = measured(length, window)
    if failed:
        by_index = {placed.index: placed for placed in window}
        yield Together([by_index[row.index] for row in failed], failed, again)
    for together in batches(askable, plan["batch_positions"], plan["batch_size"]):
        yield Together(together, again=again)

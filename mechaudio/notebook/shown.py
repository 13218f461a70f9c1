"""The HTML of each kind of value."""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from itertools import groupby

from mechaudio.arguments import n_of
from mechaudio.audio.events import AnnotatedClip
from mechaudio.audio.stored import opened
from mechaudio.experiments.evaluation import Evaluation
from mechaudio.interventions.grid import Grid
from mechaudio.interventions.selecting import Value
from mechaudio.models.batch import PromptBatch
from mechaudio.notebook.pieces import chip, frame, note, recording, table, text
from mechaudio.question import AudioQuestion
from mechaudio.results import Result
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run_result import Generation, Run
from mechaudio.viz.theme import CYCLE, INK, ROLE_COLOURS

ROWS = 8
"""Rows of a table."""
COLUMNS = 12
PROMPTS = 3
"""Prompts of a batch that are shown."""
TOKENS = 600
"""Tokens of a prompt that are shown."""
_WAYS = note(".plot() draws it, .to_pandas() and .to_xarray() give it whole, .save(folder) keeps it")


@singledispatch
def html_of(value: object) -> str | None:  # noqa: ARG001 - what is not known here shows its `repr`
    """Return how a value shows itself in a notebook, None where that is its `repr`."""
    return None


@html_of.register
def _question(question: AudioQuestion) -> str:
    choices = "".join(
        f"<div>{letter}&nbsp; {text(choice)}{' ✓' if choice == question.answer else ''}</div>"
        for letter, choice in zip(question.letters, question.choices, strict=True)
    )
    open_answer = note(f"answer: {question.answer}") if question.is_open and question.answer is not None else ""
    caption = note(f"caption: {question.caption}") if question.caption else ""
    known = note(", ".join([f"id {question.id}"] * bool(question.id) + [f"{k}: {v}" for k, v in question.meta.items()]))
    sounds = [_sound(sound, question.events) for sound in question.recordings]
    return frame(question.text, choices + open_answer, *sounds, caption, known)


@html_of.register
def _annotated(clip: AnnotatedClip) -> str:
    caption = note(f"caption: {clip.caption}") if clip.caption else ""
    return frame(clip.id or "a clip and its events", _sound(clip.audio, clip.events), caption)


def _sound(sound: object, events: Sequence) -> str:
    """A recording, or what keeps it from being read: a notebook shows the question all the same."""
    try:
        return recording(opened(sound), events)
    except (OSError, ValueError) as error:
        return note(f"its recording cannot be shown: {error}")


@html_of.register
def _batch(batch: PromptBatch) -> str:
    roles = [role for role in ROLE_COLOURS if role in batch.spans and role not in ("last", "keyword")]
    roles += [role for role in ("history",) if role in batch.spans]
    legend = " ".join(chip(role, _colour(role)) for role in roles if any(batch.spans[role]))
    prompts = [_prompt(batch, row, roles) for row in range(min(PROMPTS, batch.n_rows))]
    more = (
        note(f"and {n_of(batch.n_rows - PROMPTS, 'more prompt')}; batch[{PROMPTS}] is the next")
        if batch.n_rows > PROMPTS
        else ""
    )
    title = f"{n_of(batch.n_rows, 'prompt')} x {n_of(batch.n_positions, 'position')} for {batch.family}"
    condition = f", condition {batch.condition!r}" if batch.condition else ""
    return frame(title + condition, legend, *prompts, more)


def _prompt(batch: PromptBatch, row: int, roles: Sequence[str]) -> str:
    """The tokens of one prompt, each stretch of a role on its colour; audio and padding are counted."""
    role_of = {position: role for role in roles for position in batch.spans[role][row]}
    keyword = set(batch.spans["keyword"][row]) if "keyword" in batch.spans else set()
    labels = batch.tokens(row)
    kinds = [
        "padding" if label == "<pad>" else "keyword" if position in keyword else role_of.get(position, "")
        for position, label in enumerate(labels)
    ]
    parts = []
    for kind, places in groupby(range(min(len(labels), TOKENS + kinds.count("audio"))), key=kinds.__getitem__):
        stretch = list(places)
        span = f"positions {stretch[0]} to {stretch[-1]}"
        if kind == "padding":
            parts.append(note(f"{n_of(len(stretch), 'position')} of padding"))
        elif kind == "audio":
            ends = f", {labels[stretch[0]][2:]} to {labels[stretch[-1]][2:]}" if batch.clocks[row] else ""
            parts.append(chip(f"♪ {n_of(len(stretch), 'audio token')}{ends}", _colour("audio"), f"audio: {span}"))
        else:
            words = _running([labels[place] for place in stretch])
            parts.append(chip(words, _colour(kind), f"{kind or 'no role'}: {span}"))
    left_out = len(labels) - TOKENS - kinds.count("audio")
    end = note(f"and {n_of(left_out, 'more position')}") if left_out > 0 else ""
    name = batch.questions[row].id if batch.questions else f"row {row}"
    return f'{note(name)}<div style="line-height:1.7">{"".join(parts)}</div>{end}'


def _running(labels: Sequence[str]) -> str:
    """Tokens as running text; those of a tokenizer of whole words are set apart."""
    apart = not any(label.startswith((" ", "Ġ", "▁")) for label in labels)
    return (" " if apart else "").join(labels).replace("⏎", "⏎\n") + (" " if apart else "")


def _colour(role: str) -> str:
    return CYCLE[7] if role == "history" else ROLE_COLOURS.get(role, INK)


@html_of.register(Value)
@html_of.register(Edit)
def _intervention(intervention: Value | Edit) -> str:
    return frame(str(intervention) + ".", note(repr(intervention)))


@html_of.register
def _grid(grid: Grid) -> str:
    axes = table(["parameter", "values"], [(name, ", ".join(map(str, values))) for name, values in grid.axes.items()])
    return frame(f"{n_of(len(grid), 'intervention')}, every combination of", axes, note(f"the first: {grid[0]}"))


@html_of.register
def _cache(cache: Cache) -> str:
    megabytes = sum(value.numel() * value.element_size() for value in cache.values()) / 2**20
    return frame(f"{n_of(len(cache), 'tensor')}, {megabytes:.1f} MB", _recorded(cache))


def _recorded(cache: Mapping) -> str:
    """One line per hook point and shape, with the layers that it was kept in."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (name, layer), value in cache.items():
        key = (name, str(list(value.shape)), str(value.dtype).removeprefix("torch."))
        alike.setdefault(key, []).append("" if layer is None else str(layer))
    if not alike:
        return note("nothing was recorded")
    rows = [(name, ", ".join(layers), shape, dtype) for (name, shape, dtype), layers in alike.items()]
    return table(["hook point", "layers", "shape", "type"], rows)


@html_of.register
def _result(result: Result) -> str:
    return frame(repr(result), _tabulated(result), _WAYS)


@html_of.register
def _run(run: Run) -> str:
    answers = "" if run.logits is None else _tabulated(run)
    return frame(repr(run), answers, _recorded(run.cache), _WAYS)


@html_of.register
def _generation(generation: Generation) -> str:
    kept = _recorded(generation.steps[0]) if generation.steps else ""
    return frame(repr(generation), _tabulated(generation), kept, _WAYS)


@html_of.register
def _evaluation(evaluation: Evaluation) -> str:
    scores = {**evaluation.by_task(), "all": evaluation.overall} if evaluation.scored.any() else {}
    head = ["task", "right", "of", "%", "95% interval (%)"]
    lines = [
        (task, one.count, one.n, f"{100 * one.value:.1f}", f"{100 * one.low:.1f} to {100 * one.high:.1f}")
        for task, one in scores.items()
    ]
    failed = note(f"{n_of(len(evaluation.failures), 'question')} could not be asked") if evaluation.failures else ""
    return frame(repr(evaluation), table(head, lines) if lines else "", _tabulated(evaluation), failed, _WAYS)


def _tabulated(result: Result) -> str:
    """The first rows and columns of a result's table, and how many there are."""
    rows, n_rows = result.first_rows(ROWS)
    known = [name for name in rows.columns if name != "clip"]  # the digest of a recording says nothing to a reader
    columns = known[:COLUMNS]
    shown = table(columns, rows[columns].itertuples(index=False))
    more = [f"the first {len(rows)} of {n_of(n_rows, 'row')}"] * (n_rows > len(rows))
    more += [f"{len(columns)} of {n_of(len(rows.columns), 'column')}"] * (len(known) > COLUMNS)
    return shown + note("; ".join(more))

"""Written answers as a table: a row per prompt, a column per variant."""

import re

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.interventions.sweep_result import Generations
from mechaudio.labelled import grid_coordinates
from mechaudio.tracing.run_result import Generation
from mechaudio.viz.theme import CLEAR, FAINT, laid_out, plain

LONGEST = 300
"""Characters of a text in a cell."""


@checks_arguments
def written_texts(written: Generation | Generations, *, at_most: int = 50) -> go.Figure:
    """Tabulate the texts behind each prompt; under variants, what differs from the clean text is in bold.

    Args:
        written: What `ma.generate` or `ma.generate_variants` gave.
        at_most: Prompts in the table.
    """
    data = written.to_pandas()
    if isinstance(written, Generation):
        names, columns = ["question", "text"], [data["question"], data["text"]]
        n = len(data)
    else:
        n = written.batch.n_rows
        texts = data["text"].to_numpy().reshape(-1, n)
        clean = data["clean_text"].to_numpy()[:n]
        variants = grid_coordinates({}, written.variants)["variant"]
        names = ["question", "clean", *variants]
        prompts = data["question" if written.batch.questions else "row"].to_numpy()[:n]
        columns = [
            prompts,
            clean,
            *([(text, text != first) for text, first in zip(row, clean, strict=True)] for row in texts),
        ]
    shown = [[_cell(value) for value in list(column)[:at_most]] for column in columns]
    figure = go.Figure(
        go.Table(
            header={"values": [f"<b>{_head(name)}</b>" for name in names], "align": "left", "fill_color": FAINT},
            cells={"values": shown, "align": "left", "fill_color": CLEAR, "line_color": FAINT, "height": 26},
        )
    )
    note = f"the first {at_most} of {n} prompts" if n > at_most else n_of(n, "prompt")
    return laid_out(
        figure,
        "What was written",
        note,
        height=170 + 30 * min(n, at_most),
        margin={"b": 8},
    )


def _head(name: str) -> str:
    """A name in lines: a column of a table breaks lines at spaces alone, and cuts the rest off."""
    return re.sub(r"\((?!\))|, ", lambda mark: f"{mark[0].strip()}<br>", plain(name, LONGEST))


def _cell(value: object) -> str:
    text, differs = value if isinstance(value, tuple) else (value, False)
    return f"<b>{plain(text, LONGEST)}</b>" if differs else plain(text, LONGEST)

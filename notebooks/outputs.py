"""Compare the outputs that the notebooks carry with those of a run, or have them carry those of the run.

python notebooks/outputs.py build/notebooks/*.ipynb            # name the cells that differ; exit status 1 if any do
python notebooks/outputs.py --write build/notebooks/*.ipynb    # carry what the run gave; needs kaleido and Chromium

A notebook carries what a forge shows: printed texts, HTML tables, Markdown, and figures as PNG. The run is made with
plotly's renderer `plotly_mimetype`, which leaves figures as data. Words have to be equal. Numbers differ with the
processor: they may by 2%, and those with decimals by one in the last place. Pictures have to be there, with their
title. Sound is not carried, nor what goes to stderr: warnings and progress bars.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURE = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
TOLERANCE = 0.02
"""Largest difference of a number from the one that is carried, as a share of the larger."""
WIDTH = 860
"""Pixels of a picture; drawn at `SCALE` as many."""
SCALE = 1.25
COLOURS = 128
SHOWN = 90
"""Characters of an output that a message quotes."""
NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Output:
    """One output of a cell, as a forge shows it.

    Attributes:
        kind: `text`, `table`, `markdown` or `picture`.
        text: The text, HTML or Markdown; the title of a picture.
        figure: The data of a figure that is still to be drawn.
        plain: A text in its place where only texts are shown.
    """

    kind: str
    text: str
    figure: dict[str, Any] | None = None
    plain: str = ""

    def differs(self, other: Output) -> bool:
        """Return whether another shows something else, beyond what processors account for."""
        return self.kind != other.kind or not alike(self.text, other.text)

    def quoted(self, other: Output | None) -> str:
        """Quote the output in a message: its words from a little before the first that another does not have."""
        words, others = self.text.split(), other.text.split() if other else []
        same = (number for number, pair in enumerate(zip(words, others, strict=False)) if not alike(*pair))
        apart = next(same, min(len(words), len(others)))
        first = max(0, apart - 3)
        text = " ".join(words[first:])
        return f"the {self.kind} {'…' * (first > 0)}{text[:SHOWN]}{'…' * (len(text) > SHOWN)}"


def alike(carried: str, fresh: str) -> bool:
    """Return whether two texts have the same words, and numbers within the tolerance; spaces do not count."""
    words = [[" ".join(part.split()) for part in NUMBER.split(text)] for text in (carried, fresh)]
    numbers = [NUMBER.findall(text) for text in (carried, fresh)]
    return words[0] == words[1] and all(map(close, *numbers))


def close(carried: str, fresh: str) -> bool:
    """Return whether two numbers agree as written: counts by the share alone, others by one in the last place too."""
    digits, _, exponent = carried.partition("e")
    decimals = len(digits.partition(".")[2])
    place = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
    values = float(carried), float(fresh)
    return abs(values[0] - values[1]) <= TOLERANCE * max(map(abs, values)) + 1.001 * place


def outputs_of(cell: dict[str, Any]) -> list[Output]:
    """List what a code cell shows, in a run or as it is carried; texts in a row are one."""
    shown: list[Output] = []
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            raise ValueError(f"a cell ended in {output['ename']}: {output['evalue']}")
        made = _of_stream(output) if output["output_type"] == "stream" else _of_bundle(output["data"])
        if made is not None and made.kind == "text" and shown and shown[-1].kind == "text":
            shown[-1] = Output("text", shown[-1].text + made.text)
        elif made is not None:
            shown.append(made)
    return shown


def _of_stream(stream: dict[str, Any]) -> Output | None:
    """Return what was printed; None of warnings and progress bars."""
    return Output("text", "".join(stream["text"])) if stream["name"] == "stdout" else None


def _of_bundle(data: dict[str, Any]) -> Output | None:
    """Choose the best form of a value that a forge shows; None of widgets and scripts, which it does not run."""
    if WIDGET in data:
        return None
    texts = {form: "".join(value) for form, value in data.items() if isinstance(value, str | list)}
    plain = texts.get("text/plain", "")
    if FIGURE in data:
        return Output("picture", _title(data[FIGURE]), data[FIGURE])
    if "image/png" in data:
        return Output("picture", plain)
    if "<table" in texts.get("text/html", ""):
        return Output("table", texts["text/html"], plain=plain)
    if "text/markdown" in data:
        return Output("markdown", texts["text/markdown"])
    return Output("text", f"{plain}\n") if plain else None


def _title(figure: dict[str, Any]) -> str:
    """Return the title of a figure in one line of plain text."""
    title = figure["layout"].get("title", {}).get("text", "")
    return "Figure: " + " ".join(html.unescape(re.sub(r"<[^>]+>|[\u00ad\u200b]", " ", title)).split())


def differences(carried: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    """Say in which cells a notebook carries something else than a run of it gives."""
    cells = [[cell for cell in notebook["cells"] if cell["cell_type"] == "code"] for notebook in (carried, fresh)]
    sources = [["".join(cell["source"]) for cell in notebook["cells"]] for notebook in (carried, fresh)]
    if sources[0] != sources[1]:
        return ["the run is of other cells: run the notebook again"]
    said = []
    for number, (before, now) in enumerate(zip(*cells, strict=True), 1):
        first_line = "".join(before["source"]).partition("\n")[0]
        for old, new in zip_longest(outputs_of(before), outputs_of(now)):
            if old is None or new is None or old.differs(new):
                carries, gives = old.quoted(new) if old else "nothing", new.quoted(old) if new else "nothing"
                said.append(f"code cell {number} (`{first_line}`) carries {carries}, and gives {gives}")
    return said


def carrying(notebook: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """Put a run's outputs into its notebook, in forms that a forge shows, and nothing of where and when it ran."""
    made = [cell for cell in fresh["cells"] if cell["cell_type"] == "code"]
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"] = [_carried(output) for output in outputs_of(made[count])]
        count += 1
        cell["execution_count"], cell["metadata"] = count, {}
    return notebook


def _carried(output: Output) -> dict[str, Any]:
    """Write an output as the format of notebooks holds it."""
    if output.kind == "text":
        return {"name": "stdout", "output_type": "stream", "text": output.text.rstrip("\n").splitlines(keepends=True)}
    data = {
        "picture": lambda: {"image/png": _png(output.figure), "text/plain": [output.text]},
        "table": lambda: {
            "text/html": output.text.splitlines(keepends=True),
            "text/plain": output.plain.splitlines(True),
        },
        "markdown": lambda: {"text/markdown": output.text.splitlines(keepends=True)},
    }[output.kind]()
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def _png(figure: dict[str, Any] | None) -> str:
    """Draw a figure in few colours, and on white, which dark pages keep."""
    import plotly.graph_objects as go
    from PIL import Image

    drawn = go.Figure(figure).to_image("png", width=WIDTH, scale=SCALE)
    picture, file = Image.open(io.BytesIO(drawn)).convert("RGBA"), io.BytesIO()
    paper = Image.new("RGBA", picture.size, "white")
    Image.alpha_composite(paper, picture).convert("RGB").quantize(
        COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=2
    ).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def write(runs: Sequence[Path]) -> None:
    """Have the notebooks carry what these runs gave; one browser draws all pictures."""
    import kaleido

    warnings.filterwarnings("ignore", message="The kopts argument is ignored if using a server")
    kaleido.start_sync_server(silence_warnings=True)
    try:
        for run in runs:
            text = json.dumps(carrying(*_both(run)), indent=1, ensure_ascii=False) + "\n"
            (HERE / run.name).write_text(text, encoding="utf-8")
    finally:
        kaleido.stop_sync_server()


def _both(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the notebook of a run, and the run."""
    carried, fresh = (json.loads(path.read_text(encoding="utf-8")) for path in (HERE / run.name, run))
    return carried, fresh


def main(arguments: list[str]) -> int:
    """Compare or write every notebook of which there is a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="notebooks as a run left them")
    parser.add_argument("--write", action="store_true", help="carry the outputs of the runs")
    given = parser.parse_args(arguments)
    if given.write:
        write(given.runs)
        return 0
    failures = []
    for run in given.runs:
        failures += [f"{run.name}, {difference}" for difference in differences(*_both(run))]
    for failure in failures:
        sys.stderr.write(failure + "\n")
    if failures:
        sys.stderr.write("If the code is right, `make outputs` has the notebooks carry what it gives.\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

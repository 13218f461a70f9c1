"""The pictures of the pages, drawn by the code that the pages show: `python docs/figures.py [PICTURE ...]`.

A page's python blocks run up to the one that makes what the picture is of. Needs kaleido, pillow and Chromium.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

HERE = Path(__file__).parent
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCALE = 2
"""Pixels of a picture per pixel of a page, for screens that have as many."""
LARGEST = 60_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Picture:
    """A figure of a page: the expression that draws it, in the names that the page's code leaves."""

    page: str
    draws: str
    width: int = 720
    height: int = 360
    largest: int = LARGEST

    def needs(self) -> set[str]:
        """The names that the expression reads."""
        return {node.id for node in ast.walk(ast.parse(self.draws)) if isinstance(node, ast.Name)}

    def blocks(self) -> list[str]:
        """The page's blocks up to the first that leaves all these names.

        Raises:
            ValueError: The page never makes one of them.
        """
        blocks = PYTHON.findall((HERE / f"{self.page}.md").read_text(encoding="utf-8"))
        missing = self.needs()
        for number, block in enumerate(blocks, 1):
            missing -= _names_made(block)
            if not missing:
                return blocks[:number]
        raise ValueError(f"docs/{self.page}.md makes no {', '.join(sorted(missing))}, of which a picture is drawn")

    def draw(self) -> Any:
        """The figure or the explorer, as the page's code makes it."""
        return eval(self.draws, _run(tuple(self.blocks())))

    def write(self, path: Path) -> None:
        """Draw it into a PNG file with a clear background, in fewer colours where it would be too large."""
        from PIL import Image

        drawn = self.draw().to_image("png", width=self.width, height=self.height, scale=SCALE)
        picture = Image.open(io.BytesIO(drawn))
        fewer = (picture.quantize(n, method=Image.Quantize.FASTOCTREE, kmeans=3) for n in (256, 64))
        for smaller in (picture, *fewer):
            smaller.save(path, optimize=True)
            if path.stat().st_size <= self.largest:
                return
        raise ValueError(
            f"{path.name} takes more than {self.largest} bytes: make it smaller than {self.width}x{self.height}"
        )


@dataclass(frozen=True)
class Explored(Picture):
    """The explorer of a page, with some seconds knocked out, in Chromium and with the model behind it."""

    largest: int = 260_000  # noise in a spectrogram takes room
    seconds: tuple[float, float] = (2.9, 6.8)

    def write(self, path: Path) -> None:
        """Show it, drag over the seconds, wait for the answer, and keep what is seen, in 128 colours."""
        sys.path.insert(0, str(HERE.parent))
        from PIL import Image

        from tests.devtools import browser
        from tests.live_explorer import LiveExplorer

        live = self.draw()._live
        with browser() as tab:
            explorer = LiveExplorer(tab, live, width=self.width, height=self.height)
            explorer.tab.evaluate("document.body.style.margin = '12px'")
            length = explorer.live.batch.durations[0]
            tab.drag(*(tab.place(".mx-picture", second / length) for second in self.seconds))
            tab.hover((1, 1))
            explorer.answer()
            tab.picture(path)
        seen = Image.open(path).convert("RGB")
        seen.quantize(128, method=Image.Quantize.MEDIANCUT, kmeans=3).save(path, optimize=True)


def logged(heading: str) -> list[list[str]]:
    """The cells of the lab log's table whose first column has this heading, below its headings.

    Raises:
        ValueError: The log has no such table.
    """
    lines = (HERE / "lab_log.md").read_text(encoding="utf-8").splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")), None)
    if first is None:
        raise ValueError(f"docs/lab_log.md has no table whose first column is {heading!r}")
    rows = takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def number(cell: str) -> float:
    """The number that a cell of the log begins with."""
    return float(cell.partition(" ")[0].replace(",", ""))


def growth() -> go.Figure:
    """The cost of a sweep as one thing grows: plain forward passes, and memory beyond the weights."""
    grown = [[number(cell) for cell in row] for row in logged("variants")]
    batches = [row for row in logged("H200, 256 variants at the last position") if "fp32" not in row[0]]
    sizes = [number(row[0]) for row in batches]
    processes = [[number(cell) for cell in row] for row in logged("processes")]
    titles = (
        "variants", "layers", "positions", "changed rows", "questions, 7B, H200", "processes, 7B, H200s",
        "questions, 7B, H200",
    )  # fmt: skip
    panels = [[([row[2 * n] for row in grown], [row[2 * n + 1] for row in grown], "")] for n in range(4)]
    panels.append([(sizes, [number(row[3]) for row in batches], "")])
    panels.append([([row[0] for row in processes], [row[1] for row in processes], "")])
    panels.append([(sizes, [number(row[column]) / 1e3 for row in batches], name) for column, name in PEAKS])
    units = {0: "forwards", 4: "forwards", 5: "questions/s", 6: "GB"}
    cells = [[{}, {}, {}, {}], [{}, {}, {}, None]]  # the legend stands in the last
    figure = make_subplots(2, 4, specs=cells, subplot_titles=titles, vertical_spacing=0.2, horizontal_spacing=0.07)
    for place, lines in enumerate(panels):
        at = {"row": place // 4 + 1, "col": place % 4 + 1}
        for (x, y, name), color in zip(lines, ("#0072b2", "#d55e00"), strict=False):
            figure.add_scatter(x=x, y=y, name=name, showlegend=bool(name), line_color=color, mode="lines+markers", **at)
        ticks = {"tickvals": lines[0][0], "ticktext": [f"{value:,.0f}" for value in lines[0][0]]}
        figure.update_xaxes(type="log", **ticks, **at)
        figure.update_yaxes(rangemode="tozero", title=units.get(place, ""), **at)
    legend = {"x": 0.77, "y": 0.3}
    return figure.update_layout(template="simple_white", margin={"l": 60, "r": 20, "t": 40, "b": 40}, legend=legend)


LOGGED = ("variants", "H200, 256 variants at the last position", "processes")
"""First columns of the tables that the figure of costs is drawn from."""
PEAKS = ((5, "plain forward"), (6, "sweep"))
"""Columns of memory in the log's table of sweeps, and what they are of."""


@dataclass(frozen=True)
class Logged(Picture):
    """A figure of numbers of the lab log, drawn by a function of this file."""

    def blocks(self) -> list[str]:
        """The tables that it is drawn from, as the log has them."""
        return [str(logged(heading)) for heading in LOGGED]

    def draw(self) -> Any:
        """Draw it."""
        return eval(self.draws)


PICTURES = {
    "growth": Logged("costs", "growth()", width=1080, height=480),
    "explorer": Explored("explorer", "explorer", width=900, height=884),
    "attention_over_time": Picture(
        "faq", "ma.viz.attention_over_time(attention, clip=questions[0].clip(), layers=[1, 2, 3])", height=380
    ),
    "sweep_map": Picture("sweeps", 'ma.viz.sweep_map(data, "The toy without one head\'s attention to audio")'),
    "specialist_map": Picture("who_listens", "ma.viz.specialist_map(scores)", height=320),
    "listening_auc": Picture("who_listens", "ma.viz.listening_auc(score)"),
    "patching_over_sound": Picture("patching", "ma.viz.patching_over_sound(seconds, questions[0])", height=380),
    "attribution_map": Picture("attribution_patching", "estimated.plot()", height=300),
    "probe_scores": Picture("probes", "ma.viz.probe_scores(probes)", width=1040, height=420),
    "lens_table": Picture("lenses", "seen.plot()", height=300),
    "attribution_bars": Picture("lenses", 'ma.viz.attribution_bars(named, by="second")'),
    "accuracy_over_strength": Picture(
        "steering", "ma.viz.accuracy_over_strength(study.over_strength)", width=840, height=950, largest=110_000
    ),
    "induced_layers": Picture("steering", "ma.viz.induced_layers(study.scores, ks=(5, 10))", height=300),
    "mata_layers": Picture("mata", "ma.viz.mata_layers(study)", height=400),
    "temporal_fixes": Picture("temporal_benchmark", "ma.viz.temporal_fixes(study)", width=1040, height=620),
    "temporal_accuracies": Picture("temporal_benchmark", "ma.viz.temporal_accuracies(study)"),
    "audio_share_by_layer": Picture("gallery", "ma.viz.audio_share_by_layer(attention)"),
    "layer_head_grid": Picture(
        "gallery",
        'ma.viz.layer_head_grid(100 * attention.share("audio").mean(0), "Attention to audio", unit="%", decimals=1)',
    ),
    "pattern": Picture(
        "gallery",
        "ma.viz.pattern(weights[0, 0].numpy(), batch[:1].tokens(0), spans=spans, clock=batch.clock[0])",
        height=640,
    ),
    "attention_between_roles": Picture("gallery", "ma.viz.attention_between_roles(mass)"),
    "next_tokens": Picture("gallery", "ma.viz.next_tokens(out)"),
    "recorded_sizes": Picture("gallery", "ma.viz.recorded_sizes(out)", height=560),
    "choice_probabilities": Picture("gallery", "ma.viz.choice_probabilities(listening)"),
    "accuracy_by_task": Picture("gallery", "ma.viz.accuracy_by_task(evaluations)"),
    "variant_effects": Picture("gallery", "ma.viz.variant_effects(scaled)"),
    "mass_against_accuracy": Picture("gallery", "ma.viz.mass_against_accuracy(scaled)"),
    "patching_map": Picture("gallery", 'ma.viz.patching_map(heads, "The toy, one head at a time")'),
    "agreement": Picture("gallery", "ma.viz.agreement(estimated, heads)"),
    "direction_lengths": Picture("gallery", "ma.viz.direction_lengths(directions)"),
    "written_texts": Picture("gallery", "ma.viz.written_texts(texts)"),
}


def _names_made(block: str) -> set[str]:
    """Names that a block of code binds."""
    made = set()
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return made


@cache
def _run(blocks: tuple[str, ...]) -> dict[str, Any]:
    """The names that blocks leave, each run once; figures are not opened, and files that they write are thrown away."""
    before = _run(blocks[:-1]) if len(blocks) > 1 else {}
    show, here = go.Figure.show, Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "page.py"  # a trace block is read from its file
        script.write_text(blocks[-1], encoding="utf-8")
        go.Figure.show = lambda figure: None  # noqa: ARG005
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return runpy.run_path(str(script), init_globals=before)
        finally:
            os.chdir(here)
            go.Figure.show = show


def main(names: list[str]) -> int:
    """Draw these pictures, or all."""
    for name in names or PICTURES:
        PICTURES[name].write(HERE / "images" / f"{name}.png")
        sys.stdout.write(f"docs/images/{name}.png\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

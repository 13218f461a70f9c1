"""The drawing shows the house: its rooms are those of the import contract, and what travels finds its stops."""

import ast
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "mechaudio"
DRAWING = runpy.run_path(str(REPOSITORY / "docs" / "drawing.py"))


def test_the_drawing_shows_every_room_once_from_top_to_bottom():
    shown = re.findall(r'<tspan class="room">(\w+)</tspan>', (REPOSITORY / "docs/images/architecture.svg").read_text())
    folders = [path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"]
    assert shown == [room for layer in DRAWING["layers"]() for room in layer]
    assert sorted(shown) == sorted({*folders} - {"__init__"})


@pytest.mark.parametrize("traveller", DRAWING["JOURNEYS"])
def test_what_travels_stops_at_names_that_are_there(traveller):
    _, stops = DRAWING["JOURNEYS"][traveller]
    for stop in stops:
        module, _, name = stop.partition(":")
        assert getattr(import_module(module), name) is not None


def rooms_imported(node):
    """The rooms that some code imports when it runs: types alone are another matter, as in the contract."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    if isinstance(node, ast.ImportFrom):
        return {node.module.split(".")[1]} if (node.module or "").startswith("mechaudio.") else set()
    return {room for child in ast.iter_child_nodes(node) for room in rooms_imported(child)}


def test_rooms_import_what_the_page_says_they_may():
    page = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    may = {room: re.findall(r"`(\w+)`", below) for room, below in re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.M)}
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        imported |= {(room, other) for other in rooms_imported(ast.parse(path.read_text(encoding="utf-8")))}
    between = {(room, other) for room, other in imported if room not in (other, "__init__")}
    assert sorted((room, other) for room, other in between if other not in may[room]) == []
    assert ("interventions", "variants") in between
    assert ("variants", "tracing") in between

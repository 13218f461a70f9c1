"""Reference pages, one for every public object, and code in one piece: hooks that MkDocs runs while it builds.

A page of `reference/` names modules, `<!-- names: mechaudio.viz -->`; its table of contents stands there, and every
object in it has a page of its own in the folder of that name.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import cache
from html import unescape
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

REFERENCE = Path(__file__).parent / "reference"
NAMES = re.compile(r"<!-- names: ([\w. ]+) -->")
TOP = "mechaudio"
CODE = re.compile(r"(<pre.*?</pre>)|<code>([^<]+)</code>", re.DOTALL)
LONGEST_WORD = 44
"""Letters of a word of code that a narrow screen shows in one line."""


@dataclass(frozen=True)
class Entry:
    """A public object.

    Attributes:
        name: Its name, such as `ma.viz.flow_map`.
        path: Where it is written, as mkdocstrings looks it up.
        room: The page that lists it, such as `viz`.
        file: The name of its page's file.
        kind: `class`, `function` or `value`.
        summary: The first line of its docstring.
        module: What the module that holds it says of itself; empty where the page that lists it says so.
    """

    name: str
    path: str
    room: str
    file: str
    kind: str
    summary: str
    module: str = ""

    @property
    def page(self) -> str:
        """Address of the page, from the documentation's root."""
        return f"reference/{self.room}/{self.file}.md"

    def markdown(self) -> str:
        """Write the page: name, docstring with signature and source, and what its module says."""
        lines = [
            "---",
            f"title: {self.name}",
            f"description: {self.summary!r}",
            "---",
            "",
            f"[← {_title(self.room)}](../{self.room}.md)",
            "",
            f"::: {self.path}",
            "    options:",
            "      heading_level: 1",
            f"      heading: {self.name}",
            f"      toc_label: {self.name.rpartition('.')[2]}",
            "      show_submodules: false",
        ]
        if self.module:
            lines += ["", "## Its module", "", f"`{self.path.rpartition('.')[0]}`: {self.module}"]
        return "\n".join(lines) + "\n"


@cache
def contents() -> dict[str, dict[str, list[Entry]]]:
    """Return room -> heading -> entries, of every page that names modules; an object stands where it is met first."""
    rooms: dict[str, dict[str, list[Entry]]] = {}
    met: set[str] = set()
    for page in sorted(REFERENCE.glob("*.md")):
        for names in NAMES.findall(page.read_text(encoding="utf-8")):
            rooms[page.stem] = _sections(page.stem, names.split(), met)
    return rooms


def entries() -> list[Entry]:
    """Return every public object, once."""
    return [entry for sections in contents().values() for section in sections.values() for entry in section]


def _sections(room: str, modules: list[str], met: set[str]) -> dict[str, list[Entry]]:
    """Return the entries of modules: those of a room under its own name, those of modules that it lists, theirs."""
    sections: dict[str, list[Entry]] = {}
    taken: set[str] = set()
    for name in modules:
        module = import_module(name)
        listed = {key: getattr(module, key) for key in public_names(module)}
        inner = [value for value in listed.values() if isinstance(value, ModuleType)]
        for holder in (module, *inner):
            values = {key: getattr(holder, key) for key in public_names(holder)}
            section = [
                _entry(holder, key, value, room, taken)
                for key, value in sorted(values.items(), key=lambda item: (item[0].lower(), item[0]))
                if not isinstance(value, ModuleType)
            ]
            section = [entry for entry in section if entry.path not in met]
            met |= {entry.path for entry in section}
            if section:
                sections[f"ma{holder.__name__.removeprefix(TOP)}"] = section
    return sections


def _title(room: str) -> str:
    """Return the heading of the page that lists a room."""
    return (REFERENCE / f"{room}.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def public_names(module: ModuleType) -> list[str]:
    """Return the names that a module lists, or else those that are written and described in it."""
    listed = vars(module).get("__all__")
    if listed is not None:
        return [name for name in listed if not name.startswith("__")]
    members = _member(module.__name__).members
    described = (name for name, member in members.items() if not member.is_alias and member.docstring)
    return [name for name in described if not name.startswith("_")]


@cache
def _package() -> Any:
    """Read the package with griffe: what is said of a value stands in the source alone."""
    import griffe

    return griffe.load(TOP)


def _member(path: str) -> Any:
    """Return a module, or what is in one, as it is written; what a module imports, from where it is written."""
    member = _package()[path.removeprefix(f"{TOP}.")]
    return _member(member.target_path) if member.is_alias else member


def _entry(holder: ModuleType, name: str, value: Any, room: str, taken: set[str]) -> Entry:
    """Make the entry of an object: code knows where it is written, a value is looked up."""
    code = hasattr(value, "__qualname__") and not inspect.ismethod(value)
    kind = "class" if inspect.isclass(value) else "function" if code else "value"
    path = _member(f"{holder.__name__}.{name}").path if kind == "value" else f"{value.__module__}.{value.__qualname__}"
    docstring = _member(path).docstring if kind == "value" else inspect.getdoc(value)
    home = path.rpartition(".")[0]
    file = ".".join([*holder.__name__.split(".")[2:], name])
    file += f"_{kind}" if file.lower() in taken else ""  # some file systems do not tell Answer from answer
    taken.add(file.lower())
    return Entry(
        name=_shortest(holder, name, value),
        path=path,
        room=room,
        file=file,
        kind=kind,
        summary=(getattr(docstring, "value", docstring) or "").partition("\n")[0],
        module="" if home == holder.__name__ else inspect.getdoc(import_module(home)) or "",
    )


def _shortest(holder: ModuleType, name: str, value: Any) -> str:
    """Return the name that users write: that of `mechaudio` itself where it has one."""
    top = import_module(TOP)
    direct = name in top._homes and getattr(top, name) is value
    return f"ma.{name}" if direct else f"ma{holder.__name__.removeprefix(TOP)}.{name}"


def table_of_contents(room: str) -> str:
    """Write a row for every object of a room: its name, a link to its page, and what it is."""
    lines: list[str] = []
    for heading, section in contents()[room].items():
        module = import_module(TOP + heading.removeprefix("ma"))
        if len(contents()[room]) > 1:
            lines += [f"## `{heading}`", "", inspect.getdoc(module) or "", ""]
        lines += ["| name | |", "|---|---|"]
        lines += [
            f"| [`{entry.name}`]({room}/{entry.file}.md) | {entry.summary.replace('|', chr(92) + '|')} |"
            for entry in section
        ]
        lines += [""]
    return "\n".join(lines)


def on_files(files: Any, config: Any) -> Any:
    """Give MkDocs a page for every object."""
    from mkdocs.structure.files import File

    for entry in entries():
        files.append(File.generated(config, entry.page, content=entry.markdown()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put tables of contents where pages of rooms name their modules, and links on the page of all names."""
    if page.file.src_uri == "reference/names.md":
        links = {entry.name: f"{entry.room}/{entry.file}.md" for entry in entries()}
        return re.sub(r"^\| `([\w.]+)` \|", lambda row: f"| [`{row[1]}`]({links[row[1]]}) |", markdown, flags=re.M)
    return NAMES.sub(lambda _: table_of_contents(Path(page.file.src_uri).stem), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Keep words of code whole, which browsers would break behind a hyphen or a slash."""
    return CODE.sub(lambda code: code[1] or f"<code>{re.sub(r'[^ ]+', _whole, code[2])}</code>", html)


def _whole(word: re.Match[str]) -> str:
    short = len(unescape(word[0])) <= LONGEST_WORD and not re.fullmatch(r"\w+", word[0])
    return f'<span class="whole">{word[0]}</span>' if short else word[0]

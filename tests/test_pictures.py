"""The pictures of the pages: shown, small, described, and drawn by the code beside them."""

import re
import runpy
import struct

import pytest

from tests.snippets import REPOSITORY, snippets

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
SHOWN = re.compile(r"!\[([^\]]*)\]\((?:docs/)?images/([\w.]+)\)")
FIGURES = runpy.run_path(str(DOCS / "figures.py"))
PICTURES = FIGURES["PICTURES"]


def shown_on(page):
    """Description and file of every picture of a page."""
    return SHOWN.findall(page.read_text(encoding="utf-8"))


def test_every_picture_is_shown_and_every_picture_that_is_shown_is_there():
    shown = {file for page in PAGES for _, file in shown_on(page)}
    assert shown == {path.name for path in (DOCS / "images").iterdir()}


def test_every_picture_says_in_words_what_it_shows():
    assert [file for page in PAGES for words, file in shown_on(page) if len(words.split()) < 8] == []


def test_pictures_are_small():
    largest = {f"{name}.png": picture.largest for name, picture in PICTURES.items()}
    files = (DOCS / "images").iterdir()
    assert [file.name for file in files if file.stat().st_size > largest.get(file.name, FIGURES["LARGEST"])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_whose_code_draws_shows_what_is_drawn(page):
    draws = re.compile(r"ma\.viz\.(?!figure_of|__)\w+\(|\.plot\(")
    assert shown_on(page) or not any(draws.search(block) for block in snippets(page))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_from_names_that_the_code_of_its_page_makes(name):
    picture = PICTURES[name]
    assert f"images/{name}.png" in (DOCS / f"{picture.page}.md").read_text(encoding="utf-8")
    assert picture.blocks()
    with (DOCS / "images" / f"{name}.png").open("rb") as file:
        width, height = struct.unpack(">16xII", file.read(24))
    assert (width, height) == (FIGURES["SCALE"] * picture.width, FIGURES["SCALE"] * picture.height)


def test_a_picture_of_what_its_page_never_makes_is_refused():
    forged = FIGURES["Picture"]("faq", "ma.viz.flow_map(nowhere)")
    with pytest.raises(ValueError, match=r"docs/faq\.md makes no nowhere"):
        forged.blocks()

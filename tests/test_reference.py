"""The reference: a page for every public object, and each name once."""

import runpy

import pytest

import mechaudio as ma
from tests.snippets import REPOSITORY

pytest.importorskip("griffe", reason="the reference is made with mechaudio[docs]")
PAGES = runpy.run_path(str(REPOSITORY / "docs/reference_pages.py"))
ROOMS = sorted({*ma.__all__} - {*ma._homes, "__version__"})


@pytest.fixture(scope="module")
def entries():
    return PAGES["entries"]()


def test_every_object_has_one_name_and_one_page_also_where_files_of_one_spelling_are_one(entries):
    for part in ("name", "path", "page"):
        values = [getattr(entry, part).lower() if part == "page" else getattr(entry, part) for entry in entries]
        assert len(set(values)) == len(values)


def test_every_public_name_leads_to_a_page(entries):
    objects = {id(_at(entry.name)) for entry in entries}
    assert [name for name in ma._homes if f"ma.{name}" not in {entry.name for entry in entries}] == []
    for room in ROOMS:
        for name, value in ((name, getattr(getattr(ma, room), name)) for name in getattr(ma, room).__all__):
            assert id(value) in objects or hasattr(value, "__path__") or hasattr(value, "__file__"), (room, name)


def _at(name):
    value = ma
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


def test_every_object_says_in_a_line_what_it_is(entries):
    assert [entry.name for entry in entries if len(entry.summary) < 10] == []


def test_a_page_has_the_name_the_docstring_and_what_its_module_says(entries):
    (entry,) = (entry for entry in entries if entry.name == "ma.analyses.activation_patching")
    page = entry.markdown()
    assert "::: mechaudio.analyses.patching.activation_patching.activation_patching" in page
    assert "heading: ma.analyses.activation_patching" in page
    assert "[← Analyses](../analyses.md)" in page
    assert "Denoising puts clean activations into the corrupted run" in page


def test_the_page_of_a_room_lists_its_objects_under_the_modules_that_hold_them():
    table = PAGES["table_of_contents"]("data")
    assert table.index("## `ma.data.mmau`") < table.index("[`ma.data.mmau.load`](data/mmau.load.md)")
    assert "[`ma.analyses.activation_patching`](analyses/activation_patching.md) | Patch every place by itself" in (
        PAGES["table_of_contents"]("analyses")
    )


def test_every_page_of_a_room_names_its_modules():
    pages = {path.stem for path in (REPOSITORY / "docs/reference").glob("*.md")} - {"index", "names"}
    assert pages == set(PAGES["contents"]())


def test_words_of_code_stay_whole_and_blocks_of_code_as_they_are():
    html = "<pre><code>a --b</code></pre><p><code>mechaudio patch --over layer</code> <code>x &lt;-y</code></p>"
    assert PAGES["on_page_content"](html) == (
        '<pre><code>a --b</code></pre><p><code>mechaudio patch <span class="whole">--over</span> layer</code> '
        '<code>x <span class="whole">&lt;-y</span></code></p>'
    )
    assert "span" not in PAGES["on_page_content"](f"<code>{'a-' * 40}</code>")

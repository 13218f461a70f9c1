"""The examples of the pages run as they are pasted: every python block of a page, in order, in one file."""

import argparse
import ast
import functools
import importlib
import math
import re
import runpy
import sys
import tempfile
from pathlib import Path

import plotly.graph_objects as go
import pytest

import mechaudio as ma
from mechaudio.cli import parser
from mechaudio.data.toy_questions import ask, sung
from mechaudio.models import registry
from mechaudio.models.toy import arithmetic, decoder, planted, tower
from tests.browser import needs_browser
from tests.snippets import REPOSITORY, snippets

PRINTED = re.compile(r"^```\n\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""What stands right behind a python block as its output."""
METHODS = REPOSITORY / "docs/which_method.md"
pytestmark = pytest.mark.usefixtures("without_proofs")


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Page -> the lines that its blocks print; a figure that is shown prints its traces instead."""
    monkeypatch.setattr(registry, "_REGISTERED", {})  # what a page registers goes with it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(go.Figure, "show", lambda figure: sys.stdout.write(f"a figure of {len(figure.data)} traces\n"))

    def run(page: str) -> list[str]:
        blocks = snippets(page)
        assert blocks
        script = tmp_path / f"{Path(page).stem}.py"  # a trace block is read from its file
        script.write_text("\n".join(blocks), encoding="utf-8")
        runpy.run_path(str(script))
        return capsys.readouterr().out.splitlines()

    return run


def assert_said(printed: list[str], page: list[str]) -> None:
    """Lines are those of a page; of numbers with three places or more the last may be off by 5.

    Processors add in orders of their own, and a fitted probe carries that up to the third place.
    """
    fine = re.compile(r"\d+\.(\d{3,})")
    assert [fine.sub("#", line) for line in printed] == [fine.sub("#", line) for line in page]
    for line, expected in zip(printed, page, strict=True):
        for number, wanted in zip(fine.finditer(line), fine.finditer(expected), strict=True):
            bound = 5.5 * 10.0 ** -len(wanted[1])
            assert abs(float(number[0]) - float(wanted[0])) < bound, f"{line!r}, and the page says {expected!r}"


def test_pages_that_are_made_from_the_code_show_what_it_says(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(REPOSITORY / "docs/generate.py"), run_name="__main__")


def test_the_readme_is_about_one_screen_and_its_example_prints_what_it_says(told):
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (printed,), (example,) = PRINTED.findall(text), snippets("README.md")
    assert_said(told("README.md"), printed.splitlines())
    assert len(example.splitlines()) <= 24
    assert len(text.splitlines()) <= 75


def test_the_home_page_is_the_readme():
    def words(path):
        return re.sub(r"\]\([^)]*\)", "]", (REPOSITORY / path).read_text(encoding="utf-8"))

    assert words("docs/index.md").replace("[the repository]", "this repository") == words("README.md")


def test_no_paragraph_is_longer_than_ninety_words():
    pages = [*(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md"))]
    for page in pages:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.) )", text):
            words = re.sub(r"\]\([^)]*\)", "]", paragraph).split()
            assert len(words) <= 90 or paragraph.lstrip().startswith("|"), (page.name, " ".join(words[:12]))


def test_a_second_paragraph_of_a_list_item_is_indented_by_four():
    for page in [*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "CHANGELOG.md"]:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert not re.findall(r"\n\n {1,3}\S.*", text), page.name  # the site ends the list there, and runs on the rest


def test_every_row_of_the_table_of_methods_names_a_function_a_page_and_a_verb_that_there_are():
    rows = [line.split(" | ") for line in METHODS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for _, functions, page, verb in rows:
        for name in re.findall(r"`ma\.([\w.]+)`", functions):
            assert functools.reduce(getattr, name.split("."), ma)
        (file, _, heading) = re.search(r"\]\(([\w.]+)(#([\w-]+))?\)", page).groups()
        text = (METHODS.parent / file).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert heading is None or heading in [re.sub(r"\W+", "-", said.lower()).strip("-") for said in headings]
        assert set(re.findall(r"`mechaudio ([\w-]+)`", verb)) <= set(verbs.choices)
    reached = {verb for *_, cell in rows for verb in re.findall(r"`mechaudio ([\w-]+)`", cell)}
    assert set(verbs.choices) - reached == {"demo", "models", "assemble", "get"}  # which ask nothing of a model


def test_the_examples_of_the_concepts_run(told):
    assert told("docs/concepts.md") == []


@pytest.mark.whole
def test_the_page_on_sweeps_prints_what_it_says(told):
    printed = PRINTED.findall((REPOSITORY / "docs/sweeps.md").read_text(encoding="utf-8"))
    assert_said(told("docs/sweeps.md"), "".join(printed).splitlines())


@pytest.mark.parametrize(
    "page",
    [
        "errors",
        "faq",
        pytest.param("coming_from_nnsight", marks=pytest.mark.whole),
        pytest.param("coming_from_transformer_lens", marks=pytest.mark.whole),
        pytest.param("harvesting", marks=pytest.mark.whole),
        pytest.param("recipes", marks=[pytest.mark.whole, needs_browser]),
    ],
)
def test_the_pages_for_people_who_come_print_what_they_say(told, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # recipes write files
    printed = PRINTED.findall((REPOSITORY / f"docs/{page}.md").read_text(encoding="utf-8"))
    assert_said(told(f"docs/{page}.md"), "".join(printed).splitlines())


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_the_code_of_a_page_is_python_that_names_what_there_is(page):
    """Of pages whose run is left to `make check` too."""
    for block in snippets(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mechaudio"):
                assert all(hasattr(importlib.import_module(node.module), name.name) for name in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ma":
                assert hasattr(ma, node.attr), node.attr


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("docs/toy.md", marks=pytest.mark.whole),
        pytest.param("docs/where_it_listens.md", marks=pytest.mark.whole),
        pytest.param("docs/who_listens.md", marks=pytest.mark.whole),
        pytest.param("docs/lenses.md", marks=pytest.mark.whole),
        pytest.param("docs/probes.md", marks=pytest.mark.whole),
        pytest.param("docs/flow.md", marks=pytest.mark.whole),
        pytest.param("docs/patching.md", marks=pytest.mark.whole),
        pytest.param("docs/attribution_patching.md", marks=pytest.mark.whole),
        pytest.param("docs/your_own_direction.md", marks=pytest.mark.whole),
        pytest.param("docs/keeping_results.md", marks=pytest.mark.whole),
        pytest.param("docs/open_questions.md", marks=pytest.mark.whole),
        pytest.param("docs/steering.md", marks=pytest.mark.whole),
        pytest.param("docs/mata.md", marks=pytest.mark.whole),
        "docs/statistics.md",
        "docs/cluster.md",
        "docs/own_class.md",
        "docs/timeaudio.md",
        pytest.param("docs/large_models.md", marks=pytest.mark.whole),
    ],
)
def test_a_page_prints_what_it_says(told, page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    printed = PRINTED.findall(text)
    assert len(printed) == len(snippets(page))
    assert_said(told(page), "".join(printed).splitlines())


def cells(page: str, columns: int) -> list[list[str]]:
    rows = [line[2:-2] for line in page.splitlines() if line.startswith("| ")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]
    return [row for row in split if len(row) == columns]


def test_the_softmax_of_the_toy_page_adds_up():
    _, *rows, total = cells((REPOSITORY / "docs/toy.md").read_text(encoding="utf-8"), 5)
    assert sum(int(number) for _, number, *_ in rows) == 101
    for keys, number, score, weight, together in rows:
        second = re.search(r"second (\d)", keys)
        sings = 0 if keys.startswith("silence") else 1
        expected = planted.TONE_SCORE * sings + planted.SECOND_SCORE * int(second[1]) if second else planted.BEGIN_SCORE
        assert float(score) == expected
        assert float(weight) == round(math.exp(expected), 3)
        assert float(together) == round(int(number) * math.exp(expected), 2)
    assert float(total[-1]) == pytest.approx(sum(float(row[-1]) for row in rows), abs=0.011)
    heard = arithmetic.listen(ask([sung("tenor", 1), sung("alto", 3)], ["tenor", "alto"]))
    assert 1 - float(rows[-1][-1]) / float(total[-1]) == pytest.approx(heard.mass, abs=1e-6)


def test_the_toy_page_names_the_heads_and_constants_that_the_weights_are_made_of():
    page = (REPOSITORY / "docs/toy.md").read_text(encoding="utf-8")
    rows = {row[0].strip("`"): tuple(map(int, re.findall(r"\d+", row[1]))) for row in cells(page, 3)}
    truth = planted.PLANTED
    heads = ("listening", "reading", "decoy", "binding", "collecting", "joining")
    expected = {**{name: getattr(truth, name) for name in heads}, "inert_layer": (truth.inert_layer,)}
    assert {name: rows[name] for name in expected} == expected
    assert set(rows) == {*expected, "planted"}
    numbers = {9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    share = math.exp(planted.NAME_SCORE) / (math.exp(planted.NAME_SCORE) + 1)
    told = arithmetic.read("soprano first")["soprano"]
    assert share == pytest.approx(0.75)
    assert math.exp(planted.NAME_SCORE) == pytest.approx(3)
    for phrase in (
        f"The {numbers[len(truth.inert) - 1]} heads that are not in the table",
        f"{planted.TONE_SCORE:g} x the strengths of the voices in it - {-planted.SECOND_SCORE:g} x the number",
        f"| the prompt's first token | {planted.BEGIN_SCORE:g} |",
        f"| {planted.NEVER:g}, which",
        f"1 + L / {planted.DECIBELS_PER_STRENGTH:g}",
        f"which is multiplied by {planted.COLLECTED:g}",
        f"= {planted.EVIDENCE_LOGIT:g} x evidence for its voice",
        f"{planted.EVIDENCE_LOGIT * planted.COLLECTED:g} / *n*",
        f"{decoder.CARRIER:g} in the decoder",
        f"the carrier is {tower.CARRIER:g}",
        "base of 1e8",
        f"{share:.2f} x {planted.TOLD:g} = {told:.3f} of evidence, {planted.EVIDENCE_LOGIT * told:.1f} of a logit",
        "a score of log 3",
    ):
        assert phrase in page.replace("\n", " "), phrase
    assert decoder.ROPE_BASE == 1e8
    assert planted.PRIOR == (1, 0, 0, 0)


def test_the_example_of_the_corpora_builds_questions(told):
    built, question = told("docs/corpora.md")
    assert re.match(r"Benchmark\([1-9]\d* questions of 8 clips: ", built)
    assert question.startswith("Which sound event has the ")


def test_the_interventions_of_the_guide_do_what_it_says(told):
    said = told("docs/adding_an_intervention.md")
    assert said[0] == "True"
    assert said[1].startswith("CapAttention(limit=1.0, layers=[1, 2])")
    assert all(line.endswith("rows") for line in said[3:])


@pytest.mark.whole
def test_the_examples_of_evaluating_run_and_a_run_that_is_taken_up_is_the_same(told):
    said = told("docs/evaluating.md")
    right, asked, deaf = map(int, re.fullmatch(r"(\d+) of (\d+) right, with silence (\d+)", said[0]).groups())
    assert deaf < right <= asked == 12
    assert re.fullmatch(r"12 variants; clean: \d+ right", said[4])
    place = said.index("True True")
    assert re.fullmatch(r"[A-D] means \w+ and 0 cannot be read", said[place - 1])


@pytest.mark.whole
def test_the_temporal_benchmark_is_built_and_studied(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = told("docs/temporal_benchmark.md")
    assert said[0] == "True"
    assert (tmp_path / "benchmark" / "manifest.json").is_file()
    assert re.fullmatch(r"\d+ right with silence", said[1])
    assert said[2].startswith("Which rows listen cannot be told from so few clips")
    assert said[3].startswith("With the recording ")
    assert any("the best upweighting (upweighting 1, last, all layers)" in line for line in said)

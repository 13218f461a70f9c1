"""The notebooks carry what a run of them gives, and the check that compares them says which cell differs."""

import base64
import copy
import io
import json
import re
import runpy
import struct

import pytest

from tests.snippets import REPOSITORY

PATHS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PATHS}
OUTPUTS = runpy.run_path(str(REPOSITORY / "notebooks/outputs.py"))
FIGURE = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"title": {"text": "Two<br>bars"}, "height": 200}}


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def shown(data):
    return {"output_type": "display_data", "metadata": {}, "data": data}


def printed(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": [text]}


def notebook_of(*outputs, code="measure()\nprint(1)"):
    cells = [{"cell_type": "code", "source": [code], "metadata": {"execution": {"when": 1}}, "outputs": list(outputs)}]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def differences(carried, fresh):
    return OUTPUTS["differences"](notebook_of(*carried), notebook_of(*fresh))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_begins_with_colab_and_ends_with_three_sentences(name):
    first, install, *_, last = NOTEBOOKS[name]["cells"]
    address = f"https://colab.research.google.com/github/mechaudio/mechaudio/blob/main/notebooks/{name}.ipynb"
    assert f"[Open in Colab]({address})" in source(first)
    assert source(install).startswith('import sys\n\nif "google.colab" in sys.modules:\n    %pip install')
    title, sentences = source(last).split("\n\n")
    assert title == "## What was learnt"
    assert len(re.findall(r"[^.]\.(?= [A-Z*`]|$)", " ".join(sentences.split()))) == 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_carries_texts_tables_and_pictures(name):
    outputs = [output for cell in code_cells(NOTEBOOKS[name]) for output in cell["outputs"]]
    kinds = {form for output in outputs for form in output.get("data", {"text": output.get("text")})}
    assert (
        {"text", "text/html", "image/png"} <= kinds <= {"text", "text/html", "text/markdown", "text/plain", "image/png"}
    )
    assert [cell["execution_count"] for cell in code_cells(NOTEBOOKS[name])] == [
        *range(1, 1 + len(code_cells(NOTEBOOKS[name])))
    ]
    for png in (output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})):
        width, height = struct.unpack(">16xII", base64.b64decode(png)[:24])
        assert width == OUTPUTS["WIDTH"] * OUTPUTS["SCALE"]
        assert height > 100


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pictures_stand_on_white_for_their_ink_is_dark(name):
    image = pytest.importorskip("PIL.Image", reason="pillow comes with mechaudio[notebooks]")
    for cell in code_cells(NOTEBOOKS[name]):
        for data in (output.get("data", {}) for output in cell["outputs"]):
            if "image/png" in data:
                picture = image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
                assert picture.getpixel((1, 1)) == (255, 255, 255)


def test_notebooks_say_nothing_of_where_and_when_they_ran():
    carried = "".join(json.dumps([cell["outputs"] for cell in code_cells(notebook)]) for notebook in NOTEBOOKS.values())
    texts = re.sub(r'"image/png": "[^"]*"', "", carried)
    assert re.findall(r"/(?:root|home|tmp|work|Users)/\S*|it/s|s/it|questions/s|0x[0-9a-f]{6,}|ipykernel", texts) == []
    assert all(set(cell["metadata"]) <= {"tags"} for book in NOTEBOOKS.values() for cell in code_cells(book))
    assert all("widgets" not in book["metadata"] for book in NOTEBOOKS.values())


def test_notebooks_are_of_modest_size():
    assert sum(path.stat().st_size for path in PATHS) < 6_000_000


def test_a_run_that_gives_the_same_on_another_processor_is_no_difference():
    carried = [printed("loss 0.104, 152 right\n  r = -0.00, p = 2e-05\n")]
    assert differences(carried, [printed("loss 0.105, 154 right\n"), printed("r =  0.00, p = 3e-05\n")]) == []
    assert differences(carried, [printed("a bar 40%", "stderr"), *carried]) == []


@pytest.mark.parametrize(
    ("carried", "fresh"),
    [
        (printed("loss 0.10"), printed("loss 0.14")),
        (printed("in layer 3"), printed("in layer 4")),
        (printed("the head looks"), printed("the head looks away")),
        (printed("the head looks"), shown({"text/html": "<table><tr><td>1</td></tr></table>"})),
        (
            shown({"text/html": "<table><tr><td>0.31</td></tr></table>"}),
            shown({"text/html": "<table><tr><td>0.39</td></tr></table>"}),
        ),
        (shown({"text/markdown": "- It is *sure*."}), shown({"text/markdown": "- It is *not sure*."})),
        (shown({OUTPUTS["FIGURE"]: FIGURE}), printed("no picture")),
        (shown({OUTPUTS["FIGURE"]: FIGURE}), shown({OUTPUTS["FIGURE"]: FIGURE | {"layout": {}}})),
    ],
)
def test_a_difference_names_the_cell_and_both_outputs(carried, fresh):
    (said,) = differences([carried], [fresh])
    assert re.match(r"code cell 1 \(`measure\(\)`\) carries the \w+ .*, and gives the \w+ ", said)


def test_a_long_output_is_quoted_where_it_differs():
    long = "one " * 50
    (said,) = differences([printed(f"{long} two 0.5 three")], [printed(f"{long} two 0.9 three")])
    assert said.endswith("carries the text …one one two 0.5 three, and gives the text …one one two 0.9 three")


def test_an_output_too_many_or_too_few_is_a_difference():
    assert differences([], [printed("more")]) == ["code cell 1 (`measure()`) carries nothing, and gives the text more"]
    assert differences([printed("less")], []) == ["code cell 1 (`measure()`) carries the text less, and gives nothing"]


def test_a_run_of_other_cells_is_told_from_a_run_of_these():
    assert OUTPUTS["differences"](notebook_of(), notebook_of(code="other()")) == [
        "the run is of other cells: run the notebook again"
    ]


def test_a_cell_that_ended_in_an_error_is_refused():
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no head", "traceback": []}
    with pytest.raises(ValueError, match="a cell ended in ValueError: no head"):
        differences([], [error])


def test_what_a_run_gave_is_carried_as_a_forge_shows_it_and_then_agrees_with_the_run():
    bar = shown({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "40%"})
    value = shown({"text/plain": "AudioLM"})
    script = shown({"text/html": "<script>draw()</script>"})
    frame = shown({"text/html": "<table><tr><td>1</td></tr></table>", "text/plain": "1"})
    player = shown({"text/html": "<audio></audio>", "text/plain": "AudioClip(1.00 s)"})
    run = notebook_of(printed("a "), bar, printed("b\n"), value, printed("w", "stderr"), script, frame, player)
    written = OUTPUTS["carrying"](notebook_of(), copy.deepcopy(run))
    (cell,) = written["cells"]
    assert [output.get("text") or sorted(output["data"]) for output in cell["outputs"]] == [
        ["a b\n", "AudioLM"],
        ["text/html", "text/plain"],
        ["AudioClip(1.00 s)"],
    ]
    assert (cell["execution_count"], cell["metadata"]) == (1, {})
    assert OUTPUTS["differences"](written, run) == []


def test_a_picture_that_is_carried_is_known_by_its_title():
    picture = shown({"image/png": "…", "text/plain": ["Figure: Two bars"]})
    assert differences([picture], [shown({OUTPUTS["FIGURE"]: FIGURE})]) == []


def test_the_command_says_all_differences_and_fails(tmp_path, capsys):
    run = tmp_path / PATHS[0].name
    fresh = copy.deepcopy(NOTEBOOKS[PATHS[0].stem])
    run.write_text(json.dumps(fresh), encoding="utf-8")
    assert OUTPUTS["main"]([str(run)]) == 0
    code_cells(fresh)[2]["outputs"] = []
    run.write_text(json.dumps(fresh), encoding="utf-8")
    assert OUTPUTS["main"]([str(run)]) == 1
    errors = capsys.readouterr().err
    assert f"{PATHS[0].name}, code cell 3 (`questions = ma.data.soundscapes.questions(16, seed=5)`) carries" in errors
    assert "`make outputs` has the notebooks carry what it gives" in errors

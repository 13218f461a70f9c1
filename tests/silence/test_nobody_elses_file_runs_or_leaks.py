"""Nobody else's file runs or leaks anything: what is loaded is checked, what is written stays in its place."""

import csv
import io
import json
import os
import re
import shutil
import stat
import sys
import time
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from pyarrow import parquet

import mechaudio as ma
from mechaudio.cli.mistakes import in_options, writable
from mechaudio.data import choices, toy_questions
from mechaudio.metrics import parse_choice
from mechaudio.metrics.sound_events import event_f1
from mechaudio.metrics.spans import described_in
from mechaudio.models.positions import _STRETCH
from mechaudio.report import Table, write_figures, write_tables
from mechaudio.report.rendering import write_whole
from mechaudio.report.tables import Column, latex
from mechaudio.results import digest_of_file
from tests.data.files import write_sound, write_table

SCENE = (ma.Event("dog", 0.4, 2.1), ma.Event("car", 1.5, 8.8))


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory):
    return ma.evaluate(toy, toy_questions.questions(3, 0)).save(tmp_path_factory.mktemp("saved") / "result")


@pytest.fixture
def result(saved, tmp_path):
    """A result in a folder that a test may change."""
    return shutil.copytree(saved, tmp_path / "result")


def forge(folder: Path, change) -> None:
    file = folder / "result.json"
    head = json.loads(file.read_text(encoding="utf-8"))
    change(head)
    file.write_text(json.dumps(head), encoding="utf-8")


def loaded_benchmark(folder: Path, recording: Path):
    """A benchmark of somebody else's, whose rows name a recording."""
    settings = ma.temporal.Settings(n_choices=2)
    built = ma.temporal.build([ma.AnnotatedClip(recording, SCENE, id="a")], settings=settings)
    return ma.temporal.load(built.save(folder, embed=False))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda rows: rows.pop(), "has 2 questions, and its manifest.json says 3: they are not of one build"),
        (lambda rows: rows[1].update(id=rows[0]["id"]), "has several questions of the id"),
        (lambda rows: rows[0].update(task="another"), "its task is 'another', and that of its meta"),
        (lambda rows: rows[0].update(meta="[" * 100_000), "row 0 of .* is no question of a benchmark: maximum"),
        (lambda rows: rows[0].update(meta="[]"), "row 0 of .* is no question of a benchmark"),
    ],
)
def test_a_benchmark_whose_parts_do_not_belong_together_is_refused(tmp_path, change, refusal):
    write_sound(tmp_path / "a.wav", 10.0)
    built = ma.temporal.build(
        [ma.AnnotatedClip(tmp_path / "a.wav", SCENE, id="a")], settings=ma.temporal.Settings(n_choices=2)
    )
    folder = built.save(tmp_path / "saved", embed=False)
    file, manifest = folder / "questions.parquet", json.loads((folder / "manifest.json").read_text())
    table = parquet.read_table(file)
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(table.from_pylist(rows, schema=table.schema), file)
    manifest["questions_sha256"] = digest_of_file(file)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=refusal):
        ma.temporal.load(folder)


@pytest.mark.parametrize("module", ["mechaudio.cli.__main__", "mechaudio.models.small.convert", "os", "antigravity"])
def test_a_result_imports_nothing_but_modules_that_define_its_class(result, module):
    forge(result, lambda head: head["result"].update({"$class": f"{module}.X"}))
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"result\.json' holds a X, which is not known here"):
        ma.Result.load(result)
    assert module not in set(sys.modules) - before


def test_a_result_of_fewer_ids_than_answers_names_the_file_and_both_numbers(result):
    forge(result, lambda head: head["result"].update(ids=["one"]))
    with pytest.raises(ValueError, match=r"result\.json' is damaged: ids of its Evaluation has 1 entry for 3"):
        ma.Result.load(result)


@pytest.mark.parametrize(("field", "usual"), [("condition", "'audio', 'caption', "), ("scoring", "'letter_logit', ")])
def test_a_result_was_asked_and_scored_in_a_way_that_there_is(result, field, usual):
    forge(result, lambda head: head["result"].update({field: "as one likes"}))
    with pytest.raises(ValueError, match=rf"result\.json' .*{field} of its Evaluation is .*should be one of {usual}"):
        ma.Result.load(result)


def test_a_header_that_claims_terabytes_is_refused_before_anything_is_allocated(result):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(result / "arrays.npz", "w") as archive:
        archive.writestr("chosen.npy", b"\x93NUMPY\x01\x00v\x00" + header + b"\x00" * 8)
    forge(result, lambda head: head.update(arrays_sha256=digest_of_file(result / "arrays.npz")))
    with pytest.raises(
        ValueError, match=r"arrays\.npz' is damaged: .* shape \[1000000000000\], 8000000000000 bytes, and has 8"
    ):
        ma.Result.load(result)


def test_values_nested_a_hundred_thousand_deep_are_refused(result):
    (result / "result.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"result\.json' is damaged"):
        ma.Result.load(result)


def test_every_result_of_the_package_is_in_the_closed_table():
    from mechaudio.reading import _classes_of_the_package

    known = {(kind.__module__, kind.__name__) for kind in ma.Result.kinds.values()}
    own = {entry for entry in known if entry[0].startswith("mechaudio.")}
    assert own
    assert own <= _classes_of_the_package()
    assert not any(module.startswith("mechaudio.cli") for module, _ in _classes_of_the_package())


def test_a_loaded_benchmark_does_not_put_in_files_from_elsewhere(tmp_path):
    private = tmp_path / "home" / "id_rsa"
    private.parent.mkdir()
    private.write_text("-----BEGIN PRIVATE KEY-----")
    theirs = loaded_benchmark(tmp_path / "theirs", private)
    for publish in (lambda: theirs.save(tmp_path / "mine"), theirs.dataset):
        with pytest.raises(ValueError, match=r"id_rsa', lies outside '.*theirs', which the benchmark was loaded from"):
            publish()


def test_neither_does_one_whose_link_leads_elsewhere_nor_one_whose_file_is_no_sound(tmp_path):
    outside = write_sound(tmp_path / "home" / "diary.wav")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "link.wav").symlink_to(outside)
    with pytest.raises(ValueError, match="lies outside"):
        loaded_benchmark(theirs, theirs / "link.wav").save(tmp_path / "mine")
    (theirs / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav' cannot be read"):
        loaded_benchmark(theirs, theirs / "text.wav").save(tmp_path / "mine")
    os.mkfifo(theirs / "pipe.wav")
    with pytest.raises(ValueError, match=r"pipe\.wav' is no file"):
        loaded_benchmark(theirs, theirs / "pipe.wav").save(tmp_path / "mine")


def test_recordings_inside_its_folder_and_ones_own_are_put_in(tmp_path):
    inside = write_sound(tmp_path / "theirs" / "clip.wav")
    again = ma.temporal.load(loaded_benchmark(tmp_path / "theirs", inside).save(tmp_path / "mine"))
    assert again[0].audio.read() == inside.read_bytes()


@pytest.mark.parametrize("name", ["../../outside.wav", "/{}/outside.wav", "../audio/../../outside.wav"])
def test_a_corpus_that_names_a_recording_out_of_its_folder_says_so(tmp_path, name):
    write_sound(tmp_path / "outside.wav")
    write_sound(tmp_path / "corpus" / "audio" / "a.wav")
    name = name.format(str(tmp_path).lstrip("/"))
    table = write_table(
        tmp_path / "corpus" / "events.csv",
        "file,onset,offset,label",
        (name, 0, 1, "dog"),
        ("a.wav", 0, 1, "dog"),
    )
    corpus = ma.data.annotations.load(table, audio=tmp_path / "corpus" / "audio")
    assert [clip.id for clip in corpus] == ["a.wav"]
    assert corpus.problem_counts() == {"recording outside": 1}


def one_of_ftar(**meta):
    return [ma.AudioQuestion((np.linspace(-0.5, 0.5, 1_600), 16_000), "What is heard?", answer="a dog", meta=meta)]


@pytest.mark.parametrize("meta", [{"split": ".."}, {"split": "/elsewhere"}, {"task": "../x"}, {"task": ""}])
def test_questions_that_name_a_place_elsewhere_are_not_written_there(tmp_path, meta):
    with pytest.raises(ValueError, match="cannot name a file"):
        ma.data.ftar.save(one_of_ftar(**meta), tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_questions_that_lie_in_a_folder_are_not_read_with_others(tmp_path):
    for _ in range(2):
        folder = ma.data.ftar.save(one_of_ftar(split="test", task="tag"), tmp_path)
    with pytest.raises(ValueError, match=r"holds questions that are not among these \(test/"):
        ma.data.ftar.save(one_of_ftar(split="train", task="tag"), tmp_path)
    both = [*one_of_ftar(task="tag"), *one_of_ftar(task="temporal_audio_grounding")]  # one file's two names
    folder = ma.data.ftar.save(both, tmp_path / "both")
    assert len(ma.data.ftar.load(folder / "train")) == 2


def test_the_card_of_questions_shows_their_words_as_they_are():
    card = ma.data.ftar.card(one_of_ftar(split="a|b<script>", task="$x$ `y`"))
    assert r"| a\|b&lt;script> | \$x\$ \`y\` | 1 |" in card


def test_links_in_a_folder_that_the_user_names_are_followed(tmp_path):
    outside = write_sound(tmp_path / "disk" / "a.wav")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").symlink_to(outside)
    table = write_table(tmp_path / "events.csv", "file,onset,offset,label", ("a.wav", 0, 1, "dog"))
    assert not ma.data.annotations.load(table, audio=tmp_path / "audio").problems


@pytest.mark.parametrize(("withheld", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o027, 0o640)])
def test_a_page_is_as_private_as_the_umask_says(tmp_path, withheld, mode):
    before = os.umask(withheld)
    try:
        page = write_whole(tmp_path / "page.html", "sound")
    finally:
        os.umask(before)
    assert stat.S_IMODE(page.stat().st_mode) == mode


def test_a_link_that_was_there_is_left_when_a_folder_is_tried(tmp_path):
    (tmp_path / ".mechaudio-can-write").symlink_to(tmp_path / "elsewhere")
    writable(tmp_path, "Listening")
    assert os.listdir(tmp_path) == [".mechaudio-can-write"]


def seconds_of(call) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def assert_linear(call, long: int) -> None:
    """A call takes at most ten times as long for four times as much; for a quadratic one it is sixteen times."""
    short, whole = (min(seconds_of(lambda n=n: call(n)) for _ in range(2)) for n in (long // 4, long))
    assert whole < 10 * short + 0.02, f"{short:.3f} s, and {whole:.3f} s for four times as much"


@pytest.mark.parametrize(
    ("start", "filling", "times"),
    [("", "a", 100_000), ("", "f(", 50_000), ("", "out=[", 20_000), ("f(", "g()", 30_000), ("", "(", 100_000)],
)
def test_no_message_takes_quadratic_time(start, filling, times):
    def message(n):
        assert len(in_options(f"answer {start}{filling * n}", Namespace(out=None, n=1))) < 10_000

    assert_linear(message, times)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        *(
            (pattern, lambda n, start=start: start + " " * n + "x" + " " * n + "\x00")
            for pattern in choices.MARKED
            for start in ("(A)", "1.")
        ),
        (choices.LABEL, lambda n: "option" + " " * n + "x" * n),
        (_STRETCH, lambda n: "audio[" + " " * n + "x"),
        (_STRETCH, lambda n: "audio[" + "1." * n + "x"),
    ],
)
def test_no_pattern_takes_quadratic_time(pattern, text):
    assert_linear(lambda n: (pattern.fullmatch(text(n)), pattern.match(text(n))), 100_000)


@pytest.mark.parametrize("text", ["1 - 2 a{}b", "1{}1{}", "between{}1 and{}", "a{}from{}1 - 2{}"])
@pytest.mark.parametrize(
    ("filling", "times"), [(" ", 20_000), ("1 - ", 5_000), ("from ", 5_000), ("1 h 1 min ", 2_000)]
)
def test_no_answer_takes_quadratic_time_to_read(text, filling, times):
    assert_linear(lambda n: described_in(text.replace("{}", filling * n)), times)


@pytest.mark.parametrize(
    "filling", ["the answer is unclear, ", "answer: ", "option is tttttt ", "<answer>x", "choice:\n"]
)
def test_no_text_takes_quadratic_time_to_read_a_choice_from(filling):
    assert_linear(lambda n: parse_choice(filling * n, ("dog", "rain")), 3_000)


def test_no_list_of_events_takes_quadratic_time_to_score():
    events = [ma.Event("dog", 0.1 * number, 0.1 * number + 0.05) for number in range(5_000)]

    def score(n):
        assert event_f1([events[:n]], [events[:n][::-1]], resamples=1).right == n

    assert_linear(score, len(events))


def test_html_and_links_in_words_of_others_are_text_in_markdown_and_latex():
    hostile = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](http://z) `code` 50% $x$ a_b\n\n|"
    table = Table("t", hostile, hostile, (Column("task"),), ((hostile,),))
    markdown, latex = table.to_markdown(), table.to_latex()
    assert "<script" not in markdown
    assert not re.search(r"(?<!\\)\[", markdown)
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 3
    assert r"50\% \$x\$ a\_b" in latex
    assert "\n\n" not in latex


WORDS = (Column("who"), Column("gain", "number"))


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", " =1", "\t=1", "\r@a", "=HYPERLINK(1)"]
)
def test_a_text_that_spreadsheets_would_compute_is_a_text_in_csv(text):
    (row,) = csv.DictReader(io.StringIO(Table("t", "T", "", WORDS, ((text, -1.5),)).to_csv(), newline=""))
    assert row == {"who": f"'{text.replace(chr(13), ' ')}", "gain": "-1.5"}


@pytest.mark.parametrize("text", ["a dog", "-3", "+0.5", "a = b", "", "'quoted'"])
def test_any_other_text_stands_in_csv_as_it_is(text):
    (row,) = csv.DictReader(io.StringIO(Table("t", "T", "", WORDS, ((text, -1.5),)).to_csv(), newline=""))
    assert row == {"who": text, "gain": "-1.5"}


@pytest.mark.parametrize(
    ("text", "row"), [("[5pt] x", "{}[5pt] x & 2"), ("* x", "{}* x & 2"), ("x [5pt]", "x [5pt] & 2")]
)
def test_no_row_begins_with_an_option_of_the_line_before_it_in_latex(text, row):
    assert rf"{row} \\" in Table("t", "T", "", WORDS, ((text, 2.0),)).to_latex().splitlines()


def test_dashes_and_quotation_marks_of_others_stay_apart_in_latex():
    assert latex("a--b ``x'' 5–6") == "a-{}-b `{}`x'{}' 5--6"


def test_a_name_that_is_no_text_is_written_byte_by_byte(tmp_path):
    """As a file's name may be, which Python reads with lone surrogates."""
    folder = write_tables([Table("t", "T", "", WORDS, ((os.fsdecode(b"a\xff.wav"), 2.0),))], tmp_path)
    assert all(r"a\udcff.wav" in file.read_text(encoding="utf-8") for file in folder.iterdir())
    page = write_whole(tmp_path / "page.html", os.fsdecode(b"a\xff.wav"))
    assert page.read_text(encoding="utf-8") == r"a\udcff.wav"


def test_a_page_that_is_stopped_while_it_is_written_leaves_nothing(monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "page.html", "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("_x_", r"\_x\_"),
        ("a_b", "a_b"),
        ("~~x~~", r"\~\~x\~\~"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("R&B; a & b", "R&amp;B; a & b"),
    ],
)
def test_emphasis_and_entities_in_words_of_others_are_letters_in_markdown(text, shown):
    assert f"| {shown} | 2 |" in Table("t", "T", "", WORDS, ((text, 2.0),)).to_markdown()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..", "", "x" * 300, "nul\0"])
def test_names_that_climb_out_of_a_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        write_tables([Table(name, "", "", (Column("a"),), ())], tmp_path / "in")
    with pytest.raises(ValueError, match="cannot name a file"):
        write_figures({name: go.Figure()}, tmp_path / "in")
    assert not list(tmp_path.rglob("*outside*"))


def test_arrays_come_back_bit_for_bit(result):
    assert np.isfinite(ma.Result.load(result).logits).all()


def forged_manifest(folder: Path, **changed) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changed), encoding="utf-8")


@pytest.mark.parametrize("name", ["corpus", "similarity"])
def test_the_card_of_a_benchmark_shows_what_its_manifest_says_as_letters(tmp_path, name):
    loaded_benchmark(tmp_path / "theirs", write_sound(tmp_path / "theirs" / "a.wav"))
    forged_manifest(tmp_path / "theirs", **{name: "x\n\n# Mine\n![](http://x.example/y) <img src=x> `` _z_"})
    theirs = ma.temporal.load(tmp_path / "theirs")
    (line,) = (line for line in theirs.card().splitlines() if "Mine" in line)
    assert r"x # Mine !\[\](http://x.example/y) &lt;img src=x> \`\` \_z\_".replace("!", r"\!") in line


def test_the_card_shows_licenses_as_letters():
    clip = ma.AnnotatedClip(
        ma.AudioClip(np.zeros(160000, np.float32), 16000), SCENE, id="a", meta={"license": "<b>\n# x"}
    )
    built = ma.temporal.build([clip], settings=ma.temporal.Settings(n_choices=2))
    assert "license of their recording: &lt;b> # x" in built.card()


@pytest.mark.parametrize("dropped", [["a", "order", "no events"], ["a", "count", "just so"]])
def test_a_manifest_that_drops_for_no_reason_or_from_no_task_is_damaged(tmp_path, dropped):
    loaded_benchmark(tmp_path / "theirs", write_sound(tmp_path / "theirs" / "a.wav"))
    forged_manifest(tmp_path / "theirs", dropped=[dropped])
    with pytest.raises(ValueError, match=r"manifest\.json' is damaged: it says \['a', .*was dropped"):
        ma.temporal.load(tmp_path / "theirs")

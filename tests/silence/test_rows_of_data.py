"""One bad row never ends a load: it is listed in a short line, and choices are the right ones or a listed problem."""

import json
import math
import os
import unicodedata

import numpy as np
import pandas
import pytest
from datasets import Dataset

import mechaudio as ma
from mechaudio.data.choices import read_choices, right_choice
from tests.data.files import write_json, write_sound, write_table

NAN = math.nan
ROW = {
    "id": "good",
    "audio": "a.wav",
    "audio_id": "a.wav",
    "audio_path": "a.wav",
    "question": "Which?",
    "choices": ["dog", "cat"],
    "answer": "cat",
    "modality": "sound",
    "category": "x",
}
QUESTIONS = [ma.data.mmau, ma.data.mmar, ma.data.mmau_pro, ma.data.temporal_lalm]
ODD = [
    None,
    NAN,
    True,
    5,
    -1.5,
    1e400,
    "",
    " ",
    "x\0y",
    "y" * 10_000,
    [],
    [[]],
    [None],
    ["a", "b", "c"],
    {},
    {"a": {}},
]
ODD += [
    10**400,
    "\ud800.wav",
    "a.wav\0",
    "[" * 5_000,
    {"array": [0.1] * 2_000, "sampling_rate": 16_000},
    [0.5] * 2_000,
    "../" * 2_000,
]


@pytest.fixture
def folder(tmp_path):
    write_sound(tmp_path / "a.wav", 1.0)
    return tmp_path


def load(folder, loader=ma.data.mmau, **changes):
    corpus = loader.load(write_json(folder / "rows.json", [ROW | changes]), check="header")
    return list(corpus), corpus.problems


def name(module):
    return module.__name__.rpartition(".")[2]


def assert_listed_in_short_lines(corpus, n_good):
    assert sum(item.id.startswith("good") for item in corpus) == n_good
    for problem in corpus.problems:
        assert len(problem.message) <= 410
        assert len(problem.item) <= 130
        assert "\n" not in problem.message


@pytest.mark.parametrize("loader", QUESTIONS, ids=name)
@pytest.mark.parametrize("field", ROW)
def test_no_value_of_any_field_ends_the_load_of_a_benchmark(folder, loader, field):
    rows = [ROW, *(ROW | {"id": f"odd {n}"} | {field: value} for n, value in enumerate(ODD)), ROW | {"id": "good too"}]
    corpus = loader.load(write_json(folder / "rows.json", rows))
    assert_listed_in_short_lines(corpus, 2)
    assert all(question.answer in (None, *question.choices) for question in corpus)


@pytest.mark.parametrize("subset", ["timestamp", "duration", "frequency"])
def test_no_value_ends_the_load_of_audiotime(folder, subset):
    odd = {f"odd{n}": value for n, value in enumerate(ODD)}
    odd |= {f"events{n}": {"event": value, "caption": value} for n, value in enumerate(ODD)}
    odd |= {f"times{n}": {"event": {"dog": value, "cat": [value, [value, value]]}} for n, value in enumerate(ODD)}
    good = {"event": {"dog": [[0.1, 0.5]] if subset == "timestamp" else [0.5]}, "caption": "A dog."}
    path = write_json(folder / f"{subset}_caption.json", odd | {"good": good})
    corpus = ma.data.audiotime.load(path, check="none")
    assert corpus[-1].caption == "A dog."
    assert_listed_in_short_lines(corpus, 0)


def test_no_value_ends_the_load_of_other_corpora(folder):
    good = {
        "audiocap_id": "good",
        "audio_id": "a.wav",
        "tokens": "a dog",
        "phrases": [{"phrase": "dog", "segments": []}],
    }
    odd = [good | {"audiocap_id": f"odd {n}", field: value} for n, value in enumerate(ODD) for field in good]
    odd += [good | {"phrases": [{"phrase": value, "segments": value}]} for value in ODD]
    corpus = ma.data.audio_grounding.load(write_json(folder / "label.json", [*odd, good]))
    assert corpus[-1].caption == "a dog"

    good = {"file": "a.wav", "label": "dog", "onset": 0.1, "offset": 0.5, "caption": "A dog."}
    odd = [good | {field: value} for value in ODD for field in good]
    corpus = ma.data.annotations.load(write_json(folder / "events.json", [good, *odd]))
    assert ma.audio.events.Event("dog", 0.1, 0.5) in corpus[0].events
    assert all(len(problem.message) <= 410 for problem in corpus.problems)

    write_table(folder / "mid_to_display_name.tsv", "", ("/m/1", "dog"))
    good = {"segment_id": "good_0", "start_time_seconds": 0.1, "end_time_seconds": 0.5, "label": "/m/1"}
    odd = [good | {"segment_id": f"odd{n}_0", field: value} for n, value in enumerate(ODD) for field in good]
    corpus = ma.data.audioset_strong.load(write_json(folder / "strong.json", [good, *odd]), check="none")
    assert [event.label for event in corpus[0].events] == ["dog"]


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        ({"A": "dog", "B": "cat"}, "B"),
        ({"B": "cat", "A": "dog"}, "B"),
        ({"a": "dog", "b": "cat"}, "(b)"),
        ({"0": "dog", "1": "cat"}, 1),
        ({"1": "dog", "2": "cat"}, 2.0),
        ({"choice_a": "dog", "choice_b": "cat"}, "choice_b"),
        ({"text": ["dog", "cat"], "label": ["A", "B"]}, "B"),
        ({"label": ["B", "A"], "text": ["cat", "dog"]}, "B"),
        ({"choices": ["dog", "cat"]}, "B"),
        ([{"text": "dog", "label": "A"}, {"text": "cat", "label": "B"}], "B"),
        ([{"id": 1, "option": "dog"}, {"id": 2, "option": "cat"}], "2"),
        ([{"A": "dog"}, {"B": "cat"}], "b"),
        ([["A", "dog"], ["B", "cat"]], "B"),
        (["(A) dog", "(B) cat"], "B. cat"),
        (["A. dog", "B. cat"], "cat"),
        (["a) dog", "b) cat"], "b"),
        (["(B) cat", "(A) dog"], "B"),
        (["1. dog", "2. cat"], "B"),
        (["dog", "cat"], "B: cat"),
        (["dog", "cat"], ["cat"]),
        (["dog", "cat", "", None, NAN], "(b)"),
        ({"A": "dog", "B": "cat", "C": None, "D": ""}, "B"),
        (["dog", "", "cat"], "C"),
        (["(A) dog", "(B) cat", "(C)"], "B"),
        ('["dog", "cat"]', "B"),
        ('{"A": "dog", "B": "cat"}', "B"),
        ("['dog', 'cat']", "B"),
        ("A. dog\n\nB. cat\n", "B"),
        (np.array(["dog", "cat"], object), np.str_("B")),
    ],
)
def test_choices_in_the_shapes_that_people_use_are_the_right_ones(folder, choices, answer):
    plain = read_choices(choices)
    assert sorted(plain.texts) == ["cat", "dog"]
    assert right_choice(answer, plain) == "cat"
    if not isinstance(choices, np.ndarray):
        (question,), _ = load(folder, choices=choices, answer=answer)
        assert (set(question.choices), question.answer) == ({"dog", "cat"}, "cat")


@pytest.mark.parametrize(
    ("choices", "answer", "right"),
    [([1, 2, 3], 2, "2"), ([1, 2, 3], 2.0, "2"), ([0.5, 1.0], "1", "1.0"), ([True, False], True, "True")],
)
def test_numbers_are_choices_and_answers(folder, choices, answer, right):
    (question,), problems = load(folder, choices=choices, answer=answer)
    assert (question.choices, question.answer, problems) == (tuple(map(str, choices)), right, ())


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        ({"dog": True, "cat": False}, "dog", "choices in a mapping have letters, or `text` and `label`, for keys; got"),
        ({"text": ["dog", "cat"], "label": ["A"]}, "A", "choices need as many labels as texts"),
        ({"text": ["dog", "cat"], "label": ["A", "A"]}, "A", "not one letter or number each"),
        ({"A": "B. dog", "B": "A. cat"}, "A", "begin with other ones"),
        ({"A": ["dog"], "B": "cat"}, "B", "a choice is a text or a number, got ['dog']"),
        (5, "cat", "choices are a list of texts, or a mapping of letters to texts, got 5"),
        (NAN, "cat", "an open question, with the choices nan"),
        ([None, "cat"], "cat", "1 choice, and 2 to 26 can be asked"),
        ({"1": "2", "2": "1"}, "1", "answer '1' is none of"),
        (["dog", "cat"], "A. cat", "answer 'A. cat' is none of"),
        (["dog", "cat"], 1, "answer 1 is none of ('dog', 'cat'), as it may count from 0 or 1: give first_index="),
        (["dog", "cat"], True, "answer True is none of"),
        (["dog", "cat"], {"text": "cat"}, "answer {'text': 'cat'} is none of"),
    ],
)
def test_choices_that_could_be_others_are_listed(folder, choices, answer, message):
    questions, problems = load(folder, choices=choices, answer=answer)
    assert questions == []
    assert message in problems[0].message


def test_places_are_answers_where_it_is_said_from_what_they_count(folder):
    rows = [ROW | {"id": str(answer), "answer": answer} for answer in (0, 1, "1", 2, 0.9, True)]
    path = write_json(folder / "rows.json", rows)
    assert [question.answer for question in ma.data.mmau.load(path, first_index=0)] == ["dog", "cat", "cat"]
    assert [question.answer for question in ma.data.mmau.load(path, first_index=1)] == ["dog", "dog", "cat"]
    with pytest.raises(ValueError, match="first_index is the number of the first choice, 0 or 1, or None; got 2"):
        ma.data.mmau.load(path, first_index=2)


def test_choices_that_say_themselves_which_is_right_do_not_lose_it(folder):
    choices = [{"text": "dog", "is_correct": False}, {"text": "cat", "is_correct": True}]
    questions, problems = load(folder, choices=choices, answer=None)
    assert (questions, [problem.kind for problem in problems]) == ([], ["answer is no choice"])
    assert "its choices say by 'is_correct' which is right" in problems[0].message
    (question,), problems = load(folder, choices=choices, answer="B")
    assert (question.choices, question.answer, problems) == (("dog", "cat"), "cat", ())


def test_a_blank_choice_goes_and_its_question_stays_as_in_four_rows_of_mmar(folder):
    (question,), (problem,) = load(
        folder, ma.data.mmar, choices=["Entered", "Did not enter", ""], answer="Did not enter"
    )
    assert (question.choices, question.answer) == (("Entered", "Did not enter"), "Did not enter")
    assert (problem.kind, problem.message) == (
        "blank choice",
        "1 of the 3 choices are blank, and left out; the question is kept",
    )


def test_a_choice_is_one_line(folder):
    (question,), (problem,) = load(folder, choices=["dog\nB: cat", "cow"], answer="cow")
    assert question.choices == ("dog B: cat", "cow")
    assert problem.message == "a line break in 1 of the choices became a space; the question is kept"
    with pytest.raises(ValueError, match=r"choices\[0\] of the question has a line break, 'dog\\nB: cat'"):
        ma.AudioQuestion("a.wav", "Which?", ("dog\nB: cat", "cow"))


@pytest.mark.parametrize("path", ["sub\\a.WAV", "sub/A.wav", "C:\\data\\sub\\a.wav", "SUB/a"])
def test_paths_of_other_systems_are_found(tmp_path, path):
    write_sound(tmp_path / "sub" / "A.WAV", 1.0)
    write_sound(tmp_path / "b.wav", 1.0)
    (question,), problems = load(tmp_path, audio_id=path)
    assert (question.audio, problems) == (tmp_path / "sub" / "A.WAV", ())


def test_an_accent_is_the_same_however_it_is_written(tmp_path):
    write_sound(tmp_path / unicodedata.normalize("NFD", "café.wav"), 1.0)
    (question,), problems = load(tmp_path, audio_id=unicodedata.normalize("NFC", "café.wav"))
    assert (question.clip().duration, problems) == (1.0, ())


def test_the_very_name_comes_before_one_that_differs_in_capitals(tmp_path):
    for file in ("x/A.wav", "y/a.wav"):
        write_sound(tmp_path / file, 1.0)
    (question,), _ = load(tmp_path, audio_id="elsewhere/a.wav")
    assert question.audio == tmp_path / "y" / "a.wav"


def test_two_rows_of_one_id_and_two_columns_of_one_name_are_listed(folder):
    corpus = ma.data.mmau.load(write_json(folder / "rows.json", [ROW, ROW]))
    assert (len(corpus), corpus.problem_counts()) == (2, {"duplicate id": 1})
    table = write_table(folder / "events.csv", "file,label,onset,offset,label", ("a.wav", "dog", 0.1, 0.5, "cat"))
    corpus = ma.data.annotations.load(table)
    assert corpus[0].events[0].label == "dog"
    assert corpus.problems[0].message == "the columns 'label' are there more than once; the first of each is read"


@pytest.mark.parametrize("column", [{"array": [0.1, 0.2] * 4_000, "sampling_rate": 8_000}, [[0.1, 0.2] * 4_000, 8_000]])
def test_decoded_sound_in_a_row_is_a_recording(folder, column):
    (question,), problems = load(folder, audio_id=column)
    assert (question.clip().duration, question.clip().sample_rate, problems) == (1.0, 8_000, ())


def test_decoded_sound_in_a_dataset_is_read_when_it_is_asked_for():
    sound = {"array": [0.1, 0.2] * 4_000, "sampling_rate": 8_000, "path": None}
    corpus = ma.data.temporal_lalm.load(Dataset.from_list([ROW | {"audio": sound}]))
    assert corpus.problems == ()
    assert corpus[0].clip().duration == 1.0
    assert "row 0, audio" in corpus[0].clip().source


def test_what_is_doubtful_in_a_recording_is_listed_where_all_are_read(folder):
    ma.AudioClip(np.zeros(8_000), 16_000).save(folder / "silent.wav")
    rows = [ROW, ROW | {"id": "silent", "audio_id": "silent.wav"}]
    corpus = ma.data.mmau.load(write_json(folder / "rows.json", rows), check="whole")
    assert len(corpus) == 2
    assert corpus.problem_counts() == {"doubtful recording": 1}
    assert "is silent" in corpus.problems[0].message


def test_a_row_of_json_lines_that_is_damaged_is_listed(folder):
    lines = [json.dumps(ROW), "{", "[" * 20_000, "5", json.dumps(ROW | {"id": "good too"})]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    corpus = ma.data.mmau.load(folder / "rows.jsonl")
    assert_listed_in_short_lines(corpus, 2)
    assert corpus.problem_counts() == {"malformed row": 3}


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["A. dog", "C. cat", "None of these"], "C"),
        (["b.dog", "a.cat"], "a"),
        (["B - dog", "A - cat"], "A"),
        (["**B.** dog", "**A.** cat"], "A"),
        (["<B> dog", "<A> cat"], "A"),
        (["A. dog", "A. cat"], "A"),
        (["B: dog", "A: cat", "neither"], "A"),
    ],
)
def test_a_letter_does_not_count_places_where_choices_may_begin_with_other_letters(folder, choices, answer):
    questions, problems = load(folder, choices=choices, answer=answer)
    assert not questions
    assert problems[0].kind == "answer is no choice"


@pytest.mark.parametrize(
    "choices", [["[B] dog", "[A] cat"], ["（B）dog", "（A）cat"], ["B．dog", "A．cat"], ["B、dog", "A、cat"]]
)
def test_letters_before_choices_may_be_in_brackets_of_any_kind_and_width(folder, choices):
    questions, _ = load(folder, choices=choices, answer="[A]")
    assert (questions[0].choices, questions[0].answer) == (("dog", "cat"), "cat")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_row_that_is_not_utf8_is_listed_and_the_others_are_kept(folder, suffix):
    rows = [ROW | {"id": f"good {n}", "choices": '["dog", "cat"]', "question": "Caf\u00e9?"} for n in range(3)]
    path = folder / f"rows{suffix}"
    if suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        pandas.DataFrame(rows).to_json(path, orient="records", lines=True, force_ascii=False)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].decode().encode("latin-1")
    path.write_bytes(b"".join(lines))
    corpus = ma.data.mmar.load(path)
    assert_listed_in_short_lines(corpus, 2)
    assert "not text in UTF-8" in corpus.problems[0].message


def test_a_member_of_a_json_file_that_is_not_utf8_is_listed_and_the_others_are_kept(folder):
    rows = [ROW | {"id": f"good {n}", "question": "Caf\u00e9?" if n == 1 else "Which?"} for n in range(3)]
    path = folder / "rows.json"
    path.write_bytes(json.dumps(rows, ensure_ascii=False).encode("latin-1"))
    for loader in QUESTIONS:
        corpus = loader.load(path)
        assert_listed_in_short_lines(corpus, 2)
        assert "not text in UTF-8" in corpus.problems[0].message
        assert corpus.problems[0].item == "rows.json, row 2"
    path.write_bytes(json.dumps({"b.wav": [["caf\u00e9", 0, 0.5]], "a.wav": []}, ensure_ascii=False).encode("latin-1"))
    assert "'b.wav'" in ma.data.annotations.load(path, audio=folder).problems[0].item


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_json_file_of_another_encoding_says_so(folder, encoding):
    (folder / "rows.json").write_bytes(json.dumps([ROW | {"question": "\u00e9"}], ensure_ascii=False).encode(encoding))
    with pytest.raises(ValueError, match=r"rows\.json' is (not text|damaged, or not JSON) in UTF-8"):
        ma.data.mmau.load(folder / "rows.json")


def test_a_line_end_within_a_text_of_json_does_not_end_the_load(folder):
    (folder / "rows.json").write_text(json.dumps([ROW]).replace("Which?", "Which\n one?"))
    assert ma.data.mmau.load(folder / "rows.json")[0].text == "Which\n one?"


def test_a_pipe_is_not_read_and_an_empty_path_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.mkfifo("rows.json")
    (folder / "rows.parquet").mkdir()
    for module in (*QUESTIONS, ma.data.annotations, ma.data.audioset_strong, ma.data.audio_grounding):
        with pytest.raises(ValueError, match="is empty, which would be the current folder"):
            module.load("")
    for module in (*QUESTIONS, ma.data.annotations):
        with pytest.raises(ValueError, match="is a pipe or a device, not a file"):
            module.load("rows.json")
        with pytest.raises(FileNotFoundError, match="there are no parquet files"):
            module.load(folder)


def test_a_field_of_a_csv_file_may_be_longer_than_a_page(folder):
    path = folder / "rows.csv"
    pandas.DataFrame([ROW | {"question": "x" * 200_000, "choices": '["dog", "cat"]'}]).to_csv(path, index=False)
    assert len(ma.data.mmar.load(path)[0].text) == 200_000


def test_a_damaged_parquet_file_and_a_name_too_long_are_said(folder):
    path = folder / "rows.parquet"
    pandas.DataFrame([ROW] * 50).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[60:160] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.parquet' is damaged"):
        ma.data.mmar.load(path)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        ma.data.mmar.load("a" * 5_000)


def test_a_clip_that_nothing_can_be_asked_about_is_listed():
    sound = ma.AudioClip(np.full(16_000, 0.1), 16_000)
    clips = [ma.AnnotatedClip(sound, [ma.Event("dog", 0.0, 0.5)], id=name) for name in ("a", "a", "b")]
    corpus = ma.data.ftar.build(clips, ("tss",))
    assert (len(corpus), corpus.problem_counts()) == (0, {"nothing to ask": 2, "duplicate id": 1})
    assert len(ma.data.ftar.build(clips, ("tag", "tss"))) == 2
    with pytest.raises(ValueError, match="b: the clip has nothing that tss could ask"):
        ma.data.ftar.build(clips[2:], ("tss",), strict=True)

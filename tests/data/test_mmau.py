import json

import datasets
import pyarrow
import pytest

from mechaudio.data import mmau
from tests.data.files import write_json, write_sound

ROW = {
    "id": "3fe6",
    "audio_id": "./test-mini-audios/3fe6.wav",
    "question": "Identify the source.",
    "choices": ["Man", "Woman", "Child", "Robot"],
    "answer": "Man",
    "dataset": "AudioSet",
    "task": "sound",
    "split": "test-mini",
    "category": "Reasoning",
    "sub-category": "Acoustic Source Inference",
    "difficulty": "medium",
}


@pytest.fixture
def folder(tmp_path):
    rows = [
        ROW,
        ROW | {"id": "2", "category": ["Reasoning"], "choices": ["thirteen", "five", "thirteen"], "answer": "thirteen"},
        ROW | {"id": "3", "choices": [" wind", " wharf"], "answer": " wharf"},
        ROW | {"id": "4", "answer": "Dog"},
        ROW | {"id": "5", "audio_id": "./test-mini-audios/gone.wav"},
    ]
    write_json(tmp_path / "mmau-test-mini.json", rows)
    write_sound(tmp_path / "test-mini-audios" / "3fe6.wav", 1.0)
    return tmp_path


def hub_form(sound: bytes, **changes) -> datasets.Dataset:
    row = {
        "context": {"bytes": sound, "path": None},
        "instruction": "Identify the source.",
        "choices": ["(A) Man", "(B) Woman"],
        "answer": "(A) Man",
        "other_attributes": json.dumps({"id": "3fe6", "task": "sound", "category": ["Reasoning"]}),
    }
    audio = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.Table.from_pylist([row | changes])
    return datasets.Dataset(table.set_column(0, "context", table["context"].cast(audio)))


def test_the_github_form_is_read_with_its_oddities(folder):
    corpus = mmau.load(folder / "mmau-test-mini.json")
    assert [question.id for question in corpus] == ["3fe6", "2", "3"]
    assert corpus[0].clip().duration == 1.0
    assert corpus[0].answer_letter == "A"
    assert corpus[1].answer_letters == ("A", "C")
    assert corpus[1].meta["category"] == "Reasoning"
    assert (corpus[2].choices, corpus[2].answer) == (("wind", "wharf"), "wharf")
    assert corpus.problem_counts() == {"answer is no choice": 1, "missing recording": 1}
    assert {key: corpus[0].meta[key] for key in ("task", "difficulty", "split")} == {
        "task": "sound",
        "difficulty": "medium",
        "split": "test-mini",
    }


def test_the_release_is_told_or_known_by_the_digest_of_the_file(folder):
    told = mmau.load(folder / "mmau-test-mini.json", version="v05.15.25")
    assert (told.version, told[0].meta["version"]) == ("v05.15.25", "v05.15.25")
    assert mmau.load(folder / "mmau-test-mini.json").version.startswith("sha256:")


def test_without_recordings_the_questions_are_kept(tmp_path):
    corpus = mmau.load(write_json(tmp_path / "mmau-test-mini.json", [ROW]))
    assert (len(corpus), corpus.problem_counts()) == (1, {"no recordings": 1})
    assert corpus[0].audio == tmp_path / "test-mini-audios" / "3fe6.wav"


def test_recordings_elsewhere_are_found_by_name(folder, tmp_path):
    path = write_json(tmp_path / "elsewhere" / "mmau.json", [ROW])
    assert mmau.load(path, audio=folder / "test-mini-audios")[0].clip().duration == 1.0
    with pytest.raises(FileNotFoundError, match="none of the 1 recordings is below"):
        mmau.load(path, audio=tmp_path / "elsewhere")


def test_answers_may_be_withheld(tmp_path):
    row = {key: value for key, value in ROW.items() if key != "answer"}
    corpus = mmau.load(
        write_json(tmp_path / "mmau-test.json", [row, row | {"id": "other", "answer": ""}]), check="none"
    )
    assert [question.answer for question in corpus] == [None, None]
    assert corpus.problems == ()


def test_the_hub_form_is_read_with_its_sounds_inside(folder):
    sound = (folder / "test-mini-audios" / "3fe6.wav").read_bytes()
    corpus = mmau.load(hub_form(sound))
    assert (corpus[0].id, corpus[0].choices, corpus[0].answer) == ("3fe6", ("Man", "Woman"), "Man")
    assert (corpus[0].meta["task"], corpus[0].meta["category"]) == ("sound", "Reasoning")
    assert corpus[0].clip().duration == 1.0


def test_a_damaged_sound_and_damaged_attributes_are_listed(folder):
    sound = (folder / "test-mini-audios" / "3fe6.wav").read_bytes()
    assert mmau.load(hub_form(b"<html>")).problem_counts() == {"unreadable recording": 1}
    corpus = mmau.load(hub_form(sound, other_attributes="{"))
    assert (corpus[0].id, corpus.problem_counts()) == ("the dataset-0", {"malformed row": 1})


def test_choices_may_be_one_text(tmp_path):
    corpus = mmau.load(write_json(tmp_path / "m.json", [ROW | {"choices": "['Man', 'Woman']"}]), check="none")
    assert corpus[0].choices == ("Man", "Woman")


def test_another_table_is_refused_with_its_columns(tmp_path):
    with pytest.raises(ValueError, match=r"no column for the recording \('audio_id' or .*'id', 'text'. Is it MMAU\?"):
        mmau.load(write_json(tmp_path / "m.json", [{"id": 1, "text": "?"}]))

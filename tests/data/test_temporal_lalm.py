import pytest

from mechaudio.data import temporal_lalm
from tests.data.files import write_json, write_sound

ROW = {
    "audio": "a.wav",
    "question": "Which sound has the earliest onset?",
    "choices": ["dog", "car", "rain", "bell"],
    "answer": "rain",
}
OTHER = {
    "file": "a.wav",
    "Q": "Which one lasts?",
    "a": "dog",
    "b": "car",
    "c": "rain",
    "d": "bell",
    "gold": 2,
    "kind": "Longest-Duration",
    "weak": "A dog.",
    "uid": 7,
    "extra": "kept",
}
COLUMNS = {
    "audio": "file",
    "question": "Q",
    "choices": ["a", "b", "c", "d"],
    "answer": "gold",
    "task": "kind",
    "caption": "weak",
    "id": "uid",
}


@pytest.fixture
def write(tmp_path):
    write_sound(tmp_path / "a.wav", 1.0)
    return lambda *rows: write_json(tmp_path / "t.json", list(rows))


def test_columns_of_the_plain_names_need_no_map(write):
    question = temporal_lalm.load(write(ROW))[0]
    assert (question.id, question.answer_letter, question.clip().duration) == ("temporal-lalm-0", "C", 1.0)
    assert dict(question.meta) == {"task": "earliest_onset", "keyword": "earliest"}


def test_a_map_names_the_columns_and_the_rest_is_kept(write):
    question = temporal_lalm.load(write(OTHER), columns=COLUMNS, first_index=1)[0]
    assert (question.id, question.answer, question.caption) == ("7", "car", "A dog.")
    assert dict(question.meta) == {"extra": "kept", "task": "longest_duration"}
    assert temporal_lalm.load(write(OTHER), columns=COLUMNS, first_index=0)[0].answer == "rain"


def test_numbers_are_no_answers_until_it_is_said_where_they_begin(write):
    corpus = temporal_lalm.load(write(OTHER), columns=COLUMNS)
    assert (len(corpus), corpus.problem_counts()) == (0, {"answer is no choice": 1})


def test_unknown_columns_are_answered_with_those_there_are(write):
    with pytest.raises(
        ValueError, match=r"no column 'audio', 'question', 'choices', 'answer'; its columns are 'file', 'Q'"
    ):
        temporal_lalm.load(write(OTHER))
    with pytest.raises(ValueError, match=r"no column 'topic'; its columns are .*say what they are called, columns=\{"):
        temporal_lalm.load(write(ROW), columns={"task": "topic"})
    with pytest.raises(ValueError, match="columns names 'letters'; it may name audio, question, choices, answer, id"):
        temporal_lalm.load(write(ROW), columns={"letters": "choices"})


@pytest.mark.parametrize(
    ("task", "name"),
    [("EO", "earliest_onset"), ("Latest Offset", "latest_offset"), ("longest_duration", "longest_duration")],
)
def test_tasks_are_known_under_their_usual_names(write, task, name):
    assert temporal_lalm.load(write(ROW | {"task": task}))[0].meta["task"] == name


def test_a_question_with_no_keyword_has_no_task(write):
    question = temporal_lalm.load(write(ROW | {"question": "Which sound comes first?"}))[0]
    assert dict(question.meta) == {}

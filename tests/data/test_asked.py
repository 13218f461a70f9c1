import pytest

from mechaudio.data.asked import asked
from mechaudio.data.choices import read_choices, right_choice, withheld
from mechaudio.data.corpus import Problems
from mechaudio.data.recordings import Recordings


def ask(tmp_path, **changes):
    problems = Problems()
    given = {"audio": "a.wav", "text": "What?", "choices": ["dog", "car"], "answer": "dog", "meta": {}}
    question = asked("q1", recordings=Recordings(tmp_path, "none", problems), problems=problems, **given | changes)
    return question, [(problem.kind, problem.message) for problem in problems.found]


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        (["dog", "car"], ("dog", "car")),
        ("['dog', \"it's a car\"]", ("dog", "it's a car")),
        ("(A) dog\n(B) car", ("dog", "car")),
        (("A. dog", "B. car"), ("dog", "car")),
        (("A) dog", " B: car "), ("dog", "car")),
        (("(B) dog", "(A) car"), ("dog", "car")),
        (("A. Smith", "a car"), ("A. Smith", "a car")),
        (("(A)", "(B)"), ("(A)", "(B)")),
        ((" dog", "car "), ("dog", "car")),
        ([1, 2.5], ("1", "2.5")),
        (None, ()),
        ([], ()),
        ("an open question", ()),
        ("[not a list", ()),
    ],
)
def test_choices_are_read_however_they_are_written_without_letters_that_all_of_them_have(value, choices):
    assert read_choices(value).texts == choices


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("dog", "dog"),
        ("(B) car", "car"),
        (" DOG ", "dog"),
        ("B", "car"),
        ("(b)", "car"),
        ("(B)", "car"),
        ("C", None),
        ("cat", None),
        (1, None),
        (None, None),
    ],
)
def test_an_answer_names_a_choice_by_text_or_letter(answer, right):
    assert right_choice(answer, read_choices(("(A) dog", "(B) car"))) == right


def test_a_choice_that_is_a_letter_or_differs_in_capitals_is_taken_by_its_very_text():
    assert right_choice("B", read_choices(("B", "A"))) == "B"
    assert right_choice("Do", read_choices(("do", "Do"))) == "Do"
    assert right_choice("DO", read_choices(("do", "Do"))) is None


@pytest.mark.parametrize(("answer", "told"), [(None, True), ("", True), (" None ", True), ("dog", False), (0, False)])
def test_answers_that_are_withheld_are_known_by_their_words(answer, told):
    assert withheld(answer) is told


def test_an_answer_that_is_a_word_for_nothing_is_still_a_choice(tmp_path):
    assert ask(tmp_path, choices=["dog", "None"], answer="None")[0].answer == "None"


def test_a_repeated_choice_leaves_two_right_letters(tmp_path):
    question, problems = ask(tmp_path, choices=["thirteen", "twenty", "thirteen", "five"], answer="thirteen")
    assert question.answer_letters == ("A", "C")
    assert problems == []


@pytest.mark.parametrize("n", [2, 5, 8, 26])
def test_any_number_of_choices_that_has_letters_is_asked(tmp_path, n):
    question, _ = ask(tmp_path, choices=[f"sound {i}" for i in range(n)], answer=None)
    assert (len(question.choices), question.answer) == (n, None)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"text": " "}, "blank question", "the question is ' '; left out"),
        ({"text": None}, "blank question", "the question is None; left out"),
        (
            {"choices": None},
            "no choices",
            "an open question, with the choices None, and 2 to 26 can be asked; left out",
        ),
        ({"choices": ["dog"]}, "no choices", "1 choice, and 2 to 26"),
        ({"choices": [str(i) for i in range(27)]}, "no choices", "27 choices, and 2 to 26"),
        ({"choices": ["dog", " "]}, "no choices", "1 choice, and 2 to 26"),
        ({"answer": "cat"}, "answer is no choice", "answer 'cat' is none of ('dog', 'car'); left out"),
        ({"answer": 1}, "answer is no choice", "answer 1 is none of"),
        ({"audio": ["a.wav", "b.wav"]}, "not one recording", "2 recordings, and a question is about one"),
        ({"audio": []}, "not one recording", "0 recordings"),
        ({"audio": None}, "missing recording", "the recording is None; left out"),
    ],
)
def test_what_cannot_be_asked_is_left_out_with_its_reason(tmp_path, changes, kind, message):
    question, problems = ask(tmp_path, **changes)
    assert question is None
    assert problems[0][0] == kind
    assert message in problems[0][1]


def test_one_recording_in_a_list_is_a_recording(tmp_path):
    assert ask(tmp_path, audio=["./a.wav"])[0].audio == tmp_path / "a.wav"

import json
import re
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaudio.metrics import parse_choice, score_generated, string_match

SOUNDS = ("dog", "rain", "car", "bell")
words = st.lists(st.sampled_from(["dog", "Dog", "barks", "a", "rain", "loud", "4/4", "it's", ","]), max_size=5)
texts = words.map(" ".join)
with_a_word = texts.filter(lambda text: re.search(r"\w", text))


@pytest.mark.parametrize(
    ("prediction", "answer", "choices", "right"),
    [
        ("dog", "dog", SOUNDS, True),
        ("The DOG.", "dog", SOUNDS, True),
        ("a hot-dog", "dog", SOUNDS, True),  # a hyphen parts words
        ("dogs", "dog", SOUNDS, False),
        ("", "dog", SOUNDS, False),
        ("(A)", "dog", SOUNDS, False),  # the rule reads no letters
        ("not the dog", "dog", SOUNDS, True),  # nor meaning
        ("dog, then rain", "dog", SOUNDS, False),
        ("loud dog", "loud dog", ("loud dog", "loud cat"), True),  # words shared with a wrong choice do no harm
        ("loud", "loud dog", ("loud dog", "loud cat"), False),
        ("loud dog and cat", "loud dog", ("loud dog", "loud cat"), False),
        ("loud dog", "dog", ("dog", "loud dog"), False),
        ("dog", "dog", ("dog", "dog", "rain"), True),  # a repeated choice is no other choice
        ("in 4/4", "4/4", ("4/4", "3/4"), True),
        ("in 3/4", "4/4", ("4/4", "3/4"), False),
        ("été", "Été", ("Été", "hiver"), True),
    ],
)
def test_the_rule_of_mmau_on_crafted_cases(prediction, answer, choices, right):
    assert string_match(prediction, answer, choices) is right


@pytest.mark.parametrize("end", ["(B)", "rain", "rain <b>", "B", "no idea", "Rain " + "and dog " * 20])
@pytest.mark.parametrize("filling", ["", "the answer is unclear, ", "answer: dogs ", "answer: \\boxed{t} ", "- " * 99])
def test_a_long_line_is_read_as_its_last_declaration(filling, end):
    names_none, first = end == "no idea", SOUNDS[1]
    read = parse_choice(filling * 50 + "the answer is " + end, SOUNDS)
    assert read.choice == (None if names_none else first)


def slow_string_match(prediction, answer, choices):
    """The rule word by word."""

    def has(text, word):
        return any(found.lower() == word for found in re.findall(r"\b\w+\b", text))

    vocabulary = {word.lower() for text in (prediction, answer, *choices) for word in re.findall(r"\b\w+\b", text)}
    for word in vocabulary:
        if has(answer, word) and not has(prediction, word):
            return False
        wrong = any(has(choice, word) for choice in choices) and not has(answer, word)
        if wrong and has(prediction, word):
            return False
    return True


@given(prediction=texts, answer=with_a_word, others=st.lists(texts, max_size=4))
def test_the_rule_is_the_slow_one(prediction, answer, others):
    choices = [answer, "bell", *(other for other in others if other.strip())]
    assert string_match(prediction, answer, choices) == slow_string_match(prediction, answer, choices)


@given(answer=with_a_word, others=st.lists(with_a_word, min_size=1, max_size=4))
def test_the_answer_itself_is_always_right(answer, others):
    assert string_match(answer, answer, [answer, *others])


@pytest.mark.parametrize(
    ("prediction", "answer", "choices", "error", "message"),
    [
        ("dog", "cat", SOUNDS, ValueError, "answer 'cat' is not among the choices"),
        ("+", "+", ("+", "-"), ValueError, r"answer '\+' has no word, and the rule compares words"),
        ("dog", "dog", ("dog",), ValueError, "choices are 2 to 26, one per letter, got 1"),
        ("dog", "dog", ("dog", " "), ValueError, "no choice may be blank"),
    ],
)
def test_what_the_rule_cannot_score_is_refused(prediction, answer, choices, error, message):
    with pytest.raises(error, match=message):
        string_match(prediction, answer, choices)


@pytest.mark.parametrize(
    "text",
    [
        "B", "b", "B.", "b)", "(B)", "(b)", "[B]", "B:", " B \n", "B, I think", "**B**", "`B`", '"B"', "\\boxed{B}",
        "(B) rain", "B. rain", "B.rain", "B: Rain.", "- B. rain",
        "Answer: B", "answer:B", "**Answer:** (B)", "The answer is B", "The answer is (B).",
        "The correct answer is: B.", "The answer is (B) because the dog comes later.",
        "The correct option is B.", "Option B", "I pick option B here.",
        "I believe it is (B), since the dog comes later.",
        "First the dog, then the car, so:\nB",
        "The dog is later.\n\nAnswer: B",
        "Answer: A. No, the dog is later.\nAnswer: B",
        "<think>(A) the dog? No.</think>\n<answer>B</answer>",
        "<answer>(B) rain</answer>",
    ],
)  # fmt: skip
def test_letters_are_read(text):
    found = parse_choice(text, SOUNDS)
    assert (found.choice, found.how) == ("rain", "letter")


@pytest.mark.parametrize(
    "text",
    [
        "rain", "Rain.", "RAIN", "**rain**", '"rain"', "It is the rain.", "A rain comes first", "a rain",
        "The answer is rain.", "The answer is rain because the dog comes later.", "Answer: rain",
        "<answer>rain</answer>",
        "Rain.\nIt begins before the dog and the car.",
    ],
)  # fmt: skip
def test_texts_of_choices_are_read(text):
    found = parse_choice(text, SOUNDS)
    assert (found.choice, found.how) == ("rain", "text")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("", "nothing"),
        ("I cannot tell.", "nothing"),
        ("A cat", "nothing"),  # an article
        ("(E)", "nothing"),  # no such choice
        ("train", "nothing"),
        ("sound(s), e.g. of animals", "nothing"),
        ("dog and rain", "ambiguous"),
        ("(A) or (B)", "ambiguous"),
        ("A. dog\nB. rain\nC. car\nD. bell", "ambiguous"),
        ("(A) rain", "ambiguous"),  # A is the dog
        ("Answer: A. rain", "ambiguous"),
    ],
)
def test_what_names_no_choice_or_two_is_not_read(text, how):
    found = parse_choice(text, SOUNDS)
    assert (found.choice, found.how) == (None, how)


def test_a_choice_inside_a_longer_one_does_not_count():
    choices = ("dog", "dog barking", "a small dog barking")
    assert parse_choice("I hear a dog barking", choices).choice == "dog barking"
    assert parse_choice("I hear a small dog barking", choices).choice == "a small dog barking"
    assert parse_choice("The answer is dog barking.", choices).choice == "dog barking"
    assert parse_choice("dog", choices).choice == "dog"
    assert parse_choice("a dog, and then a dog barking", choices).how == "ambiguous"


def test_choices_that_are_letters_are_read_where_letter_and_text_agree():
    keys = ("C", "A", "B", "D")
    assert parse_choice("A", keys).how == "ambiguous"  # the first choice, or the second?
    assert parse_choice("(B) A", keys).choice == "A"
    assert parse_choice("D", keys).choice == "D"
    assert parse_choice("(A)", keys).how == "ambiguous"


def test_choices_that_differ_in_case_alone_are_told_apart():
    assert parse_choice("Em", ("em", "Em")).choice == "Em"
    assert parse_choice("EM", ("em", "Em")).how == "ambiguous"


def test_of_two_choices_of_the_same_text_either_letter_is_read():
    assert parse_choice("(A)", ("dog", "dog", "rain")) == parse_choice("(B)", ("dog", "dog", "rain"))
    assert parse_choice("(A) or (B)", ("dog", "dog", "rain")).choice == "dog"


@given(
    place=st.integers(0, 25),
    n=st.integers(2, 26),
    form=st.sampled_from(["{0}", "({0})", "{0}.", "{0})", "Answer: {0}", "The answer is ({0}).", "({0}) {1}", "{1}"]),
)
def test_every_form_is_read_with_every_letter(place, n, form):
    choices = tuple(f"sound number {index}" for index in range(n))
    place %= n
    assert parse_choice(form.format(ascii_uppercase[place], choices[place]), choices).choice == choices[place]


@given(st.text(max_size=60))
def test_any_text_is_read_or_not_without_an_error(text):
    found = parse_choice(text, SOUNDS)
    assert (found.choice in SOUNDS) == (found.how in ("letter", "text"))
    assert (found.choice is None) == (found.how in ("nothing", "ambiguous"))


def test_what_cannot_be_read_is_wrong_and_reported():
    found = score_generated(["(A)", "rain", "no idea", "A or B: (A) (B)", "(D)"], [SOUNDS] * 5, ["dog"] * 5)
    assert found.correct == (True, False, False, False, False)
    assert (found.accuracy.count, found.accuracy.n) == (1, 5)
    assert (found.unparsed.count, found.unparsed.n) == (2, 5)
    assert [parsed.how for parsed in found.parsed] == ["letter", "text", "nothing", "ambiguous", "letter"]
    assert str(found).splitlines()[1].startswith("unparsed  40.0%")
    assert json.loads(json.dumps(found.as_dict()))["unparsed"]["value"] == 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "texts is empty"),
        ((["A"], [SOUNDS, SOUNDS], ["dog"]), "texts has 1, choices has 2, answers has 1"),
        ((["A"], [SOUNDS], ["cat"]), r"answers\[0\] is 'cat', which is not among its choices"),
    ],
)
def test_texts_that_cannot_be_scored_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_generated(*arguments)


def test_a_text_that_says_a_choice_over_and_over_is_read_at_once():
    """Compared pair by pair, its ten thousand million pairs take an hour."""
    assert parse_choice("a dog bark, " * 100_000, ("dog bark", "a dog")).choice is None
    assert parse_choice("a dog bark, " * 100_000, ("dog", "dog bark")).choice == "dog bark"

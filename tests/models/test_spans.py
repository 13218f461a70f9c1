import pytest

from mechaudio.models.spans import Part, PromptFormat, find_keyword, positions_by_role, text_block
from mechaudio.question import AudioQuestion

QUESTION = AudioQuestion(None, "Which sound has the earliest onset?", ("dog", "rain"), id="q1")


def asked(text, choices=("dog", "rain"), **fields):
    return AudioQuestion(None, text, choices, id="q1", **fields)


def pieces(block):
    return [(part.role, block.text[part.start : part.stop]) for part in block.parts]


def test_the_text_is_the_question_and_one_line_per_choice():
    assert text_block(QUESTION, None, PromptFormat()).text == "Which sound has the earliest onset?\nA: dog\nB: rain"


def test_the_caption_has_a_line_of_its_own_in_front():
    block = text_block(QUESTION, "a dog, then rain", PromptFormat())
    assert block.text == "Caption: a dog, then rain\nWhich sound has the earliest onset?\nA: dog\nB: rain"


def test_parts_are_where_their_words_are():
    block = text_block(QUESTION, "a dog", PromptFormat())
    assert pieces(block) == [
        ("caption", "a dog"),
        ("keyword", "earliest"),
        ("question", "Which sound has the earliest onset?"),
        ("choices", "A: dog\nB: rain"),
    ]


def test_a_caption_and_choices_with_the_words_of_the_question_keep_their_roles():
    text = "Which sound has the earliest onset?"
    block = text_block(asked(text, (text, "earliest")), text, PromptFormat())
    assert pieces(block) == [
        ("caption", text),
        ("keyword", "earliest"),
        ("question", text),
        ("choices", f"A: {text}\nB: earliest"),
    ]
    starts = [part.start for part in block.parts]
    assert starts == [9, 65, 45, 81]  # worked out by hand: 9 + 35 + 1 = 45, 45 + 20 = 65, 45 + 35 + 1 = 81


def test_another_format_writes_brackets_and_a_closing_line():
    layout = PromptFormat(
        caption="Audio caption: {caption}.", choice="({letter}) {choice}", closing="Answer with the letter."
    )
    block = text_block(QUESTION, "rain", layout)
    assert block.text == (
        "Audio caption: rain.\nWhich sound has the earliest onset?\n(A) dog\n(B) rain\nAnswer with the letter."
    )
    assert pieces(block)[-1] == ("choices", "(A) dog\n(B) rain")


def test_braces_in_a_choice_or_a_caption_are_left_alone():
    block = text_block(asked("Which?", ("{letter}", "{choice}")), "{caption}", PromptFormat())
    assert block.text == "Caption: {caption}\nWhich?\nA: {letter}\nB: {choice}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"caption": "Caption:"}, r"PromptFormat\(caption='Caption:'\) must hold \{caption\} exactly once"),
        ({"choice": "{letter}"}, r"PromptFormat\(choice='\{letter\}'\) must hold \{choice\} exactly once"),
        ({"choice": "{choice} {choice}"}, r"must hold \{letter\} and \{choice\} exactly once"),
    ],
)
def test_a_format_without_its_places_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PromptFormat(**fields)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Which sound has the Earliest onset?", "Earliest"),
        ("Which sound lasts the longest?", "longest"),
        ("Which sound ends last?", "last"),
        ("What do you hear?", None),
        ("Which dog barks in the firsthand recording?", None),
    ],
)
def test_the_temporal_word_of_the_question_is_its_keyword(text, word):
    span = find_keyword(asked(text))
    assert (None if span is None else text[slice(*span)]) == word


def test_the_keyword_that_is_named_goes_before_the_temporal_word():
    question = asked("Which sound has the earliest onset?", meta={"keyword": "onset"})
    assert question.text[slice(*find_keyword(question))] == "onset"


def test_a_keyword_that_is_not_in_the_question_is_refused():
    with pytest.raises(ValueError, match=r"question 'q1': meta\['keyword'\] is 'latest', but its text is 'Which\?'"):
        find_keyword(asked("Which?", meta={"keyword": "latest"}))


def test_roles_share_out_all_positions():
    # The text "hi first?\nA: x": question 0-9 with its keyword 3-8, choices 10-14.
    parts = (Part("keyword", 3, 8), Part("question", 0, 9), Part("choices", 10, 14))
    # template, audio, audio, "hi", " first", "?\n" (over the edge), "A: x", template
    offsets = [None, None, None, (0, 2), (2, 8), (8, 10), (10, 14), None]
    audio = [False, True, True, False, False, False, False, False]
    assert positions_by_role(offsets, parts, audio) == {
        "audio": (1, 2),
        "audio_padding": (),
        "question": (3, 4, 5),
        "choices": (6,),
        "caption": (),
        "template": (0, 7),
        "keyword": (4,),
        "last": (7,),
    }


def test_a_token_that_reaches_into_two_parts_belongs_to_the_first():
    parts = (Part("question", 0, 4), Part("choices", 5, 8))
    spans = positions_by_role([(0, 3), (3, 6), (6, 8)], parts, [False] * 3)
    assert (spans["question"], spans["choices"]) == ((0, 1), (2,))

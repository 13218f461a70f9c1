import pytest

from mechaudio.temporal import Settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"margin": -1.0}, r"margin is a number of seconds, 0 or more, got -1\.0"),
        ({"margin": float("nan")}, "margin= takes finite numbers; got nan"),
        ({"n_choices": 1}, "n_choices is 2 to 26, one letter each, got 1"),
        ({"margin_scope": "all"}, "margin_scope is 'clip' or 'options', got 'all'"),
        ({"duration": "mean"}, "duration is one of 'longest_segment', 'union', 'sum', got 'mean'"),
        ({"fewest_sounds": 0}, "fewest_sounds is at least 1, got 0"),
        ({"paraphrase": 2.0}, "paraphrase is above 0 and at most 1, or None, got 2"),
        ({"wording": 6}, "wording is 0 to 5, or a text with '{property}', got 6"),
        ({"wording": "Which?"}, "wording needs '{property}', where 'earliest onset' is put in, got 'Which?'"),
    ],
)
def test_values_that_mean_nothing_are_refused(setting, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?").replace("{", r"\{")):
        Settings(**setting)


def test_the_question_of_a_task_is_a_phrase_that_the_shipped_model_knows_or_a_text_of_ones_own():
    assert Settings().question("latest_offset") == "Which sound event has the latest offset?"
    assert Settings(wording="The {property}?").question("longest_duration") == "The longest duration?"

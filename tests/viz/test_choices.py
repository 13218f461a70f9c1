from dataclasses import replace

import numpy as np

from mechaudio.viz import choice_probabilities
from tests.viz.made_up import listening


def test_the_bars_are_the_probabilities_with_the_recording_and_with_silence():
    asked = listening()
    heard, deaf = choice_probabilities(asked).data
    np.testing.assert_allclose(heard.x, 100 * asked.probabilities)
    np.testing.assert_allclose(deaf.x, 100 * asked.silence_probabilities)
    assert (heard.name, deaf.name) == ("recording", "silence")


def test_under_a_change_there_are_the_bars_of_the_answer_without_it():
    changed = replace(listening(), unchanged_probabilities=np.array([0.2, 0.7, 0.1]), unchanged_choice="rain")
    bars = choice_probabilities(changed).data
    assert [bar.name for bar in bars] == ["recording", "recording, unchanged", "silence"]
    np.testing.assert_allclose(bars[1].x, [20, 70, 10])


def test_the_right_choice_is_marked_and_none_is_where_it_is_unknown():
    assert list(choice_probabilities(listening()).data[0].y) == ["A  dog ✓", "B  rain", "C  bell"]
    unknown = choice_probabilities(listening(answer=None))
    assert list(unknown.data[0].y) == ["A  dog", "B  rain", "C  bell"]
    assert "right" not in unknown.layout.title.subtitle.text


def test_a_small_probability_is_not_written_as_none():
    sure = replace(listening(), probabilities=np.array([0.9946, 0.0051, 0.0003]))
    assert choice_probabilities(sure).data[0].text == ("99%", "0.5%", "< 0.1%")


def test_markup_in_choices_is_shown_letter_by_letter():
    assert (
        choice_probabilities(listening(choices=("<b>dog</b>", "x"), answer=None)).data[0].y[0]
        == "A  &lt;b&gt;dog&lt;/b&gt;"
    )

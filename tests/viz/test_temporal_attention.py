from dataclasses import replace

import numpy as np

from mechaudio.viz import temporal_attention
from tests.viz.made_up import ROLES
from tests.viz.studies import study


def lines(figure):
    return {line.name: line for line in figure.data if line.fill is None}


def test_audio_stands_against_text_as_a_whole_and_in_parts():
    found = study()
    drawn = lines(temporal_attention(found))
    assert list(drawn) == ["audio", "text (question + choices)", "question", "choices", "template"]
    shares = 100 * found.attention.mean(0)
    np.testing.assert_allclose(drawn["audio"].y, shares[:, ROLES.index("audio")])
    np.testing.assert_allclose(drawn["text (question + choices)"].y, shares[:, 1] + shares[:, 2])
    note = temporal_attention(found).layout.title.subtitle.text
    assert "text: question + choices, without the template" in note
    assert "(n = 3 questions)" in temporal_attention(found).layout.title.text


def test_one_question_has_no_bands():
    figure = temporal_attention(replace(study(), attention=study().attention[:1]))
    assert len(lines(figure)) == len(figure.data) == 5
    assert "bands" not in figure.layout.title.subtitle.text


def test_layers_without_attention_are_left_out():
    attention = study().attention.copy()
    attention[:, 0] = np.nan
    drawn = lines(temporal_attention(replace(study(), attention=attention)))
    assert list(drawn["audio"].x) == [1]

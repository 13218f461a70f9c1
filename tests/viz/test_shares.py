import numpy as np
import pytest

from mechaudio.metrics import bootstrap_mean
from mechaudio.viz import audio_share_by_layer
from tests.viz.made_up import attention


def line(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_lines_are_the_means_over_questions_and_heads_in_percent():
    result = attention(n=5)
    figure = audio_share_by_layer(result)
    for index, role in enumerate(result.roles):
        np.testing.assert_allclose(line(figure, role).y, 100 * result.mass[..., index].mean(axis=(0, 2)))
    assert list(line(figure, "audio").x) == [0, 1, 2]


def test_the_band_of_several_questions_is_their_bootstrap_mean():
    result = attention(n=6)
    low, high = bootstrap_mean(result.mass[..., 0].mean(axis=2), seed=0)
    figure = audio_share_by_layer(result)
    np.testing.assert_allclose(line(figure, "audio").customdata, 100 * np.stack([low, high], axis=1))
    assert "n = 6 questions" in figure.layout.title.text
    assert "95% interval over clips" in figure.layout.title.subtitle.text


def test_few_questions_have_no_band_and_the_figure_says_so():
    figure = audio_share_by_layer(attention(n=5))
    assert [trace.fill for trace in figure.data] == [None] * 4
    assert figure.layout.title.subtitle.text.endswith("no intervals, which take 6 clips")
    assert line(figure, "audio").hovertemplate.endswith("on audio<br>no intervals, which take 6 clips<extra></extra>")


def test_one_question_shows_each_head_as_a_dot_and_says_so():
    result = attention(n=1)
    figure = audio_share_by_layer(result)
    dots = line(figure, "audio: each head")
    for layer, head, share in zip(dots.x, dots.customdata, dots.y, strict=True):
        assert share == pytest.approx(100 * result.mass[0, layer, head, 0])
    assert len(dots.x) == 6
    band = line(figure, "audio").customdata
    np.testing.assert_allclose(band[:, 0], 100 * np.quantile(result.mass[0, :, :, 0], 0.25, axis=1))
    assert "n = 1 question" in figure.layout.title.text
    assert "dots: each head's share on audio" in figure.layout.title.subtitle.text


def test_only_the_roles_asked_for_are_drawn():
    figure = audio_share_by_layer(attention(n=2), roles=["audio"])
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["audio"]


def test_an_unknown_role_names_those_there_are():
    with pytest.raises(ValueError, match="no role music: this result has audio, question, choices, template"):
        audio_share_by_layer(attention(), roles=["music"])
    with pytest.raises(ValueError, match="no role given: this result has audio"):
        audio_share_by_layer(attention(), roles=[])


def test_bands_lie_beneath_all_lines():
    figure = audio_share_by_layer(attention(n=6))
    assert [trace.fill for trace in figure.data] == ["toself"] * 4 + [None] * 4


@pytest.mark.parametrize("n", [1, 5])
def test_a_confidence_that_is_none_is_refused_for_one_question_too(n):
    with pytest.raises(ValueError, match="confidence is a share between 0 and 1"):
        audio_share_by_layer(attention(n=n), confidence=2)

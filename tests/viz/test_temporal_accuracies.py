import numpy as np
import pytest

from mechaudio.viz import temporal_accuracies
from tests.viz.studies import study


def test_a_bar_per_condition_and_task_with_its_interval():
    found = study()
    figure = temporal_accuracies(found)
    assert [bar.name for bar in figure.data] == ["audio", "silence"]
    heard = figure.data[0]
    assert heard.x == ("earliest onset", "latest offset", "all tasks")
    score = found.conditions["audio"].overall
    assert heard.y[-1] == 100 * score.value == 62.5
    assert heard.y[-1] + heard.error_y.array[-1] == pytest.approx(100 * score.high)
    assert heard.y[-1] - heard.error_y.arrayminus[-1] == pytest.approx(100 * score.low)


def test_what_guessing_gets_is_drawn_and_told():
    figure = temporal_accuracies(study())
    assert [line.y0 for line in figure.layout.shapes] == [25.0]
    assert figure.layout.title.text.endswith("(n = 8 questions)")
    assert figure.layout.title.subtitle.text.endswith("dotted: guessing gets 25% right")
    assert np.isclose(study().chance, 0.25)

import numpy as np
import pytest

from mechaudio.analyses.probes.order_tasks import earlier, majority, order_of_means, share_in_order
from tests.analyses.probes.scenes import clip

CLASSES = ("bell", "dog", "rain")
HEARD = clip(("dog", 0.0, 0.5), ("rain", 1.0, 2.0), ("bell", 1.1, 2.0))


def test_a_class_without_an_onset_and_equal_onsets_are_a_coin():
    sure = earlier({"dog": 0.5, "rain": 1.0, "bell": 1.0})
    assert [sure("dog", "rain"), sure("rain", "dog"), sure("rain", "bell"), sure("dog", "cat")] == [1, 0, 0.5, 0.5]


def test_pairs_that_begin_nearly_together_do_not_count():
    said = earlier({"dog": 0.0, "rain": 2.0, "bell": 1.0})  # rain and bell the wrong way round
    assert share_in_order(HEARD, CLASSES, 0.2, said) == 1.0
    assert share_in_order(HEARD, CLASSES, 0.05, said) == pytest.approx(2 / 3)
    assert share_in_order(HEARD, CLASSES, 0.2, earlier({})) == 0.5
    assert np.isnan(share_in_order(HEARD, ("dog",), 0.2, said))


def test_the_baseline_says_which_class_more_often_came_first():
    often = clip(("rain", 0.0, 0.5), ("dog", 1.0, 2.0))
    usual = majority([HEARD, often, often], CLASSES)
    assert [usual("dog", "rain"), usual("bell", "dog"), usual("bell", "rain"), usual("cat", "rain")] == [0, 0, 0, 0.5]


def test_onsets_that_are_linear_in_the_mean_over_tokens_give_the_order_and_their_control_does_not():
    rng = np.random.default_rng(0)

    def made(number):
        dog, rain = rng.permutation(4)[:2] / 2 + 0.1
        one = clip(("dog", dog, 2.0), ("rain", rain, 2.0), name=str(number))
        one.states["embed"][:] = [dog, rain]
        return one

    training, testing = [made(number) for number in range(40)], [made(number) for number in range(40, 60)]
    found, penalty = order_of_means("embed", training, testing, ("dog", "rain"), 0.2, seed=0)
    assert found["score"] == [1.0] * 20
    assert np.nanmean(found["control"]) < 0.9
    assert penalty > 0

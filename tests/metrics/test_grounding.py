import pytest

from mechaudio.metrics.grounding import interval_iou


@pytest.mark.parametrize(
    ("predicted", "reference", "iou"),
    [
        ([(0, 2)], [(1, 3)], 1 / 3),
        ([(0, 2)], [(0, 2)], 1.0),
        ([(0, 1)], [(2, 3)], 0.0),
        ([], [(2, 3)], 0.0),
        ([(0, 1), (2, 3)], [(0, 3)], 2 / 3),
        ([(0, 2), (1, 3)], [(0, 3)], 1.0),
        ([(0, 1), (4, 5)], [(0.5, 4.5)], 1 / 5),
    ],
)
def test_it_is_shared_seconds_over_covered_seconds(predicted, reference, iou):
    assert interval_iou(predicted, reference) == pytest.approx(iou)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no reference interval"):
        interval_iou([(0, 1)], [])
    with pytest.raises(ValueError, match="an interval ends after it begins, got 2 to 1"):
        interval_iou([(2, 1)], [(0, 1)])

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mechaudio.analyses.probes.probing import PENALTIES, area_under_roc, fit_probe, longest_run, random_label


def test_the_probe_is_scikit_learns_grid_search_over_penalties_with_whole_groups():
    rng = np.random.default_rng(0)
    states, groups = rng.normal(size=(120, 6)), np.repeat(np.arange(24), 5)
    targets = np.stack([states @ rng.normal(size=6) + 3 * rng.normal(size=120) for _ in range(2)], axis=1)
    search = GridSearchCV(
        Pipeline([("standardise", StandardScaler()), ("ridge", Ridge())]),
        {"ridge__alpha": PENALTIES},
        cv=GroupKFold(4),
        scoring="neg_mean_squared_error",
    ).fit(states, targets, groups=groups)
    probe = fit_probe(states, targets, groups)
    assert probe.penalty == search.best_params_["ridge__alpha"]
    np.testing.assert_allclose(probe(states), search.predict(states), atol=1e-8)


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(5, size=50).astype(float), rng.integers(2, size=50).astype(float)
    assert area_under_roc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert area_under_roc(1e-7 * scores, labels) == area_under_roc(scores, labels)
    assert np.isnan(area_under_roc(scores, np.ones(50)))


def test_what_a_processor_rounds_moves_no_score():
    rng = np.random.default_rng(0)
    kinds, groups, labels = (
        rng.integers(3, size=90),
        np.repeat(np.arange(18), 5),
        rng.integers(2, size=90).astype(float),
    )
    states = np.c_[np.eye(3)[kinds], np.full(90, 1000.0)]
    rounded = states * (1 + 3e-7 * rng.normal(size=states.shape))
    assert 1e-4 < rounded[:, -1].std() < 1e-3
    of_kinds, of_rounded = (fit_probe(given, labels[:, None], groups)(given)[:, 0] for given in (states, rounded))
    np.testing.assert_allclose(of_rounded, of_kinds, atol=1e-5)
    assert area_under_roc(of_rounded, labels) == area_under_roc(of_kinds, labels) > 0.5


@pytest.mark.parametrize(
    ("scores", "run"),
    [
        ([-1, 2, -1, 3, -5, 1], (1, 4)),
        ([-1, -2], None),
        ([1], (0, 1)),
        ([3, -4, 2, 2], (2, 4)),
        ([2, 0, -3, 1], (0, 1)),
    ],
)
def test_the_stretch_with_the_largest_sum(scores, run):
    assert longest_run(np.array(scores, dtype=float)) == run


def test_a_type_has_the_same_control_label_wherever_it_occurs_and_labels_have_the_wanted_rate():
    labels = [random_label(3, 0.3, "present", "dog", f"type {number}") for number in range(2000)]
    assert labels[:50] == [random_label(3, 0.3, "present", "dog", f"type {number}") for number in range(50)]
    assert np.mean(labels) == pytest.approx(0.3, abs=0.04)

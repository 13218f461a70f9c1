import numpy as np

from tests.analyses.probes.scenes import clip


def test_a_clip_that_keeps_some_of_its_tokens_has_the_mean_over_all():
    whole = clip(("dog", 0.5, 1.5))
    kept = whole.drawn(2, seed=0)
    assert kept.tokens == tuple(sorted(set(kept.tokens)))
    assert len(kept.tokens) == 2
    np.testing.assert_array_equal(kept.states["embed"], whole.states["embed"][list(kept.tokens)])
    np.testing.assert_array_equal(kept.middles, whole.middles[list(kept.tokens)])
    np.testing.assert_array_equal(kept.mean("embed"), [3.0, 4.0])
    assert whole.drawn(2, seed=0).tokens == kept.tokens


def test_of_a_class_that_sounds_twice_the_first_event_counts():
    heard = clip(("dog", 1.0, 1.5), ("dog", 0.5, 0.75))
    assert heard.first("dog").onset == 0.5
    assert heard.first("rain") is None

import json
from dataclasses import dataclass
from typing import Any

from mechaudio.metrics import Estimate, accuracy, answer_change, random_fix_rate
from mechaudio.provenance import Provenance
from mechaudio.results import Result


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored(Result):
    scores: dict[str, Any]


def test_an_estimate_prints_with_its_interval_and_sample_size():
    found = Estimate(0.4583, 0.2548, 0.6252, 48, 0.95, "Bonett-Price")
    assert str(found) == "0.458 (95% interval 0.255 to 0.625, n = 48)"
    assert found.in_percent() == "45.8% (95% interval 25.5 to 62.5%, n = 48)"
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_a_difference_of_shares_prints_in_points_with_its_sign():
    lower = Estimate(-0.1, -0.3951, 0.2134, 9, 0.95, "Bonett-Price")
    assert lower.in_points() == "-10.0 points (95% interval -39.5 to +21.3, n = 9)"
    none = Estimate(-1e-9, float("nan"), float("nan"), 5, 0.95, "bootstrap")
    assert none.in_points() == "+0.0 points (no interval, n = 5)"


def test_scores_are_kept_in_a_result(tmp_path):
    before, after = [True, False, False], [True, True, False]
    scores = {
        "accuracy": accuracy(after).as_dict(),
        "change": answer_change(before, after).as_dict(),
        "chance": random_fix_rate(before, 4).as_dict(),
    }
    Scored(provenance=Provenance.collect(seed=0), scores=scores).save(tmp_path)
    assert Scored.load(tmp_path).scores == scores

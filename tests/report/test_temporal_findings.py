from dataclasses import replace

import numpy as np

from mechaudio.report import temporal_findings
from tests.viz.studies import study


def test_they_say_the_numbers_of_the_study():
    found = study()
    told = temporal_findings(found)
    assert told[0].startswith("With the recording 62.5% [")
    (silence,) = [line for line in told if line.startswith("With silence")]
    p = found.against_audio["silence"].p_holm
    assert f"p = {p:.2g}" in silence
    assert ("does not differ" in silence) == (p >= 0.05)
    (against,) = [line for line in told if "best upweighting" in line]
    assert str(found.best_scaling.arm) in against
    assert str(found.best_upweighting.arm) in against
    assert "(n = 4, p = " in against


def test_they_name_the_better_of_two_that_differ():
    made = study()
    n = 40
    clean = replace(
        made.compared.clean, ids=("",) * n, tasks=("t",) * n, options=made.compared.clean.options[:1] * n,
        answers=("dog",) * n, chosen=np.arange(n) % 2,
    )  # fmt: skip
    chosen = np.ones((len(made.arms), n), dtype=int)
    chosen[[place for place, arm in enumerate(made.arms) if arm.kind == "scaling" and arm.layer is None]] = 0
    compared = replace(made.compared, clean=clean, chosen=chosen)
    conditions = {"audio": clean, "silence": replace(clean, chosen=np.ones(n, dtype=int))}
    told = temporal_findings(replace(made, compared=compared, conditions=conditions, chooses=np.arange(n) % 4 < 2))
    (against,) = [line for line in told if "best upweighting" in line]
    assert "The two differ: scaling is better (n = 20, p < 0.0001, McNemar, Holm)." in against
    (layers,) = [line for line in told if "best factor for all layers" in line]
    assert "The two differ: all layers is better" in layers


def test_without_a_wrong_answer_there_is_nothing_to_fix():
    assert "No answer was wrong without a change, so none could be fixed." in temporal_findings(study(right=8))

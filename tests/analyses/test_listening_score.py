"""The listening score against its formula, on questions that its heads were not chosen on."""

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import attention_and_answers, listening_score, score_heads
from mechaudio.data.toy_questions import questions
from mechaudio.metrics import roc_auc
from mechaudio.models.toy.planted import PLANTED
from tests.analyses.measured import measured, noise
from tests.families import unchecked_types
from tests.reference import specialist_heads as reference

PLACES = [(0, 1), (2, 0), (1, 3)]


@pytest.fixture(scope="module")
def calibration():
    return score_heads(measured(*noise(80, effect=1.0, of=PLACES), name="calibration"), resamples=50)


@pytest.fixture(scope="module")
def held_out():
    return measured(*noise(60, effect=1.0, of=PLACES, seed=1), name="held out")


@pytest.mark.parametrize("weighting", ["r", "sign", "equal"])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("standardised", [False, True])
def test_the_score_is_that_of_the_formula(calibration, held_out, weighting, normalised, standardised):
    found = listening_score(
        calibration, held_out, k=5, weighting=weighting, normalised=normalised, standardised=standardised, draws=10
    )
    weights = {}
    for head in calibration.top(5):
        r = reference.correlation(
            calibration.measured.audio_attention[(slice(None), *head)].astype(float).tolist(),
            calibration.measured.correct.tolist(),
        )
        weights[head] = {"r": r, "sign": -1.0 if r < 0 else 1.0, "equal": 1.0}[weighting]
    assert min(weights.values()) < 0 or weighting == "equal", "a head that goes with wrong answers is among them"
    total = sum(abs(weight) for weight in weights.values()) if normalised else 1.0
    for place in range(60):
        attention = {}
        for head in weights:
            known = [float(value) for value in calibration.measured.audio_attention[(slice(None), *head)]]
            mean = sum(known) / len(known)
            spread = (sum((value - mean) ** 2 for value in known) / len(known)) ** 0.5
            value = float(held_out.audio_attention[(place, *head)])
            attention[head] = (value - mean) / spread if standardised else value
        expected = reference.listening_score(attention, weights) / total
        assert found.score[place] == pytest.approx(expected, abs=1e-9)
        assert found.mass[place] == pytest.approx(
            sum(float(held_out.audio_attention[(place, *head)]) for head in weights)
        )


def test_areas_of_the_score_and_of_random_sets_count_pairs(calibration, held_out):
    found = listening_score(calibration, held_out, k=2, draws=40, seed=3)
    right = held_out.correct.tolist()
    assert found.auc.value == pytest.approx(reference.area_under_roc(found.score.tolist(), right))
    assert found.mass_auc.value == pytest.approx(roc_auc(found.mass, held_out.correct).value)
    by_hand = {
        round(reference.area_under_roc(
            [
                sum(calibration.r[head] * float(held_out.audio_attention[(place, *head)]) for head in pair)
                for place in range(60)
            ],
            right,
        ), 9)
        for pair in [(one, other) for one in np.ndindex(3, 4) for other in np.ndindex(3, 4) if one < other]
    }  # fmt: skip
    assert {round(float(area), 9) for area in found.random_auc} <= by_hand
    assert found.p_random == (1 + (found.random_auc >= found.auc.value).sum()) / 41
    again = listening_score(calibration, held_out, k=2, draws=40, seed=3)
    np.testing.assert_array_equal(found.random_auc, again.random_auc)


def test_planted_heads_beat_random_ones_on_new_questions(calibration, held_out):
    found = listening_score(calibration, held_out, k=3)
    assert set(found.heads) == set(PLACES)
    assert found.auc.low > 0.6
    assert found.p_random < 0.05


def test_scores_of_heads_chosen_on_shuffled_labels_tell_nothing():
    """Their interval covers 0.5 in at least 16 of 20 draws; at 95% each, 99.7% of such draws do."""
    covers = []
    for seed in range(20):
        attention, correct = noise(160, 8, 8, seed=seed, effect=1.0, of=PLACES)
        correct = np.random.default_rng(seed).permutation(correct)
        chosen, rest = measured(attention, correct).split(seed=seed)
        auc = listening_score(score_heads(chosen, resamples=20), rest, k=10, draws=5).auc
        covers.append(auc.low <= 0.5 <= auc.high)
    assert sum(covers) >= 16


@pytest.mark.parametrize("weighting", ["r", "sign", "equal"])
@pytest.mark.parametrize("standardised", [False, True])
def test_layers_without_attention_and_heads_that_vary_by_rounding_alone_add_nothing(weighting, standardised):
    attention, correct = noise(90, effect=1.0, of=PLACES)
    attention[:, 1] = np.nan
    attention[:, 2, 1:] = 1e-12 * (1 + 1e-6 * correct[:, None])  # would tell right from wrong without fail
    chosen, rest = measured(attention, correct).split()
    with pytest.warns(UserWarning, match=r"3 of 12 heads .*\(2, 1\), \(2, 2\), \(2, 3\)$"):
        scores = score_heads(chosen, resamples=50)
    found = listening_score(scores, rest, k=1, weighting=weighting, standardised=standardised, draws=100)
    assert np.isfinite(found.score).all()
    assert found.random_auc.max() <= max(found.auc.value, 0.9)
    assert 0.5 in found.random_auc


@pytest.fixture(scope="module")
def toy_score():
    toy = ma.load("toy", prove=False)
    asked = questions(200, seed=1)
    chosen, rest = attention_and_answers(toy, asked, batch_size=20).split()
    left = set(rest.ids)
    silent = attention_and_answers(
        toy, [one for one in reversed(asked) if one.id in left], condition="silence", batch_size=20
    )
    with pytest.warns(UserWarning, match="14 of 16 heads"):
        scores = score_heads(chosen)
    return listening_score(scores, rest, k=1, silent=silent), rest, silent


@pytest.mark.whole
def test_the_toys_listening_head_tells_right_from_wrong_on_new_questions(toy_score):
    found, rest, _ = toy_score
    assert found.heads == (PLANTED.listening,)
    assert found.auc.low > 0.8
    assert (found.random_auc > found.auc.value).sum() == 0
    assert found.n_calibration + len(rest.ids) == 200


@pytest.mark.whole
def test_the_toys_score_is_higher_where_silence_would_get_another_answer(toy_score):
    found, rest, silent = toy_score
    by_id = dict(zip(silent.ids, silent.choices, strict=True))
    expected = [choice != by_id[name] for name, choice in zip(rest.ids, rest.choices, strict=True)]
    assert found.changed.tolist() == expected
    for of in ("score", "mass"):
        check = found.listening(of)
        assert check.everywhere.low > 0.6
        assert check.everywhere.n_right == sum(expected)
        assert check.within_right.n_right == sum(np.array(expected) & rest.correct)
    among = rest.correct
    assert found.listening().within_right.value == pytest.approx(
        reference.area_under_roc(found.score[among].tolist(), found.changed[among].tolist())
    )


def test_a_check_that_too_few_questions_allow_is_none(calibration):
    attention, _ = noise(8, seed=4)
    correct = [True, True, True, True, True, True, False, False]
    heard = measured(attention, correct, name="x", choices=["dog"] * 3 + ["cat"] * 3 + ["car"] * 2)
    silent = measured(attention, correct, name="x", choices=["dog"] * 8, condition="silence")
    check = listening_score(calibration, heard, k=2, silent=silent, draws=5).listening()
    assert check.everywhere.n_right == 5
    assert (check.within_right.n_right, check.within_right.n_wrong) == (3, 3)
    assert check.within_wrong is None


def test_a_score_that_only_tells_kinds_of_questions_apart_tells_nothing_within_them():
    """One head attends more to the easy kind, whose answers audio changes more often too."""
    rng = np.random.default_rng(0)
    easy = rng.random(600) < 0.5
    correct, changed = (rng.random(600) < np.where(easy, 0.9, 0.3) for _ in range(2))
    attention = 0.5 + 0.05 * rng.normal(size=(600, 2, 2))
    attention[:, 0, 1] += 0.2 * easy
    heard = measured(attention, correct, choices=["dog" if one else "cat" for one in changed])
    silent = measured(attention, correct, choices=["cat"] * 600, condition="silence")
    chosen, rest = heard.split()
    score = listening_score(score_heads(chosen, resamples=20), rest, k=1, draws=5, silent=silent.part(silent_of(rest)))
    kinds = ["easy" if easy[int(name[1:])] else "hard" for name in rest.ids]
    assert score.heads == ((0, 1),)
    assert score.auc.low > 0.6
    assert score.auc_within(kinds).low < 0.5 < score.auc_within(kinds).high
    assert score.listening().everywhere.low > 0.6
    within = score.listening(strata=kinds)
    for found in (within.everywhere, within.within_right, within.within_wrong):
        assert found.low < 0.5 < found.high
    assert score.auc_within(score.ids) is None
    with pytest.raises(ValueError, match=r"strata= names the kind of each of the \d+ questions, got 1"):
        score.auc_within(["easy"])


def silent_of(rest) -> list[int]:
    return [int(name[1:]) for name in rest.ids]


def test_questions_that_the_heads_were_chosen_on_are_refused(calibration, held_out):
    with pytest.raises(
        ValueError, match=r"chosen on 3 of these questions \(calibration0, calibration1, calibration2\)"
    ):
        listening_score(calibration, calibration.measured.part([0, 1, 2]))
    nameless = measured(*noise(5), name="")
    nameless = ma.analyses.AttentionAndAnswers(**{**vars(nameless), "ids": ("",) * 5})
    with pytest.raises(ValueError, match="some questions have no id"):
        listening_score(calibration, nameless)


def test_what_else_cannot_be_scored_is_refused(calibration, held_out):
    with pytest.raises(ValueError, match="at least 2 right and 2 wrong answers, got 1 and 1"):
        listening_score(calibration, held_out.part(np.array([held_out.correct.argmax(), held_out.correct.argmin()])))
    with pytest.raises(ValueError, match="from 1 to 12, got 20"):
        listening_score(calibration, held_out)
    with pytest.raises(ValueError, match="draws is a number of random sets"):
        listening_score(calibration, held_out, k=2, draws=0)
    with pytest.raises(ValueError, match="silent= holds answers to silence, got those to 'audio'"):
        listening_score(calibration, held_out, k=2, silent=held_out)
    other = measured(*noise(60), name="other", condition="silence")
    with pytest.raises(ValueError, match="not asked the same questions"):
        listening_score(calibration, held_out, k=2, silent=other)
    with pytest.raises(
        ValueError, match=r"a model of \[3, 4\] layers and heads, the questions were put to one of \[2, 4\]"
    ):
        listening_score(calibration, measured(*noise(9, layers=2), name="other"), k=2)
    found = listening_score(calibration, held_out, k=2, draws=5)
    with pytest.raises(ValueError, match="silent=attention_and_answers"):
        found.listening()
    with unchecked_types(), pytest.raises(ValueError, match="of= is 'score' or 'mass', got 'r'"):
        found.listening("r")
    with unchecked_types(), pytest.raises(ValueError, match="weighting= is one of 'r', 'sign', 'equal'; got 'R'"):
        listening_score(calibration, held_out, k=2, weighting="R")


def test_a_score_survives_the_disk(calibration, held_out, tmp_path):
    found = listening_score(calibration, held_out, k=2, draws=5)
    loaded = ma.Result.load(found.save(tmp_path / "score"))
    assert (loaded.auc, loaded.heads, loaded.changed) == (found.auc, found.heads, None)

"""Intervals, tests and choices count clips: what chooses and what reports never share one, and ties are told."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, t
from statsmodels.stats.proportion import proportion_confint

import mechaudio as ma
from benchmarks.nominal_levels import levels
from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.patching.joined import pair_clips
from mechaudio.analyses.steering_directions import SteeringDirections
from mechaudio.experiments.mata_arms import MataSettings
from mechaudio.experiments.steering_arms import SteeringSettings
from mechaudio.experiments.temporal_arms import TemporalSettings
from mechaudio.metrics import (
    accuracy,
    answer_change,
    bootstrap,
    bootstrap_mean,
    bootstrap_point_biserial,
    fix_rate,
    mcnemar,
    paired_difference,
    point_biserial,
    roc_auc,
    sign_flip_test,
)
from mechaudio.metrics.bootstrap import fewest, mean_estimate
from mechaudio.metrics.clips import freedom
from mechaudio.metrics.estimates import Estimate
from mechaudio.metrics.sound_events import event_f1
from mechaudio.question import questions_by_id
from mechaudio.results import Provenance
from tests.analyses.maps import effect_map
from tests.viz.made_up import attention

RNG = np.random.default_rng(0)
BEFORE, AFTER = RNG.random(40) < 0.5, RNG.random(40) < 0.6
SCORES = RNG.normal(size=40)
CLIPS = [f"clip {place}" for place in range(40)]
THRICE = np.repeat(np.arange(40), 3)


@pytest.fixture(scope="module")
def benchmark():
    return list(ma.temporal.build(ma.data.soundscapes.clips(20, seed=3)))


def measured(attention, correct, clips=()):
    n = len(correct)
    return AttentionAndAnswers(
        audio_attention=np.asarray(attention, dtype=np.float32), correct=np.asarray(correct), choices=("a",) * n,
        ids=tuple(f"q{place}" for place in range(n)), condition="audio", clips=tuple(map(str, clips)),
        provenance=Provenance.collect(None, seed=0),
    )  # fmt: skip


# What chooses and what reports never share a clip.


def test_questions_of_one_clip_are_on_one_side_whatever_their_ids(benchmark):
    clips = ma.analyses.clips_of(benchmark)
    chooses = ma.analyses.in_calibration(clips)
    sides = {}
    for question, side in zip(benchmark, chooses.tolist(), strict=True):
        sides.setdefault(question.meta["clip"], set()).add(side)
    assert len(sides) < len(benchmark)
    assert all(len(side) == 1 for side in sides.values())
    assert {True, False} == set(chooses.tolist())


def test_adding_questions_moves_no_clip_to_the_other_side(benchmark):
    all_sides = ma.analyses.in_calibration(ma.analyses.clips_of(benchmark))
    some = benchmark[::3]
    np.testing.assert_array_equal(ma.analyses.in_calibration(ma.analyses.clips_of(some)), all_sides[::3])


def test_a_copy_of_a_file_the_same_samples_and_the_same_name_are_the_same_clip(tmp_path):
    clip = ma.data.soundscapes.questions(1, seed=0)[0].clip()
    clip.save(tmp_path / "a.wav")
    shutil.copy(tmp_path / "a.wav", tmp_path / "copy.wav")
    asked = {"text": "Which?", "choices": ("dog", "car")}
    files = [ma.AudioQuestion(audio=tmp_path / name, id=name, **asked) for name in ("a.wav", "copy.wav")]
    samples = [ma.AudioQuestion(audio=replace(clip), id=name, **asked) for name in "xy"]
    named = [ma.AudioQuestion(audio=None, id=name, meta={"clip": "a"}, **asked) for name in "st"]
    missing = [ma.AudioQuestion(audio=f"{name}.wav", **asked) for name in "mn"]
    first, copy, x, y, s, t, m, n = ma.analyses.clips_of([*files, *samples, *named, *missing])
    assert (first, x, s) == (copy, y, t)
    assert len({first, x, s, m, n}) == 5


def test_a_file_and_the_clip_that_was_read_from_it_are_the_same_clip_and_a_part_of_it_is_another(tmp_path):
    ma.data.soundscapes.questions(1, seed=0)[0].clip().save(tmp_path / "a.wav")
    whole = ma.AudioClip.load(tmp_path / "a.wav")
    asked = {"text": "Which?", "choices": ("dog", "car")}
    path, clip, samples, part = (
        ma.AudioQuestion(audio=audio, **asked)
        for audio in (tmp_path / "a.wav", whole, replace(whole, source=None), whole.cut(0.0, 0.5))
    )
    assert len(set(ma.analyses.clips_of([path, clip, samples]))) == 1
    assert len(set(ma.analyses.clips_of([path, clip, part]))) == 2
    other = ma.data.soundscapes.questions(1, seed=1)[0].clip()
    other.save(tmp_path / "a.wav")  # what the clip was read from is there no more
    assert len(set(ma.analyses.clips_of([path, clip]))) == 2
    (tmp_path / "a.wav").unlink()
    assert len(set(ma.analyses.clips_of([path, clip]))) == 2


def test_a_question_about_two_clips_joins_them():
    one, two, other = (replace(q, id="") for q in ma.data.soundscapes.questions(3, seed=0))
    both = ma.AudioQuestion(audio=[one.audio, two.audio], text="Which is louder?", choices=("first", "second"))
    names = ma.analyses.clips_of([one, two, other, both])
    assert names[0] == names[1] == names[3] != names[2]


def test_heads_are_not_judged_on_clips_that_chose_them():
    parts = [
        measured(RNG.random((12, 2, 2)), [True, False] * 6, [f"{side}{n // 2}" for n in range(12)]) for side in "ab"
    ]
    scores = ma.analyses.score_heads(parts[0])
    others = replace(parts[1], ids=tuple(f"other {name}" for name in parts[1].ids))
    ma.analyses.listening_score(scores, others, k=1)
    shared = replace(others, clips=("a0", *others.clips[1:]))
    with pytest.raises(ValueError, match=r"other questions about 1 of these clips \(a0\)"):
        ma.analyses.listening_score(scores, shared, k=1)


def test_a_measurement_is_split_by_clip():
    found = measured(RNG.random((60, 1, 2)), RNG.random(60) < 0.5, [f"clip {place // 3}" for place in range(60)])
    calibration, held_out = found.split()
    assert set(calibration.clips).isdisjoint(held_out.clips)
    assert len(calibration.ids) % 3 == len(held_out.ids) % 3 == 0


# With one question a clip, every formula is that for independent questions.


def test_with_one_question_a_clip_nothing_changes():
    before, after = BEFORE, AFTER
    right = accuracy(before, clips=CLIPS)
    assert (right.low, right.high) == pytest.approx(proportion_confint(before.sum(), 40, method="wilson"))
    plain, clipped = answer_change(before, after), answer_change(before, after, clips=CLIPS)
    for name in ("before", "after", "change", "fix_rate", "break_rate"):
        one, other = getattr(plain, name), getattr(clipped, name)
        assert (one.low, one.high) == (other.low, other.high)
        assert other.n_clips is None
    assert (clipped.test.p, clipped.test.p_mid) == (plain.test.p, plain.test.p_mid)
    area = roc_auc(SCORES, before, clips=CLIPS)
    assert area.p == mannwhitneyu(SCORES[before], SCORES[~before]).pvalue
    np.testing.assert_array_equal(point_biserial(SCORES, before, clips=CLIPS).p, point_biserial(SCORES, before).p)
    assert bootstrap_mean(SCORES, clips=sorted(CLIPS)) == bootstrap_mean(SCORES)


def test_the_test_of_signs_over_clips_is_mcnemars_with_one_question_each():
    differences = AFTER.astype(int) - BEFORE
    assert sign_flip_test(differences) == pytest.approx(mcnemar(BEFORE, AFTER).p)
    by_hand = mcnemar([False] * 5, [True] * 5, clips=list("aabbc"))  # 2, 2 and 1 fixed: of 8 signs two reach 5
    assert (by_hand.p, by_hand.p_mid) == (2 / 8, 1 / 8)


# Duplicates never count as independent.


def test_differences_that_no_questions_have_are_refused_before_they_are_counted():
    for absurd in ([2**62, 2**62, 1], [-(2**63), 1], np.array([2**63 + 5], dtype=np.uint64), [10_000_000, 1]):
        with pytest.raises(ValueError, match="add up to 10000000 at most"):
            sign_flip_test(absurd)
    assert sign_flip_test([1_000_000, 3]) == 0.5


@pytest.mark.parametrize("times", [2, 8])
def test_questions_given_several_times_tell_no_more_than_once(times):
    before, after, scores, clips = (np.repeat(part, times) for part in (BEFORE, AFTER, SCORES, np.array(CLIPS)))
    once, many = mcnemar(BEFORE, AFTER), mcnemar(before, after, clips=clips)
    assert (many.p, many.p_mid) == pytest.approx((once.p, once.p_mid))
    assert point_biserial(scores, before, clips=clips).p == pytest.approx(point_biserial(SCORES, BEFORE).p)
    for single, several in (
        (accuracy(BEFORE), accuracy(before, clips=clips)),
        (fix_rate(BEFORE, AFTER), fix_rate(before, after, clips=clips)),
        (paired_difference(BEFORE, AFTER), paired_difference(before, after, clips=clips)),
        (roc_auc(SCORES, BEFORE), roc_auc(scores, before, clips=clips)),
    ):
        assert several.value == pytest.approx(single.value)
        width = (several.high - several.low) / (single.high - single.low)
        assert 1 <= width < 1.12  # as wide, but for Student's t in place of the normal distribution


def test_one_question_asked_fifty_times_is_one_clip():
    question = ma.data.toy_questions.questions(1, seed=0)[0]
    found = ma.evaluate(ma.load("toy", prove=False), [question] * 50).overall
    assert found.high - found.low > 0.5
    assert str(found).endswith("of 50 questions of 1 clip)")


def test_heads_scored_on_copies_are_no_surer():
    attention, correct = RNG.random((10, 2, 2)), np.array([True, False] * 5)
    once = ma.analyses.score_heads(measured(attention, correct, map(str, range(10))))
    copies = measured(np.repeat(attention, 8, axis=0), np.repeat(correct, 8), np.repeat(np.arange(10), 8))
    many = ma.analyses.score_heads(copies)
    np.testing.assert_allclose(many.r, once.r, atol=1e-5)
    np.testing.assert_allclose(many.p, once.p, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TemporalSettings(factors=(2.0, 2.0)),
        lambda: TemporalSettings(biases=(1.0, 1.0)),
        lambda: TemporalSettings(queries=("last", "last")),
        lambda: MataSettings(alphas=(0.1, 0.1)),
        lambda: MataSettings(ranges=((0, 5), (0, 5))),
        lambda: SteeringSettings(strengths=(1.0, 1.0)),
        lambda: ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[1.5, 1.5]),
        lambda: ma.grid(ma.ScaleAttention, layers=[range(2), range(2)], factor=[1.5]),
    ],
)
def test_twins_that_would_make_corrections_stricter_are_refused(make):
    with pytest.raises(ValueError, match=r"once|twice"):
        make()


# Intervals hold their level at small n, or are not given.


def test_four_answers_in_perfect_order_prove_nothing():
    found = roc_auc([4, 3, 2, 1], [True, True, False, False])
    assert found.value == 1.0
    assert found.low < 0.5 < found.high
    assert found.p == pytest.approx(1 / 3)


def test_an_area_excludes_one_half_where_its_p_value_says_so():
    rng = np.random.default_rng(4)
    for _ in range(80):
        n = int(rng.integers(6, 40))
        correct = rng.permutation(n) < int(rng.integers(3, n - 2))
        scores = rng.normal(size=n) + correct * rng.random()
        found = roc_auc(scores, correct)
        z = mannwhitneyu(scores[correct], scores[~correct], method="asymptotic", use_continuity=False).pvalue
        if not 0.045 < z < 0.055:
            assert (z < 0.05) == (not found.low <= 0.5 <= found.high)


def test_the_interval_of_a_correlation_is_never_narrower_than_fishers_of_the_effective_number():
    correct, scores = np.arange(80) % 4 > 1, RNG.normal(size=80)
    z = np.arctanh(point_biserial(scores, correct).r)
    alone = bootstrap_point_biserial(scores[:, None], correct, resamples=200)
    thrice = bootstrap_point_biserial(
        np.repeat(scores, 3)[:, None], np.repeat(correct, 3), clips=np.repeat(np.arange(80), 3), resamples=200
    )
    reach = t.ppf(0.975, 78) / np.sqrt(80 - 3)
    for found in (alone, thrice):
        assert found.low[0] <= np.tanh(z - reach) + 1e-9
        assert found.high[0] >= np.tanh(z + reach) - 1e-9
    assert (thrice.low[0], thrice.high[0]) == pytest.approx((alone.low[0], alone.high[0]), abs=0.05)


def test_the_interval_of_a_correlation_is_not_given_below_thirty_clips():
    correct = np.array([True, False] * 20)
    few = bootstrap_point_biserial(RNG.normal(size=40), correct, clips=np.repeat(np.arange(20), 2), resamples=50)
    enough = bootstrap_point_biserial(RNG.normal(size=40), correct, resamples=50)
    assert np.isnan([few.low, few.high]).all()
    assert enough.low < enough.high


@pytest.mark.parametrize(("confidence", "clips"), [(0.8, 4), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_the_interval_of_a_mean_is_given_from_as_many_clips_as_can_hold_its_level(confidence, clips):
    assert fewest(confidence) == clips
    assert 2.0 ** (1 - clips) <= 1 - confidence < 2.0 ** (2 - clips)
    values = np.random.default_rng(0).normal(size=(clips, 3))
    assert np.isfinite(bootstrap_mean(values, confidence=confidence)).all()
    assert np.isnan(bootstrap_mean(values[1:], confidence=confidence)).all()
    twice = np.repeat(values[1:], 2, axis=0)
    assert np.isnan(bootstrap_mean(twice, clips=np.arange(len(twice)) // 2, confidence=confidence)).all()


def test_no_interval_is_given_of_few_samples_or_of_samples_that_are_all_alike():
    few, alike, enough = np.arange(5.0), np.ones(40), np.arange(6.0)
    event = ma.Event("dog", 0.0, 1.0)
    for estimate in (
        bootstrap(np.mean, few),
        bootstrap(np.mean, np.repeat(few, 2), clips=np.repeat(few, 2)),
        bootstrap(np.mean, alike),
        mean_estimate(alike),
        event_f1([[event]] * 40, [[event]] * 40).f1,
    ):
        assert np.isnan([estimate.low, estimate.high]).all()
        assert "no interval" in str(estimate)
    for given in (bootstrap(np.mean, enough), mean_estimate(enough)):
        assert given.low < given.value < given.high


def test_a_mean_of_few_clips_prints_that_it_has_no_interval():
    few = Estimate(0.25, np.nan, np.nan, 5, 0.95, "bootstrap")
    assert (str(few), few.in_percent()) == ("0.25 (no interval, n = 5)", "25.0% (no interval, n = 5)")


def test_strata_of_the_listening_check_hold_their_level():
    rng, missed, n_sets = np.random.default_rng(5), 0, 150
    for _ in range(n_sets):
        correct, changed = rng.random(40) < 0.6, rng.random(40) < 0.2
        among = correct if 2 <= changed[correct].sum() <= correct.sum() - 2 else np.ones(40, dtype=bool)
        found = roc_auc(rng.normal(size=40)[among], changed[among])
        missed += not found.low <= 0.5 <= found.high
    assert missed / n_sets < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)


def test_pairs_of_one_clip_are_one_sample_of_patching():
    found, clips = RNG.normal(0.5, 0.3, size=(3, 12)), tuple("abcdefghijkl")
    once = effect_map(found)
    np.testing.assert_array_equal(effect_map(found, clips=clips).interval(), once.interval())
    copies = effect_map(np.repeat(found, 5, axis=1), clips=tuple(np.repeat(clips, 5).tolist()))
    alone = effect_map(np.repeat(found, 5, axis=1))
    width, told, blind = (high - low for low, high in (one.interval() for one in (once, copies, alone)))
    np.testing.assert_allclose(told, width)
    assert (blind < 0.6 * width).all()


def test_sixty_pairs_about_five_clips_are_too_few_to_say_that_a_place_does_anything():
    values, clips = np.full((1, 60), 0.9), [f"clip {pair % 5}" for pair in range(60)]
    few = effect_map(values, clips=tuple(clips))
    assert not few.excludes_no_effect(*few.interval()).any()
    enough = effect_map(values, clips=(*clips[:-1], "a sixth"))
    assert enough.excludes_no_effect(*enough.interval()).all()
    with pytest.raises(ValueError, match="got 60, all about one clip"):
        effect_map(values, clips=("clip",) * 60).interval()


def test_pairs_share_a_clip_on_either_side_but_not_by_what_corrupts_all_of_them():
    apart = [(("a",), ("noise",)), (("b",), ("noise",)), (("c",), ("noise",))]
    assert len(set(pair_clips(apart))) == 3
    there_and_back = [(("a",), ("b",)), (("b",), ("a",)), (("c",), ("d",))]
    first, second, other = pair_clips(there_and_back)
    assert first == second != other


@pytest.mark.whole
def test_a_map_knows_the_clips_of_its_pairs(benchmark):
    some = [question for question in benchmark if len(question.choices) == len(benchmark[0].choices)][:6]
    found = ma.analyses.activation_patching(ma.load("tiny", prove=False), some, over=("layer",))
    assert found.clips == ma.analyses.clips_of(some)
    model = ma.load("tiny", prove=False)
    assert ma.analyses.audio_attention(model, ma.prompt(model, some)).clips == found.clips


@pytest.mark.parametrize("seed", range(5))
def test_no_question_is_given_the_direction_of_another_question_about_its_clip(seed):
    clips = ("a", "a", "a", "b", "b", "c", "d")
    places = np.arange(7, dtype=np.float32)
    directions = SteeringDirections(
        residual=places.reshape(7, 1, 1), final_norm=places.reshape(7, 1), z={0: places.reshape(7, 1, 1)},
        ids=tuple(map(str, range(7))), clips=clips, provenance=Provenance.collect(None, seed=0),
    )  # fmt: skip
    given = directions.shuffled(seed).residual.ravel().astype(int)
    assert sorted(given.tolist()) == list(range(7))
    assert all(clips[place] != clips[of] for place, of in enumerate(given))
    most = directions.of(["0", "1", "2", "3"])  # three of four are about one clip, so one direction is given thrice
    assert most.shuffled(seed).residual.ravel()[:3].tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="at least 2 clips, got n = 3 questions of 1 clip"):
        directions.of(["0", "1", "2"]).shuffled()


# Ties are drawn by lot, and told.


def test_heads_that_are_all_equal_are_no_stable_choice():
    attention = np.repeat(RNG.random((40, 1)), 24, axis=1).reshape(40, 4, 6)
    scores = ma.analyses.score_heads(measured(attention, BEFORE))
    with pytest.warns(UserWarning, match="24 heads have the same correlation at place 3"):
        chosen = scores.top(3)
    assert chosen != ((0, 0), (0, 1), (0, 2))
    stability = scores.stability(3)
    assert stability.overlap == pytest.approx(stability.chance, abs=0.03)
    assert stability.tied == scores.tied(3) == 24
    assert "drawn by lot" in str(stability)


def test_equally_good_settings_are_drawn_by_lot_and_counted():
    from mechaudio.experiments.choosing import Halves

    correct = np.zeros((5, 8), dtype=bool)
    correct[1:4, :2] = True
    chooses = np.arange(8) < 4
    drawn = set()
    for seed in range(30):
        halves = Halves(list("abcde"), correct, np.zeros(8, dtype=bool), chooses, ~chooses, seed=seed)
        choice = halves.chosen(list("abcde"))
        drawn.add(choice.arm)
        assert choice.tied == 3
    assert drawn == {"b", "c", "d"}


# Nominal levels on null data sets; benchmarks/nominal_levels.py runs a thousand.


@pytest.mark.parametrize("per_clip", [1, 3])
def test_intervals_and_tests_hold_their_level_whatever_the_number_of_questions_a_clip(per_clip):
    n_sets = 150
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_sets)
    found = levels(n_sets, 40, per_clip, resamples=100)
    assert {name: share for name, share in found.items() if share > most} == {}


@pytest.mark.parametrize(("sizes", "told"), [([3] * 8, 7.0), ([1] * 8, 7.0), ([9, 1], 1.0), ([5], 1.0)])
def test_degrees_of_freedom_are_those_of_as_many_equally_large_clips(sizes, told):
    assert freedom(np.repeat(np.arange(len(sizes)), sizes)) == pytest.approx(told)


@pytest.mark.parametrize("sizes", [[1, 1, 2, 2, 5, 5, 9, 9], [9, 8, 1, 1, 1], range(1, 9), [1] * 20 + [9] * 3])
def test_degrees_of_freedom_of_unequal_clips_are_satterthwaites_of_the_quadratic_form(sizes):
    w = np.array(sizes) / sum(sizes)
    around_the_mean = np.eye(len(w)) - np.outer(np.ones(len(w)), w)
    form = around_the_mean.T @ np.diag(w**2) @ around_the_mean
    told = np.trace(form) ** 2 / np.trace(form @ form)
    assert freedom(np.repeat(np.arange(len(w)), sizes)) == pytest.approx(max(1.0, told))


@pytest.mark.parametrize("sizes", [[1, 1, 2, 2, 5, 5, 9, 9], [1, 1, 1, 1, 2, 2, 3, 4, 6, 9, 9, 12], [1] * 10 + [9] * 5])
@pytest.mark.parametrize(("right", "alike"), [(0.5, 0.5), (0.8, 0.5), (0.75, 1.0)])
def test_an_accuracy_of_few_clips_of_very_unequal_numbers_of_questions_holds_its_level(sizes, right, alike):
    rng, n_sets, missed = np.random.default_rng(0), 400, 0
    clips = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(n_sets):
        own, of_clip = rng.random(len(clips)) < right, (rng.random(len(sizes)) < right)[clips]
        found = accuracy(np.where(rng.random(len(clips)) < np.sqrt(alike), of_clip, own), clips=clips.astype(str))
        missed += not found.low <= right <= found.high
    assert missed / n_sets <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_sets)


def test_questions_that_share_clips_would_not_hold_it_as_independent_ones():
    found = levels(100, 40, 3, by_clip=False, resamples=100)
    assert min(found["accuracy, interval"], found["any head, q"]) > 0.1


# Printed text says what was counted.


def test_text_says_how_many_clips_there_are():
    answers = np.repeat(BEFORE, 3)
    assert "of 120 questions of 40 clips" in str(accuracy(answers, clips=THRICE))
    assert "n = 120 questions of 40 clips" in paired_difference(answers, ~answers, clips=THRICE).in_points()
    assert "of 120 questions of 40 clips: exact test of signs over clips" in str(
        mcnemar(answers, ~answers, clips=THRICE)
    )
    assert "n = 120 questions of 40 clips" in str(roc_auc(np.repeat(SCORES, 3), answers, clips=THRICE))
    assert "n = 120 questions of 40 clips" in str(point_biserial(np.repeat(SCORES, 3), answers, clips=THRICE))


def test_figures_draw_clips_and_say_how_many_there_are():
    shown = attention(n=12)
    doubled = replace(shown, clips=tuple(f"clip {place // 2}" for place in range(12)))
    figure = ma.viz.audio_share_by_layer(doubled)
    assert "n = 12 questions of 6 clips" in figure.layout.title.text.replace(" <br>", " ")
    share = 100 * doubled.share("audio").mean(axis=2)
    low, high = bootstrap_mean(share, clips=doubled.clips)
    np.testing.assert_allclose(
        next(line for line in figure.data if line.mode and line.name == "audio").customdata, np.stack([low, high], 1)
    )
    one = ma.viz.audio_share_by_layer(replace(shown, clips=("clip",) * 12))
    assert "no intervals, which take 6 clips" in one.layout.title.subtitle.text


def test_bars_of_attribution_draw_clips():
    asked = ma.data.soundscapes.questions(2, seed=0)
    written = ma.analyses.direct_logit_attribution(
        ma.load("tiny", prove=False), [asked[0], replace(asked[0], id="again"), asked[1]]
    )
    assert written.clips == ma.analyses.clips_of([asked[0], asked[0], asked[1]])
    assert "n = 3 questions of 2 clips" in ma.viz.attribution_bars(written).layout.title.subtitle.text


def test_a_patching_map_says_of_how_many_clips_its_pairs_are_and_draws_no_interval_of_one():
    values = RNG.normal(0.5, 0.2, size=(2, 12))
    drawn = ma.viz.patching_map(effect_map(values, clips=tuple("aabbccddeeff")))
    assert "n = 12 pairs of 6 clips" in drawn.layout.title.subtitle.text
    alone = ma.viz.patching_map(effect_map(values, clips=("clip",) * 12))
    assert "no intervals: they take 6 pairs about different clips" in alone.layout.title.subtitle.text


@pytest.mark.filterwarnings("ignore:the model has no token for")
def test_questions_of_one_id_have_the_length_of_their_own_clip():
    lengths = (3, 6)
    clips = [
        ma.AnnotatedClip(ma.AudioClip(np.full(16_000 * length, 0.1), 16_000), [ma.Event("dog", 0.0, 1.0)])
        for length in lengths
    ]
    questions = [replace(question, id="") for question in ma.data.ftar.build(clips, ("tag",))]
    study = ma.experiments.grounding_study(ma.load("tiny", prove=False), questions, max_new_tokens=1)
    assert study.durations.tolist() == list(lengths)
    assert questions_by_id(questions) == {}
    assert set(questions_by_id([*questions, replace(questions[0], id="a")])) == {"a"}

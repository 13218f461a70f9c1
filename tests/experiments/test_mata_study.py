import shutil
from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import in_calibration
from mechaudio.data.toy_questions import questions
from mechaudio.experiments import evaluate
from mechaudio.experiments.mata_arms import MODES, MataArm, MataSettings, contiguous, mata_arms, placed
from mechaudio.experiments.mata_scores import mata_scores
from mechaudio.experiments.mata_study import MataStudy, mata_study
from mechaudio.metrics import answer_change, holm
from mechaudio.models.toy.planted import PLANTED

SETTINGS = MataSettings(alphas=(0.1, 2.0), n_measured=4, max_new_tokens=3, seed=2)


@pytest.fixture(scope="module")
def asked():
    drawn = questions(20, seed=4)
    return [replace(one, meta=dict(one.meta) | {"task": ("a", "b")[place % 3 == 0]}) for place, one in enumerate(drawn)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of the study, which stays as it is."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(toy, asked, written):
    return mata_study(toy, asked, settings=SETTINGS, out=written)


@pytest.fixture
def kept(study, written, tmp_path):
    """The study in a folder that a test may write to."""
    return shutil.copytree(written, tmp_path / "study")


def test_a_published_range_is_itself_in_a_model_of_the_published_depth():
    for span in ((0, 10), (5, 15), (10, 20), (15, 25)):
        assert placed(span, range(28), 28, "proportional") == placed(span, range(28), 28, "numbered") == span
    assert placed((20, 28), range(28), 28, "proportional") == (20, 27)


@pytest.mark.parametrize(
    ("depth", "mapping", "expected"),
    [
        (32, "proportional", (11, 23)),  # middles from 11.5 / 32 = 0.359 to 23.5 / 32 = 0.734, of 10 / 28 to 21 / 28
        (32, "numbered", (10, 20)),
        (6, "proportional", (2, 3)),
        (4, "proportional", (1, 2)),
        (1, "proportional", (0, 0)),
    ],
)
def test_it_is_the_layers_whose_middles_lie_in_the_same_part_of_another_depth(depth, mapping, expected):
    assert placed((10, 20), range(depth), depth, mapping) == expected


def test_layers_without_attention_are_no_ends_of_a_range():
    assert placed((10, 20), [0, 3, 12, 15, 27], 28, "proportional") == (12, 15)
    assert placed((10, 20), [0, 27], 28, "proportional") == (27, 27)  # none lies there: the nearest to 15.5
    assert MataArm("pai", 0.1, 2, 5).intervention([0, 3, 4, 7]) == ma.mata(0.1, layers=[3, 4], mode="pai")


def test_every_range_can_be_chosen_and_in_deep_models_those_between_eight_even_steps():
    assert contiguous(range(3)) == ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    deep = contiguous(range(32))
    assert len(deep) == 36
    assert {first % 4 for first, _ in deep} == {0}
    assert {last % 4 for _, last in deep} == {3}


def test_each_setting_comes_once(toy):
    arms = mata_arms(SETTINGS, range(4), 4)
    assert len(set(arms)) == len(arms) == len(MODES) * (10 + 1)
    assert MataArm("additive", 2.0, 1, 2) in arms


@pytest.mark.whole
def test_answers_are_those_of_each_setting_alone(toy, asked, study):
    for arm in study.arms[:: len(study.arms) // 5]:
        alone = evaluate(toy, asked, interventions=[arm.intervention(range(4))])
        np.testing.assert_array_equal(study.compared.correct[study.arms.index(arm)], alone.correct)


def test_choices_are_the_best_of_one_half_and_held_against_the_published_setting_on_the_other(study):
    np.testing.assert_array_equal(study.chooses, in_calibration(study.compared.clean.clips, 0.5, 2))
    published, layers, everything = study.choices
    assert published.arm == MataArm("multiplicative", 0.1, 1, 2)
    assert (layers.arm.mode, layers.arm.alpha) == ("multiplicative", 0.1)
    correct, clean, held = study.compared.correct, study.compared.clean.correct, ~study.chooses
    rows = {choice.name: correct[study.arms.index(choice.arm)] for choice in study.choices}
    assert rows[everything.name][study.chooses].sum() == correct[:, study.chooses].sum(1).max()
    for choice in study.choices:
        assert choice.held_out == answer_change(clean[held], rows[choice.name][held])
    for choice in (layers, everything):
        assert choice.against_published == answer_change(rows["published"][held], rows[choice.name][held])
    tests = [choice.held_out.test.p for choice in study.choices]
    corrected = holm([*tests, layers.against_published.test.p, everything.against_published.test.p])
    found = [*(choice.p_holm for choice in study.choices), layers.p_against, everything.p_against]
    assert found == pytest.approx(corrected)


def test_the_half_that_reports_does_not_touch_the_choice(study):
    compared = study.compared
    logits = compared.logits.copy()
    logits[:, ~study.chooses] = 0.0
    other = replace(
        study, compared=replace(compared, chosen=np.where(study.chooses, compared.chosen, 0), logits=logits)
    )
    assert [choice.arm for choice in other.choices] == [choice.arm for choice in study.choices]


def test_written_answers_are_of_the_half_that_reports_with_the_readings_and_the_choices(toy, asked, study):
    held = [question for question, chooses in zip(asked, study.chooses, strict=True) if not chooses]
    assert study.generated.clean.ids == tuple(question.id for question in held)
    assert set(study.written_arms) == {one.arm for one in (*study.readings, *study.choices)}
    arm = study.written_arms[0]
    alone = ma.generate(toy, ma.prompt(toy, held[:1]), max_new_tokens=3, interventions=[arm.intervention(range(4))])
    assert study.generated[0].texts[0] == alone.texts[0]
    assert mata_study(toy, asked, settings=replace(SETTINGS, generate=False)).written == ()


def test_groups_are_of_the_questions(study):
    told = {row.name: row.change for row in study.by_group(study.readings[0].arm)}
    assert set(told) == {"all", "a", "b"}
    assert told["a"].n + told["b"].n == told["all"].n == 20


def test_scores_below_zero_decide_what_multiplying_does(toy, asked):
    found = mata_scores(toy, asked[:4], alpha=1.0)
    batch = ma.prompt(toy, asked[:4])
    point = ma.HookPoint("scores", queries="last")
    scores = ma.run(toy, batch, record=[point]).cache["scores", PLANTED.listening[0]][:, :, 0]
    for row, expected in ((found.negative, scores < 0), (found.score, scores)):
        means = [expected[index, :, list(batch.spans["audio"][index])].double().mean() for index in range(4)]
        assert row[PLANTED.listening[0]] == pytest.approx(float(np.mean(means)), abs=1e-5)
    multiplied, added, by_size = found.after
    assert (added >= found.before - 1e-7).all()
    assert (by_size >= np.maximum(found.before, multiplied) - 1e-7).all()


def test_of_a_recording_that_is_too_long_the_beginning_is_measured(toy, asked):
    clip = asked[0].clip()
    long = ma.AudioClip(np.tile(clip.mono(clip.sample_rate), 40), clip.sample_rate)
    with pytest.raises(ValueError, match="allow_cut"):
        ma.prompt(toy, [replace(asked[0], audio=long)])
    heard = round(long.duration - ma.prompt(toy, [replace(asked[0], audio=long)], allow_cut=True).cut[0], 6)
    beginning = ma.AudioClip(long.waveform[: round(heard * clip.sample_rate)], clip.sample_rate)
    found, expected = (mata_scores(toy, [replace(asked[0], audio=audio)], alpha=1.0) for audio in (long, beginning))
    np.testing.assert_array_equal(found.score, expected.score)


def test_a_study_is_kept_and_taken_up(toy, asked, study, kept):
    again = MataStudy.load(kept)
    assert str(again) == str(study)
    assert again.settings == SETTINGS
    assert str(mata_study(toy, asked, settings=SETTINGS, out=kept)) == str(study)


@pytest.mark.whole
def test_another_split_takes_up_the_same_letters(toy, asked, study, kept):
    other = replace(SETTINGS, seed=SETTINGS.seed + 1)
    letters = (kept / "letters" / "answers.jsonl").read_bytes()
    found = mata_study(toy, asked, settings=other, out=kept)
    assert (kept / "letters" / "answers.jsonl").read_bytes() == letters
    assert str(found) == str(mata_study(toy, asked, settings=other)) != str(study)
    assert found.compared.provenance.seed is None
    assert (found.provenance.seed, found.settings.seed) == (other.seed, other.seed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alphas": ()}, "alphas is empty"),
        ({"alpha": 0.0}, "alphas lists strengths other than 0"),
        ({"published": (20, 10)}, "a range is its first and its last layer"),
        ({"share": 0.0}, "between 0 and 1, got 0"),
        ({"n_measured": 0}, "at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MataSettings(**wrong)


def test_a_model_without_the_numbered_layers_says_so(toy, asked):
    with pytest.raises(ValueError, match="none of which is 10 to 20: use mapping='proportional'"):
        mata_study(toy, asked, settings=replace(SETTINGS, mapping="numbered"))

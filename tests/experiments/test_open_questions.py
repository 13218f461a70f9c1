"""Open questions from asking to the score: evaluated, listened to, refused where choices are needed."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses.attention_and_answers import rows_of
from mechaudio.experiments import specialists_study
from mechaudio.experiments.listen import listen
from mechaudio.metrics import captions
from mechaudio.viz import choice_probabilities
from tests.shorter import shorter

N_TOKENS = 4


@pytest.fixture(scope="module")
def tiny():
    return shorter()


@pytest.fixture(scope="module")
def made():
    return ma.data.soundscapes.questions(6, seed=11, duration=4.0)


@pytest.fixture(scope="module")
def questions(made):
    return [
        ma.AudioQuestion(audio=one.audio, text="What do you hear?", answer="a chirp", id=f"open {n}")
        for n, one in enumerate(made)
    ]


@pytest.mark.parametrize(
    "call",
    [
        ma.evaluate,
        ma.experiments.temporal_study,
        ma.experiments.mata_study,
        ma.experiments.steering_study,
        specialists_study,
    ],
)
def test_prompts_measured_on_words_are_not_asked_again_with_the_words_as_choices(tiny, questions, call):
    aimed = ma.prompt(tiny, questions[:2]).aimed(target="chirp", foil="siren")
    with pytest.raises(ValueError, match=r"measured on words \(target='chirp'\).*give the questions.*ma\.sweep"):
        call(tiny, aimed)


def test_rows_that_listen_are_found_behind_prompts_as_they_are(tiny):
    made = ma.data.soundscapes.questions(8, seed=3, duration=4.0)
    first = [question.caption.split()[0] for question in made]  # a caption begins with what sounds first
    unanswered = [
        replace(question, choices=(), answer=None, text="Describe the sound events.", meta={}) for question in made
    ]
    aimed = ma.prompt(tiny, unanswered).aimed(target=first)
    asked, rows = rows_of(tiny, aimed, "listening", progress=False)
    assert asked is aimed
    assert rows == "last"


def shout(text, reference):
    return len(text) - len(reference)


@pytest.fixture(scope="module")
def evaluated(tiny, questions, made):
    scores = ["normalised_match", "containment", "rouge", "word_error_rate", shout]
    return ma.evaluate(
        tiny, [*questions, *made], scoring="generate", scores=scores, max_new_tokens=N_TOKENS, batch_size=12
    )


def test_written_answers_are_kept_and_scored_by_every_rule(tiny, questions, evaluated):
    written = ma.generate(tiny, ma.prompt(tiny, questions), max_new_tokens=N_TOKENS).texts
    assert evaluated.texts[:6] == tuple(written)
    rules = {
        "normalised_match": captions.normalised_match,
        "containment": captions.containment,
        "rouge": captions.rouge,
        "word_error_rate": captions.word_error_rate,
        "shout": shout,
    }
    assert set(evaluated.scores) == set(rules)
    for name, rule in rules.items():
        expected = [rule(text, "a chirp") for text in written]
        np.testing.assert_allclose(evaluated.scores[name][:6], expected)
        assert np.isnan(evaluated.scores[name][6:]).all()  # those have choices, and a rule of their own
        score = evaluated.by_score()[name]
        assert (score.value, score.n) == (pytest.approx(np.mean(expected)), 6)
        if np.ptp(expected):
            assert score.low <= score.value <= score.high
        else:  # scores that are all the same have no interval
            assert np.isnan([score.low, score.high]).all()


def test_each_question_of_a_mixed_set_is_right_by_its_own_rule(tiny, made, evaluated):
    alone = ma.evaluate(tiny, made, scoring="generate", max_new_tokens=N_TOKENS)
    np.testing.assert_array_equal(evaluated.correct[6:], alone.correct)
    np.testing.assert_array_equal(evaluated.correct[:6], evaluated.scores["normalised_match"][:6] == 1)
    assert evaluated.unparsed.n == alone.unparsed.n == 6
    assert (evaluated.string_match.count, evaluated.string_match.n) == (alone.string_match.count, 6)
    assert alone.scores == {}
    with pytest.raises(ValueError, match="no open question"):
        alone.by_score()


def test_intervals_take_clips_as_clusters(tiny, questions):
    others = [replace(question, text="What is the sound?", id=f"{question.id}, again") for question in questions]
    found = ma.evaluate(tiny, [*questions, *others], scoring="generate", max_new_tokens=N_TOKENS, scores=[shout])
    assert (found.by_score()["shout"].n, found.by_score()["shout"].n_clips) == (12, 6)


def test_a_run_that_is_taken_up_and_a_loaded_one_hold_the_same_scores(tiny, questions, tmp_path):
    options = {"scoring": "generate", "max_new_tokens": N_TOKENS, "out": tmp_path}
    found = ma.evaluate(tiny, questions, **options)
    again = ma.evaluate(tiny, questions, scores={"length": shout}, **options)
    np.testing.assert_array_equal(again.scores["length"], [shout(text, "a chirp") for text in found.texts])
    assert again.texts == found.texts
    np.testing.assert_array_equal(ma.Result.load(tmp_path).scores["length"], again.scores["length"])


def test_variants_are_scored_each(tiny, questions):
    compared = ma.evaluate(
        tiny, questions, scoring="generate", max_new_tokens=N_TOKENS, scores=[shout], variants=[ma.ScaleAttention(0.0)]
    )
    assert compared[0].texts != compared.clean.texts
    np.testing.assert_array_equal(compared.scores["shout"][0], [shout(text, "a chirp") for text in compared[0].texts])
    np.testing.assert_array_equal(compared.to_xarray()["clean_shout"], compared.clean.scores["shout"])
    with pytest.raises(ValueError, match="nobody guesses the answer to an open question"):
        _ = compared.random_fix_rate


def test_scores_that_are_none_are_refused(tiny, questions):
    for scores, error, said in (
        (["bleu"], ValueError, "names one of exact_match, .* got 'bleu'"),
        ([shout, shout], ValueError, "two scores are named 'shout'"),
    ):
        with pytest.raises(error, match=said):
            ma.evaluate(tiny, questions, scoring="generate", scores=scores)


def test_where_choices_are_needed_an_open_question_is_refused_with_the_way(tiny, questions):
    for call in (
        lambda: ma.evaluate(tiny, questions),
        lambda: ma.analyses.attention_and_answers(tiny, questions),
        lambda: ma.analyses.paired_passes(tiny, questions),
        lambda: specialists_study(tiny, questions),
    ):
        with pytest.raises(ValueError, match=r"needs choices, and question 'open 0' .* is open: .*scoring=.generate"):
            call()
    with pytest.raises(ValueError, match=r"ma.answer needs choices.*ma.generate"):
        ma.answer(tiny, ma.prompt(tiny, questions))


def test_listening_to_an_open_question_gives_what_is_written_with_the_clip_and_with_silence(tiny, questions):
    change = ma.ScaleAttention(0.0, queries=None)
    found = listen(tiny, questions[0], max_new_tokens=N_TOKENS, interventions=[change])
    for text, condition in ((found.choice, "audio"), (found.silence_choice, "silence")):
        batch = ma.prompt(tiny, questions[:1], condition=condition)
        assert text == ma.generate(tiny, batch, max_new_tokens=N_TOKENS, interventions=[change]).texts[0]
    assert (found.choices, found.correct, found.interventions) == ((), False, (change,))
    with pytest.raises(ValueError, match="is open, so it has no choices to draw"):
        choice_probabilities(found)


def test_listening_with_an_intervention_shows_its_answer_and_its_attention(tiny, made):
    change = ma.ScaleAttention(0.0, layers=[1])
    plain, changed = listen(tiny, made[0]), listen(tiny, made[0], interventions=[change])
    (answer,) = ma.answer(tiny, ma.prompt(tiny, made[:1]), interventions=[change])
    np.testing.assert_allclose(changed.probabilities, answer.probabilities, rtol=1e-5)
    before, after = (one.attention.share("audio")[0] for one in (plain, changed))
    np.testing.assert_allclose(before[0], after[0])
    assert not np.allclose(before[1], after[1])

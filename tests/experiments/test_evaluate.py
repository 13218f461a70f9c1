import weakref
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.experiments import asking
from mechaudio.experiments.batches import windows
from mechaudio.experiments.evaluate import Comparison, Evaluation, evaluate
from mechaudio.metrics import answer_change, score_generated
from mechaudio.models.prompt import prompt
from mechaudio.question import AudioQuestion
from mechaudio.results import Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.generation import generate
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import answer
from tests.families import network, noise, processor, unchecked_types

STREAM = import_module("mechaudio.experiments.stream")


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)


def questions(n, answer="dog", seconds=1.0):
    return [
        AudioQuestion(
            audio=AudioClip(noise(seconds + 0.3 * (seed % 3), seed), 16_000),
            text="Which sound?",
            choices=("dog", "rain", "car"),
            answer=answer,
            id=str(seed),
            caption="a dog",
            meta={"task": ("first", "last")[seed % 2]},
        )
        for seed in range(n)
    ]


@pytest.fixture
def asked_of(monkeypatch):
    """Ids of the questions that the model is asked, in batches."""
    seen = []

    def spy(*words, **options):
        seen.append([question.id for question in words[1]])
        return prompt(*words, **options)

    monkeypatch.setattr(asking, "prompt", spy)
    return seen


def test_batches_change_nothing_and_every_question_is_counted_once(model, asked_of):
    asked = questions(5)
    one_by_one, together = evaluate(model, asked, batch_positions=1), evaluate(model, asked, batch_positions=200)
    assert list(map(len, asked_of)) == [1] * 5 + [2, 2, 1]
    assert one_by_one.choices == together.choices
    np.testing.assert_allclose(one_by_one.logits, together.logits, rtol=1e-4, atol=1e-4)
    assert together.ids == ("0", "1", "2", "3", "4")
    assert together.overall.n == 5
    assert {task: score.n for task, score in together.by_task().items()} == {"first": 3, "last": 2}
    assert together.overall.count == sum(choice == "dog" for choice in together.choices)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"batch_size": 2}, [2, 2, 1]),
        ({"batch_size": 10**20}, [5]),
        ({"batch_size": 3, "batch_positions": 200}, [2, 2, 1]),
    ],
)
def test_a_batch_has_as_many_questions_as_are_asked_for(model, asked_of, options, sizes):
    evaluate(model, questions(5), **options)
    assert list(map(len, asked_of)) == sizes


def test_a_batch_may_have_more_questions_than_are_sorted_together_otherwise(model, asked_of, monkeypatch):
    monkeypatch.setattr(STREAM, "WINDOW", 2)
    evaluate(model, questions(5), batch_size=4)
    assert list(map(len, asked_of)) == [4, 1]


def test_answers_are_those_of_answer_and_stand_in_the_order_of_the_questions(model):
    asked = questions(4)
    found = evaluate(model, iter(asked), interventions=[ma.ScaleAttention(2.0)], batch_positions=1)
    for place, question in enumerate(asked):
        alone = answer(model, prompt(model, [question]), interventions=[ma.ScaleAttention(2.0)])[0]
        assert found.choices[place] == alone.choice
        assert tuple(found.logits[place]) == alone.choice_logits
    assert found.interventions == (ma.ScaleAttention(2.0),)


def test_of_two_choices_of_the_same_text_either_is_right(model):
    asked = [replace(question, choices=("dog", "rain", "dog")) for question in questions(2)]
    both = Evaluation(
        provenance=evaluate(model, asked).provenance,
        condition="audio",
        ids=("0", "1", "2"),
        tasks=("", "", ""),
        options=(("dog", "rain", "dog"),) * 3,
        answers=("dog",) * 3,
        chosen=np.array([0, 1, 2]),
    )
    assert both.correct.tolist() == [True, False, True]


@pytest.mark.parametrize("condition", ["audio", "caption", "audio+caption", "silence"])
def test_the_condition_is_what_the_model_is_given(model, condition):
    found = evaluate(model, questions(1), condition=condition)
    assert found.condition == condition
    assert tuple(found.logits[0]) == answer(model, prompt(model, questions(1), condition=condition))[0].choice_logits


def test_a_caption_is_enough_where_nothing_else_is_given(model):
    asked = [replace(question, audio="nowhere.wav") for question in questions(2)]
    assert len(evaluate(model, asked, condition="caption").ids) == 2


def test_variants_are_answered_as_one_by_one_and_compared_with_the_clean_model(model):
    asked = questions(5)
    variants = ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[0.0, 30.0])
    found = evaluate(model, asked, variants=variants)
    assert isinstance(found, Comparison)
    clean = evaluate(model, asked)
    np.testing.assert_allclose(found.clean.logits, clean.logits, rtol=1e-4, atol=1e-4)
    for place, variant in enumerate(variants):
        alone = evaluate(model, asked, interventions=[variant])
        np.testing.assert_allclose(found[place].logits, alone.logits, rtol=1e-4, atol=1e-4)
        assert found[place].choices == alone.choices
        assert found[place].interventions == (variant,)
        assert found.change(place) == answer_change(clean.correct, alone.correct)
    labelled = found.to_xarray()
    assert labelled.correct.dims == ("layers", "factor", "question")
    assert labelled.correct.sel(layers=1, factor=30.0).values.tolist() == found.correct[3].tolist()
    assert labelled.clean_correct.values.tolist() == clean.correct.tolist()
    swept = ma.sweep(model, prompt(model, asked), variants, progress=False).to_xarray()
    for name in ("margin", "clean_margin"):
        assert labelled[name].dims == swept[name].dims
        np.testing.assert_allclose(labelled[name], swept[name], rtol=1e-4, atol=1e-4)
    drawn = ma.viz.sweep_map(found, value="margin")
    np.testing.assert_allclose(drawn.data[0].z, labelled.margin.mean("question"))


def test_margins_are_known_where_the_answer_is():
    held = {"provenance": Result.kinds["Provenance"](), "condition": "audio", "tasks": ("",) * 3}
    logits = np.array([[1.0, 4.0, 2.0], [3.0, 1.0, np.nan], [0.0, 1.0, 2.0]])
    clean = Evaluation(
        **held,
        ids=("a", "b", "c"),
        options=(("dog", "car", "dog"), ("dog", "car"), ("dog", "car", "hum")),
        answers=("dog", "car", None),
        chosen=np.array([1, 0, 2]),
        logits=logits,
    )
    found = Comparison(
        provenance=clean.provenance,
        clean=clean,
        variants=((ma.ScaleAttention(2.0),),),
        chosen=clean.chosen[None],
        logits=2 * logits[None],
    )
    np.testing.assert_equal(found.clean.margin, [2.0 - 4.0, 1.0 - 3.0, np.nan])
    np.testing.assert_equal(found.margin, [2 * found.clean.margin])
    written = replace(found, logits=None, clean=replace(clean, logits=None))
    assert "margin" not in written.to_xarray()
    with pytest.raises(ValueError, match="these answers were generated: use scoring='letter_logit'"):
        _ = written.margin


def test_the_random_fix_rate_knows_of_repeated_answers():
    held = {"provenance": Result.kinds["Provenance"](), "condition": "audio", "tasks": ("", "")}
    clean = Evaluation(
        **held,
        ids=("a", "b"),
        options=(("dog", "car", "dog", "hum"), ("dog", "car")),
        answers=("dog", "dog"),
        chosen=np.array([1, 0]),
    )
    found = Comparison(
        provenance=clean.provenance, clean=clean, variants=((ma.ScaleAttention(2.0),),), chosen=np.array([[0, 0]])
    )
    assert found.random_fix_rate.uniform.value == 0.5
    assert found.random_fix_rate.another.value == pytest.approx(2 / 3)
    assert (found.change(0).test.fixed, found.change(0).test.broken) == (1, 0)


def test_generated_texts_are_kept_and_read_by_both_rules(model):
    asked = questions(3)
    found = evaluate(model, asked, scoring="generate", max_new_tokens=3, variants=[ma.ScaleAttention(5.0)])
    for place, question in enumerate(asked):
        batch = prompt(model, [question])
        assert found.clean.texts[place] == generate(model, batch, max_new_tokens=3).texts[0]
        assert (
            found[0].texts[place]
            == generate(model, batch, max_new_tokens=3, interventions=[ma.ScaleAttention(5.0)]).texts[0]
        )
    scored = score_generated(found.clean.texts, found.clean.options, found.clean.answers)
    assert found.clean.correct.tolist() == list(scored.correct)
    assert found.clean.unparsed == scored.unparsed
    assert found.clean.logits is None


def test_generated_texts_do_not_depend_on_the_padding_of_others():
    leaky = AudioLM(network("qwen3_omni_moe_thinker"), processor("qwen3_omni_moe_thinker"), prove=False)
    asked = questions(3)
    alone = [generate(leaky, prompt(leaky, [question]), max_new_tokens=3).texts[0] for question in asked]
    assert list(evaluate(leaky, asked, scoring="generate", max_new_tokens=3).texts) == alone


def test_texts_are_scored_by_letter_and_by_mmaus_words():
    found = Evaluation(
        provenance=Result.kinds["Provenance"](),
        condition="audio",
        ids=("a", "b", "c", "d"),
        tasks=("",) * 4,
        options=(("big dog", "car"), ("big dog", "car"), ("+", "car"), ("dog", "car")),
        answers=("big dog", "big dog", "+", None),
        chosen=np.array([0, -1, 0, 0]),
        texts=("a big dog", "hm", "+", "dog"),
        scoring="generate",
    )
    assert found.choices == ("big dog", None, "+", "dog")
    assert (found.overall.n, found.overall.count) == (3, 2)
    assert (found.string_match.n, found.string_match.count) == (2, 1)
    assert (found.unparsed.count, found.unparsed.n) == (1, 4)


def test_questions_whose_answer_is_withheld_are_answered_and_not_scored(model):
    known, unknown = questions(3), questions(2, answer=None)
    found = evaluate(model, known + unknown)
    assert len(found.choices) == 5
    assert found.overall == evaluate(model, known).overall
    hidden = evaluate(model, unknown)
    assert hidden.choices == found.choices[:2]
    assert hidden.by_task() == {}
    with pytest.raises(ValueError, match="none of the 2 questions has a known answer"):
        _ = hidden.overall


@pytest.fixture
def broken(tmp_path):
    """Questions, three of which cannot be asked: no file, no sound, a file that breaks off."""
    sound = tmp_path / "sound.wav"
    AudioClip(noise(1.0, 1), 16_000).save(sound)
    (tmp_path / "text.wav").write_text("not a sound")
    (tmp_path / "half.wav").write_bytes(sound.read_bytes()[:9000])
    names = ("sound.wav", "missing.wav", "text.wav", "sound.wav", "half.wav", "sound.wav")
    good = questions(6)
    return [replace(question, audio=tmp_path / name) for question, name in zip(good, names, strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
def test_recordings_that_cannot_be_read_are_listed_and_the_others_answered_as_ever(model, broken, workers):
    found = evaluate(model, broken, batch_size=1, workers=workers)
    assert found.ids == ("0", "3", "5")
    assert [(failure.index, failure.id) for failure in found.failures] == [(1, "1"), (2, "2"), (4, "4")]
    missing, text, half = (failure.error for failure in found.failures)
    assert missing.startswith("FileNotFoundError: ")
    assert "cannot be read as wav" in text
    assert "promises" in half
    whole = evaluate(model, [broken[0], broken[3], broken[5]], batch_size=1)
    assert found.logits.tobytes() == whole.logits.tobytes()


def test_a_question_that_cannot_be_written_out_does_not_spoil_its_batch(model):
    asked = questions(3)
    asked[1] = replace(asked[1], caption=None)
    found = evaluate(model, asked, condition="audio+caption")
    assert found.ids == ("0", "2")
    assert "has no caption" in found.failures[0].error


def test_a_strict_run_ends_at_the_first_that_cannot_be_asked(model, broken):
    with pytest.raises(ValueError, match=r"question '1': FileNotFoundError: .*without strict=True it is listed"):
        evaluate(model, broken, strict=True)


def test_a_run_of_which_nothing_can_be_asked_says_so(model, broken):
    with pytest.raises(ValueError, match=r"none of the 2 questions could be asked; the first, '1': FileNotFound"):
        evaluate(model, broken[1:3])


def test_logits_that_are_not_finite_choose_nothing(model):
    silent = Edit(HookPoint("final_norm"), lambda normed: normed * float("nan"))
    with pytest.warns(
        UserWarning, match="2 of 2 questions have no answer, for logits .* NaN .*: they count as not right"
    ):
        found = evaluate(model, questions(2), interventions=[silent])
    with pytest.warns(UserWarning, match=r"1 of 1 questions have no answer, .* \('0'\)"):
        (answered,) = answer(model, prompt(model, questions(1)), interventions=[silent])
    assert (answered.choice, answered.letter, answered.correct) == (None, None, False)
    assert found.choices == (None, None)
    assert found.unparsed.count == 2
    assert not found.correct.any()
    assert found.interventions == (repr(silent),)


def test_a_stream_is_not_held_in_memory():
    alive = weakref.WeakSet()

    def stream():
        for question in questions(40, seconds=0.01):
            made = replace(question)
            alive.add(made)
            assert len(alive) <= 8
            yield made
            del made

    assert [placed.index for window in windows(stream(), 4) for placed in window] == list(range(40))


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ([], {}, "no questions were given"),
        (questions(1), {"batch_positions": 0}, "batch_positions= must be at least 1, got 0"),
        (questions(1), {"condition": "noise"}, "condition is one of"),
        (questions(1), {"scoring": "loss"}, "scoring= is one of 'letter_logit', 'generate'; got 'loss'"),
        (questions(1), {"max_new_tokens": 0}, "max_new_tokens= must be at least 1, got 0"),
        (questions(1), {"variants": []}, "nothing to run: variants= is empty"),
        (questions(1), {"variants": [[]], "interventions": [ma.ScaleAttention(2.0)]}, "put what all of them share"),
    ],
)
def test_what_cannot_be_counted_is_refused(model, asked, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, asked, **options)


@pytest.mark.parametrize("name", ["interventions", "variants"])
def test_one_intervention_without_a_list_is_refused(model, name):
    with pytest.raises(TypeError, match=rf"{name}= takes a list.*; got a ScaleAttention: put it into a list"):
        evaluate(model, questions(1), **{name: ma.ScaleAttention(2.0)})


@pytest.mark.parametrize(
    "ask", [lambda *given: ma.evaluate(*given[:2], variants=given[2]), ma.sweep, ma.generate_variants]
)
def test_names_of_variants_label_what_they_give(model, ask):
    variants = {"cut": ma.KnockOutAttention(), "louder": [ma.ScaleAttention(2.0)], "nothing": []}
    named, listed = ask(model, questions(2), variants), ask(model, questions(2), [*variants.values()])
    table = named.to_xarray()
    assert table["variant"].values.tolist() == ["cut", "louder", "nothing"]
    for name, values in listed.to_xarray().data_vars.items():
        np.testing.assert_array_equal(table[name].values, values.values)
    with unchecked_types(), pytest.raises(TypeError, match=r"got \{1: .*: make its keys texts, the names"):
        ask(model, questions(2), {1: ma.KnockOutAttention()})


def test_a_variant_is_read_by_its_name(model, tmp_path):
    variants = {"cut": ma.KnockOutAttention(), "louder": [ma.ScaleAttention(2.0)]}
    made = evaluate(model, questions(2), variants=variants, out=tmp_path)
    for comparison in (made, ma.Result.load(tmp_path)):
        np.testing.assert_array_equal(comparison["louder"].logits, made.logits[1])
        assert comparison.change("cut") == made.change(0)
        assert list(ma.viz.variant_effects(comparison).data[0].y) == ["0: cut", "1: louder"]
    with pytest.raises(KeyError, match="no variant 'softer'; the names are cut, louder"):
        made["softer"]
    with pytest.raises(KeyError, match="no variant 'cut'; these have numbers"):
        evaluate(model, questions(2), variants=[ma.KnockOutAttention()])["cut"]


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
@pytest.mark.parametrize("family", ["gemma3n", "gemma4", "nemotron_h_omni"])
def test_networks_whose_layers_differ_in_width_are_evaluated(family):
    model = AudioLM(network(family), processor(family), prove=False)
    found = evaluate(model, questions(3))
    alone = [answer(model, prompt(model, [one]))[0].choice for one in questions(3)]
    assert list(found.choices) == alone

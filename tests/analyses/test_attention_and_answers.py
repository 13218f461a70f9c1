"""Audio attention and answers of one pass against the whole pattern and `ma.answer`; and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import attention_and_answers
from mechaudio.data.toy_questions import questions
from tests.analyses.measured import measured, noise
from tests.families import network, processor
from tests.families import noise as sound
from tests.reference import specialist_heads as reference

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")

ASKED = [
    ma.AudioQuestion(
        audio=ma.AudioClip(sound(seconds, seed=place), 16_000),
        text="Which sound has the earliest onset?",
        choices=("dog", "car", "rain")[: 2 + place % 2],
        answer="car",
        id=f"q{place}",
    )
    for place, seconds in enumerate((3.0, 1.5, 2.0, 3.0, 1.0))
]


@pytest.mark.parametrize("family", ["qwen2_audio", "nemotron_h_omni", "gemma3n"])
def test_one_pass_gives_the_attention_of_the_whole_pattern_and_the_answers_of_answer(family):
    model = ma.AudioLM(network(family), processor(family), prove=False)
    found = attention_and_answers(model, ASKED, batch_size=2)
    assert found.audio_attention.dtype == np.float32
    assert found.audio_attention.shape == (5, model.n_layers, model.n_heads)
    for place, question in enumerate(ASKED):
        batch = ma.prompt(model, [question])
        (answered,) = ma.answer(model, batch)
        assert (found.ids[place], found.choices[place]) == (question.id, answered.choice)
        assert found.correct[place] == answered.correct
        cache = ma.run(model, batch, record=["pattern"]).cache
        attending = {layer for _, layer in cache}
        for layer, head in np.ndindex(found.audio_attention.shape[1:]):
            if layer not in attending:
                assert math.isnan(found.audio_attention[place, layer, head])
                continue
            row = cache["pattern", layer][0, head, -1].tolist()
            expected = reference.audio_attention(row, batch.spans["audio"][0])
            assert found.audio_attention[place, layer, head] == pytest.approx(expected, abs=1e-5)


def test_every_question_runs_once_and_is_drawn_a_batch_ahead(toy):
    passes, drawn = [], []

    def one_by_one():
        for question in questions(7, seed=0):
            drawn.append(len(passes))
            yield question

    handle = toy.network.register_forward_hook(lambda *_: passes.append(1))
    try:
        streamed = attention_and_answers(toy, one_by_one(), batch_size=3)
    finally:
        handle.remove()
    assert len(passes) == 3
    assert drawn == [0, 0, 0, 0, 0, 0, 1]
    whole = attention_and_answers(toy, questions(7, seed=0), batch_size=7)
    np.testing.assert_allclose(streamed.audio_attention, whole.audio_attention, atol=1e-5)
    assert (streamed.ids, streamed.choices) == (whole.ids, whole.choices)


def test_silence_is_attended_to_as_well_and_gets_other_answers(toy):
    asked = questions(6, seed=0, level=(0, 0))
    heard, silent = (attention_and_answers(toy, asked, condition=condition) for condition in ("audio", "silence"))
    assert heard.correct.all()
    assert heard.choices != silent.choices
    assert np.isfinite(silent.audio_attention).all()


def test_what_cannot_be_measured_is_refused(toy):
    asked = questions(2, seed=0)
    with pytest.raises(ValueError, match=r"in which there are audio tokens to attend to; got 'caption'"):
        attention_and_answers(toy, asked, condition="caption")
    with pytest.raises(ValueError, match="batch_size= must be at least 1, got 0"):
        attention_and_answers(toy, asked, batch_size=0)
    with pytest.raises(ValueError, match="no questions were given"):
        attention_and_answers(toy, [])
    with pytest.raises(ValueError, match="question 'toy-0-0' has no known answer"):
        attention_and_answers(toy, [replace(asked[0], answer=None)])


def test_a_measurement_survives_the_disk(tmp_path):
    found = measured(*noise(5))
    loaded = ma.Result.load(found.save(tmp_path / "measured"))
    np.testing.assert_array_equal(loaded.audio_attention, found.audio_attention)
    assert (loaded.ids, loaded.correct.tolist()) == (found.ids, found.correct.tolist())


def test_a_split_shares_no_question_and_depends_on_ids_alone():
    found = measured(*noise(400))
    calibration, held_out = found.split(share=0.25, seed=3)
    assert not set(calibration.ids) & set(held_out.ids)
    assert set(calibration.ids) | set(held_out.ids) == set(found.ids)
    assert 60 < len(calibration.ids) < 140  # 100 expected, standard deviation 8.7
    some = found.part(np.arange(400) % 3 == 0)
    again, _ = some.split(share=0.25, seed=3)
    assert set(again.ids) == set(calibration.ids) & set(some.ids)
    place = found.ids.index(again.ids[0])
    np.testing.assert_array_equal(again.audio_attention[0], found.audio_attention[place])
    assert set(found.split(share=0.25, seed=4)[0].ids) != set(calibration.ids)


def test_parts_of_one_condition_are_put_together_and_others_refused():
    toy = ma.load("toy", prove=False)
    whole = attention_and_answers(toy, questions(5, seed=0), batch_size=5)
    again = whole.concatenated([whole.part([3, 4]), whole.part([0, 1, 2])])
    assert again.ids == (*whole.ids[3:], *whole.ids[:3])
    np.testing.assert_array_equal(again.audio_attention, whole.audio_attention[[3, 4, 0, 1, 2]])
    np.testing.assert_array_equal(again.correct, whole.correct[[3, 4, 0, 1, 2]])
    assert again.part([2, 3, 4, 0, 1]).choices == whole.choices
    with pytest.raises(ValueError, match=r"parts of one condition can be put together, got \['audio', 'silence'\]"):
        whole.concatenated([whole, replace(whole, condition="silence")])

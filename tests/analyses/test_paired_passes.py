import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import attention_and_answers, paired_passes, steering_directions, steering_sweep
from mechaudio.data.toy_questions import questions
from mechaudio.models.toy.planted import PLANTED


def test_two_passes_give_what_each_analysis_gives_with_its_own(toy):
    asked = questions(7, seed=5)
    passes = paired_passes(toy, asked, batch_size=3)
    for found, condition in ((passes.heard, "audio"), (passes.silent, "silence")):
        alone = attention_and_answers(toy, asked, condition=condition, batch_size=3)
        assert (found.condition, found.ids, found.choices) == (condition, alone.ids, alone.choices)
        np.testing.assert_allclose(found.audio_attention, alone.audio_attention)
    alone = steering_directions(toy, asked, batch_size=3)
    np.testing.assert_allclose(passes.directions.residual, alone.residual, atol=1e-4)
    np.testing.assert_allclose(passes.directions.final_norm, alone.final_norm, atol=1e-4)
    for layer, own in alone.z.items():
        np.testing.assert_allclose(passes.directions.z[layer], own, atol=1e-4)


def test_directions_measured_on_the_way_steer_as_those_measured_before(toy):
    asked = questions(7, seed=5)

    def variants(own):
        heads = [PLANTED.listening]
        return {
            "layers": own.layer_guided(heads, 2.0),
            "post": own.single_layer(3, norm="post"),
            "heads": own.head_level(heads),
        }

    before = steering_sweep(toy, asked, directions=steering_directions(toy, asked), variants=variants, batch_size=3)
    on_the_way = steering_sweep(toy, asked, directions=None, variants=variants, batch_size=3)
    assert on_the_way.ways == before.ways == ("shared prefix",) * 3
    np.testing.assert_allclose(on_the_way.margin, before.margin, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(on_the_way.clean_correct, before.clean_correct)


def test_a_question_without_an_answer_is_refused(toy):
    (asked,) = questions(1, seed=5)
    with pytest.raises(ValueError, match="has no known answer"):
        paired_passes(toy, [ma.AudioQuestion(audio=asked.audio, text=asked.text, choices=asked.choices, id="x")])

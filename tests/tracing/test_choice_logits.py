from dataclasses import replace

import numpy as np

import mechaudio as ma
from mechaudio.data.toy_questions import questions
from mechaudio.tracing.choice_logits import choice_logits


def test_they_are_those_of_the_answers_and_nan_where_a_question_has_fewer_choices():
    toy = ma.load("toy", prove=False)
    whole, other = questions(2, seed=0)
    few = replace(other, choices=(other.answer, next(choice for choice in other.choices if choice != other.answer)))
    batch = ma.prompt(toy, [whole, few])
    found = choice_logits(batch, ma.run(toy, batch, logits="last").logits[:, -1])
    expected = [answer.choice_logits for answer in ma.answer(toy, batch)]
    assert found[0].tolist() == list(expected[0])
    assert found[1, :2].tolist() == list(expected[1])
    assert np.isnan(found[1, 2:]).all()
    assert found.shape == (2, len(whole.choices))

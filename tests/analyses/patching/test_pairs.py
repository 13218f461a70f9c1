"""Pairs of prompts: what is refused, and what they are compared by."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses.patching.pairs import contrast, contrasts
from mechaudio.models.inputs import as_batch
from tests.families import unchecked_types

questions = ma.data.toy_questions.questions


def test_a_clip_is_paired_with_silence_of_its_length(toy):
    asked = questions(3, seed=0)
    pairs = contrast(toy, asked)
    assert pairs.ids == ("toy-0-0", "toy-0-1", "toy-0-2")
    assert pairs.corrupted.condition == "silence"
    assert [row.tolist() for row in pairs.right] == [[c == q.answer for c in q.choices] for q in asked]
    assert pairs.first.tolist() == [row[0] for row in pairs.clean.spans["audio"]]
    assert contrast(toy, ma.prompt(toy, asked)).corrupted.condition == "silence"


def test_captions_differ_first_where_their_tokens_do(toy):
    asked = questions(2, seed=1)
    other = questions(2, seed=1, conflict=True)
    sides = [ma.prompt(toy, side, condition="caption") for side in (asked, other)]
    pairs = contrast(toy, sides[0], corrupted=sides[1])
    ids = [side.inputs["input_ids"] for side in sides]
    assert pairs.first.tolist() == (ids[0] != ids[1]).int().argmax(1).tolist()


def test_what_cannot_be_compared_is_refused(toy):
    asked = questions(2, seed=0)
    with pytest.raises(ValueError, match="2 clean prompts and 1 corrupted"):
        contrast(toy, asked, corrupted=asked[:1])
    with pytest.raises(ValueError, match="nothing differs between clean and corrupted in any of 2 pairs"):
        contrast(toy, asked, corrupted=asked)
    with pytest.raises(ValueError, match="the choices of pair 0 differ"):
        contrast(toy, asked, corrupted=[replace(asked[0], choices=asked[0].choices[::-1]), asked[1]])
    with pytest.raises(ValueError, match="'toy-0-0' has no known answer"):
        contrast(toy, [replace(asked[0], answer=None)])
    with pytest.raises(ValueError, match="all 2 choices of question 'toy-0-0' are right"):
        contrast(toy, [replace(asked[0], choices=(asked[0].answer,) * 2)])
    with pytest.raises(ValueError, match="silence takes the place of the clips of condition 'audio', got 'caption'"):
        contrast(toy, ma.prompt(toy, asked, condition="caption"))
    with unchecked_types(), pytest.raises(ValueError, match="corrupted= is one of 'silence'; got 'noise'"):
        contrast(toy, asked, corrupted="noise")
    with pytest.raises(TypeError, match="corrupted= is plain inputs"):
        contrast(toy, ma.prompt(toy, asked), corrupted=as_batch(toy, dict(ma.prompt(toy, asked).inputs)))


def test_clips_of_unequal_length_and_other_templates_are_refused_with_the_reason():
    model = ma.load("tiny", prove=False)
    long, short = (ma.data.soundscapes.questions(1, seed=0, duration=seconds)[0] for seconds in (6.0, 4.0))
    short = replace(short, text=long.text, choices=long.choices, answer=long.answer)
    with pytest.raises(ValueError, match=r"audio tokens \(6.00 s and 4.00 s\)"):
        contrast(model, [long], corrupted=[short])
    reworded = replace(long, text=long.text + " " + long.text)
    with pytest.raises(ValueError, match=r"differ in length or template: '\w+' stands at positions"):
        contrast(model, [long], corrupted=[reworded])


def test_pairs_stream_in_batches_and_both_sides_must_go_on(toy):
    asked, other = questions(5, seed=0), questions(5, seed=0, level=(-40.0, -40.0))
    assert [len(pairs.ids) for pairs in contrasts(toy, asked, corrupted=other, batch_size=2)] == [2, 2, 1]
    assert [len(pairs.ids) for pairs in contrasts(toy, iter(asked), batch_size=3)] == [3, 2]
    with pytest.raises(ValueError, match="clean has 5, corrupted has 3: give both"):
        list(contrasts(toy, asked, corrupted=other[:3]))
    with pytest.raises(ValueError, match="batch_size= must be at least 1"):
        list(contrasts(toy, asked, batch_size=0))
    with pytest.raises(ValueError, match="nothing to ask"):
        list(contrasts(toy, []))


def test_the_wrong_choice_is_the_corrupted_questions_answer_or_its_likeliest(toy):
    asked = questions(4, seed=0)
    silent = contrast(toy, asked)
    corrupted = np.zeros((4, 4))
    corrupted[:, 3] = 1.0
    corrupted[3] = [0.0, 0.5, 0.0, 9.0]  # the likeliest is the right one here
    assert silent.right[3].tolist() == [False, False, False, True]
    assert silent.wrong(corrupted, corrupted).tolist() == [3, 3, 3, 1]
    others = [replace(q, answer=q.choices[0] if q.answer != q.choices[0] else q.choices[1]) for q in asked]
    others = [replace(q, audio=questions(1, seed=9)[0].audio) for q in others]
    expected = [q.choices.index(q.answer) for q in others]
    assert contrast(toy, asked, corrupted=others).wrong(corrupted, corrupted).tolist() == expected

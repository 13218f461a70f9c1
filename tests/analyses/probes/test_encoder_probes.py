from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import encoder_probes
from mechaudio.data.toy_questions import questions
from tests.families import unchecked_types

PLACES = ("audio.blocks.1.resid_post", "embed")


@pytest.fixture(scope="module")
def asked():
    return questions(60, seed=1)


@pytest.fixture(scope="module")
def probes(toy, asked):
    return encoder_probes(toy, asked, places=PLACES, tokens_per_clip=25)


def test_on_the_toy_every_token_tells_which_voice_sings_in_it(probes):
    for place in PLACES:
        assert probes.estimate("present", place).value == pytest.approx(1)
    np.testing.assert_allclose(probes.onset_error, 0, atol=1e-9)
    np.testing.assert_allclose(probes.offset_error, 0, atol=1e-9)


def test_on_the_toy_the_order_is_in_the_tokens_and_not_in_their_mean(probes):
    for place in PLACES:
        assert probes.estimate("order_by_clock", place).value == 1
        pooled = probes.estimate("order", place)
        assert pooled.low < 0.5 < pooled.high
        control = probes.estimate("order_by_clock", place, of="control")
        assert control.value < 0.75


def test_on_the_toy_the_probes_answer_what_the_model_misses(toy, asked, probes):
    given = dict(zip([question.id for question in asked], ma.answer(toy, ma.prompt(toy, asked)), strict=True))
    assert probes.model_correct.tolist() == [given[name].correct for name in probes.clips]
    found = probes.answers("embed")
    assert found.model_wrong is not None
    assert (found.all.count, found.all.n) == (len(probes.clips), len(probes.clips))
    assert found.model_wrong.n == int((~probes.model_correct).sum()) > 0


def test_selectivity_is_score_minus_control_clip_by_clip(probes):
    found = probes.estimate("order_by_clock", "embed", of="selectivity")
    both = probes.score[1, 4] - probes.control[1, 4]
    assert found.value == pytest.approx(np.nanmean(both))
    assert np.isnan([found.low, found.high]).all()  # one number for all clips, so no interval
    varied = probes.estimate("present", of="baseline")
    assert varied.low < varied.value < varied.high


def test_recordings_are_split_whole(toy, asked):
    again = [
        ma.AudioQuestion(q.audio, q.text, q.choices, q.answer, None, q.events, f"again-{q.id}", q.meta)
        for q in asked[:16]
    ]
    probed = encoder_probes(toy, [*asked[:16], *again], places=["embed"], tokens_per_clip=10)
    held_out = set(probed.clips)
    assert {name.removeprefix("again-") for name in held_out} == {name for name in held_out if "again" not in name}
    assert len(held_out) % 2 == 0


def test_clips_with_events_do_as_well_as_questions(toy, asked, probes):
    clips = [ma.AnnotatedClip(question.audio, question.events, id=question.id) for question in asked]
    found = encoder_probes(toy, clips, places=["embed"], tokens_per_clip=25)
    np.testing.assert_allclose(found.score[0], probes.score[1], atol=1e-5)
    with pytest.raises(ValueError, match="the clips came without questions that probes can answer"):
        found.answers()


def test_what_is_saved_is_loaded(probes, tmp_path):
    loaded = ma.Result.load(probes.save(tmp_path / "probes"))
    np.testing.assert_array_equal(loaded.score, probes.score)
    assert str(loaded.estimate("present")) == str(probes.estimate("present"))


def test_what_cannot_be_probed_says_why(toy, asked, probes):
    with pytest.raises(ValueError, match="probes need at least 8 clips to train on and 2 to score"):
        encoder_probes(toy, asked[:5], places=["embed"])
    bare = ma.AudioQuestion(asked[0].audio, asked[0].text, asked[0].choices, id="q")
    with pytest.raises(ValueError, match="question 'q' has no events"):
        encoder_probes(toy, [bare], places=["embed"])
    with (
        unchecked_types(),
        pytest.raises(TypeError, match=r"clips= takes a PromptBatch or a list of Annot.* or AudioQuestions; got \[3\]"),
    ):
        encoder_probes(toy, [3], places=["embed"])
    with pytest.raises(ValueError, match=r"no place 'blocks\.9\.resid_post'; there are"):
        probes.answers("blocks.9.resid_post")
    with pytest.raises(ValueError, match="no task 'pitch'; there are present"):
        probes.estimate("pitch")


@pytest.mark.whole
def test_a_question_without_an_answer_leaves_out_itself_alone_whatever_batch_it_is_in(toy, asked):
    some = [replace(one, answer=None) if place % 5 == 0 else one for place, one in enumerate(asked)]
    one, eight, all_known = (
        encoder_probes(toy, given[:30], places=["embed"], tokens_per_clip=5, batch_size=size).asked.sum()
        for given, size in ((some, 1), (some, 8), (asked, 8))
    )
    assert 0 < one == eight < all_known

from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import logit_lens
from mechaudio.analyses.lenses import reading
from mechaudio.data.toy_questions import VOICES, ask, sung
from mechaudio.models.registry import adapter_for
from mechaudio.models.toy import arithmetic
from tests.families import FAMILIES, model_inputs, network, thinned, unchecked_types

SEVERAL_STREAMS = ("gemma3n",)


@pytest.fixture(scope="module")
def batch(tiny):
    return ma.prompt(tiny, ma.data.soundscapes.questions(2, seed=11, duration=3.0))


def test_at_the_last_depth_and_the_last_position_the_choices_logits_are_the_answers(tiny, batch):
    seen = logit_lens(tiny, batch)
    answers = ma.answer(tiny, batch)
    for row, answered in enumerate(answers):
        np.testing.assert_allclose(seen.choice_logits[row, -1, 0], answered.choice_logits, rtol=1e-5, atol=1e-5)
    assert seen.depths == ("embed", "0", "1", "2", "3", "4", "5")
    np.testing.assert_array_equal(seen.kl[:, -1], 0)


def test_a_question_without_a_wrong_choice_is_read_and_has_no_margin(tiny, batch):
    (same,) = (replace(question, choices=(question.answer,) * 2) for question in batch.questions[:1])
    seen = logit_lens(tiny, [same])
    assert seen.right.tolist() == [0]
    with pytest.raises(ValueError, match=f"all 2 choices of question '{same.id}' are right"):
        _ = seen.margin


def test_every_depth_is_final_norm_and_unembedding_of_its_residual_stream(tiny, batch):
    seen = logit_lens(tiny, batch, positions="audio[1:1.5]+last", tokens=["silence"])
    out = ma.run(tiny, batch, record=["resid_pre", "resid_post"])
    network = tiny.network.model.language_model
    for depth in range(7):
        stream = out.cache["resid_pre", 0] if depth == 0 else out.cache["resid_post", depth - 1]
        with torch.no_grad():
            logits = tiny.network.lm_head(network.norm(stream))
        for row in range(2):
            at = logits[row, seen.positions[row]]
            shares = at.softmax(-1)
            np.testing.assert_allclose(seen.choice_logits[row, depth], at[:, list(batch.choice_ids[row])], atol=2e-5)
            np.testing.assert_allclose(seen.top_probability[row, depth], shares.topk(5).values, atol=1e-5)
            np.testing.assert_allclose(
                seen.entropy[row, depth], torch.distributions.Categorical(shares).entropy(), atol=1e-4
            )
            np.testing.assert_allclose(seen.token_logits[row, depth, :, 0], at[:, seen.token_ids[0]], atol=2e-5)
            ranks = (at > at[:, [batch.choice_ids[row][1]]]).sum(-1)
            assert seen.choice_rank[row, depth, :, 1].tolist() == ranks.tolist()


def test_how_many_tokens_to_keep_is_a_whole_number(tiny, batch):
    with unchecked_types(), pytest.raises(TypeError, match=r"top= takes a whole number; got 2\.5"):
        logit_lens(tiny, batch, top=2.5)


@pytest.mark.parametrize("family", thinned(family for family in FAMILIES if family not in SEVERAL_STREAMS))
def test_at_the_last_depth_every_family_says_what_its_network_says(family):
    model = ma.AudioLM(network(family), prove=False)
    inputs = model_inputs(family)
    tokens = list(range(20, 40))
    seen = logit_lens(model, inputs, tokens=tokens)
    logits = ma.run(model, inputs, logits="last").logits[:, -1]
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(torch.from_numpy(seen.token_logits[:, -1, 0]), logits[:, tokens].float(), **close)
    top = torch.from_numpy(seen.top_ids[:, -1, 0])
    torch.testing.assert_close(logits.gather(-1, top), logits.topk(5).values, **close)


def test_a_softcap_and_a_divisor_hold_at_every_depth(monkeypatch):
    gemma = ma.AudioLM(network("gemma4"), prove=False)
    granite = adapter_for(network("granite_speech"))
    divides = replace(granite, logits={"divided_by": "text_config.logits_scaling"})  # as a class of one's own may
    monkeypatch.setattr("mechaudio.tracing.audio_lm.adapter_for", lambda _network: divides)
    divided = ma.AudioLM(network("granite_speech"), prove=False)
    for model, change in ((gemma, lambda logits: 30 * torch.tanh(logits / 30)), (divided, lambda logits: logits / 4)):
        inputs = model_inputs(model.adapter.family)
        stream = ma.run(model, inputs, record=["resid_post"], logits=None).cache["resid_post", 0][:, -1:]
        with torch.no_grad():
            normed = model.network.get_submodule(model.adapter.decoder.norm)(stream)
            expected = change(model.network.get_submodule(model.adapter.unembed)(normed))
        seen = logit_lens(model, inputs, tokens=[20, 21])
        np.testing.assert_allclose(seen.token_logits[:, 1], expected[..., [20, 21]], rtol=1e-6, atol=1e-5)


def test_a_decoder_with_several_residual_streams_says_why_it_has_no_lens():
    model = ma.AudioLM(network("gemma3n"), prove=False)
    with pytest.raises(NotImplementedError, match="several residual streams"):
        logit_lens(model, model_inputs("gemma3n"))


def test_the_toys_evidence_is_read_as_a_name_behind_the_listening_layer_and_as_a_letter_only_at_the_end():
    model = ma.load("toy", prove=False)
    question = ask([sung("tenor", 1), sung("alto", 3)], list(VOICES))
    seen = logit_lens(model, [question], tokens=["tenor", "alto"])
    evidence = [0.945, 0.047]
    for depth in range(5):
        expected = evidence if depth >= 2 else [0, 0]
        np.testing.assert_allclose(seen.token_logits[0, depth, 0], expected, atol=1e-3)
        letters = arithmetic.logits(question) if depth == 4 else [1, 0, 0, 0]
        np.testing.assert_allclose(seen.choice_logits[0, depth, 0], letters, atol=1e-4)
    assert seen.of_right("rank")[0, :, 0].tolist()[-1] == 0
    assert seen.margin[0, 3, 0] == pytest.approx(-1, abs=1e-5)  # the lens says A there, though the answer is decided


def test_audio_tokens_carry_their_seconds_and_text_has_none(tiny, batch):
    seen = logit_lens(tiny, batch, positions="audio+last")
    heard = batch.spans["audio"][0]
    assert seen.positions[0, : len(heard)].tolist() == list(heard)
    for token in (0, 7):
        assert (seen.onset[0, token], seen.offset[0, token]) == batch.clock[0].seconds(token)
        assert seen.roles[0][token] == "audio"
    assert np.isnan(seen.onset[0, len(heard)])
    assert seen.roles[0][-1] == "template"


def test_shorter_rows_are_filled_up_and_hold_what_they_hold_alone(tiny):
    questions = [ma.data.soundscapes.question(i, 3, duration=length) for i, length in enumerate((2.0, 3.0))]
    together = logit_lens(tiny, ma.prompt(tiny, questions), positions=None)
    alone = logit_lens(tiny, ma.prompt(tiny, questions[:1]), positions=None)
    n = len(alone.labels[0])
    assert len(together.labels[0]) == n < len(together.labels[1])
    assert (together.positions[0, n:] == -1).all()
    assert np.isnan(together.choice_logits[0, :, n:]).all()
    assert (together.top_ids[0, :, n:] == -1).all()
    np.testing.assert_allclose(together.choice_logits[0, :, :n], alone.choice_logits[0], atol=1e-4)
    one_by_one = logit_lens(tiny, questions, positions=None, batch_size=1)
    np.testing.assert_allclose(one_by_one.kl, together.kl, atol=1e-4)
    assert together.says(-1, 0)[0][0] == together.vocabulary[int(together.top_ids[0, -1, 0, 0])]


def test_positions_in_small_turns_give_the_same(tiny, batch, monkeypatch):
    whole = logit_lens(tiny, batch, positions="question+last")
    monkeypatch.setattr(reading, "AT_ONCE", 1)
    turns = logit_lens(tiny, batch, positions="question+last")
    np.testing.assert_allclose(turns.choice_logits, whole.choice_logits, atol=1e-5)
    np.testing.assert_array_equal(turns.positions, whole.positions)


def test_what_is_saved_is_loaded(tiny, batch, tmp_path):
    seen = logit_lens(tiny, batch, tokens=["silence"])
    loaded = ma.Result.load(seen.save(tmp_path / "lens"))
    assert loaded.says(2) == seen.says(2)
    np.testing.assert_array_equal(loaded.token_rank, seen.token_rank)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"top": 0}, "top is how many tokens to keep, at least 1, got 0"),
        ({"tokens": ["earliest onset"]}, r"'earliest onset' is not one token of this vocabulary but \['earliest', "),
        ({"tokens": [104]}, "token ids of this model are 0 to 103, got 104"),
        ({"positions": "caption"}, r"positions='caption' names no position of rows \[0, 1\]"),
    ],
)
def test_what_cannot_be_read_says_why(tiny, batch, how, told):
    with pytest.raises(ValueError, match=told):
        logit_lens(tiny, batch, **how)


def test_a_place_that_was_not_read_and_a_question_without_an_answer_say_so(tiny):
    question = ma.AudioQuestion(
        audio=ma.data.soundscapes.question(0, 1, duration=2.0).audio,
        text="Which sound has the earliest onset?",
        choices=("hum", "beep"),
    )
    seen = logit_lens(tiny, [question])
    with pytest.raises(IndexError, match="question 0 has 1 chosen position, got 1"):
        seen.says(0, 1)
    with pytest.raises(ValueError, match=r"the right choice of questions \[0\] is not known"):
        _ = seen.margin


def test_of_two_choices_with_the_answers_text_either_is_right(tiny):
    one = ma.data.soundscapes.question(0, 1, duration=2.0)
    wrong = next(choice for choice in one.choices if choice != one.answer)
    asked = [replace(one, choices=(one.answer, wrong, one.answer)), replace(one, choices=(wrong, one.answer))]
    seen = logit_lens(tiny, asked)
    for row, question in enumerate(asked):
        logits = seen.choice_logits[row, :, :, : len(question.choices)]
        right = np.array([choice == question.answer for choice in question.choices])
        np.testing.assert_array_equal(seen.margin[row], logits[..., right].max(-1) - logits[..., ~right].max(-1))

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mechaudio as ma
from mechaudio.analyses import direct_logit_attribution
from mechaudio.data.toy_questions import VOICES, ask, sung
from mechaudio.models.toy.planted import PLANTED
from mechaudio.tracing.unembedding import frozen_norm
from tests.families import FAMILIES, model_inputs, network, thinned

QUESTION = ask([sung("tenor", 1), sung("alto", 3)], list(VOICES))


@pytest.fixture(scope="module")
def questions():
    return ma.data.soundscapes.questions(4, seed=11, duration=3.0)


def assert_sums(written, tolerance=5e-6):
    parts = written.embed + sum(np.nansum(getattr(written, name), axis=1) for name in ("attention", "mlp", "mixer"))
    np.testing.assert_allclose(parts + written.constant, written.explained, rtol=0, atol=1e-12)
    np.testing.assert_allclose(written.explained, written.logit_difference, rtol=0, atol=tolerance)
    attends = ~np.isnan(written.heads[..., 0])
    assert not np.isnan(written.attention[attends]).any()
    heads = written.heads.sum(-1) + written.attention_bias
    np.testing.assert_allclose(heads[attends], written.attention[attends], rtol=0, atol=tolerance)
    np.testing.assert_allclose(written.by_role.sum(-1), written.heads, rtol=0, atol=tolerance)
    np.testing.assert_allclose(written.over_time.sum(-1), written.role("audio"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", thinned(family for family in FAMILIES if family != "gemma3n"))
def test_in_every_family_the_parts_sum_to_the_difference_of_the_networks_logits(family):
    model = ma.AudioLM(network(family), prove=False)
    inputs = model_inputs(family)
    written = direct_logit_attribution(model, inputs, between=(20, 31))
    assert_sums(written)
    logits = ma.run(model, inputs, logits="last").logits[:, -1]
    capped = (logits[:, 20].double() - logits[:, 31].double()).numpy()
    np.testing.assert_array_equal(written.capped_difference, capped)
    assert np.abs(written.logit_difference).min() > 0.01
    assert np.nanmax(np.abs(written.heads)) > 0.01


def test_parts_of_different_kinds_are_where_the_layers_of_a_hybrid_have_them():
    model = ma.AudioLM(network("nemotron_h_omni"), prove=False)
    written = direct_logit_attribution(model, model_inputs("nemotron_h_omni"), between=(20, 31))
    kinds = {"attention": [0, 2, 4], "mixer": [1], "mlp": [3, 5]}
    for name, layers in kinds.items():
        assert np.flatnonzero(~np.isnan(getattr(written, name)[0])).tolist() == layers
    assert np.isnan(written.heads[:, [1, 3, 5]]).all()


def test_a_softcap_is_told_apart_from_what_is_explained():
    model = ma.AudioLM(network("gemma4"), prove=False)
    written = direct_logit_attribution(model, model_inputs("gemma4"), between=(20, 31))
    assert (np.abs(written.capped_difference - written.logit_difference) > 1e-4).any()


def test_on_the_shipped_model_it_counts_right_minus_best_wrong(tiny, questions):
    batch = ma.prompt(tiny, questions)
    written = direct_logit_attribution(tiny, batch)
    assert_sums(written)
    said = f"mean logit difference of {written.logit_difference.mean():+.2f} on 4 questions among 6 layers of 8 heads"
    assert said in repr(written)
    for row, (question, answered) in enumerate(zip(questions, ma.answer(tiny, batch), strict=True)):
        logits = dict(zip(question.choices, answered.choice_logits, strict=True))
        right = logits.pop(question.answer)
        assert written.capped_difference[row] == pytest.approx(right - max(logits.values()), abs=1e-12)
        assert written.towards[row] == question.answer_letter


def test_of_two_choices_with_the_answers_text_either_is_right(tiny, questions):
    question = questions[0]
    wrong = next(choice for choice in question.choices if choice != question.answer)
    for choices in ((question.answer, wrong, question.answer), (question.answer, question.answer, wrong)):
        batch = ma.prompt(tiny, [replace(question, choices=choices)])
        logits = np.array(ma.answer(tiny, batch)[0].choice_logits)
        right = np.array([choice == question.answer for choice in choices])
        found = direct_logit_attribution(tiny, batch).capped_difference[0]
        assert found == pytest.approx(logits[right].max() - logits[~right].max(), abs=1e-12)
    with pytest.raises(ValueError, match="are right: say between="):
        direct_logit_attribution(tiny, [replace(question, choices=(question.answer,) * 2)])


def test_one_head_is_its_z_through_the_output_projection_final_norm_and_unembedding(tiny, questions):
    batch = ma.prompt(tiny, questions[:1])
    written = direct_logit_attribution(tiny, batch, between=("A", "B"))
    out = ma.run(tiny, batch, record=["z", "resid_post"])
    layers = tiny.network.model.language_model.layers
    rms = (out.cache["resid_post", -1][0, -1].double().square().mean() + 1e-6).sqrt()
    gain = tiny.network.model.language_model.norm.weight.double()
    ids = [tiny.processor.tokenizer.convert_tokens_to_ids(letter) for letter in "AB"]
    direction = tiny.network.lm_head.weight[ids[0]].double() - tiny.network.lm_head.weight[ids[1]].double()
    for layer, head in ((2, 7), (4, 1)):
        own = layers[layer].self_attn.o_proj.weight[:, 16 * head : 16 * (head + 1)].double()
        added = own @ out.cache["z", layer][0, -1, head].double()
        by_hand = ((added * gain / rms) @ direction).item()
        assert written.heads[0, layer, head] == pytest.approx(by_hand, abs=3e-7)


def test_bf16_networks_differ_from_their_own_logits_by_their_rounding_only():
    model = ma.AudioLM(network("qwen2_audio", torch.bfloat16), prove=False)
    inputs = model_inputs("qwen2_audio")
    inputs["input_features"] = inputs["input_features"].bfloat16()
    written = direct_logit_attribution(model, inputs, between=(20, 31))
    assert np.abs(written.explained - written.logit_difference).max() < 0.05


def test_for_the_names_of_the_voices_it_finds_the_planted_head_and_the_planted_second(toy):
    written = direct_logit_attribution(toy, [QUESTION], between=("tenor", "alto"))
    assert_sums(written)
    assert written.top_heads(1) == [PLANTED.listening]
    others = written.heads[0].copy()
    others[PLANTED.listening] = 0
    np.testing.assert_allclose(others, 0, atol=1e-6)
    assert written.heads[0][PLANTED.listening] == pytest.approx(0.945 - 0.047, abs=1e-3)
    seconds = written.per_second(0)[PLANTED.listening]
    np.testing.assert_allclose(seconds, [0, 0.945, 0, -0.047], atol=1e-3)
    assert written.role("audio")[0][PLANTED.listening] == pytest.approx(written.heads[0][PLANTED.listening], abs=1e-6)


def test_for_the_letters_it_names_the_layer_that_writes_them_and_not_the_head_that_listens(toy):
    written = direct_logit_attribution(toy, [QUESTION])
    assert_sums(written)
    assert (written.towards, written.away) == (("B",), ("A",))
    np.testing.assert_allclose(written.mlp[0], [0, 0, 0, 3.78], atol=1e-3)
    np.testing.assert_allclose(written.embed, [-1.0], atol=1e-5)  # the prior for A
    np.testing.assert_allclose(written.heads, 0, atol=1e-6)


def test_batches_and_prompts_of_different_lengths_give_what_each_gives_alone(tiny):
    questions = [ma.data.soundscapes.question(i, 3, duration=length) for i, length in enumerate((2.0, 3.0))]
    together = direct_logit_attribution(tiny, questions)
    for row, question in enumerate(questions):
        alone = direct_logit_attribution(tiny, [question])
        np.testing.assert_allclose(together.heads[row], alone.heads[0], atol=1e-5)
        np.testing.assert_allclose(together.per_second(row), alone.per_second(0), atol=1e-5)
    one_by_one = direct_logit_attribution(tiny, questions, batch_size=1)
    np.testing.assert_allclose(one_by_one.by_role, together.by_role, atol=1e-5)


def test_what_is_saved_is_loaded(tiny, questions, tmp_path):
    written = direct_logit_attribution(tiny, questions[:1])
    loaded = ma.Result.load(written.save(tmp_path / "written"))
    np.testing.assert_array_equal(loaded.over_time, written.over_time)
    assert loaded.towards == written.towards


def test_what_cannot_be_attributed_says_why(tiny, questions):
    inputs = dict(ma.prompt(tiny, questions[:1]).inputs)
    with pytest.raises(ValueError, match="a dict of inputs has no choices: say between="):
        direct_logit_attribution(tiny, inputs)
    unknown = ma.AudioQuestion(questions[0].audio, questions[0].text, questions[0].choices, id="q")
    with pytest.raises(ValueError, match="question 'q' has no known answer"):
        direct_logit_attribution(tiny, [unknown])
    with pytest.raises(NotImplementedError, match="several residual streams"):
        direct_logit_attribution(ma.AudioLM(network("gemma3n"), prove=False), model_inputs("gemma3n"), between=(1, 2))
    with pytest.raises(KeyError, match="no role 'caption'; these prompts have"):
        direct_logit_attribution(tiny, questions[:1]).role("caption")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_that_takes_away_a_mean_is_no_rms_norm_in_any_type(dtype):
    stream = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
    rms = nn.RMSNorm(64, eps=1e-6, dtype=dtype)
    with torch.no_grad():
        rms.weight.copy_(1 + 0.1 * stream)
    factor = frozen_norm(rms, stream, rms(stream))
    torch.testing.assert_close(factor * stream.double(), rms(stream).double(), atol=0.05, rtol=0.02)
    for centring in (nn.LayerNorm(64, bias=False, dtype=dtype), nn.LayerNorm(64, elementwise_affine=False)):
        with pytest.raises(TypeError, match="LayerNorm is no RMS norm"):
            frozen_norm(centring, stream, centring(stream))

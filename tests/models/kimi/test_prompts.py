"""Questions to Kimi-Audio: text in front of audio, two streams as one, codes, and generation of text."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.models.kimi.processor import BLANK, IN_AUDIO, TEXT_END
from mechaudio.models.spans import PromptFormat
from mechaudio.tracing.check import measure_hook_points
from mechaudio.tracing.sites import HookPointError
from tests.families import noise, opened

FIRST = PromptFormat(audio="first")


@pytest.fixture(scope="module")
def kimi():
    return ma.AudioLM(opened("kimi_audio").network, opened("kimi_audio").processor, prove=False)


def clip(seconds=3.0, seed=0):
    return ma.AudioClip(noise(seconds, seed), 16_000)


def question(text="Which sound has the earliest onset?", **options):
    options = {"choices": ("dog", "car", "rain"), "answer": "dog", "audio": clip(), **options}
    return ma.AudioQuestion(text=text, **options)


def test_a_question_stands_in_front_of_its_clip_as_in_training(kimi):
    batch = ma.prompt(kimi, [question()])
    heard = "<|mechaudio_audio|>" * 38  # 3 s, 80 ms each
    assert kimi.processor.tokenizer.decode(batch.inputs["input_ids"][0]) == (
        "<|im_kimia_user_msg_start|>Which sound has the earliest onset?\nA: dog\nB: car\nC: rain"
        f"<|im_media_begin|>{heard}<|im_media_end|><|im_kimia_speech_ct_id|><|im_msg_end|>"
        "<|im_kimia_assistant_msg_start|>"
    )
    assert max(batch.spans["question"][0]) < min(batch.spans["audio"][0]) < batch.spans["last"][0][0]
    assert batch.clock[0].seconds(3) == pytest.approx((0.24, 0.32))


def test_the_order_can_be_turned_round_and_no_answer_in_text_is_asked_for_then(kimi):
    """The released code asks for it only where a turn ends with audio."""
    ids = ma.prompt(kimi, [question()], layout=FIRST).inputs["input_ids"][0]
    written = kimi.processor.tokenizer.decode(ids)
    assert written.startswith("<|im_kimia_user_msg_start|><|im_media_begin|>")
    assert "<|im_kimia_speech_ct_id|>" not in written
    assert written.endswith("C: rain<|im_msg_end|><|im_kimia_assistant_msg_start|>")


def test_edits_of_what_sees_no_audio_are_refused_and_the_other_order_is_offered(kimi):
    edit = [ma.ScaleAttention(2.0, layers=[1], queries="keyword")]
    said = r"'keyword' comes before 'audio'.*turn the order round.*PromptFormat\(audio='first'\)"
    with pytest.raises(ValueError, match=said):
        ma.run(kimi, ma.prompt(kimi, [question()]), interventions=edit)
    turned = ma.prompt(kimi, [question()], layout=FIRST)
    moved = ma.run(kimi, turned, interventions=edit).logits - ma.run(kimi, turned).logits
    assert moved[0, -1].abs().max() > 0
    both = [ma.ScaleAttention(2.0, layers=[1], queries="keyword+last")]
    last = [ma.ScaleAttention(2.0, layers=[1], queries="last")]
    batch = ma.prompt(kimi, [question()])
    given, wanted = (ma.run(kimi, batch, interventions=edits).logits for edits in (both, last))
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="is one of 'trained', 'first' and 'last', got 'middle'"):
        PromptFormat(audio="middle")


def test_audio_can_stand_last_where_training_had_it_first():
    batch = ma.prompt(opened("qwen2_audio"), [question()], layout=PromptFormat(audio="last"))
    assert max(batch.spans["question"][0]) < min(batch.spans["audio"][0])


def test_both_streams_are_what_the_joined_one_says(kimi):
    """Control tokens speak in the stream of audio, words in that of text; the other one is blank."""
    ids = ma.prompt(kimi, [question(audio=None, caption="a dog")], condition="caption").inputs["input_ids"]
    number, rows = kimi.processor.tokenizer.convert_tokens_to_ids, kimi.network.model.embed_tokens.weight
    control = {number(name) for name in IN_AUDIO}
    embedded = kimi.network.embed(ids)[0]
    for at, token in enumerate(ids[0].tolist()):
        torch.testing.assert_close(embedded[at], rows[token] + rows[number(BLANK)])
    assert control & set(ids[0].tolist()) == {number(name) for name in (IN_AUDIO[3], IN_AUDIO[0], IN_AUDIO[4])}


def test_an_audio_token_is_its_code_and_its_sound(kimi):
    batch = ma.prompt(kimi, [question()])
    out = ma.run(kimi, batch, record=["embed", "projector_out"])
    codes = kimi.network.codes(batch.inputs["input_features_mask"], batch.inputs["code_features"])
    rows, config = kimi.network.model.embed_tokens.weight, kimi.network.config
    heard = out.cache["projector_out"].reshape(-1, rows.shape[1])
    wanted = (rows[codes + config.codes_offset] + heard) * 2**0.5 + rows[config.text_blank_id]
    torch.testing.assert_close(out.cache["embed"][0, list(batch.spans["audio"][0])], wanted, atol=1e-5, rtol=1e-5)


def test_silence_has_as_many_tokens_and_other_codes(kimi):
    heard, silent = (ma.prompt(kimi, [question()], condition=condition) for condition in ("audio", "silence"))
    assert torch.equal(heard.inputs["input_ids"], silent.inputs["input_ids"])
    assert silent.spans == heard.spans
    sounding, quiet = (
        kimi.network.codes(batch.inputs["input_features_mask"], batch.inputs["code_features"])
        for batch in (heard, silent)
    )
    assert sounding.tolist() != quiet.tolist()


def test_given_codes_hold_them_fixed_while_the_sound_changes(kimi):
    heard, silent = (ma.prompt(kimi, [question()], condition=condition) for condition in ("audio", "silence"))
    codes = kimi.network.codes(heard.inputs["input_features_mask"], heard.inputs["code_features"])[None]
    again = ma.run(kimi, {**heard.inputs, "audio_codes": codes}).logits
    torch.testing.assert_close(again, ma.run(kimi, heard).logits)
    held = ma.run(kimi, {**silent.inputs, "audio_codes": codes}).logits[0, -1]
    free = ma.run(kimi, silent).logits[0, -1]
    assert (held - free).abs().max() > 1e-3


def test_rows_of_different_lengths_are_what_they_are_alone(kimi):
    """The release takes one prompt at a time."""
    questions = [question(audio=clip(1.3)), question("Is it loud?", audio=clip(3.5, 1)), question(audio=clip(6.0, 2))]
    batch = ma.prompt(kimi, questions)
    assert [len(positions) for positions in batch.spans["audio"]] == [17, 44, 75]
    together = ma.run(kimi, batch, record=["codes.resid_post"])
    for row, single in enumerate(questions):
        alone = ma.run(kimi, ma.prompt(kimi, [single]))
        torch.testing.assert_close(together.logits[row, -1], alone.logits[0, -1], atol=1e-4, rtol=1e-4)
    texts = ma.generate(kimi, batch, max_new_tokens=4).texts
    assert list(texts) == [ma.generate(kimi, ma.prompt(kimi, [one]), max_new_tokens=4).texts[0] for one in questions]


def test_a_clip_longer_than_a_window_goes_on_in_the_next(kimi):
    batch = ma.prompt(kimi, [question(audio=clip(9.0))])
    assert batch.inputs["input_features"].shape[0] == 3, "windows of 4 s here"
    assert len(batch.audio_positions[0]) == 50 + 50 + 13
    assert batch.clock[0].end == pytest.approx(113 * 0.08)


def test_several_clips_and_turns_are_written_as_released(kimi):
    sound = {"type": "audio", "audio": clip(0.5)}
    chat = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, sound]},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, sound]},
    ]
    batch = ma.prompt(kimi, [chat])
    written = kimi.processor.tokenizer.decode(batch.inputs["input_ids"][0])
    assert written.count("<|im_kimia_speech_ct_id|><|im_msg_end|>") == 2
    assert f"<|im_kimia_assistant_msg_start|>A dog.{TEXT_END}<|im_msg_end|><|im_kimia_user_msg_start|>And" in written
    assert len(batch.spans["audio.0"][0]) == len(batch.spans["audio.1"][0]) == 7
    system = [{"role": "system", "content": "Be brief."}, *chat]
    with pytest.raises(ValueError, match="turns of Kimi-Audio are the user's and the assistant's, got the system's"):
        ma.prompt(kimi, [system])


def test_answers_analyses_and_sweeps_work_with_text_in_front(kimi):
    questions = [question(), question(audio=clip(2.0, 3))]
    batch = ma.prompt(kimi, questions)
    assert all(answer.choice in ("dog", "car", "rain") for answer in ma.answer(kimi, batch))
    measured = ma.analyses.audio_attention(kimi, batch)
    np.testing.assert_allclose(measured.mass.sum(-1), 1, atol=1e-5)
    variants = ma.grid(ma.ScaleAttention, layers=[0, 2], factor=[0.5, 2.0])
    swept = ma.sweep(kimi, batch, variants)
    one = ma.run(kimi, batch, interventions=[ma.ScaleAttention(2.0, layers=[2])]).logits[:, -1]
    wanted = [
        row[ids[0]] - torch.stack([row[i] for i in ids[1:]]).max()
        for row, ids in zip(one, batch.choice_ids, strict=True)
    ]
    np.testing.assert_allclose(swept.to_xarray().margin.sel(layers=2, factor=2.0), torch.stack(wanted), atol=1e-4)


@pytest.mark.parametrize("token", ["<|im_media_begin|>", "<|mechaudio_audio|>", BLANK])
def test_control_tokens_in_a_text_are_refused(kimi, token):
    with pytest.raises(ValueError, match="reads as control, not as words"):
        ma.prompt(kimi, [question(text=f"what is {token}?")])


def test_what_the_processor_cannot_take_is_told(kimi):
    with pytest.raises(ValueError, match=r"the texts have 1 placeholders .* for 0 clips"):
        kimi.processor(text=["<|mechaudio_audio|>"])
    with pytest.raises(ValueError, match="clips are at 16000 Hz"):
        kimi.processor(audio=[noise(1.0)], sampling_rate=8000)
    with pytest.raises(ValueError, match="renders text alone: pass tokenize=False"):
        kimi.processor.apply_chat_template([{"role": "user", "content": "?"}], tokenize=True)
    wrong = replace(question(), audio=clip(0.5))
    batch = ma.prompt(kimi, [wrong])
    inputs, place = batch.inputs, torch.tensor(batch.spans["audio"][0][:1])
    with pytest.raises(ValueError, match=r"the clips make 7 audio tokens, input_ids have 6: either ids were changed"):
        kimi.network(**{**inputs, "input_ids": inputs["input_ids"].clone().index_fill(1, place, 20)})


def changed(**scales):
    """A network of which some weights of the speech tokenizer are scaled."""
    network = deepcopy(opened("kimi_audio").network)
    with torch.no_grad():
        for name, parameter in network.audio_tokenizer.named_parameters():
            parameter.mul_(next((scale for part, scale in scales.items() if part in name), 1.0))
    return network


def test_hook_points_of_the_speech_tokenizer_are_proven_where_no_code_changes():
    """Here queries and keys are so small that overwriting them makes no other code the nearest."""
    network = changed(q_proj=1e-3, k_proj=1e-3)
    model = ma.AudioLM(network)
    moved = measure_hook_points(model)
    codes = {
        address: one for address, one in moved.items() if address.startswith("codes.") and "resid_post" not in address
    }
    assert {one.what for one in codes.values()} == {"what its codes are rounded from"}
    assert moved[f"codes.blocks.{len(model.towers['codes'].blocks) - 1}.resid_post"].what == "its logits"


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"codebook": 0.0}, r"resid_post of this Kimi\w+ does not move its logits"),
        ({"q_proj": 0.0, "k_proj": 0.0}, r"attn\.q of this Kimi\w+ does not move what its codes are rounded from"),
    ],
)
def test_a_speech_tokenizer_that_does_not_use_its_hook_points_is_refused(scales, said):
    with pytest.raises(HookPointError, match=said):
        ma.AudioLM(changed(**scales))


def test_rows_in_front_of_the_sound_are_not_among_those_that_may_listen(kimi):
    questions = [question(audio=clip(2.0, seed)) for seed in range(3)]
    found = ma.analyses.where_it_listens(kimi, questions, each_layer=False)
    assert found.roles == ("template", "last")
    assert not {"question", "choices"} & {role for edge in found.edges for role in edge}
    assert len(ma.viz.listening_rows(found).data) > 0
    turned = ma.prompt(kimi, questions, layout=FIRST)
    assert {"question", "choices"} <= set(ma.analyses.where_it_listens(kimi, turned, each_layer=False).roles)

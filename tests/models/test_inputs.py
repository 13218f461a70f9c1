import pytest
import torch
from accelerate.hooks import AlignDevicesHook

from mechaudio.audio.clip import AudioClip
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.inputs import as_batch, input_device
from mechaudio.models.prompt import prompt
from mechaudio.models.registry import ADAPTERS
from mechaudio.question import AudioQuestion
from mechaudio.tracing.load import load
from tests.families import (
    ASKED,
    FAMILIES,
    Opened,
    audio_token_id,
    facts,
    model_inputs,
    n_audio_tokens,
    network,
    noise,
    opened,
    processor,
    thinned,
    unchecked_types,
)

#: Families that want a mask with their features, and its name.
MASKS = {
    adapter.family: adapter.features_mask
    for adapter in ADAPTERS
    if adapter.features_mask and adapter.family in FAMILIES
}


@pytest.fixture(scope="module", params=thinned(FAMILIES))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return Opened(network(family), None)


def question():
    return AudioQuestion(AudioClip(noise(1.0), 16_000), "Which sound has the earliest onset?", ("dog", "rain"), id="q1")


def test_a_dict_of_inputs_becomes_a_batch_with_the_spans_that_ids_tell(model, family):
    inputs = model_inputs(family, seconds=(3.2, 1.6), words=(9, 5))
    batch = as_batch(model, inputs)
    long, short = n_audio_tokens(family, 3.2), n_audio_tokens(family, 1.6)
    assert batch.audio_positions[0] == tuple(range(2, 2 + long))
    start = batch.n_positions - short - 5
    assert batch.audio_positions[1] == tuple(range(start + 2, start + 2 + short))
    assert [len(positions) for positions in batch.spans["text"]] == [9, 5]
    assert batch.spans["last"] == ((batch.n_positions - 1,), (batch.n_positions - 1,))
    assert [clock.n_tokens for clock in batch.clock] == [len(positions) for positions in batch.spans["audio"]]
    filled = [len(positions) for positions in batch.spans["audio_padding"]]
    assert filled == [0, 0] or model.adapter.timing.pads_to_window
    assert (batch.questions, batch.choice_ids, batch.condition, batch.cut) == ((), (), None, (0.0, 0.0))
    tensors = [name for name, value in inputs.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(batch.inputs[name], inputs[name]) for name in tensors)


def test_audio_and_text_share_out_all_but_padding(model, family):
    batch = as_batch(model, model_inputs(family))
    mask = sum(batch.span_mask(name).long() for name in ("audio", "audio_padding", "text"))
    assert torch.equal(mask, batch.inputs["attention_mask"])


def test_the_clock_of_a_dict_is_the_clock_of_its_family(model, family):
    clock = as_batch(model, model_inputs(family)).clock[0]
    seconds = facts(family).token_seconds
    if seconds is None:
        assert clock.intervals(3) == ()
        return
    assert clock.seconds(3) == pytest.approx((3 * seconds, 4 * seconds), abs=1e-4)


def test_what_a_dict_cannot_tell_is_not_guessed(model, family):
    batch = as_batch(model, model_inputs(family))
    for name in ("question", "choices", "caption", "keyword", "template"):
        with pytest.raises(
            KeyError, match=rf"no span '{name}' in this batch; it has \['audio', 'audio_padding', 'last', 'text'\]"
        ):
            batch.spans[name]


def all_audio(batch):
    return [
        sorted(heard + filled) for heard, filled in zip(batch.spans["audio"], batch.spans["audio_padding"], strict=True)
    ]


@pytest.mark.parametrize("family", thinned(ASKED))
def test_the_inputs_of_a_prompt_read_back_have_the_same_audio(family):
    model = opened(family)
    made = prompt(model, [question(), question()])
    again = as_batch(model, made.inputs)
    assert all_audio(again) == all_audio(made)
    if family != "voxtral":  # whose inputs do not tell how long a clip is
        assert again.spans["audio"] == made.spans["audio"]
        assert again.clock[0].n_tokens == made.clock[0].n_tokens
    assert as_batch(model, made) is made


def test_granite_clips_that_make_equally_many_tokens_are_told_apart_by_their_frames():
    """Its mask counts tokens, nine of which are made from 31 to 45 frames; what fills up a clip is zeros."""
    model = Opened(network("granite_speech"), None)
    batch = as_batch(model, model_inputs("granite_speech", seconds=(0.8, 0.9, 0.9), words=(5, 5, 5)))
    assert batch.inputs["input_features_mask"].sum(-1).tolist() == [9, 9, 9]
    assert padding_groups(model.adapter, batch) == [[0], [1, 2]]
    parts = [part_of(model.adapter, batch, rows).inputs["input_features"].shape for rows in ([0], [1, 2])]
    assert parts == [(1, 40, 160), (2, 45, 160)]


def test_text_alone_is_a_batch_without_audio(model, family):
    ids = torch.tensor([[50, 51, 52]])
    batch = as_batch(model, {"input_ids": ids})
    assert (batch.spans["audio"], batch.clock) == (((),), (None,))
    assert batch.spans["text"] == ((0, 1, 2),)


def test_two_clips_in_one_row_have_no_single_clock():
    model = Opened(network("qwen2_audio"), None)
    inputs = model_inputs("qwen2_audio", seconds=(1.6, 1.6), words=(5, 5))
    row = torch.cat([inputs["input_ids"][0], inputs["input_ids"][1]])[None]
    batch = as_batch(model, {**inputs, "input_ids": row, "attention_mask": torch.ones_like(row)})
    assert len(batch.spans["audio"][0]) == 80
    assert batch.clock == (None,)
    assert batch.tokens(0)[2] == "♪"


def test_without_a_tokenizer_text_reads_as_its_ids(model, family):
    batch = as_batch(model, model_inputs(family))
    assert batch.tokens(0)[0] == str(int(batch.inputs["input_ids"][0, 0]))
    assert batch.tokens(1)[0] == "<pad>"


def test_features_take_the_type_of_the_tower(family):
    model = Opened(network(family, torch.bfloat16), None)
    batch = as_batch(model, model_inputs(family))
    assert batch.inputs[model.adapter.features].dtype == torch.bfloat16
    with torch.no_grad():
        model.network(**batch.inputs)


def test_features_keep_their_type_where_a_layer_of_4_bits_has_rounded_its_biases():
    model = Opened(network("qwen3_asr"), None)
    for layer in model.network.model.audio_tower.modules():
        if isinstance(layer, torch.nn.Linear) and layer.bias is not None:
            layer.weight = torch.nn.Parameter(layer.weight.to(torch.uint8), requires_grad=False)
            layer.bias.data = layer.bias.to(torch.bfloat16)
    batch = as_batch(model, model_inputs("qwen3_asr"))
    assert batch.inputs[model.adapter.features].dtype == torch.float32


def test_inputs_go_where_the_embeddings_are():
    network_on_meta = network("qwen2_audio").to("meta")
    assert input_device(network_on_meta) == torch.device("meta")
    embeddings = network_on_meta.get_input_embeddings()
    embeddings._hf_hook = AlignDevicesHook(execution_device="cpu")
    assert input_device(network_on_meta) == torch.device("cpu")
    embeddings._hf_hook = AlignDevicesHook(execution_device=0)  # the first GPU
    if torch.accelerator.current_accelerator() is None:
        with pytest.raises(RuntimeError, match="accelerator"):
            input_device(network_on_meta)
    else:
        assert input_device(network_on_meta) == torch.device(0)


def test_a_batch_made_for_another_model_names_both():
    batch = prompt(opened("qwen2_audio"), [question()])
    with pytest.raises(ValueError, match="this batch was made for 'qwen2_audio', the model is a 'voxtral'"):
        as_batch(Opened(network("voxtral"), None), batch)


def test_a_batch_made_for_a_network_of_the_family_with_other_token_ids_names_both():
    tiny = load("tiny", prove=False)
    other = opened(tiny.adapter.family)
    ours, theirs = (model.network.get_input_embeddings().num_embeddings for model in (tiny, other))
    batch = as_batch(tiny, {"input_ids": torch.tensor([[50, 51, 52]])})
    name, placeholder = tiny.adapter.network_class, audio_token_id(tiny.adapter.family)
    message = (
        rf"made for 'tiny' \({ours} token ids, audio placeholder {batch.audio_token}\), the model is '{name}' "
        rf"\({theirs} token ids, audio placeholder {placeholder}\)"
    )
    with pytest.raises(ValueError, match=message):
        as_batch(other, batch)
    with pytest.raises(ValueError, match="the model is 'tiny'"):
        as_batch(tiny, as_batch(other, model_inputs(tiny.adapter.family)))


def test_features_with_other_bands_than_the_towers_are_refused_in_a_batch_and_in_a_dict():
    config = network("qwen2_audio").config
    config.audio_config.num_mel_bins = 80
    other = Opened(type(network("qwen2_audio"))(config).eval(), processor("qwen2_audio"))
    message = r"'input_features' \(1, 128, 400\) have 128 numbers in a frame, the audio tower of .* takes 80"
    batch = prompt(opened("qwen2_audio"), [question()])
    for given in (batch, batch.inputs):
        with pytest.raises(ValueError, match=message):
            as_batch(other, given)


def test_as_many_token_ids_in_another_order_are_another_vocabulary():
    batch = prompt(opened("qwen2_audio"), [question()])
    other = opened("qwen2_audio")
    swapped = dict(other.processor.tokenizer.get_vocab())
    first, second = sorted(swapped, key=swapped.get)[-2:]
    swapped[first], swapped[second] = swapped[second], swapped[first]
    other.processor.tokenizer.get_vocab = lambda: swapped
    with pytest.raises(ValueError, match="made for 'Qwen2AudioForConditionalGeneration' with another vocabulary than"):
        as_batch(other, batch)


@pytest.mark.parametrize("family", thinned(ASKED))
def test_a_batch_serves_the_same_network_opened_again_and_others_with_its_vocabulary(family):
    model = opened(family)
    batch = prompt(model, [question()])
    for other in (Opened(model.network, model.processor), Opened(model.network, None), opened(family)):
        assert as_batch(other, batch) is batch


def test_how_much_sound_a_dict_holds_is_not_known(model, family):
    assert as_batch(model, model_inputs(family)).durations == (None, None)


def test_something_else_than_a_batch_is_refused(model):
    message = r"batch= takes a PromptBatch or a dict.*; got \[AudioQuestion.*: ma.prompt gives it"
    with unchecked_types(), pytest.raises(TypeError, match=message):
        as_batch(model, [question()])


def test_inputs_without_ids_are_refused(model, family):
    inputs = {name: value for name, value in model_inputs(family).items() if name != "input_ids"}
    with pytest.raises(
        ValueError,
        match=r"inputs need 'input_ids' \[batch, position\], whole numbers; got a NoneType and the keys \['att",
    ):
        as_batch(model, inputs)


def test_ids_without_a_batch_axis_are_refused(model):
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        as_batch(model, {"input_ids": torch.tensor([1, 2, 3])})


def test_placeholders_without_features_are_refused(model, family):
    audio = (model.adapter.features, model.adapter.features_mask, model.adapter.features_sizes)
    inputs = {name: value for name, value in model_inputs(family).items() if name not in audio}
    count = int((inputs["input_ids"] == audio_token_id(family)).sum())
    with pytest.raises(
        ValueError, match=f"the prompt has {count} audio placeholders but no '{model.adapter.features}'"
    ):
        as_batch(model, inputs)


def test_features_without_placeholders_are_refused(model, family):
    inputs = model_inputs(family)
    ids = inputs["input_ids"].masked_fill(inputs["input_ids"] == audio_token_id(family), 60)
    with pytest.raises(ValueError, match=f"'{model.adapter.features}' were given, but no audio placeholder"):
        as_batch(model, {**inputs, "input_ids": ids})


@pytest.mark.parametrize(("family", "mask"), MASKS.items())
def test_features_without_their_mask_are_refused(family, mask):
    inputs = model_inputs(family)
    del inputs[mask]
    model = Opened(network(family), None)
    with pytest.raises(ValueError, match=f"'{model.adapter.features}' came without '{mask}', which tells"):
        as_batch(model, inputs)


def test_fewer_placeholders_than_audio_tokens_are_refused(model, family):
    inputs = model_inputs(family, seconds=(3.2, 1.6))
    first = int((inputs["input_ids"][0] == audio_token_id(family)).nonzero()[0])
    inputs["input_ids"][0, first] = 60
    made = n_audio_tokens(family, 3.2) + n_audio_tokens(family, 1.6)
    message = rf"input_ids hold {made - 1} audio placeholders .* make {made} audio tokens"
    with pytest.raises(ValueError, match=message):
        as_batch(model, inputs)


def test_padding_on_the_right_is_refused_and_says_how_to_pad_on_the_left(model, family):
    inputs = model_inputs(family)
    inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"].flip(-1), inputs["attention_mask"].flip(-1)
    with pytest.raises(ValueError, match=r"row 1 is padded on the right or in the middle.*padding_side = 'left'"):
        as_batch(model, inputs)


def test_a_row_of_padding_alone_is_refused(model):
    ids = torch.tensor([[50, 51], [52, 53]])
    with pytest.raises(ValueError, match="row 1 is all padding"):
        as_batch(model, {"input_ids": ids, "attention_mask": torch.tensor([[1, 1], [0, 0]])})


def test_a_mask_of_another_shape_is_refused(model):
    with pytest.raises(ValueError, match=r"'attention_mask' \(1, 2\) must have the shape of 'input_ids' \(1, 3\)"):
        as_batch(model, {"input_ids": torch.tensor([[50, 51, 52]]), "attention_mask": torch.ones(1, 2)})


def test_positions_of_another_number_are_refused():
    model = opened("qwen2_audio")
    ids, positions = torch.tensor([[50, 51, 52]]), torch.tensor([[0, 1]])
    with pytest.raises(
        ValueError, match=r"'position_ids' \(1, 2\) of .* must be whole numbers, as many as .* count on, or leave"
    ):
        as_batch(model, {"input_ids": ids, "position_ids": positions})


def test_a_single_clip_of_phi_4_comes_without_a_mask_and_several_do_not():
    model = opened("phi4_multimodal")
    text = "<|user|><|audio|>Which?<|end|><|assistant|>"
    made = model.processor(text=[text], audio=[noise(1.0)], return_tensors="pt", sampling_rate=16_000)
    assert "audio_attention_mask" not in made
    assert len(as_batch(model, dict(made)).spans["audio"][0]) == 13
    inputs = model_inputs("phi4_multimodal")
    del inputs["audio_attention_mask"]
    with pytest.raises(ValueError, match="'audio_input_features' came without 'audio_attention_mask'"):
        as_batch(model, inputs)


def test_sizes_that_contradict_the_features_are_refused():
    model = Opened(network("phi4_multimodal"), None)
    inputs = model_inputs("phi4_multimodal", seconds=(1.6,), words=(9,))
    with pytest.raises(ValueError, match=r"'audio_embed_sizes' say \[19\], and .* make 20 audio tokens"):
        as_batch(model, {**inputs, "audio_embed_sizes": inputs["audio_embed_sizes"] - 1})
    del inputs["audio_embed_sizes"]
    with pytest.raises(ValueError, match="'audio_embed_sizes' are missing"):
        as_batch(model, inputs)

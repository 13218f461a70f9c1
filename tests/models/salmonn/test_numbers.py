"""SALMONN and TimeAudio give the numbers of their authors' code, with the same small weights."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.fbank import filterbank
from mechaudio.models.salmonn.lora import peft_names
from mechaudio.models.salmonn.network import SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration
from mechaudio.timeaudio import Markers, merge
from tests.models.salmonn.released import ORACLES, UNUSED, network, processor, reference


@pytest.fixture(scope="module")
def salmonn():
    return network("salmonn")


@pytest.fixture(scope="module")
def timeaudio():
    return network("timeaudio")


@pytest.fixture(scope="module")
def told():
    return reference("salmonn", "salmonn_reference")


@pytest.fixture(scope="module")
def told_of_36_seconds():
    return reference("timeaudio", "prompt_36s")


def clip(told, number):
    return told[f"wav{number}"].float().numpy() / 32768


def close(given, wanted, tolerance=5e-5):
    assert given.shape == wanted.shape
    assert (given - wanted).abs().max() < tolerance


@pytest.fixture(scope="module")
def alone(told):
    return processor("salmonn")(audio=[clip(told, 0)])


@pytest.fixture(scope="module")
def together(told):
    return processor("salmonn")(audio=[clip(told, 0), clip(told, 1)])


@pytest.fixture(scope="module")
def long(told_of_36_seconds):
    return processor("timeaudio")(audio=[told_of_36_seconds["wav_times_128"].numpy().astype(np.float32) / 128])


def test_the_filterbank_is_kaldis(told):
    close(filterbank(clip(told, 0)), told["fbank0"], 5e-4)


def test_whisper_gives_its_states(salmonn, told, alone):
    states = salmonn.speech_encoder(alone["input_features"]).last_hidden_state[0]
    close(states[:100], told["whisper0_first100"])
    close(states[-20:], told["whisper0_last20"])


def test_beats_gives_its_states_alone_and_behind_padding_in_a_batch(salmonn, told, together):
    close(salmonn.beats(told["fbank0"][None])[0], told["beats0"])
    real = together["input_features_mask"].bool()
    longest = int(real.sum(-1).max())
    heard = salmonn.beats(together["filterbank_features"][..., :longest].mT, ~real[:, :longest])
    close(heard[1], told["beats_batch1"], 5e-4)


def test_the_qformer_gives_its_vectors_and_attention_to_the_frames_of_a_window(salmonn, told, together):
    windows = torch.cat(salmonn.windows(**together))
    layer, kept = salmonn.speech_Qformer.bert.encoder.layer, []
    dense = layer[1].crossattention.output.dense
    handle = dense.register_forward_pre_hook(lambda _module, args: kept.append(args[0]))
    read, _ = salmonn.read(windows)
    handle.remove()
    close(read[88:], told["qformer"].view(88, 24))  # of the second clip
    close(kept[0][88 + 3], told["cross1_window3"])


def test_audio_tokens_are_the_same_alone_and_differ_in_a_batch_as_the_authors_do(salmonn, told, alone, together):
    close(salmonn.hear(**alone)[0], told["tokens_alone0"][0])
    batch = salmonn.hear(**together)
    for number in (0, 1):
        close(batch[number], told["tokens"][number])
    assert (batch[0] - told["tokens_alone0"][0]).abs().max() > 0.5, "the padding of the shorter clip leaks into it"


def test_the_prompt_is_tokenised_in_two_halves_as_released(told):
    made = processor("salmonn")
    for number in (0, 1):
        before, after = told[f"before{number}"].tolist(), told[f"after{number}"].tolist()
        question = made.tokenizer.decode(after).removeprefix("</Speech> ").removesuffix("\nASSISTANT:")
        turn = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": question}]}
        text = made.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        assert text == f"USER: <Speech><SpeechHere></Speech> {question}\nASSISTANT:"
        ids = made(text=[text], audio=[clip(told, number)])["input_ids"][0].tolist()
        assert ids == [1, *before, *[601] * 88, *after]


def test_the_embedded_prompt_and_the_logits_of_each_question_are_the_authors(salmonn, told):
    made = processor("salmonn")
    for number in (0, 1):
        ids = torch.tensor([[1, *told[f"before{number}"], *[601] * 88, *told[f"after{number}"]]])
        inputs = made(audio=[clip(told, number)])
        kept = []
        handle = salmonn.decoder.model.register_forward_pre_hook(
            lambda _module, _args, kwargs, kept=kept: kept.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        logits = salmonn(input_ids=ids, **inputs).logits
        handle.remove()
        close(kept[0], told[f"embeds{number}"])
        close(logits[0, -1], told[f"logits{number}_last"], 1e-4)


def test_a_batch_padded_on_the_left_gives_the_logits_of_the_authors_batch(salmonn, told, together):
    rows = [[1, *told[f"before{row}"].tolist(), *[601] * 88, *told[f"after{row}"].tolist()] for row in (0, 1)]
    width = max(map(len, rows))
    ids = torch.tensor([[600] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    logits = salmonn(input_ids=ids, attention_mask=mask, **together).logits[:, -1]
    close(logits, told["logits_batch_last"], 5e-5)


def test_a_table_of_times_that_begins_with_zeros_changes_no_bit(timeaudio, long):
    table = timeaudio.abs_time_position_embedding
    trained = table.detach().clone()
    with torch.no_grad():
        table.zero_()
    encoding = timeaudio.config.time_encoding
    heard = timeaudio.windows(**long)[0]
    timeaudio.config.time_encoding = None
    without = timeaudio.windows(**long)[0]
    timeaudio.config.time_encoding = encoding
    assert torch.equal(heard, without)
    with torch.no_grad():
        table.copy_(trained)
    assert not torch.equal(timeaudio.windows(**long)[0], without)
    assert not TimeAudioForConditionalGeneration(timeaudio.config).abs_time_position_embedding.any()


def test_the_tokens_of_36_seconds_are_the_authors_before_they_are_merged(timeaudio, told_of_36_seconds, long):
    windows = timeaudio.windows(**long)[0]
    close(timeaudio.speech_llama_proj(timeaudio.read(windows)[0]), told_of_36_seconds["tokens_plain"][0])


def test_the_merged_tokens_are_the_authors_given_which_they_kept(timeaudio, told_of_36_seconds, long):
    """Their importance is the same for every token but for rounding, so which they kept is read off their tokens."""
    read, _ = timeaudio.read(timeaudio.windows(**long)[0])
    plain, theirs = timeaudio.speech_llama_proj(read), told_of_36_seconds["tokens_merged"][0]
    importance = torch.zeros(176)
    for segment in theirs.split(26):
        away = (segment[:22, None] - plain).norm(dim=-1)
        assert away.min(-1).values.max() < 1e-4
        importance[away.argmin(-1)] = 1
    merged = merge(read, importance, "released")
    close(timeaudio.speech_llama_proj(merged.tokens), theirs)
    assert timeaudio.hear(**long)[0].shape == theirs.shape
    given = timeaudio.hear(**long, audio_merging=merged.weights[None])[0]
    close(given, theirs)


def test_the_loss_of_an_answer_with_markers_is_the_authors(timeaudio, told_of_36_seconds):
    embeds, labels = told_of_36_seconds["embeds"], told_of_36_seconds["labels"]
    assert timeaudio(inputs_embeds=embeds, labels=labels).loss.item() == pytest.approx(
        told_of_36_seconds["loss"].item(), abs=1e-5
    )
    logits = timeaudio(inputs_embeds=embeds).logits
    by_hand = functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)
    assert by_hand.item() == pytest.approx(told_of_36_seconds["loss"].item(), abs=1e-5)


def test_an_answer_with_markers_is_tokenised_as_in_training(told_of_36_seconds):
    """Apart from the prompt; every text between markers begins with a space of its own."""
    answer = Markers().encode("The given query happens in 12.3 - 31.0 seconds.")
    ids = processor("timeaudio").tokenizer(answer, add_special_tokens=False)["input_ids"]
    labels = told_of_36_seconds["labels"][0]
    assert [*ids, 2] == labels[labels != -100].tolist()


def test_the_audio_stands_between_the_halves_of_the_embedded_prompt(timeaudio, told_of_36_seconds):
    embeds, merged = told_of_36_seconds["embeds"][0], told_of_36_seconds["tokens_merged"][0]
    assert torch.equal(embeds[11 : 11 + len(merged)], merged)


@pytest.mark.parametrize(
    ("family", "file"),
    [
        ("salmonn", "salmonn_keys"),
        ("timeaudio", "timeaudio_keys_stage1"),
        ("timeaudio", "timeaudio_keys_stage2"),
    ],
)
def test_every_parameter_has_the_released_name_and_shape(family, file):
    """peft 0.3 called an adapted projection's own weight `q_proj.weight`, 0.16 `q_proj.base_layer.weight`."""
    told = json.loads((ORACLES / family / f"{file}.json").read_text())["keys"]
    ours = network(family).state_dict()
    theirs = peft_names({name: torch.zeros(shape) for name, (shape, _) in told.items()}, set(ours))
    theirs = {name: value for name, value in theirs.items() if not name.endswith("inv_freq") and name not in UNUSED}
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in ours.items()
    }
    assert set(renamed) == set(theirs)
    assert {name: value.shape for name, value in renamed.items()} == {name: v.shape for name, v in theirs.items()}


@pytest.mark.parametrize("network_class", [SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration])
@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}, 7.5e9),
        ({"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}, 13.8e9),
    ],
    ids=["7B", "13B"],
)
def test_networks_of_the_published_sizes_build(network_class, sizes, parameters):
    whisper = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
    config_class = {"Salmonn": SalmonnConfig, "TimeAud": TimeAudioConfig}[network_class.__name__[:7]]
    config = config_class({**sizes, "vocab_size": 32_001}, whisper, lora={"r": 8, "lora_alpha": 32})
    with torch.device("meta"):
        built = network_class(config)
    assert sum(parameter.numel() for parameter in built.parameters()) == pytest.approx(parameters, rel=0.03)
    heard = built.speech_Qformer.bert.encoder.layer[0].crossattention.heads
    assert (len(built.speech_encoder.layers), len(built.beats.encoder.layers), heard) == (32, 12, 12)

"""DeSTA2.5-Audio gives the numbers of its authors' code, with the same small weights."""

import json

import pytest
import torch

from mechaudio.models.desta.config import DestaConfig, evenly
from mechaudio.models.desta.network import LONGEST_TRANSCRIPT, Desta25ForConditionalGeneration
from tests.models.desta.released import ORACLES, PROMPTS, network, processor, reference, whisper_tokenizer


@pytest.fixture(scope="module")
def desta():
    return network()


@pytest.fixture(scope="module")
def told():
    return reference()


def clips(told):
    return [told[f"wav{number}"].float().numpy() / 32768 for number in (0, 1)]


@pytest.fixture(scope="module")
def features(told):
    return processor()(audio=clips(told))["input_features"]


def close(given, wanted, tolerance=2e-5):
    assert given.shape == wanted.shape
    assert (given - wanted).abs().max() < tolerance


def inputs_of(name, features):
    """A prompt of the authors', with the ids of its transcripts where their code kept room for them."""
    told = PROMPTS[name]
    ids = torch.tensor(told["ids"])
    for (row, start), (transcript,) in zip(told["starts"], told["transcription_ids"], strict=True):
        ids[row, start + 64 : start + 64 + len(transcript)] = torch.tensor(transcript)
    heard = [int(name[4]) for name, _ in told["audios"]]
    begins = torch.tensor([next(at for at, token in enumerate(row) if token != 5) for row in told["ids"]])
    mask = (torch.arange(ids.shape[1]) >= begins[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "input_features": features[heard]}


def test_whisper_hears_the_authors_frames(told, features):
    close(features[0].mean(-1), told["features0_mean"])


def test_the_raw_outputs_of_whispers_layers_are_the_authors(desta, told, features):
    """The last one is told behind the encoder's last norm, which the Q-Former does not read it through."""
    outputs = desta.tapped(features[:1])
    for layer in range(3):
        close(outputs[layer][0, :20], told[f"whisper_state{layer}_first20"], 1e-4)
    normed = desta.perception.whisper.model.encoder.layer_norm(outputs[3])
    close(normed[0, :20], told["whisper_state3_first20"], 1e-4)
    assert (outputs[3][0, :20] - told["whisper_state3_first20"]).abs().max() > 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_audio_tokens_are_the_authors(told, features, attention):
    close(network(attn_implementation=attention).hear(features), told["audio"])


def test_the_queries_of_the_q_former_do_not_wait_for_one_another(desta, told, features):
    """Transformers' own BERT is causal here under sdpa: another model, without a word."""
    for layer in desta.perception.connector.qformer.layer:
        assert not layer.attention.is_causal
        assert not layer.crossattention.is_causal
    first = desta.hear(features)[:, 0]
    with torch.no_grad():
        queries = desta.perception.connector.layer_prompts[0]
        kept = queries[:, -1].clone()
        queries[:, -1] += 1
        moved = desta.hear(features)[:, 0]
        queries[:, -1] = kept
    assert (moved - first).abs().max() > 1e-4, "the first query sees the last"


def test_the_mixture_of_layers_is_the_authors(desta, told):
    close(desta.perception.connector.layer_weights, told["layer_weights"], 1e-9)


@pytest.mark.parametrize("name", PROMPTS)
def test_the_embedded_prompt_and_its_logits_are_the_authors(desta, told, features, name):
    inputs = inputs_of(name, features)
    embedded = desta.get_input_embeddings()(inputs["input_ids"])
    audio = inputs["input_ids"] == 2
    for (row, start), (transcript,) in zip(PROMPTS[name]["starts"], PROMPTS[name]["transcription_ids"], strict=True):
        assert audio[row, start : start + 64].all()
        assert not audio[row, start + 64 : start + 64 + len(transcript)].any()
    heard = desta.hear(inputs["input_features"]).flatten(0, 1)
    embedded = embedded.masked_scatter(audio[..., None], heard)
    real = inputs["attention_mask"].bool()
    close(embedded[real], told[f"{name}.embeds"][real])
    close(desta(**inputs).logits[:, -1], told[f"{name}.logits"], 1e-4)


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_answers_are_the_authors(desta, features, name):
    inputs = inputs_of(name, features)
    given = desta.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=5)
    width = inputs["input_ids"].shape[1]
    assert given[:, width:].tolist() == PROMPTS[name]["generated"]


def test_every_parameter_has_the_released_name_and_shape(desta):
    told = json.loads((ORACLES / "desta_keys.json").read_text())["keys"]
    ours = {name: list(value.shape) for name, value in desta.state_dict().items()}
    assert {name: shape for name, (shape, _) in told.items() if "proj_out" not in name} == {
        name: shape for name, shape in ours.items() if "proj_out" not in name
    }


def test_what_the_recogniser_writes_is_what_whisper_alone_writes(told):
    """Its decoder has random weights here: the authors' are not among the saved ones."""
    built = network()
    samples, own = clips(told)[0], processor()
    whisper = built.perception.whisper
    features = own.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt")["input_features"]
    encoded = whisper.model.encoder(features)
    ids = [whisper.config.decoder_start_token_id]
    while len(ids) <= LONGEST_TRANSCRIPT and ids[-1] != whisper.config.eos_token_id:
        logits = whisper(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.argmax()))
    assert built.transcribe(samples, own) == whisper_tokenizer().decode(ids[1:], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("depth", "taps"), [(4, [0, 1, 2, 3]), (12, [2, 5, 8, 11]), (24, [5, 11, 17, 23]), (32, [7, 15, 23, 31])]
)
def test_layers_of_every_whisper_are_read_as_released(depth, taps):
    assert evenly(depth, 4) == DestaConfig(audio_config={"encoder_layers": depth}).taps == taps


def test_layers_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match=r"taps are layers of Whisper's encoder, 0 to 3, got \[4\]"):
        DestaConfig(audio_config={"encoder_layers": 4}, taps=[4])


def test_a_network_of_the_published_sizes_builds():
    """8B: Llama 3.1, whisper-large-v3 whole, and a Q-Former of six layers, whose MLP is BERT's by default."""
    text = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    text |= {"num_key_value_heads": 8, "vocab_size": 128_256}
    whisper = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
    whisper |= {"decoder_layers": 32, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "num_mel_bins": 128}
    qformer = {"hidden_size": 1280, "num_attention_heads": 20, "num_hidden_layers": 6}
    with torch.device("meta"):
        built = Desta25ForConditionalGeneration(DestaConfig(text, whisper, qformer))
    connector = sum(parameter.numel() for parameter in built.perception.connector.parameters())
    assert connector == pytest.approx(131e6, rel=0.02), "131M are trained"
    assert built.perception.connector.qformer.layer[0].intermediate.dense.out_features == 3072
    assert built.config.taps == [7, 15, 23, 31]

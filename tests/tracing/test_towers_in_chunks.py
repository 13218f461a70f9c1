"""VibeVoice-ASR's towers hear a long clip chunk after chunk: hook points are read and edited over all chunks."""

import pytest
import torch

from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import HookPointError
from tests.families import WINDOW_SECONDS, model_inputs, network, noise, processor
from tests.families.vibevoice_asr import NOISE_IS_AN_INPUT

SECONDS = 2 * WINDOW_SECONDS + 1.0


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("vibevoice_asr"), processor("vibevoice_asr"), prove=False)


@pytest.fixture(scope="module")
def inputs(model):
    return dict(model.processor.apply_transcription_request(noise(SECONDS, sample_rate=24_000), prompt="a dog"))


def test_chunks_are_put_behind_one_another(model, inputs):
    cache = run(model, inputs, record=["audio.resid_pre", "audio.resid_post", "projector_out"]).cache
    samples = inputs["input_values"].shape[-1]
    assert samples == 3200 * 68  # 9 s are 67.5 tokens
    assert cache["audio.resid_pre", 0].shape == (1, samples, 4)
    assert cache["audio.resid_post", 0].shape == (1, samples // 40, 8)
    assert cache["audio.resid_post", 1].shape == cache["audio.resid_post", 3].shape == (1, 68, 16)
    assert cache["projector_out"].shape[1] == 68


@pytest.mark.parametrize(("layer", "tower"), [(1, "acoustic"), (3, "semantic")])
def test_what_is_read_is_what_every_chunk_was_given(model, inputs, layer, tower):
    stage = model.network.get_submodule(f"model.{tower}_tokenizer_encoder.conv_layers.1")
    pieces = []
    handle = stage.register_forward_hook(lambda _module, _args, output: pieces.append(output.transpose(1, 2)))
    with torch.no_grad():
        plain = model.network(**inputs, sample=False, use_cache=False).logits
    handle.remove()
    assert [piece.shape[1] for piece in pieces] == [30, 30, 8]
    out = run(model, inputs, record=[HookPoint("audio.resid_post", layers=[layer])])
    assert torch.equal(out.cache["audio.resid_post", layer], torch.cat(pieces, dim=1))
    assert torch.equal(out.logits, plain)
    alone = run(model, inputs, record=[HookPoint("audio.resid_post", layers=[layer])], logits=None)
    assert torch.equal(alone.cache["audio.resid_post", layer], torch.cat(pieces, dim=1))


@pytest.mark.parametrize("layer", [1, 3])
def test_an_edit_reaches_every_chunk(model, inputs, layer):
    silenced = Edit(HookPoint("audio.resid_post", layers=[layer]), torch.zeros_like)
    out = run(model, inputs, record=["audio.resid_post", "projector_out"], interventions=[silenced])
    assert out.cache["audio.resid_post", layer].abs().max() == 0
    clean = run(model, inputs, record=["projector_out"]).cache["projector_out"]
    assert ((out.cache["projector_out"] - clean).abs().amax(-1) > 1e-4).all()


def test_a_part_of_a_batch_is_filled_up_to_the_whole_tokens_of_its_longest_clip(model):
    clips = [noise(seconds, seed, sample_rate=24_000) for seed, seconds in enumerate((1.0, 0.5, 0.39))]
    given = dict(model.processor.apply_transcription_request(clips))
    batch = as_batch(model, given)
    whole = run(model, batch, logits="last").logits
    for part in (batch[1:], as_batch(model, {name: value[1:] for name, value in given.items()})):
        assert (batch.inputs["input_values"].shape[-1], part.inputs["input_values"].shape[-1]) == (8 * 3200, 4 * 3200)
        assert part.inputs["padding_mask"].sum(-1).tolist() == [12_000, 9360]
        torch.testing.assert_close(run(model, part, logits="last").logits, whole[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not NOISE_IS_AN_INPUT, reason="this transformers has no input that asks for noise")
def test_no_noise_is_added_unless_asked_for(model, inputs):
    first, second = (run(model, inputs).logits for _ in range(2))
    assert torch.equal(first, second)
    noisy = run(model, {**inputs, "sample": True}).logits
    assert not torch.allclose(noisy, first, atol=1e-3)


def test_a_tower_that_hears_a_clip_in_parts_unbeknown_to_us_is_not_recorded_in_part():
    whole = network("qwen2_audio")
    tower = whole.get_submodule("model.audio_tower")

    class InParts(type(tower)):
        def forward(self, *args, **kwargs):
            super().forward(*args, **kwargs)
            return super().forward(*args, **kwargs)

    tower.__class__ = InParts
    opened, sounds = AudioLM(whole, prove=False), model_inputs("qwen2_audio")
    assert run(opened, sounds, record=["projector_out"]).cache["projector_out"].isfinite().all()
    with pytest.raises(HookPointError, match=r"audio_blocks.0.resid_post is computed more than once in a pass"):
        run(opened, sounds, record=["audio.resid_post"])

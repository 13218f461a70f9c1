import pytest
import torch

import mechaudio as ma
from mechaudio.analyses.probes.audio_states import audio_states, places_of
from mechaudio.data.toy_questions import questions
from mechaudio.models.inputs import as_batch
from mechaudio.models.toy.features import DECODER
from tests.families import model_inputs, n_audio_tokens, network


def test_states_are_those_of_the_tokens():
    toy = ma.load("toy", prove=False)
    batch = ma.prompt(toy, questions(2, seed=1))
    (first, _), out = audio_states(toy, batch, ["audio.blocks.1.resid_post", "embed", "blocks.0.resid_post"])
    again = ma.run(toy, batch, record=["audio.resid_post", "projector_out", "resid_post"])
    torch.testing.assert_close(first["embed"], again.cache["projector_out"][0])
    frames = again.cache["audio.resid_post", 1][0]
    torch.testing.assert_close(first["audio.blocks.1.resid_post"], (frames[0::2] + frames[1::2])[:100] / 2)
    audio = list(batch.spans["audio"][0])
    torch.testing.assert_close(first["blocks.0.resid_post"], again.cache["resid_post", 0][0, audio])
    assert first["embed"][:, DECODER["carrier"]].min() > 0
    assert out.logits is None


@pytest.mark.parametrize("family", ["qwen2_audio", "qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "gemma4"])
def test_towers_of_several_kinds_give_one_vector_per_token(family):
    model = ma.AudioLM(network(family), prove=False)
    batch = as_batch(model, model_inputs(family, (3.2, 3.2)))
    rows, _ = audio_states(model, batch, places_of(model))
    for row in rows:
        assert {len(states) for states in row.values()} == {n_audio_tokens(family, 3.2)}

"""How much memory may be used, and what positions take: for configs that give one width, a width per layer, or none."""

import pytest

import mechaudio as ma
from mechaudio.tracing.memory import MOST_OF_CHUNK, bytes_per_position, chunk_bytes, memory_of, widest_bytes
from tests.families import network


@pytest.mark.parametrize("family", ["qwen2_audio", "gemma3n", "gemma4", "phi4_multimodal", "nemotron_h_omni"])
def test_what_a_position_takes_is_known_for_every_kind_of_config(family):
    model = ma.AudioLM(network(family), prove=False)
    item = model.network.dtype.itemsize
    width = model.network.config.get_text_config().to_dict().get("head_dim") or model.d_model // model.n_heads
    assert bytes_per_position(model) == 2 * model.n_layers * model.n_key_value_heads * width * item
    assert widest_bytes(model) == (8 * model.d_model + 3 * 96) * item


def test_what_the_user_gives_is_taken_and_less_than_nothing_refused():
    model = ma.AudioLM(network("qwen2_audio"), prove=False)
    assert memory_of(model) == 2e9
    assert memory_of(model, 5) == 5.0
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="memory= is a number of bytes"):
            memory_of(model, wrong)


def test_variants_that_run_together_take_half_of_the_memory_or_less_where_that_is_much():
    model = ma.AudioLM(network("qwen2_audio"), prove=False)
    assert chunk_bytes(model, 1e6) == 5e5
    assert chunk_bytes(model, 1e12) == MOST_OF_CHUNK["cpu"]

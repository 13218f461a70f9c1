"""A table of times for any network: nothing changes until it is trained, and then each token by its own time."""

import pytest
import torch

import mechaudio as ma
from mechaudio.timeaudio import Stage, add_times, load_trained, train
from mechaudio.tracing.check import prove_hook_points
from tests.families.build import network, processor
from tests.timeaudio.opened import opened, three_questions

pytestmark = pytest.mark.usefixtures("without_proofs")


@pytest.fixture(scope="module")
def questions():
    return three_questions()


def heard(model, questions):
    return ma.run(model, ma.prompt(model, questions[:1]), record=["projector_out"])


def test_a_table_of_zeros_changes_no_bit_and_a_trained_one_each_token_by_its_time(questions):
    before = heard(opened("qwen2_audio"), questions)
    model = add_times(opened("qwen2_audio"), per_row=0.1)
    prove_hook_points(model)
    after = heard(model, questions)
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.cache["projector_out"], before.cache["projector_out"])
    table = model.network.model.multi_modal_projector.abs_time_position_embedding
    with torch.no_grad():
        table.copy_(torch.arange(len(table))[:, None].expand_as(table))
    told = heard(model, questions).cache["projector_out"] - before.cache["projector_out"]
    # A token every 40 ms, a row every 100 ms: tokens at 0, 40, 80 ms, then 120, 160 ms, then 200 ms ...
    rows = torch.tensor([1, 1, 1, 2, 2, 3, 3, 3, 4, 4]).float()
    torch.testing.assert_close(told.flatten(0, -2)[:10, 0], rows, atol=1e-4, rtol=0)


def test_it_is_trained_and_put_into_a_fresh_model(questions, tmp_path):
    stage = Stage({"times": 3e-2}, epochs=1, batch_size=3)
    run = train(add_times(opened("qwen2_audio")), questions, out=tmp_path, preset=stage, steps=2)
    assert list(run.trained) == ["times"]
    again = load_trained(add_times(opened("qwen2_audio")), tmp_path)
    assert torch.equal(heard(again, questions).logits, heard(run.model, questions).logits)
    assert not torch.equal(heard(again, questions).logits, heard(opened("qwen2_audio"), questions).logits)
    with pytest.raises(ValueError, match=r"the model that ma\.timeaudio\.add_times gives"):
        load_trained(opened("qwen2_audio"), tmp_path)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("timeaudio", "has a table of times already"),
        ("qwen3_omni_moe_thinker", "packs the tokens of all clips|splits long clips"),
        ("voxtral", "packs the tokens of all clips|splits long clips"),
        ("desta25", "cannot be told times at its projector"),
    ],
)
def test_networks_whose_projector_does_not_know_when_a_token_is_are_refused(family, said):
    model = ma.AudioLM(network(family), processor(family))
    with pytest.raises(ValueError, match=said):
        add_times(model)


def test_a_table_of_nothing_is_refused():
    for given in ({"n_rows": 1}, {"per_row": 0.0}, {"per_row": -1.0}):
        with pytest.raises(ValueError, match="a table has at least two rows"):
            add_times(opened("qwen2_audio"), **given)

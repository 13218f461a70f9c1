"""Lists of interventions side by side: each changes its own rows, as it changes them alone, and no others."""

import pytest
import torch

import mechaudio as ma
from mechaudio.models.grouping import part_of
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.variants.execute import register_side_by_side
from tests.families import model_inputs, network


@pytest.fixture(scope="module")
def opened():
    model = AudioLM(network("qwen2_audio"), prove=False)
    return model, as_batch(model, model_inputs("qwen2_audio"))


def lists_of(model):
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    return [
        [ma.ScaleAttention(3.0, layers=[1]), ma.UpweightAttention(1.0, layers=[2], queries=None)],
        [],
        [ma.Steer(direction, layers=[0]), ma.Edit(ma.HookPoint("resid_mid", layers=[1]), torch.neg)],
        [ma.Edit(ma.HookPoint("v", layers=[0], positions="audio"), torch.neg, by_position=True)],
        [ma.Edit(ma.HookPoint("pattern", layers=[2], queries=[-1]), lambda pattern: pattern.flip(-1))],
        [ma.Edit(ma.HookPoint("mlp_out", layers=[1]), torch.neg), ma.KnockOutAttention(layers=[1], heads=[0])],
        [ma.Steer(direction, hook_point="final_norm")],
        [ma.Edit(ma.HookPoint("embed", positions="last"), torch.neg)],
    ]


def side_by_side(model, batch, lists):
    together = part_of(model.adapter, batch, list(range(batch.n_rows)) * len(lists))
    with torch.no_grad(), model.exchange.prepared(batch):
        register_side_by_side(model, batch, lists)
        return model.interleave("__call__", **together.inputs, use_cache=False).logits.split(batch.n_rows)


def test_every_list_changes_its_own_rows_as_it_does_alone(opened):
    model, batch = opened
    lists = lists_of(model)
    clean = ma.run(model, batch).logits
    for interventions, found in zip(lists, side_by_side(model, batch, lists), strict=True):
        expected = ma.run(model, batch, interventions=interventions).logits
        real = batch.inputs["attention_mask"].bool()
        torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-4)
        assert bool(interventions) == bool((expected - clean)[:, -1].abs().max() > 1e-2)


@pytest.mark.bits
def test_a_single_list_is_what_a_run_with_it_is_to_the_last_bit(opened):
    model, batch = opened
    for interventions in lists_of(model):
        (found,) = side_by_side(model, batch, [interventions])
        assert torch.equal(found, ma.run(model, batch, interventions=interventions).logits)


def test_what_is_changed_in_the_tower_is_left_out(opened):
    model, batch = opened
    louder = ma.Edit(ma.HookPoint("audio.resid_post", layers=[0]), lambda resid: 2 * resid)
    _, found = side_by_side(model, batch, [[], [louder]])
    torch.testing.assert_close(found, ma.run(model, batch).logits, rtol=1e-4, atol=1e-4)

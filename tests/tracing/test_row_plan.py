"""Keys and values are served with everything that is cached: while generating, only the newest is the last position."""

import pytest
import torch

import mechaudio as ma
from tests.families import model_inputs, network


@pytest.fixture(scope="module", params=["qwen2_audio", "voxtral"])
def model(request):
    return ma.AudioLM(network(request.param), prove=False), model_inputs(request.param)


@pytest.mark.parametrize("point", ["k", "v"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_only_the_newest_key_or_value_is_read_and_changed_at_a_new_token(model, point, cache):
    opened, inputs = model
    options = {} if cache == "dynamic" else {"cache_implementation": "static"}
    n = inputs["input_ids"].shape[1]
    whole, last = ma.HookPoint(point, layers=[1]), ma.HookPoint(point, layers=[1], positions="last")
    clean = ma.generate(opened, inputs, max_new_tokens=4, record=[whole, "logits"], **options)
    same = ma.generate(
        opened,
        inputs,
        max_new_tokens=4,
        interventions=[ma.Edit(last, lambda values: values)],
        record=[last, "logits"],
        **options,
    )
    doubled = ma.generate(
        opened,
        inputs,
        max_new_tokens=4,
        interventions=[ma.Edit(last, lambda values: 2 * values)],
        record=[whole],
        **options,
    )
    assert torch.equal(same.tokens, clean.tokens)
    for step, (before, read) in enumerate(zip(clean.steps, same.steps, strict=True)):
        torch.testing.assert_close(read["logits"], before["logits"])
        newest = before[point, 1][:, n + step - 1 : n + step]
        torch.testing.assert_close(read[point, 1], newest)
    changed, first = doubled.steps[0][point, 1], clean.steps[0][point, 1]
    torch.testing.assert_close(changed[:, n - 1], 2 * first[:, n - 1])
    if torch.equal(doubled.tokens[:, 0], clean.tokens[:, 0]):
        changed, usual = doubled.steps[1][point, 1], clean.steps[1][point, 1]
        torch.testing.assert_close(changed[:, : n - 1], usual[:, : n - 1])
        torch.testing.assert_close(changed[:, n + 1 :], usual[:, n + 1 :])

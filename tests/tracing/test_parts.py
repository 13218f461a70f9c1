"""Keys and values are served with everything that is cached: while generating, only the newest is the last position."""

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.parts import Part
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
        assert read[point, 1].untyped_storage().nbytes() == read[point, 1].nbytes  # the others are not kept alive
        torch.testing.assert_close(read["logits"], before["logits"])
        newest = before[point, 1][:, n + step - 1 : n + step]
        torch.testing.assert_close(read[point, 1], newest)
    changed, first = doubled.steps[0][point, 1], clean.steps[0][point, 1]
    torch.testing.assert_close(changed[:, n - 1], 2 * first[:, n - 1])
    if torch.equal(doubled.tokens[:, 0], clean.tokens[:, 0]):
        changed, usual = doubled.steps[1][point, 1], clean.steps[1][point, 1]
        torch.testing.assert_close(changed[:, : n - 1], usual[:, : n - 1])
        torch.testing.assert_close(changed[:, n + 1 :], usual[:, n + 1 :])


@pytest.mark.parametrize("rows", [[[1, 2], [1, 2]], [[1, 3], [0, 1]], [[], []]])
def test_rows_are_taken_as_copies_and_put_back_whether_or_not_they_follow_one_another(toy, rows):
    chosen = torch.tensor(rows, dtype=torch.long)
    part = Part(toy.site_map.layers["decoder"][0]["resid_post"], 1, chosen, torch.zeros(2, dtype=torch.bool), 4)
    value = torch.arange(24.0).reshape(2, 4, 3)
    taken = part.take(value, 0)
    assert torch.equal(taken, torch.stack([value[prompt, chosen[prompt]] for prompt in range(2)]))
    put = part.put(value, -taken, 0)
    taken.zero_()
    assert torch.equal(value, torch.arange(24.0).reshape(2, 4, 3))
    assert torch.equal(part.take(put, 0), torch.stack([-value[prompt, chosen[prompt]] for prompt in range(2)]))
    if rows[0]:
        with pytest.raises(RuntimeError):  # one row for two
            part.put(value, value[:, :1], 0)

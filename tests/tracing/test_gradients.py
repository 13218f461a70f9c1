"""Gradients at every hook point are those of the function that the network computes, by finite differences."""

import pytest
import torch

from mechaudio.models.grouping import padding_groups
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.gradients import graph
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from tests.families import FAMILIES, model_inputs, network, thinned

#: Networks that compute in single precision here and there, where no test can reach it: larger steps, larger errors.
ROUNDED = ("gemma4", "gemma3n")
NO_GRADIENTS_IN_THE_TOWER = ("vibevoice_asr",)
#: A step that is large enough for their single precision sends tokens to other experts.
OF_EXPERTS = ("qwen3_omni_moe_thinker", "nemotron_h_omni", "muse_spark", "dots3_note")
DENSE = tuple(family for family in FAMILIES if family not in OF_EXPERTS)


@pytest.fixture(autouse=True)
def everything_in_double_precision(monkeypatch):
    """Norms and rotary embeddings go to single precision by name, whose rounding a finite difference would magnify."""
    to = torch.Tensor.to

    def to_double(tensor, *args, **kwargs):
        swap = {torch.float32: torch.float64}
        args = [swap.get(one, one) if isinstance(one, torch.dtype) else one for one in args]
        return to(tensor, *args, **{k: swap.get(v, v) if isinstance(v, torch.dtype) else v for k, v in kwargs.items()})

    monkeypatch.setattr(torch.Tensor, "to", to_double)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture(scope="module")
def opened():
    """family -> (model in double precision, two prompts that may run together), each built once."""
    made = {}

    def get(family):
        if family not in made:
            model = AudioLM(network(family, dtype=torch.float64), prove=False)
            inputs = model_inputs(family)
            inputs[model.adapter.features] = inputs[model.adapter.features].double()
            batch = as_batch(model, inputs)
            made[family] = model, batch
        return made[family]

    return get


def step(family):
    """How far a finite difference goes."""
    return 1e-3 if family in ROUNDED else 1e-6


def close(family):
    """How close it has to come."""
    return {"rel": 1e-2, "abs": 5e-3} if family in ROUNDED else {"rel": 1e-4, "abs": 1e-6}


def objective(logits):
    weights = torch.linspace(-1, 1, logits.shape[-1], dtype=logits.dtype)
    return (logits * weights).sum((-1, -2))


def names(model):
    """The hook points of this class that a number at the end depends on and that may be written."""
    found = dict.fromkeys(site.name for site in model.site_map if not site.name.endswith("mass"))
    return [name for name in found if name != "logits"]


def finite_difference(model, batch, point, direction, size):
    """Change of the objective of all prompts together, per unit of `direction` at one hook point."""
    ends = [
        objective(
            run(
                model,
                batch,
                interventions=[Edit(point, lambda value, sign=sign: value + sign * size * direction)],
                logits="last",
            ).logits
        ).sum()
        for sign in (1, -1)
    ]
    return float(ends[0] - ends[1]) / (2 * size)


def direction_like(value, seed=0):
    made = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=value.dtype)
    return torch.where(value.isinf(), torch.zeros(()), made)  # masked scores stay masked


@pytest.mark.parametrize("family", thinned(DENSE))
def test_gradients_are_finite_differences_at_every_hook_point(opened, family):
    model, batch = opened(family)
    assert len(padding_groups(model.adapter, batch)) == 1
    points = [HookPoint(name) for name in names(model)]
    if family in NO_GRADIENTS_IN_THE_TOWER:
        points = [point for point in points if not point.name.startswith("audio.")]
    made = graph(model, batch, points, objective)
    gradients = made.gradients()
    assert len(points) > 12
    for point in points:
        site = model.site_map.find(point)[0].layer
        value, gradient = made.values[point.name, site], gradients[point.name, site]
        direction = direction_like(value)
        if point.name == "audio.pattern":  # frames outside of a tower's windows get no weight in any run
            direction = direction.masked_fill(value == 0, 0.0)
        here = HookPoint(point.name, layers=None if site is None else [site])
        expected = finite_difference(model, batch, here, direction, step(family))
        assert gradient.isfinite().all(), point
        assert float((gradient * direction).sum()) == pytest.approx(expected, **close(family)), point


@pytest.mark.parametrize(
    "family", thinned(family for family in DENSE if family not in {*ROUNDED, *NO_GRADIENTS_IN_THE_TOWER})
)
def test_gradients_at_the_features_are_finite_differences(opened, family):
    model, batch = opened(family)
    made = graph(model, batch, (), objective, features=True)
    features = batch.inputs[model.adapter.features]
    direction = direction_like(features)
    ends = []
    for sign in (1, -1):
        inputs = {**batch.inputs, model.adapter.features: features + sign * step(family) * direction}
        with torch.no_grad():
            ends.append(objective(model.network(**inputs, use_cache=False).logits[:, -1:]).sum())
    expected = float(ends[0] - ends[1]) / (2 * step(family))
    assert abs(expected) > 1e-4
    assert float((made.gradients()["features"] * direction).sum()) == pytest.approx(expected, **close(family))


@pytest.mark.parametrize("family", NO_GRADIENTS_IN_THE_TOWER)
def test_where_no_gradient_arrives_it_is_said(opened, family):
    model, batch = opened(family)
    with pytest.raises(ValueError, match=r"no gradient arrives at audio_blocks\.0.* runs its audio tower without"):
        graph(model, batch, [HookPoint("audio.resid_post", layers=[0])], objective)
    with pytest.raises(ValueError, match="no gradient arrives at the features"):
        graph(model, batch, (), objective, features=True)

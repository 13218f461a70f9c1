"""Gradients of a number that is read off the logits, at any hook point and at the features that the tower hears.

Every hook point that is asked for gets a probe, a tensor of zeros that is added to it: the gradient at the probe is the
gradient at the hook point, whatever the network overwrites later, and no number changes. Weights need no gradients, so
that the graph keeps what lies between the first probe and the logits and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache, Key
from mechaudio.tracing.hook_points import HookPoint, prefix_of, stack_of
from mechaudio.tracing.record import Edit, Intervention, register, sites_of
from mechaudio.tracing.sites import Site
from mechaudio.tracing.unembedding import unembed_last_only

#: Part of the model and layer: what `Graph.gradients` can leave out.
Layer = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Attended:
    """The arguments of one layer's attention.

    Attributes:
        call: What transformers said about the call.
        query: Queries.
        key: Keys.
    """

    call: Call
    query: Float[Tensor, "batch head query d_head"]
    key: Float[Tensor, "batch kv_head key d_head"]

    def scores(
        self, *, query: Tensor | None = None, key: Tensor | None = None
    ) -> Float[Tensor, "batch head query key"]:
        """Scores before the softmax in single precision, with other queries or other keys where they are given.

        Args:
            query: Instead of the layer's own, as its hook point has them: `[batch, position, head, d_head]`.
            key: The same for keys, `[batch, position, kv_head, d_head]`.
        """
        queries = self.query if query is None else rearrange(query, "batch position head d -> batch head position d")
        keys = self.key if key is None else rearrange(key, "batch position head d -> batch head position d")
        keys = repeat(keys, "batch kv key d -> batch (kv group) key d", group=queries.shape[1] // keys.shape[1])
        n_queries, n_keys = queries.shape[2], keys.shape[2]
        rows = repeat(torch.arange(n_queries, device=queries.device), "query -> batch query", batch=queries.shape[0])
        scores = queries.float() @ keys.float().mT * self.call.scaling
        bias = self.call.bias(rows, n_keys)
        scores = scores if bias is None else scores + bias
        return scores.masked_fill(~self.call.allowed(rows, n_keys, n_queries), -torch.inf)


@dataclass(frozen=True, eq=False)
class Graph:
    """A forward pass whose gradients can be asked for, as often as one likes.

    Attributes:
        values: The hook points as they were in this run, after every intervention.
        logits: At the prompts' ends, and behind each of the words that prompts were extended by.
        objective: The number that gradients are of, for every prompt.
        attended: Layers whose attention was to be kept -> what it was called with.
        probes: The leaf at every hook point that was reached.
        features: The leaf that the tower heard, where its gradient was asked for.
        closed: Layers whose gates are shut at the moment.
    """

    values: Cache
    logits: Float[Tensor, "batch word vocab"]
    objective: Float[Tensor, " prompt"]
    attended: dict[int, Attended]
    probes: dict[Key, Tensor]
    features: Tensor | None
    closed: set[Layer]

    def gradients(self, without: Layer | None = None) -> dict[Key | Literal["features"], Tensor]:
        """The gradient of every prompt's number at every hook point, by name and layer, and at `features`.

        Args:
            without: Leave out what flows back through what this layer adds to the residual stream. It must be among
                the layers that were named as `gated` when the graph was made.
        """
        self.closed.clear()
        self.closed.update(() if without is None else (without,))
        wanted: dict[Key | Literal["features"], Tensor] = {**self.probes} | (
            {} if self.features is None else {"features": self.features}
        )
        gradients = torch.autograd.grad(
            self.objective.sum(), list(wanted.values()), retain_graph=True, allow_unused=True
        )
        return {
            place: torch.zeros_like(probe) if gradient is None else gradient
            for (place, probe), gradient in zip(wanted.items(), gradients, strict=True)
        }


def graph(
    model: AudioLM,
    batch: PromptBatch,
    points: Sequence[HookPoint],
    objective: Callable[[Float[Tensor, "batch word vocab"]], Float[Tensor, " prompt"]],
    *,
    interventions: Iterable[Intervention] = (),
    gated: Sequence[Layer] = (),
    attended: bool = False,
    features: bool = False,
) -> Graph:
    """Run prompts once and keep what the gradients at these hook points need.

    Args:
        model: The opened model. Its weights are left as they are; they get no gradients.
        batch: The prompts, none of which may leak padding into another.
        points: Hook points.
        objective: Logits at the prompts' ends, and behind each of the words that they were extended by -> one number
            for every prompt.
        interventions: What to change; gradients are those at the changed values.
        gated: Layers that gradients may leave out later.
        attended: Keep what the attention of the layers of `points` was called with.
        features: Whether the gradient at the tower's input features is wanted too.

    Raises:
        ValueError: No gradient arrives at one of the points, because the class runs that part without; attention
            is to be kept of a tower whose attention is its own; or the prompts have to run apart.
    """
    if len(padding_groups(model.adapter, batch)) > 1:
        raise ValueError("clips of these prompts change one another by their padding: take gradients of them apart")
    sites = sites_of(model, points)
    values, probes, kept = Cache(model.site_map.depth), {}, {}
    closed: set[Layer] = set()
    probing = [_probe(model, point, site, values, probes) for point, site in sites]
    inputs = dict(batch.inputs)
    sound = None
    if features:
        inputs[model.adapter.features] = sound = inputs[model.adapter.features].detach().clone().requires_grad_()
    with torch.enable_grad(), model.exchange.prepared(batch), _without_weights(model.network):
        register(model, batch, (), [*interventions, *probing, *_gates(model, gated, closed)], lambda: values)
        if attended:
            _keep_calls(model, [site for _, site in sites], kept)
        n_read = 1 + batch.n_forced
        unembed_last_only(model, n_read)
        logits = model.interleave("__call__", **inputs, use_cache=False).logits[:, -n_read:]
        numbers = objective(logits)
    if not numbers.requires_grad:
        raise ValueError(_no_gradient(model, "the features"))
    return Graph(values, logits.detach(), numbers, kept, probes, sound, closed)


def _probe(model: AudioLM, point: HookPoint, site: Site, values: Cache, probes: dict[Key, Tensor]) -> Edit:
    def change(value: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            raise ValueError(_no_gradient(model, site.address))
        if (site.name, site.layer) in probes:
            raise ValueError(f"{site.address} is computed chunk after chunk: gradients of it cannot be put together")
        probe = torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape).requires_grad_()
        probes[site.name, site.layer] = probe
        values.keep(site.name, site.layer, value.detach().clone())
        return value + probe

    return Edit(replace(point, layers=None if site.layer is None else [site.layer]), change)


def _no_gradient(model: AudioLM, where: str) -> str:
    return (
        f"no gradient arrives at {where}: {model.adapter.network_class} runs its audio tower without gradients. "
        "Patch it exactly (ma.analyses.activation_patching), or ask at a hook point of the decoder"
    )


class _Gate(torch.autograd.Function):
    """A value as it is, whose gradient is nothing while its layer is shut."""

    @staticmethod
    def forward(context: Any, value: Tensor, layer: Layer, closed: set[Layer]) -> Tensor:
        context.layer, context.closed = layer, closed
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (torch.zeros_like(gradient) if context.layer in context.closed else gradient), None, None


def _gates(model: AudioLM, layers: Sequence[Layer], closed: set[Layer]) -> Iterator[Edit]:
    for part, layer in layers:
        prefix = prefix_of(part)
        for point in ("attn_out", "mlp_out"):
            if point in model.site_map.layers[part][layer]:
                key = (part, layer)
                yield Edit(
                    HookPoint(f"{prefix}{point}", layers=[layer]),
                    lambda value, key=key: _Gate.apply(value, key, closed),
                )


def _keep_calls(model: AudioLM, sites: Sequence[Site], kept: dict[int, Attended]) -> None:
    for site in sites:
        stack = model.adapter.stacks[stack_of(site.name)]
        if stack.insides != "registry":
            raise ValueError(
                f"the audio tower of {model.adapter.network_class} attends by code of its own, so that its scores "
                "cannot be computed again with other queries or keys"
            )

        def keep(call: Call, query: Tensor, key: Tensor, _value: Tensor, layer: int = site.layer) -> None:
            kept[layer] = Attended(call, query.detach(), key.detach())

        model.exchange.watch_attention(site.location.rpartition(".")[0], keep)


@contextmanager
def _without_weights(network: nn.Module) -> Iterator[None]:
    """While open, no weight of the network wants a gradient."""
    wanting = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in wanting:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)

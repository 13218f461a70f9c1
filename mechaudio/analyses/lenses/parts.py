"""The parts of one batch's difference of two logits; `direct_logit_attribution` says how they are found.

Conventions: logits, in double precision; NaN where a layer has no such part; all at the last position.
"""

from __future__ import annotations

from functools import partial
from typing import get_args

import numpy as np
import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from mechaudio.analyses.audio_attention import roles_of
from mechaudio.metrics.choices import best_wrong, refuse_nan, right_choices
from mechaudio.models.batch import PromptBatch
from mechaudio.models.stack import Between
from mechaudio.models.targets import OTHERS
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run
from mechaudio.tracing.unembedding import frozen_norm, norm_of, scaled, softcap, unembed


@torch.no_grad()
def attribute(
    model: AudioLM, batch: PromptBatch, pair: tuple[int, int] | None
) -> tuple[dict[str, np.ndarray], list[tuple[int, int]]]:
    """Run one batch, and divide each prompt's difference of two logits.

    A pair are the ids of the token to count for and of the one to count against; by default the letters of the right
    choice and of the wrong one with the highest logit, or target and foil (`OTHERS` without one).

    Returns:
        The fields of a `DirectLogitAttribution` that are arrays, roles as in `roles_of(batch)`; and each prompt's pair.
    """
    cache, logits, received = _measure(model, batch)
    last = cache["final_norm"][:, -1]
    chosen = _right_and_best_wrong(batch, logits) if pair is None else [pair] * batch.n_rows
    towards, away = torch.tensor(chosen, device=logits.device).T
    rows = torch.arange(batch.n_rows, device=logits.device)
    uncapped = logits
    if softcap(model) is not None:
        uncapped = unembed(model, last, capped=False)
    against = away != OTHERS  # a target alone is held against nothing
    unembedding = _linear(model, model.adapter.unembed, "the unembedding")
    stream = [cache["resid_pre", 0][:, -1], *(cache["resid_post", layer][:, -1] for layer in range(model.n_layers))]
    stream = [state.double().to(last.device) for state in stream]
    frozen = torch.stack(
        [
            frozen_norm(norm_of(model), own, normed)
            for own, normed in zip(cache["resid_post", -1][:, -1].to(last.device), last, strict=True)
        ]
    )
    weight = unembedding.weight.to(last.device)

    def difference(values: Tensor) -> Tensor:
        """The difference between the two tokens, out of values by token."""
        for_it, for_other = (values[tokens.to(values.device)].double() for tokens in (towards, away))
        return for_it - for_other * against.to(values.device).view(-1, *[1] * (values.ndim - 1))

    direction = scaled(model, frozen * difference(weight))
    constant = torch.zeros(batch.n_rows, dtype=torch.float64)
    if unembedding.bias is not None:
        constant = scaled(model, difference(unembedding.bias))
    scales = [_scale(model, layer) for layer in range(model.n_layers)]
    gates = [_gates(model, layer, last.device) for layer in range(model.n_layers)]
    multiplied = torch.ones((), dtype=torch.float64, device=last.device)
    behind: list[Tensor] = []  # per layer, what its own end and later layers multiply the stream by
    for gate, scale in zip(gates[::-1], scales[::-1], strict=True):
        behind.insert(0, multiplied * scale)
        multiplied = behind[0] * gate["mlp"] * gate["attention"]
    roles = torch.stack([batch.span_mask(role) for role in roles_of(batch)], dim=-1).double().to(last.device)
    layers = []
    for layer in range(model.n_layers):
        after, gate = behind[layer] * direction, gates[layer]
        layers.append(
            _layer(model, cache, layer, stream, after, scales[layer], gate)
            | _heads(model, batch, cache, layer, gate["mlp"] * after, roles, received.get(layer))
        )
    stacked = {
        name: torch.stack([layer_parts[name].cpu() for layer_parts in layers], dim=1).numpy() for name in layers[0]
    }
    embed = (stream[0] * multiplied * direction).sum(-1).cpu().numpy()
    constant = constant.cpu().numpy()
    added = sum(np.nansum(stacked[name], axis=1) for name in ("attention", "mlp", "mixer"))
    parts = {
        "embed": embed,
        "constant": constant,
        "explained": embed + added + constant,
        "logit_difference": (uncapped[rows, towards].double() - against * uncapped[rows, away].double()).cpu().numpy(),
        "capped_difference": (logits[rows, towards].double() - against * logits[rows, away].double()).cpu().numpy(),
        **_clock(batch, stacked["over_time"].shape[-1]),
    }
    return stacked | parts, chosen


def _measure(
    model: AudioLM, batch: PromptBatch
) -> tuple[Cache, Float[Tensor, "batch vocab"], dict[int, Float[Tensor, "batch d_heads"]]]:
    """Run a batch; also, by layer, what the output projection takes at the last position, where that is not `z`."""
    sites = model.site_map.layers["decoder"]
    points = [HookPoint("resid_pre", layers=[0], positions="last"), HookPoint("resid_post", positions="last")]
    points.append(HookPoint("final_norm", positions="last"))
    if any("resid_mid" in own for own in sites):
        points.append(HookPoint("resid_mid", positions="last"))
    if any("z" in layer_sites for layer_sites in sites):
        points += [HookPoint("z", positions="last"), HookPoint("v"), HookPoint("pattern", queries="last")]
    received: dict[int, Tensor] = {}
    hooks = []
    for layer in range(model.n_layers):
        stack = model.adapter.decoder.in_layer(model.network.config, layer)
        if stack.z_times is not None:
            projection = model.network.get_submodule(f"{stack.path(layer)}.{stack.mixing}")
            hooks.append(projection.register_forward_pre_hook(partial(_keep_last, received, layer)))
    try:
        out = run(model, batch, record=points, logits="last")
    finally:
        for hook in hooks:
            hook.remove()
    return out.cache, out.logits[:, -1], received


def _keep_last(received: dict[int, Tensor], layer: int, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
    received[layer] = args[0][:, -1].clone()


def _right_and_best_wrong(batch: PromptBatch, logits: Float[Tensor, "batch vocab"]) -> list[tuple[int, int]]:
    if not batch.questions:
        raise ValueError("a dict of inputs has no choices: say between=, the token to count for and the one against")
    questions = batch.questions
    right = right_choices([question.choices for question in questions], [question.answer for question in questions])
    for question, own in zip(questions, right, strict=True):
        if question.answer is None:
            raise ValueError(
                f"question {question.id!r} has no known answer, so there is no right choice to count for: give "
                "answer=, or say between= which tokens to compare"
            )
        if own.sum() == len(question.choices):
            raise ValueError(f"all choices of question {question.id!r} are right: say between= which tokens to compare")
    scores = choice_logits(batch, logits)
    n_choices = [len(question.choices) for question in questions]
    refuse_nan([question.id for question in questions], scores, n_choices, "the run")
    best = best_wrong(scores, ~right), best_wrong(scores, right)  # the best right one is the best that is not wrong
    return [(ids[one], ids[other]) for ids, one, other in zip(batch.choice_ids, *best, strict=True)]


def _linear(model: AudioLM, path: str, what: str) -> nn.Linear:
    model.refuse_hooked(path, f"{what} is taken by its weights, without it", before=True)
    module = model.network.get_submodule(path)
    if not isinstance(module, nn.Linear) or module.weight.is_meta or not module.weight.is_floating_point():
        raise TypeError(
            f"{what} ({path}) has to be a linear layer whose weights are in memory, and is a {type(module).__name__}: "
            "load the network unquantised and without offloading"
        )
    return module


def _scale(model: AudioLM, layer: int) -> float:
    """Return the number that the whole residual stream is multiplied by at the end of a layer."""
    stack = model.adapter.decoder.in_layer(model.network.config, layer)
    if stack.end is None or stack.end.scaled_by is None:
        return 1.0
    return float(getattr(model.network.get_submodule(stack.path(layer)), stack.end.scaled_by))


def _gates(model: AudioLM, layer: int, device: torch.device) -> dict[str, Float[Tensor, "*d_model"]]:
    """Return the numbers that a layer multiplies its stream by before attention and before the MLP add to it."""
    stack = model.adapter.decoder.in_layer(model.network.config, layer)
    numbers = {place: stack.keeps(place, model.network, layer) for place in get_args(Between)}
    return {place: torch.as_tensor(number, dtype=torch.float64, device=device) for place, number in numbers.items()}


def _layer(
    model: AudioLM,
    cache: Cache,
    layer: int,
    stream: list[Float[Tensor, "batch d_model"]],
    direction: Float[Tensor, "batch d_model"],
    scale: float,
    gate: dict[str, Float[Tensor, "*d_model"]],
) -> dict[str, Float[Tensor, " batch"]]:
    """Work out the part that a layer's attention and MLP added, in the direction that counts behind the layer."""
    sites = model.site_map.layers["decoder"][layer]
    missing = torch.full((direction.shape[0],), torch.nan, dtype=torch.float64)
    added = {"attention": missing, "mlp": missing, "mixer": missing}
    before, after = stream[layer], stream[layer + 1] / scale
    if "resid_mid" in sites:
        middle = cache["resid_mid", layer][:, -1].double().to(before.device)
        added["attention"] = ((middle - gate["attention"] * before) * gate["mlp"] * direction).sum(-1)
        added["mlp"] = ((after - gate["mlp"] * middle) * direction).sum(-1)
        return added
    part = "attention" if "attn_out" in sites else "mlp" if "mlp_out" in sites else "mixer"
    return added | {part: ((after - before) * direction).sum(-1)}


def _heads(
    model: AudioLM,
    batch: PromptBatch,
    cache: Cache,
    layer: int,
    direction: Float[Tensor, "batch d_model"],
    roles: Float[Tensor, "batch key role"],
    received: Float[Tensor, "batch d_heads"] | None,
) -> dict[str, Tensor]:
    """Work out the part that each head wrote, whole, by role of its keys and by audio token."""
    longest = max(len(own) for own in batch.spans["audio"])
    n_rows, n_heads = batch.n_rows, model.n_heads
    if "z" not in model.site_map.layers["decoder"][layer]:
        sizes = {"heads": (), "by_role": (roles.shape[-1],), "over_time": (longest,)}
        empty = {name: torch.full((n_rows, n_heads, *own), torch.nan).double() for name, own in sizes.items()}
        return empty | {"attention_bias": torch.full((n_rows,), torch.nan).double()}
    stack = model.adapter.decoder.in_layer(model.network.config, layer)
    attention = f"{stack.path(layer)}.{stack.attention}"
    model.refuse_hooked(attention, "heads are what they add without it")
    projection = _linear(model, f"{attention}.{stack.output}", "the output projection")
    mixed = cache["z", layer][:, -1].flatten(1) if received is None else received
    direction = direction * _added(model, layer, projection, mixed).to(direction.device)
    weight = projection.weight.double().to(direction.device)
    seen = rearrange(direction @ weight, "batch (head d) -> batch head d", head=n_heads)  # the direction as z sees it
    z = cache["z", layer][:, -1].double().to(direction.device)
    if received is not None:  # what z is multiplied by is frozen, too
        seen = seen * torch.where(z == 0, 0.0, received.double().to(z.device).view_as(z) / z)
    values = cache["v", layer].double().to(direction.device)
    group = n_heads // values.shape[2]
    values = repeat(values, "batch key kv d -> batch key (kv group) d", group=group)
    pattern = cache["pattern", layer][:, :, -1].double().to(direction.device)
    by_key = pattern * einsum(values, seen, "batch key head d, batch head d -> batch head key")
    over_time = torch.zeros(n_rows, n_heads, longest, dtype=torch.float64)
    for row, positions in enumerate(batch.spans["audio"]):
        over_time[row, :, : len(positions)] = by_key[row][:, list(positions)].cpu()
    bias = torch.zeros(n_rows, dtype=torch.float64)
    if projection.bias is not None:
        bias = direction @ projection.bias.double().to(direction.device)
    return {
        "heads": (z * seen).sum(-1),
        "by_role": einsum(by_key, roles, "batch head key, batch key role -> batch head role"),
        "over_time": over_time,
        "attention_bias": bias,
    }


def _added(
    model: AudioLM, layer: int, projection: nn.Linear, mixed: Float[Tensor, "batch d_heads"]
) -> Float[Tensor, "*batch_d_model"]:
    """The numbers that the heads' sum is multiplied by when attention adds it to the residual stream."""
    stack = model.adapter.decoder.in_layer(model.network.config, layer)
    times = torch.as_tensor(stack.times("attn_out", model.network, layer), dtype=torch.float64)
    if stack.attention_norm is None:
        return times
    norm = model.network.get_submodule(f"{stack.path(layer)}.{stack.attention_norm}")
    summed = projection(mixed.to(projection.weight.device))
    return times * torch.stack([frozen_norm(norm, row, norm(row)) for row in summed])


def _clock(batch: PromptBatch, longest: int) -> dict[str, np.ndarray]:
    n_tokens = np.zeros(batch.n_rows, dtype=np.int64)
    edges = np.full((batch.n_rows, longest + 1), np.nan)
    for row, clock in enumerate(batch.clock):
        if clock is not None and clock.contiguous:
            n_tokens[row] = len(batch.spans["audio"][row])
            edges[row, : n_tokens[row] + 1] = clock.edges_seconds
    return {"n_tokens": n_tokens, "edges": edges}

"""Every hook point by plain transformers and plain torch hooks: no nnsight, nothing of ours but the paths in the
adapter.

Patterns and scores come from transformers' own eager attention: from the two matrix products that its code performs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mechaudio.models.adapter import Adapter, Stack


def plain_values(network: nn.Module, adapter: Adapter, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Address -> value, for every hook point but `mass`, from one forward pass of a copy of the network."""
    plain = copy.deepcopy(network)
    values: dict[str, Tensor] = {}
    named = {"encoder": "audio_blocks", "decoder": "blocks"}
    for name, stack in adapter.stacks.items():
        prefix = named.get(name, f"{name}.blocks")
        first = 0
        for path in stack.paths:
            _watch_stack(plain, stack.list_at(path, 0), prefix, values, first)
            first += len(plain.get_submodule(path))
    for path, name in (
        (adapter.encoder.norm, "audio_final_norm"),
        (adapter.projector, "projector_out"),
        (adapter.merged, "embed"),
        (adapter.decoder.norm, "final_norm"),
    ):
        if path is not None:
            _after(plain, path, name, values)
    if adapter.merged is None:
        plain.get_submodule(adapter.decoder_module).register_forward_pre_hook(
            lambda _m, _a, kwargs: values.update(embed=kwargs["inputs_embeds"].clone()), with_kwargs=True
        )
    with torch.no_grad():
        values["logits"] = plain(**inputs, use_cache=False).logits
    return values


def _watch_stack(plain: nn.Module, stack: Stack, prefix: str, values: dict[str, Tensor], first: int = 0) -> None:
    for layer in range(len(plain.get_submodule(stack.layers))):
        where, inside, parts = (
            f"{prefix}.{first + layer}",
            f"{stack.layers}.{layer}",
            stack.in_layer(plain.config, layer),
        )
        turned = stack.layout == "channels"
        _before(plain, inside, f"{where}.resid_pre", values, turned=turned)
        _after(plain, inside, f"{where}.resid_post", values, turned=turned)
        if parts.mid_norm is not None:
            at_middle = _after if parts.mid_norm_adds else _before
            at_middle(plain, f"{inside}.{parts.mid_norm}", f"{where}.resid_mid", values)
        added = {"attn_out": parts.attention_norm or parts.attention, "mlp_out": parts.mlp_norm or parts.mlp}
        for point, module in added.items():
            if module is not None:
                times = _number(parts, plain, {"attn_out": parts.attention_times, "mlp_out": parts.mlp_times}[point])
                gate = parts.gates.get({"attn_out": "attention", "mlp_out": "mlp"}[point])
                if gate is not None:
                    weights = plain.get_submodule(f"{inside}.{gate}")
                    times = torch.sigmoid(weights.gate / weights.temperature).detach()
                _after(plain, f"{inside}.{module}", f"{where}.{point}", values, times=times)
        if parts.mlp is not None and parts.down is not None:
            down = f"{inside}.{parts.mlp}.{parts.down}".rstrip(".")
            if down in dict(plain.named_modules()):  # experts have none
                _before(plain, down, f"{where}.mlp_post", values)
        if parts.attention is not None:
            if parts.insides != "windows":
                module = plain.get_submodule(f"{inside}.{parts.attention}")
                watch = _watch_attention if parts.insides == "registry" else _watch_calls_in_blocks
                watch(module, f"{where}.attn", values)
            else:
                projection = plain.get_submodule(f"{inside}.{parts.attention}.{parts.output}")
                attention = plain.get_submodule(f"{inside}.{parts.attention}")
                core = next(module for module in attention.modules() if hasattr(module, "_extract_block_context"))
                _watch_windows(core, f"{where}.attn", values)
                projection.register_forward_pre_hook(_heads_into(f"{where}.attn.z", core.num_heads, values))
            _watch_results(plain.get_submodule(f"{inside}.{parts.attention}"), parts.output, f"{where}.attn", values)


def _heads_into(name: str, heads: int, values: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """A hook for what an output projection receives."""
    return lambda _module, args: values.update({name: args[0].unflatten(-1, (heads, -1)).clone()})


def _watch_results(attention: nn.Module, output: str, where: str, values: dict[str, Tensor]) -> None:
    """Multiply each head's part of what the output projection receives by its slice of the weight, in a loop."""
    projection, received = attention.get_submodule(output), list[Tensor]()
    projection.register_forward_pre_hook(lambda _module, args: received.append(_batched(args[0])))

    def multiply(*_: object) -> None:
        heads = values[f"{where}.z"].shape[2]
        parts = zip(received.pop().chunk(heads, dim=-1), projection.weight.chunk(heads, dim=1), strict=True)
        values[f"{where}.result"] = torch.stack([part @ weights.T for part, weights in parts], dim=2)

    attention.register_forward_hook(multiply)


def _watch_attention(module: nn.Module, where: str, values: dict[str, Tensor]) -> None:
    """Give the module a config of its own that names an attention function which looks and otherwise is `sdpa`."""

    def watching(
        _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
    ) -> tuple[Tensor, None]:
        mask, chosen = attention_mask, kwargs.pop("indices", None)
        if mask is not None and chosen is not None:  # what the class does to the mask by itself where it is `sdpa`
            left_out = torch.ones_like(mask)
            for row, position in product(range(mask.shape[0]), range(mask.shape[2])):
                left_out[row, :, position, chosen[row, position].long()] = False
            mask = mask & ~left_out
        out = sdpa_attention_forward(_module, query, key, value, mask, **kwargs)[0]
        groups = query.shape[1] // key.shape[1]
        scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * kwargs["scaling"]
        if (
            mask is None
            and (_module.is_causal if kwargs.get("is_causal") is None else kwargs["is_causal"])
            and query.shape[2] > 1
        ):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        elif mask is not None:
            forbidden = mask == torch.finfo(mask.dtype).min  # a row that may see nothing sees everything alike
            scores = (scores + mask).masked_fill(forbidden & ~forbidden.all(-1, keepdim=True), -torch.inf)
        pattern = scores.softmax(-1, dtype=torch.float32).to(query.dtype).nan_to_num()
        new = {"q": query.transpose(1, 2), "k": key.transpose(1, 2), "v": value.transpose(1, 2), "z": out}
        pieces.append({**new, "scores": scores, "pattern": pattern})
        return out, None

    pieces: list[dict[str, Tensor]] = []
    name = f"watching {where}"
    AttentionInterface.register(name, watching)
    AttentionMaskInterface.register(name, sdpa_mask)
    module.config = copy.deepcopy(module.config)
    module.config._attn_implementation_internal = name

    def gather(*_: object) -> None:
        for point in ("q", "k", "v", "z"):
            values[f"{where}.{point}"] = torch.cat([piece[point] for piece in pieces], dim=1)
        for point, filler in (("scores", -torch.inf), ("pattern", 0.0)):
            values[f"{where}.{point}"] = _block_diagonal([piece[point] for piece in pieces], filler)

    module.register_forward_hook(gather)


def _watch_calls_in_blocks(module: nn.Module, where: str, values: dict[str, Tensor]) -> None:
    """Look at the module's own calls of fused attention on blocks of frames, and put the blocks together by loops."""
    forward, fused = module.forward, functional.scaled_dot_product_attention

    def watching(hidden_states: Tensor, **kwargs: Tensor) -> Tensor:
        clips, frames = hidden_states.shape[:2]

        def look(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
            out = fused(query, key, value, attn_mask=attn_mask, scale=scale)
            scores = query @ key.transpose(2, 3) * scale + attn_mask
            pattern = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
            each = len(query) // clips
            by_clip = [range(clip * each, (clip + 1) * each) for clip in range(clips)]
            for point, part in (("q", query), ("k", key), ("v", value), ("z", out)):
                whole = [torch.cat([part[block].transpose(0, 1) for block in blocks]) for blocks in by_clip]
                values[f"{where}.{point}"] = torch.stack(whole)[:, :frames].clone()
            for point, part, filler in (("scores", scores, -torch.inf), ("pattern", pattern, 0.0)):
                whole = [_block_diagonal([part[block][None] for block in blocks], filler) for blocks in by_clip]
                values[f"{where}.{point}"] = torch.cat(whole)[:, :, :frames, :frames]
            return out

        functional.scaled_dot_product_attention = look
        try:
            return forward(hidden_states, **kwargs)
        finally:
            functional.scaled_dot_product_attention = fused

    module.forward = watching


def _watch_windows(module: nn.Module, where: str, values: dict[str, Tensor]) -> None:
    """Look at what the module's own methods and its softmax are given, and put the windows together by loops."""
    forward, softmax = module.forward, functional.softmax
    cut_queries, cut_keys = module._convert_to_block, module._extract_block_context
    parts: list[Tensor] = []

    def queries(part: Tensor) -> Tensor:
        values[f"{where}.q"] = part.clone()
        return cut_queries(part)

    def keys(part: Tensor) -> Tensor:
        if part.ndim == 4:
            values[f"{where}.{'kv'[len(parts)]}"] = part.clone()
            parts.append(part)
        return cut_keys(part)

    def look(scores: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
        weights = softmax(scores, dim=dim, dtype=dtype)
        shown = weights.to(parts[1].dtype)
        clips, frames, heads, _ = parts[1].shape
        lowest = scores.min()
        whole = {"scores": scores.new_full((clips, heads, frames, frames), -torch.inf)}
        whole["pattern"] = shown.new_zeros(clips, heads, frames, frames)
        for query in range(frames):
            block, row = divmod(query, module.chunk_size)
            for place in range(module.context_size):
                key = block * module.chunk_size + place - module.max_past_horizon
                if 0 <= key < frames:
                    score = scores[:, :, block, row, place]
                    blind = (scores[:, :, block, row] == lowest).all(-1)
                    score = score.masked_fill((score == lowest) & ~blind, -torch.inf)
                    whole["scores"][:, :, query, key] = score
                    whole["pattern"][:, :, query, key] = shown[:, :, block, row, place]
        values.update({f"{where}.{point}": value for point, value in whole.items()})
        return weights

    def watching(*args: object, **kwargs: object) -> object:
        parts.clear()
        functional.softmax = look
        try:
            return forward(*args, **kwargs)
        finally:
            functional.softmax = softmax

    module._convert_to_block, module._extract_block_context, module.forward = queries, keys, watching


def _block_diagonal(blocks: list[Tensor], filler: float) -> Tensor:
    if len(blocks) == 1:
        return blocks[0]
    batch, heads = blocks[0].shape[:2]
    size = sum(block.shape[2] for block in blocks)
    whole = torch.full((batch, heads, size, size), filler, dtype=blocks[0].dtype)
    at = 0
    for block in blocks:
        whole[:, :, at : at + block.shape[2], at : at + block.shape[2]] = block
        at += block.shape[2]
    return whole


def _before(plain: nn.Module, path: str, name: str, values: dict[str, Tensor], *, turned: bool = False) -> None:
    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        values[name] = _batched(args[0] if args else kwargs["hidden_states"], turned)

    plain.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)


def _number(parts: Stack, plain: nn.Module, number: float | str) -> float:
    return getattr(getattr(plain.config, parts.config), number) if isinstance(number, str) else number


def _after(
    plain: nn.Module,
    path: str,
    name: str,
    values: dict[str, Tensor],
    *,
    turned: bool = False,
    times: float | Tensor = 1,
) -> None:
    def hook(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
        values[name] = _batched(output[0] if isinstance(output, tuple) else output, turned) * times

    plain.get_submodule(path).register_forward_hook(hook)


def _batched(value: Tensor, turned: bool = False) -> Tensor:
    """Packed towers have no batch axis, seen from outside they are a batch of one; convolutions have channels first.

    Of several residual streams it is the first.
    """
    whole = {2: value[None], 3: value, 4: value[0]}[value.ndim]
    return (whole.transpose(1, 2) if turned else whole).clone()

"""Head by head, what attention's output projection gives: computed where somebody asks for it, and nowhere else.

The projection itself runs as ever. Where `result` is read or edited, its own input (so behind any gate between the
heads and the projection) goes through it once more, each head by itself, and what an edit changed there is added to the
projection's output: an edit that changes nothing leaves every bit.

Conventions: `result` is `[batch, position, head, d_model]`, without the projection's bias. It takes as many times the
memory of the projection's output as there are heads, and an edit takes up to three times that. Of a hook point with
`positions=`, only those positions are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechaudio.arguments import n_of
from mechaudio.models.adapter import Stack
from mechaudio.models.network import Network
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.sites import ROOT, HookPointError, attention_location, result_location

#: What each head gives, and the projection's bias.
Results = tuple[Float[Tensor, "batch position head d_model"], Tensor | None]


@dataclass(eq=False)
class OutputProjection:
    """The module that mixes the heads' outputs of one layer's attention.

    Attributes:
        module: It.
        heads: Location of the heads' outputs, which it is about to mix.
        receives: Location of its input.
        gives: Location of its output.
        base: Where results are served: as `result`, or those of chosen positions as `rows.result`.
        refuse_hooked: Raises where a hook of others changes what it gives.
        n_heads: How many heads there were at `heads`.
        received: Its input while it runs, `[batch, position, head * d_head]`, or without a batch axis.
    """

    module: Network
    heads: str
    receives: str
    gives: str
    base: str
    refuse_hooked: Sequence[Callable[[], None]]
    n_heads: int = 0
    received: Tensor | None = None

    @classmethod
    def of(
        cls, network: Network, stack: Stack, layer: int, refuse_hooked: Sequence[Callable[[], None]]
    ) -> OutputProjection:
        """Find it in one layer."""
        path = f"{stack.path(layer)}.{stack.mixing}"
        here = f"{ROOT}.{path}"
        base = result_location(stack, layer).rpartition(".")[0]
        heads = f"{attention_location(stack, layer)}.z"
        return cls(network.get_submodule(path), heads, f"{here}.input", f"{here}.output", base, refuse_hooked)

    @property
    def watched(self) -> tuple[str, str, str]:
        """The locations of what it is about to mix, receives and gives."""
        return self.heads, self.receives, self.gives

    def see(self, location: str, value: Tensor | tuple) -> None:
        """Take note of what passes one of these locations, after every edit."""
        if location == self.heads:
            self.n_heads = value.shape[2]
        elif location == self.receives:
            args, kwargs = value
            self.received = args[0] if args else next(iter(kwargs.values()))
        else:
            self.received = None

    def serve(self, exchange: Exchange, given: Tensor) -> Tensor:
        """Serve the results where somebody wants them; what the network goes on with comes back."""
        requests = exchange.asked_of(self.base).queries
        if exchange.wanted(f"{self.base}.result"):
            given = self._serve(exchange, "result", given, None)
        for request in requests.values():
            name = f"{request.name}.result"
            if exchange.wanted(f"{self.base}.{name}"):
                rows = request.among(given.shape[0], given.shape[1], given.device, exchange.step)
                given = given if rows is None else self._serve(exchange, name, given, rows)
        return given

    def _serve(self, exchange: Exchange, name: str, given: Tensor, rows: Int[Tensor, "batch row"] | None) -> Tensor:
        """Serve results under a name, and add to the output what was changed in them."""
        for refuse in self.refuse_hooked:
            refuse()
        received, output = (part if part.ndim == 3 else part[None] for part in (self.received, given))
        index = None if rows is None else repeat(rows, "batch row -> batch row d", d=output.shape[-1])
        if rows is not None:
            received = received.gather(1, repeat(rows, "batch row -> batch row d", d=received.shape[-1]))
        made, bias = self._results(exchange, received)
        version = None if made.is_inference() else made._version
        served = exchange.handle(f"{self.base}.{name}", made)
        overwritten = version is None or made._version != version
        graded = torch.is_grad_enabled() and served.requires_grad
        if served is made and not overwritten and not graded:
            return given
        with torch.no_grad():
            before = self._results(exchange, received)[0] if overwritten else made.detach()
        # Gradients pass through the results that were read, and through nothing beside them.
        before_edit = (output if index is None else output.gather(1, index)).detach()
        after = before_edit + (served - before).sum(2)
        if bias is not None and graded:
            after = after + (bias - bias.detach())
        whole = after if index is None else output.scatter(1, index, after)
        return whole.reshape(given.shape)

    def _results(self, exchange: Exchange, received: Float[Tensor, "batch position d"]) -> Results:
        """Send each head through the projection by itself.

        A plain linear layer is cut into slices; any other module (of low rank, quantised, offloaded) is called once for
        every head, and once for its bias.
        """
        if not self.n_heads or received.shape[-1] % self.n_heads:
            raise HookPointError(
                f"{self.receives} is {received.shape[-1]} wide and cannot be shared out among "
                f"{n_of(self.n_heads, 'head')}: the adapter's `output` has to name the module that mixes what the "
                "heads give"
            )
        heads = received.unflatten(-1, (self.n_heads, -1))
        if _is_plain(self.module):
            weight = self.module.weight.unflatten(1, (self.n_heads, -1))
            results = torch.einsum("bphd,mhd->bphm", heads.to(weight.device), weight)
            return results, self.module.bias
        with exchange.unserved():
            bias = self.module(torch.zeros_like(received[:, :1]))
            alone = torch.eye(self.n_heads, dtype=torch.bool, device=heads.device)[:, :, None]
            each = [self.module(torch.where(head, heads, 0).flatten(2)) - bias for head in alone]
        return torch.stack(each, dim=2), bias


def _is_plain(module: Network) -> bool:
    """Return whether it is a linear layer whose weight is there, as numbers."""
    return type(module) is nn.Linear and type(module.weight.data) is Tensor and not module.weight.is_meta

"""How hook points look in a trace block: `model.blocks[3].attn.pattern`, whatever the network calls its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mechaudio.showing import Shown
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import ATTENTION_POINTS, LAYER_POINTS, ROW_POINTS, Rows
from mechaudio.tracing.rows import request
from mechaudio.tracing.sites import Sites


class HookSite:
    """A hook point as an attribute: reading waits for it, assigning replaces it, `+=` and `[...] =` edit it live."""

    def __init__(self, point: str):
        self.point = point

    def __get__(self, view: Any, owner: type | None = None) -> Any:
        """The value, when the model gets there."""
        return self if view is None else view.exchange.read(view.sites[self.point])

    def __set__(self, view: Any, value: Tensor) -> None:
        """Put `value` in its place."""
        view.exchange.write(view.sites[self.point], value)


class View:
    """What a block, its attention and chosen rows have in common: the sites they show and where values come from."""

    def __init__(self, exchange: Exchange, sites: Sites):
        self.exchange = exchange
        self.sites = sites

    def __dir__(self) -> list[str]:
        """The hook points that this layer has and what else is of use, for completion."""
        points = {name for name in dir(type(self)) if isinstance(getattr(type(self), name, None), HookSite)}
        plumbing = {"exchange", "sites", "save", *(points - set(self.sites))}
        return [name for name in super().__dir__() if name not in plumbing]

    def __repr__(self) -> str:
        """The hook points one can read here."""
        return f"{type(self).__name__}({', '.join(site.address for site in self.sites.values())})"


class AttentionRows(View):
    """Some query rows of one layer's attention: `[batch, head, row, key]`, and no `query x key` matrix anywhere."""

    scores = HookSite("scores")
    pattern = HookSite("pattern")


class Attention(View):
    """The insides of one layer's attention."""

    q = HookSite("q")
    k = HookSite("k")
    v = HookSite("v")
    scores = HookSite("scores")
    pattern = HookSite("pattern")
    z = HookSite("z")
    result = HookSite("result")

    def at(self, rows: Rows) -> AttentionRows:
        """Only these query rows of `scores` and `pattern`; inside a trace block.

        Args:
            rows: A span's name (`"last"`, `"keyword"`, which must be equally long in every prompt) or positions in the
                padded prompt, negative ones from its end.
        """
        chosen = {point: request(self.exchange, self.sites[point], rows) for point in ROW_POINTS}
        return AttentionRows(self.exchange, Sites(chosen, {}))


class Block(View):
    """One transformer layer, of the decoder or of the audio tower."""

    resid_pre = HookSite("resid_pre")
    attn_out = HookSite("attn_out")
    resid_mid = HookSite("resid_mid")
    mlp_post = HookSite("mlp_post")
    mlp_out = HookSite("mlp_out")
    resid_post = HookSite("resid_post")

    def __init__(self, exchange: Exchange, sites: Sites):
        super().__init__(exchange, sites.only(point for point in LAYER_POINTS if point not in ATTENTION_POINTS))
        self.attn = Attention(exchange, sites.only(ATTENTION_POINTS))


class Blocks(Shown, Sequence):
    """The layers of a stack, counted as lists are."""

    def __init__(self, blocks: Sequence[Block], where: str):
        self._blocks, self._where = tuple(blocks), where

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self._blocks)

    def __getitem__(self, layer: int | slice) -> Any:
        """One layer, or several."""
        if isinstance(layer, int) and not -len(self) <= layer < len(self):
            raise IndexError(f"no layer {layer} in the {self._where}: it has layers 0 to {len(self) - 1}")
        return self._blocks[layer]

    def __repr__(self) -> str:
        """The stack and its depth."""
        return f"<{len(self)} layers of the {self._where}>"

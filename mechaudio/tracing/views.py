"""How hook points look in a trace block: `model.blocks[3].attn.pattern`, whatever the network calls its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.showing import Shown
from mechaudio.tracing.elsewhere import OF_ATTENTION, OF_LAYER, OF_MLP, hook_point
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
    """A block, its attention, or chosen rows: the sites they show and where values come from.

    TransformerLens's names (`hook_resid_post`) stand for the hook points that they name.
    """

    _elsewhere: Mapping[str, str] = {}

    def __init__(self, exchange: Exchange, sites: Sites, here: str = ""):
        vars(self).update(exchange=exchange, sites=sites, here=here)

    def __getattr__(self, name: str) -> Any:
        """The hook point that a name of TransformerLens stands for.

        Raises:
            AttributeError: Another name; where it is a word of other libraries, with what it is called here.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self, self._hook(name))

    def __setattr__(self, name: str, value: Any) -> None:
        """Put a value in the place of a hook point.

        Raises:
            AttributeError: There is none of this name.
        """
        object.__setattr__(self, self._hook(name), value)

    def _point(self, name: str) -> str:
        return (hook_point(name) if name.startswith("hook_") else None) or name

    def _hook(self, name: str) -> str:
        """The attribute of a hook point that a name stands for; others are refused."""
        if isinstance(getattr(type(self), point := self._point(name), None), HookSite):
            return point
        layer = self.here.removesuffix(".attn").removesuffix(".mlp")
        way = self._elsewhere.get(name)
        points = ", ".join(site.address for site in self.sites.values())
        hint = f"here it is {way.format(here=self.here, layer=layer)}" if way else f"there are {points}"
        raise AttributeError(f"model.{self.here} has no {name!r}: {hint}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        """The hook points that this layer has and what else is of use, for completion."""
        points = {name for name in dir(type(self)) if isinstance(getattr(type(self), name, None), HookSite)}
        plumbing = {"exchange", "here", "sites", "save", *(points - set(self.sites))}
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

    _elsewhere = OF_ATTENTION

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
        return AttentionRows(self.exchange, Sites(chosen, {}), f"{self.here}.at({rows!r})")


class MLP(View):
    """TransformerLens's place of the neurons: `mlp.hook_post` is `mlp_post` of the layer."""

    _elsewhere = OF_MLP

    post = HookSite("mlp_post")

    def _point(self, name: str) -> str:
        return name.removeprefix("hook_")


class Block(View):
    """One transformer layer, of the decoder or of the audio tower."""

    _elsewhere = OF_LAYER

    resid_pre = HookSite("resid_pre")
    attn_out = HookSite("attn_out")
    resid_mid = HookSite("resid_mid")
    mlp_post = HookSite("mlp_post")
    mlp_out = HookSite("mlp_out")
    resid_post = HookSite("resid_post")

    def __init__(self, exchange: Exchange, sites: Sites, here: str):
        super().__init__(exchange, sites.only(point for point in LAYER_POINTS if point not in ATTENTION_POINTS), here)
        vars(self)["attn"] = Attention(exchange, sites.only(ATTENTION_POINTS), f"{here}.attn")
        vars(self)["mlp"] = MLP(exchange, sites.only(["mlp_post"]), f"{here}.mlp")


class Blocks(Shown, Sequence):
    """The layers of a stack, counted as lists are."""

    def __init__(self, blocks: Sequence[Block], where: str):
        self._blocks, self._where = tuple(blocks), where

    def __len__(self) -> int:
        """Count the layers."""
        return len(self._blocks)

    def __getitem__(self, layer: int | slice) -> Any:
        """One layer, or several."""
        if isinstance(layer, int) and not -len(self) <= layer < len(self):
            raise IndexError(f"no layer {layer} in the {self._where}: it has layers 0 to {len(self) - 1}")
        return self._blocks[layer]

    def __repr__(self) -> str:
        """The stack and its depth."""
        return f"<{n_of(len(self), 'layer')} of the {self._where}>"


@dataclass(frozen=True)
class Tower:
    """One of a class's audio towers: its layers."""

    blocks: Blocks


class Towers(dict):
    """Audio towers by name; asking for one that there is not says which there are."""

    def __missing__(self, name: str) -> NoReturn:
        raise KeyError(f"no audio tower {name!r}; this model has {sorted(self)}")

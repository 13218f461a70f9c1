"""Replay of a run: parts of a network give again what they gave, as far as a change leaves them as they were.

Every part (a module outside layers, or a whole layer) that was through by the moment of the first change gives what it
gave, without being computed, so that a run that changes the last layer costs that layer and what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import ROOT, Site

#: What a module's input and output may be made of where the output is to be given again. Anything else may remember.
_REPEATABLE = (Tensor, int, float, str, torch.dtype, type(None))


@dataclass(eq=False)
class _Calls:
    """The calls of one module in the recorded run: when each began and ended, counted in events, and what it gave.

    That can be given again if it is `repeatable`: what remembers, such as a cache, is not.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    repeatable: bool = True

    def over_by(self, moments: Sequence[int], in_chunks: bool) -> bool:
        """Return whether all calls had ended by the first of the moments when something was there, call after call.

        Where a network hears chunk after chunk, and no part remembers more than what it gave itself, each of as many
        calls has to have ended by the moment in its chunk.
        """
        if not moments or len(self.ends) < len(self.starts):
            return False
        if in_chunks and len(self.ends) == len(moments):
            return all(end <= moment for end, moment in zip(self.ends, moments, strict=True))
        return self.ends[-1] <= moments[0]


class Replay:
    """The parts of a network in one run, with those of the `decoder`'s layers or with nothing behind their entry."""

    def __init__(self, model: AudioLM, *, decoder: bool = False):
        self.model = model
        towers = (layers for name, layers in model.site_map.layers.items() if name != "decoder")
        ends = [sites["resid_post"].location for layers in towers for sites in layers]
        layers = [location.removeprefix(f"{ROOT}.").removesuffix(".output") for location in ends]
        inside = tuple(f"{path}." for path in (*layers, model.adapter.projector, model.adapter.decoder.layers))
        paths = [path for path, _ in model.network.named_modules() if path and not path.startswith(inside)]
        self._layers = {model.adapter.decoder.path(layer) for layer in range(model.n_layers)} if decoder else set()
        self._calls = {path: _Calls() for path in (*paths, *sorted(self._layers))}

    def record(self) -> None:
        """Ask the run that is being prepared for what its parts give."""
        moment = count()

        def begin(calls: _Calls, is_layer: bool, served: Any) -> Any:
            calls.starts.append(next(moment))
            if is_layer:  # it may write into a table that it is given for layers behind it
                calls.repeatable &= _is_repeatable(served)
            return served

        def end(calls: _Calls, served: Any) -> None:
            calls.ends.append(next(moment))
            calls.outputs.append(_copy(served))
            calls.repeatable &= _is_repeatable(served)

        for path, calls in self._calls.items():
            self.model.exchange.on_input(path, partial(begin, calls, path in self._layers))
            self.model.exchange.watch(f"{ROOT}.{path}.output", partial(end, calls))

    def give(self, paths: Sequence[str]) -> None:
        """Have parts give, in the run that is being prepared, what they gave in the recorded one, call after call."""
        for path in paths:
            outputs = map(_copy, self._calls[path].outputs)  # the network may write into what it is given
            self.model.exchange.instead_of(path, lambda _computed, outputs=outputs: next(outputs))

    def forget_all_but(self, paths: set[str]) -> None:
        """Keep what these parts gave, and nothing else."""
        for path, calls in self._calls.items():
            if path not in paths:
                calls.outputs.clear()

    @property
    def n_bytes(self) -> int:
        """Bytes of all that is kept."""
        kept = pytree.tree_leaves([calls.outputs for calls in self._calls.values()])
        return sum(leaf.nbytes for leaf in kept if isinstance(leaf, Tensor))

    def untouched(self, sites: Sequence[Site]) -> list[str]:
        """The parts, each with all that is inside it, that changes of these sites leave as they are."""
        first = min((moments for site in sites if (moments := self._moments(site))), default=[])
        encoder = self.model.adapter.encoder
        deaf: tuple[str, ...] = ()
        if len(encoder.paths) > 1:  # of two towers side by side, one hears nothing of the other
            towers = [f"{path.rpartition('.')[0]}." for path in encoder.paths]
            deaf = tuple(tower for tower in towers if not any(tower in site.location for site in sites))
        left = [
            path
            for path, calls in self._calls.items()
            if calls.starts and calls.repeatable
            if calls.over_by(first, encoder.in_chunks) or path.startswith(deaf)
        ]
        inside = tuple(f"{path}." for path in left)
        return [path for path in left if not path.startswith(inside)]

    def _moments(self, site: Site) -> list[int]:
        """The moments at which its value was there, by call: none in prompts without sound, the end for logits."""
        path, _, what = site.location.removeprefix(f"{ROOT}.").rpartition(".")
        if what == "output" and path in self._calls:
            return self._calls[path].ends
        while path and path not in self._calls:
            path = path.rpartition(".")[0]
        return (
            self._calls[path].starts if path else [1 + max(end for calls in self._calls.values() for end in calls.ends)]
        )


def _is_repeatable(value: Any) -> bool:
    return all(isinstance(leaf, _REPEATABLE) for leaf in pytree.tree_leaves(value))


def _copy(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, value)

"""The two ends of a path through the decoder: which component writes, and which one reads.

Senders write to the residual stream: `("head", layer, head)`, `("attention", layer)`, `("mlp", layer)`, `"embed"`.
Receivers read from it: `("q", layer, head)`, `("k", layer, head)`, `("v", layer, head)` or all three as
`("head", layer, head)`, `("mlp", layer)`, `"logits"`. Heads are query heads: the `k` and `v` that a head reads are
those of its group.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from mechaudio.models.positions import heads_among
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.sites import Site

#: What can write -> the hook point that holds it.
SENDERS = {"head": "z", "attention": "attn_out", "mlp": "mlp_out", "embed": "embed"}
#: What can read -> the hook points that are computed from what it reads.
RECEIVERS = {
    "q": ("q",), "k": ("k",), "v": ("v",), "head": ("q", "k", "v"), "mlp": ("mlp_out",), "logits": ("logits",),
}  # fmt: skip
_WITH_HEAD = ("head", "q", "k", "v")
_ONCE = ("embed", "logits")


class Component(NamedTuple):
    """One component of the decoder, as `("head", 3, 1)`, `("mlp", 2)` or `("logits",)`."""

    part: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        """As the field writes it: `head 3.1`, `mlp 2`, `logits`."""
        return (
            self.part
            + ("" if self.layer is None else f" {self.layer}")
            + ("" if self.head is None else f".{self.head}")
        )


Given = Annotated[
    str | tuple[str] | tuple[str, int] | tuple[str, int, int],
    "a component, such as 'embed', ('mlp_out', 3) or ('z', 3, 0)",
    "components",
]


def sender(model: AudioLM, given: Given) -> Component:
    """A component that writes, checked.

    Raises:
        ValueError: No such kind, or a layer or head missing or too many.
        TypeError: A layer or head that is no whole number.
        IndexError: A layer or head that the network does not have.
        NoSuchHookPoint: The class, or this layer of it, has no such component.
    """
    return _checked(model, given, "sender", {name: (point,) for name, point in SENDERS.items()})


def receiver(model: AudioLM, given: Given) -> Component:
    """A component that reads, checked; raises as `sender` does."""
    return _checked(model, given, "receiver", RECEIVERS)


def kv_head(model: AudioLM, head: int, n_kv_heads: int) -> tuple[int, tuple[int, ...]]:
    """The key-value head that a head reads, and the other heads that read it."""
    size = model.n_heads // n_kv_heads
    group = head // size
    return group, tuple(other for other in range(group * size, (group + 1) * size) if other != head)


def _checked(model: AudioLM, given: Given, role: str, points: dict[str, tuple[str, ...]]) -> Component:
    parts = (given,) if isinstance(given, str) else tuple(given)
    kind = parts[0] if parts else None
    if kind not in points:
        raise ValueError(f"{role}= is one of {', '.join(points)}, with its layer and head; got {given!r}")
    wanted = 1 if kind in _ONCE else 3 if kind in _WITH_HEAD else 2
    if len(parts) != wanted:
        written = {1: repr(kind), 2: f"({kind!r}, layer)", 3: f"({kind!r}, layer, head)"}[wanted]
        raise ValueError(f"{role}= is written {written}, got {given!r}")
    if kind in _ONCE:
        return Component(kind)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in parts[1:]):
        raise TypeError(f"layers and heads of {role}= are whole numbers, got {given!r}")
    sites: list[Site] = [site for point in points[kind] for site in model.site_map.find(HookPoint(point, [parts[1]]))]
    head = heads_among([parts[2]], model.n_heads)[0] if wanted == 3 else None
    return Component(kind, sites[0].layer, head)

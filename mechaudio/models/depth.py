"""Layers in networks of different depths."""

from collections.abc import Sequence

#: Layers of the network that published ranges, such as those of MATA, were chosen on.
PUBLISHED_DEPTH = 28


def same_share_of_depth(
    span: tuple[int, int], layers: Sequence[int], depth: int, *, of: int = PUBLISHED_DEPTH
) -> tuple[int, int]:
    """Return the first and last layer of the same part of a network's depth as `span` is of another's.

    Layers a to b of D reach from a / D to (b + 1) / D of the way through a network. Those layers l whose middle
    (l + 1/2) / depth lies there are returned, or if none does, the layer whose middle is nearest to that of the range.
    In a network of D layers these are a to b.

    Args:
        span: First and last layer, both included.
        layers: The candidates, in order.
        depth: Layers of the network that they are in.
        of: Layers of the network in which `span` was named.
    """
    start, stop = span[0] / of, min(1.0, (span[1] + 1) / of)
    middles = {layer: (layer + 0.5) / depth for layer in layers}
    within = [layer for layer in layers if start <= middles[layer] < stop]
    nearest = min(layers, key=lambda layer: abs(middles[layer] - (start + stop) / 2))
    return (within[0], within[-1]) if within else (nearest, nearest)


def absent(layers: Sequence[int], depth: int) -> list[int]:
    """Return the layers that a network does not have; negative ones count from the last."""
    return [layer for layer in layers if not -depth <= layer < depth]


def which_layers(layers: Sequence[int], depth: int, stack: str = "this decoder") -> str:
    """Say which layers a stack has, and where in its depth those of a deeper network would be.

    Args:
        layers: Those that were named, some of which it does not have.
        depth: How many it has.
        stack: What it is.
    """
    has = f"{stack} has layers 0 to {depth - 1}"
    first, last = min(layers), max(layers)
    if first < 0 or first == last:  # one layer is no published range
        return has
    of = max(PUBLISHED_DEPTH, last + 1)
    low, high = same_share_of_depth((first, last), range(depth), depth, of=of)
    instead = f"layers=range({low}, {high + 1})" if high > low else f"layers=[{low}]"
    return (
        f"{has}. Layers {first} to {last} of {of}, from {first / of:.0%} to {(last + 1) / of:.0%} of the "
        f"depth, would be {_span(low, high)} of {depth}: {instead}"
    )


def _span(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"

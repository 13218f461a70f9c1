"""Progress bars: for what takes longer than two seconds, where a person is watching.

A bar in a log file is noise, and one that comes and goes at once is a flicker. So by default (`progress=None`) a bar is
drawn in a terminal or a notebook alone, after two seconds, and not inside another one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from tqdm import tqdm as Bar

from mechaudio.processes import launch

__all__ = ["Bar", "bar", "is_watched"]

#: Seconds that something may take before its bar appears.
DELAY = 2.0
_open: WeakSet[Any] = WeakSet()


def bar(
    items: Iterable[Any] | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    progress: bool | None = None,
) -> Bar:
    """A tqdm bar on stderr, in a notebook a widget.

    Args:
        items: To go through with it; without them, `update` counts.
        what: Stands before the bar.
        unit: Name of what is counted, in the plural.
        total: How many there are, where `items` does not say.
        progress: True draws it at once, whoever watches, False never; by default it is drawn after two seconds where a
            person is watching, unless another bar of ours is there. Of processes that share a run, the first draws it.
    """
    from tqdm.auto import tqdm

    delay = DELAY if progress is None else 0
    shown = is_watched() and all(one.disable for one in _open) if progress is None else progress
    hidden = not shown or launch().rank > 0
    drawn = tqdm(items, desc=what, total=total, unit=f" {unit}", disable=hidden, delay=delay)
    _open.add(drawn)
    return drawn


def is_watched() -> bool:
    """True where a person sees what is written to stderr as it comes: in a terminal or a Jupyter notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None

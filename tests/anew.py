"""A process that has not imported the project, and all that others wrote: importing that takes ten times as long."""

import multiprocessing
import sys
import warnings
from collections.abc import Callable
from typing import Any


def anew(function: Callable, *given: Any) -> Any:
    """Call a function in such a process, and return what it returns."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_forgetting, (function, *given))


def _forgetting(function: Callable, *given: Any) -> Any:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mechaudio", "recipes")]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("jaxtyping")]
    warnings.simplefilter("ignore")  # which are errors in tests
    return function(*given)

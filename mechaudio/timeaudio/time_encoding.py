"""Which row of TimeAudio's table of times belongs to which window of the encoders.

Window *k*, counted from 1, of a clip gets row *k*; windows behind the clip's end, row 0, which they share.

Reference: TimeAudio (arXiv 2511.11039), absolute time-aware encoding, and the arithmetic of its released code.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mechaudio.arguments import checks_arguments

#: Rows of the table, and seconds that the arithmetic takes a window for. Its 17 frames last 0.340 s, so that the row of
#: a window is by and by later than its sound: at 120 s by 2.3 s.
N_ROWS, WINDOW = 768, 0.333333


@checks_arguments
def window_rows(
    n_windows: int, seconds: float, mode: Literal["paper", "released"] = "paper", n_rows: int = N_ROWS
) -> Int[Tensor, " window"]:
    """Return the row of the table of times for each window of a clip.

    Args:
        n_windows: Windows, those of the filling included.
        seconds: Length of the clip.
        mode: `paper`: window *k* gets row *k*. `released`: the arithmetic of the code, in single precision, which gives
            17 of the first 264 windows the row before.
        n_rows: Rows of the table; windows beyond them share the last.

    Raises:
        ValueError: Another mode, no window, or no length.
    """
    if n_windows < 1 or not 0 < seconds < math.inf or n_rows < 2:
        raise ValueError(
            "need at least one window, a finite length in seconds, and a row beside that of the filling; got "
            f"{n_windows=}, {seconds=}, {n_rows=}"
        )
    number = torch.arange(1, n_windows + 1)
    row = number if mode == "paper" else (number * WINDOW).div(WINDOW).long()
    last = int(torch.tensor(seconds).div(WINDOW).floor())
    return torch.where(number <= last, row, 0).clamp(max=n_rows - 1)

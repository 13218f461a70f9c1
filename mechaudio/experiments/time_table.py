"""TimeAudio's table of times for networks that have none: every audio token is told its time.

The row of a token is added to what the projector makes of it. Rows begin as zeros, so that the network gives the same
numbers, bit for bit, until they are trained (group `times` of `ma.timeaudio.train`).

Reference: TimeAudio (arXiv 2511.11039), absolute time-aware encoding; there it is added in front of the Q-Former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.training_groups import TIMES
from mechaudio.models.network import Network
from mechaudio.timeaudio.time_encoding import N_ROWS, WINDOW
from mechaudio.tracing.audio_lm import AudioLM

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class _AddsTimes:
    """A forward hook of a projector that holds the table.

    Attributes:
        seconds: From one token to the next.
        per_row: Seconds that a row stands for.
    """

    changes_output: ClassVar[bool] = True  # so that hook points show what goes on through the network

    seconds: float
    per_row: float

    def __call__(
        self, projector: Network, _: Any, output: Float[Tensor, "clip token width"]
    ) -> Float[Tensor, "clip token width"]:
        """Add to each token the row of the time at which it begins to hear."""
        table = getattr(projector, TIMES)
        begins = torch.arange(output.shape[1], device=table.device) * self.seconds
        # A hair later, so that a token that begins where a row does gets this row.
        rows = 1 + ((begins + 1e-6) / self.per_row).floor().long()
        return output + table[rows.clamp(max=len(table) - 1)].to(output)


@checks_arguments
def add_times(model: AudioLM, *, n_rows: int = N_ROWS, per_row: float = WINDOW) -> AudioLM:
    """Give a model a table of times, zeros at first, and open it again.

    Args:
        model: Its network is changed in place: the projector gets the table and a hook that adds it.
        n_rows: Rows of the table; later tokens share the last. Row 0 is nobody's, as in the paper, where it is that of
            the filling.
        per_row: Seconds that a row stands for.

    Raises:
        ValueError: The network has a table already; its tokens have no times, are packed behind one another, or begin
            anew in every window of a long clip, so that the projector does not tell when they are; or numbers that make
            no table.
    """
    adapter, network = model.adapter, model.network
    name = type(network).__name__
    if any(each.endswith(TIMES) for each, _ in network.named_parameters()):
        raise ValueError(f"this {name} has a table of times already")
    if n_rows < 2 or not per_row > 0:
        raise ValueError(f"a table has at least two rows, of some seconds each, got {n_rows=}, {per_row=}")
    timing = adapter.timing
    for why in (
        timing.timeless,
        "it packs the tokens of all clips behind one another" if adapter.projector_layout == "packed" else None,
        "it splits long clips into windows, and tokens of each begin anew" if timing.long_clips == "split" else None,
    ):
        if why is not None:
            raise ValueError(f"{name} cannot be told times at its projector: {why}")
    projector: Network = network.get_submodule(adapter.projector)
    like = next(projector.parameters())
    width = network.get_input_embeddings().weight.shape[1]
    table = nn.Parameter(torch.zeros(n_rows, width, dtype=like.dtype, device=like.device))
    projector.register_parameter(TIMES, table)
    projector.register_forward_hook(_AddsTimes(timing.samples / timing.tokens / SAMPLE_RATE, per_row))
    return AudioLM(network, model.processor)

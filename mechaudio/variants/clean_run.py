"""A clean run of some prompts that leaves behind what variants need, whenever they come.

`ma.sweep` runs the prompts and its variants together, so the variants must be known before. Those that are made from
what the clean run gives, such as steering along what this very question said, come after it: they continue from the
keys and values that it left behind, and the prompts do not run again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import check, checks_arguments
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.question import AudioQuestion
from mechaudio.showing import Shown
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import LAYER_POINTS, ROW_POINTS, HookPoint
from mechaudio.tracing.record import hook_points, register
from mechaudio.tracing.run import run
from mechaudio.variants.plan import Chunk
from mechaudio.variants.shared import Prefix, first_pass, why_not_shared
from mechaudio.variants.stacked import Stacked


@dataclass(frozen=True, eq=False)
class CleanRun(Shown):
    """A run without interventions, and what it left behind.

    Attributes:
        model: The model.
        batch: The prompts.
        logits: Next-token logits at the last position.
        cache: The hook points that were recorded.
        prefix: Keys and values, and the residual stream at the last position; None where they cannot be shared.
        why: Why not; None where they can.
    """

    model: AudioLM
    batch: PromptBatch
    logits: Float[Tensor, "batch vocab"]
    cache: Cache
    prefix: Prefix | None
    why: str | None = None

    @property
    def n_bytes(self) -> int:
        """The memory that keys and values take, in bytes."""
        return 0 if self.prefix is None else self.prefix.n_bytes


class KeptRuns(Shown):
    """Clean runs that wait for variants that nobody knows yet, as many as fit into some memory."""

    def __init__(self, memory: float):
        """Args: memory: bytes that keys and values of all of them may take."""
        check("memory", memory, float)
        if memory < 0:
            raise ValueError(f"memory= is a number of bytes, 0 or more, got {memory}")
        self.free = memory
        self._runs: dict[tuple[Hashable, ...], CleanRun] = {}

    def __len__(self) -> int:
        """Count the runs that are kept."""
        return len(self._runs)

    def keep(self, run: CleanRun) -> None:
        """Keep a run, if it can be continued and there is room for it."""
        if run.prefix is not None and run.n_bytes <= self.free:
            self.take(run.batch.questions)
            self._runs[_asked(run.batch.questions)] = run
            self.free -= run.n_bytes

    def take(self, questions: Sequence[AudioQuestion]) -> CleanRun | None:
        """The run of just these questions, which is then no longer kept; None if it is not."""
        run = self._runs.pop(_asked(questions), None)
        self.free += 0 if run is None else run.n_bytes
        return run


def _asked(questions: Sequence[AudioQuestion]) -> tuple[Hashable, ...]:
    return tuple((question.id, question.text, question.choices) for question in questions)


@checks_arguments
def clean_run(model: AudioLM, batch: Inputs, *, record: Sequence[str | HookPoint] = ()) -> CleanRun:
    """Run prompts so that `ma.sweep(model, clean, variants)` can continue from their last position.

    ```python
    clean = ma.variants.clean_run(model, batch, record=[ma.HookPoint("z", positions="last")])
    found = ma.sweep(model, clean, variants_made_from(clean.cache))
    ```

    The keys and values of all prompts are held as long as the run is.

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        record: Hook points to keep, at the last position: those of the decoder's layers, and `final_norm`.

    Raises:
        ValueError: Another hook point, or other positions.
    """
    points = hook_points(record)
    for point in points:
        if point.part != "decoder" or point.point not in (*LAYER_POINTS, "final_norm"):
            raise ValueError(f"a clean run keeps the decoder's final_norm and its layers' points, got {point}")
        axis = "queries" if point.point in ROW_POINTS else "positions"
        if getattr(point, axis) != "last":
            raise ValueError(f'a clean run keeps this hook point at {axis}="last", got {point}')
    prompts = as_prompts(model, batch)
    why = why_not_shared(model)
    if why is None and len(padding_groups(model.adapter, prompts)) > 1:
        why = "padding leaks between clips of different lengths in this class, so prompts run in groups"
    if why is not None:
        out = run(model, prompts, record=points, logits="last")
        return CleanRun(model, prompts, out.logits[:, -1], out.cache, None, why)
    cache, prefix = Cache(model.site_map.depth), Prefix(prompts, 1, keeps=True)  # variants of the last position come

    def prepare() -> tuple[Stacked, Prefix]:
        register(model, prompts, points, (), lambda: cache)
        return Stacked(prompts, Chunk((), 1), model.network.dtype, prompts.n_positions, {}), prefix

    logits = first_pass(model, prompts, prepare)
    return CleanRun(model, prompts, logits[:, 0], cache, prefix)

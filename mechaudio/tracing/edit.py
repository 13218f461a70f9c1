"""An edit of a hook point, and what every intervention is: a value that says which edits it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import check_fields, n_of
from mechaudio.models.positions import heads_among
from mechaudio.models.prompt import PromptBatch
from mechaudio.showing import Shown
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.score_edit import ScoreEdit

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True)
class Edit(Shown):
    """A change at one hook point; the simplest intervention, and what every other one is made of.

    ```python
    louder = ma.Edit(ma.HookPoint("resid_post", layers=[4]), lambda resid: 2 * resid)
    ma.run(model, batch, interventions=[louder])
    ```

    Attributes:
        point: Where: one hook point, with its layers, and with query rows if only those are to be changed.
        change: The tensor there (whole, or its chosen rows) -> what it shall be; a new tensor, the old one is left
            alone.
        every_step: While generating, whether to change it at every new token too, or in the prompt only. Where rows
            are chosen, a new token is changed if the last position is among them, and is then given alone. Keys and
            values are kept for later tokens as they were before any edit: `k` and `v` are changed for the token that is
            being computed.
        by_position: Whether what becomes of a position of a prompt depends on nothing but that position. Then prompts
            may have unequally many chosen rows (the function is given the last one of a prompt several times), and
            `ma.sweep` may give the function some of the prompts only.
    """

    point: HookPoint
    change: Callable[[Tensor], Tensor]
    every_step: bool = True
    by_position: bool = False

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            TypeError: A point that is no hook point, a change that is no function, or flags that are not True or False.
        """
        check_fields(self)

    def __str__(self) -> str:
        """Say what it does, in a sentence."""
        layers = "" if self.point.layers is None else f" in layers {', '.join(map(str, self.point.layers))}"
        name = getattr(self.change, "__name__", None) or repr(self.change)
        return f"Replaces {self.point.name}{layers} by what {name} makes of it"

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit]:  # noqa: ARG002 - the same for all
        """Return this edit: it is the same change for every model and every prompt."""
        return (self,)

    def of_rows(self, rows: Sequence[int]) -> Edit:
        """Keep the positions of some prompts of a batch."""
        return replace(self, point=self.point.of_rows(rows))


@runtime_checkable
class Intervention(Protocol):
    """A frozen value that says what to change, and where."""

    def edits(self, model: AudioLM, batch: PromptBatch) -> Iterable[Edit | ScoreEdit]:
        """The changes it makes to this model on these prompts."""
        ...


@dataclass(frozen=True, eq=False)
class Add:
    """The change that adds a vector; what `Edit.change` may be, known by what it does.

    Attributes:
        vectors: `[d]` or one per prompt, `[batch, 1, d]`, for a value `[batch, position, d]`; with heads
            `[head, d_head]` or `[batch, 1, head, d_head]`. Vectors for heads may be wider, if all that is over is zero.
        strength: What they are multiplied with.
        heads: Heads that they are added to, in their order; None for a value without an axis of heads.
    """

    vectors: Tensor
    strength: float
    heads: tuple[int, ...] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """The value with the vectors added.

        Raises:
            IndexError: A head that there is not.
            ValueError: Vectors of another width.
        """
        if self.heads is None:
            return value + self.strength * self.vectors.to(value)
        heads = self.heads_of(value)
        changed = value.clone()
        changed[:, :, heads] += self.strength * self.vectors[..., : value.shape[-1]].to(value)
        return changed

    def heads_of(self, value: Float[Tensor, "batch position head d_head"]) -> list[int]:
        """The heads, counted from the first.

        Raises:
            IndexError: A head that there is not.
            ValueError: Vectors of another width, or a head that is named twice.
        """
        width = value.shape[-1]
        if self.vectors.shape[-1] < width or self.vectors[..., width:].any():
            raise ValueError(
                f"the directions have {n_of(self.vectors.shape[-1], 'number')}, and heads of this layer give {width}"
            )
        return heads_among(self.heads or (), value.shape[2])

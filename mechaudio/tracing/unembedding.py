"""From the residual stream to logits."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


def unembed_last_only(model: AudioLM, n: int = 1) -> None:
    """Hand only the last position, or `n` of them, to the unembedding: prompts are padded on the left and end there."""

    def cut(served: Any) -> Any:
        args, kwargs = served
        return (args[0][:, -n:], *args[1:]), kwargs

    model.exchange.on_input(model.adapter.unembed, cut)


def unembed(
    model: AudioLM, normed: Float[Tensor, "*batch d_model"], *, capped: bool = True
) -> Float[Tensor, "*batch vocab"]:
    """Logits of residual streams that went through the final norm, as the network makes them.

    Args:
        model: The opened model.
        normed: What came out of the final norm.
        capped: Whether to cap them softly, in a class that does.
    """
    logits = model.network.get_submodule(model.adapter.unembed)(normed)
    logits = scaled(model, logits)
    cap = softcap(model)
    return logits if cap is None or not capped else torch.tanh(logits / cap) * cap


def scaled(model: AudioLM, unembedded: Tensor) -> Tensor:
    """Divide or multiply what the unembedding gave by a number, where the class does that to its logits."""
    divisor, factor = _setting(model, "divided_by"), _setting(model, "multiplied_by")
    unembedded = unembedded if divisor is None else unembedded / divisor
    return unembedded if factor is None else unembedded * factor


def softcap(model: AudioLM) -> float | None:
    """The cap *c* of logits, which are *c* tanh(logit / *c*); `None` where there is none."""
    return _setting(model, "softcapped_at")


def read_out(model: AudioLM, stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
    """Logits of residual streams: the final norm, the unembedding, and what the class does to logits.

    Raises:
        NotImplementedError: The decoder has several residual streams.
    """
    refuse_several_streams(model, "its final norm takes all of them together")
    return unembed(model, norm_of(model)(stream))


def norm_of(model: AudioLM) -> nn.Module:
    """The module of the final norm."""
    assert model.adapter.decoder.norm is not None, "every decoder has a final norm"
    return model.network.get_submodule(model.adapter.decoder.norm)


def has_several_streams(model: AudioLM) -> bool:
    """Return whether the decoder's layers pass on several residual streams, which are not read out."""
    return model.adapter.decoder.layout == "streams"


def refuse_several_streams(model: AudioLM, why: str) -> None:
    """Raise for a decoder whose layers pass on several residual streams.

    Raises:
        NotImplementedError: It has several.
    """
    if has_several_streams(model):
        raise NotImplementedError(
            f"the decoder of {model.adapter.network_class} passes on several residual streams, of which `resid_post` "
            f"is one, and {why}: this analysis is not defined for it. Patching and knocking out are"
        )


def frozen_norm(
    norm: nn.Module, stream: Float[Tensor, " d_model"], normed: Float[Tensor, " d_model"]
) -> Float[Tensor, " d_model"]:
    """The numbers that an RMS norm multiplied its input by, its length frozen at what it was, in double precision.

    An RMS norm gives *x* · *w* / rms(*x*). Its weights *w*, or 1 + *w* where the class adds one, are read off what it
    makes of a vector of ones; the length off what it made of `stream`.

    Raises:
        TypeError: It does something else to its input.
    """
    with torch.no_grad():
        weights = norm(torch.ones_like(stream)).double()
        first = torch.zeros_like(stream)
        first[0] = 1  # of a single number an RMS norm leaves a single number, in any type
        alone = norm(first)[1:]
    direction, made = weights * stream.double(), normed.double()
    factor = weights * (made @ direction) / (direction @ direction)
    rounding = 64 * torch.finfo(normed.dtype).eps * made.abs().max()
    if not (made - factor * stream.double()).abs().max() <= rounding or alone.any():  # of a NaN neither is true
        raise TypeError(f"{type(norm).__name__} is no RMS norm: with its length frozen, it does not give what it gave")
    return factor


def _setting(model: AudioLM, done: str) -> Any:
    """The number that belongs to what the class does to its logits; `None` where it does not do it."""
    path = model.adapter.logits.get(done)
    return None if path is None else attrgetter(path)(model.network.config)

"""States of every audio token of a clip, at chosen depths of tower and decoder, on the clock of the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import tokens_of_windows, windows_of_rows
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run
from mechaudio.tracing.run_result import Run
from mechaudio.tracing.tower_frames import steps_before

States = Float[Tensor, "token d_model"]


def places_of(model: AudioLM) -> tuple[str, ...]:
    """Before the tower's first layer, after each of its layers, in front of the decoder, after each of its layers."""
    return (
        "audio.blocks.0.resid_pre",
        *(f"audio.blocks.{layer}.resid_post" for layer in range(len(model.audio_blocks))),
        "embed",
        *(f"blocks.{layer}.resid_post" for layer in range(model.n_layers)),
    )


def audio_states(
    model: AudioLM, batch: PromptBatch, places: Sequence[str], *, logits: bool = False
) -> tuple[list[dict[str, States]], Run]:
    """Per row and place, one vector per audio token; frames of the tower that make one token are averaged.

    Places are hook points of the residual streams, or `embed`; the run may go on to the logits of the last position.

    Raises:
        ValueError: A row without a clip, or a tower whose frames do not fall evenly into audio tokens.
    """
    without = [row for row, clock in enumerate(batch.clock) if clock is None]
    if without:
        raise ValueError(f"rows {without} of this batch have no clip whose audio tokens have times: give one clip each")
    scattered = [row for row, clock in enumerate(batch.clock) if not clock.contiguous]
    if scattered:
        raise ValueError(
            f"the audio tokens of rows {scattered} hear several stretches each, or have no time: probes of moments "
            "need clips whose tokens follow one another"
        )
    points = [HookPoint(place) for place in places]
    if len(set(points)) < len(points):
        raise ValueError(f"places= names a place twice: {list(places)}")
    out = run(model, batch, record=points, logits="last" if logits else None)
    rows: list[dict[str, States]] = [{} for _ in range(batch.n_rows)]
    for place, point in zip(places, points, strict=True):
        kept = out.cache[point.name, None if point.layers is None else point.layers[0]]
        if point.part == "encoder":
            states = _tokens_of_frames(model, batch, kept)
        else:
            states = [kept[row, list(own)] for row, own in enumerate(batch.spans["audio"])]
        for row, own in enumerate(states):
            rows[row][place] = own.float().cpu()
    return rows, out


def _tokens_of_frames(model: AudioLM, batch: PromptBatch, frames: Float[Tensor, "clip frame d_model"]) -> list[States]:
    adapter, timing = model.adapter, model.adapter.timing
    windows = windows_of_rows(adapter, batch)
    packed = adapter.encoder.layout == "packed"
    steps = steps_before(model, batch, frames.shape[1])
    whole = packed or frames.shape[0] == sum(map(len, windows))
    if steps is None or not whole or any(len(own) != 1 for own in windows):
        raise ValueError(
            f"the tower of {adapter.network_class} has {list(frames.shape[:2])} frames here, which do not fall evenly "
            "into the audio tokens of these clips: give places= without those of the tower (audio...), or clips that "
            "fit into one window of it"
        )
    per_token = prod(stride for _, stride, _ in timing.steps[steps:])
    ends = list(accumulate(tokens_of_windows(adapter, batch, steps), initial=0))
    states = []
    for row, (window,) in enumerate(windows):
        part = frames[0, ends[window] : ends[window + 1]] if packed else frames[window]
        n_tokens = len(batch.spans["audio"][row])
        part = part[: n_tokens * per_token]
        missing = n_tokens * per_token - len(part)  # the last token may be made from fewer frames: repeat the last one
        if missing > 0:
            part = pad(part.T[None], (0, missing), mode="replicate")[0].T
        states.append(reduce(part, "(token frame) d_model -> token d_model", "mean", frame=per_token))
    return states

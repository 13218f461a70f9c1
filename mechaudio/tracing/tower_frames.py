"""Which prompt and which moment each frame of the audio tower belongs to, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from mechaudio.models.adapter import TokenTiming
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import onsets_of_windows, tokens_of_windows, why_unknown

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False)
class TowerFrames:
    """The frames of one layer of the tower; axes as in its hook points.

    Attributes:
        row: Row of the batch whose sound a frame hears.
        seconds: When in that row's clip the frame's stretch of sound begins and ends. Frames of padding lie behind the
            clip's end. Not numbers where frames hear no stretch of their own, or it is not known.
        timeless: Why not, `None` where they do.
    """

    row: Int[np.ndarray, "clip frame"]
    seconds: Float[np.ndarray, "clip frame 2"]
    timeless: str | None = None

    @property
    def middle(self) -> Float[np.ndarray, "clip frame"]:
        """The middle of each frame's stretch of sound, in seconds.

        Raises:
            ValueError: Frames hear no stretch of their own, or it is not known.
        """
        if self.timeless is not None:
            raise ValueError(f"the frames of this tower have no time of their own: {self.timeless}")
        return self.seconds.mean(-1)


def tower_frames(model: AudioLM, batch: PromptBatch, shape: tuple[int, int], stack: str = "encoder") -> TowerFrames:
    """When the frames of a tower's layer are.

    The steps from features to the layer divide time evenly, so that a frame's stretch follows from their number. A
    window begins where the sound of those before it ends.

    Args:
        model: The opened model.
        batch: The prompts.
        shape: The first two axes of a hook point of the layer, `[clip, frame]`.
        stack: The tower: `encoder`, or a further one's name.

    Raises:
        ValueError: No row has audio.
    """
    adapter, timing = model.adapter, model.adapter.timing
    if adapter.features not in batch.inputs:
        raise ValueError("no row of this batch has audio, so that the audio tower does not run")
    clips, frames = shape
    onsets = onsets_of_windows(adapter, batch)
    owners = [row for row, own in enumerate(onsets) for _ in own]
    begins = np.array([onset for own in onsets for onset in own])
    together = adapter.stacks[stack].frames_of
    if together is None and adapter.encoder.layout == "packed":
        steps = steps_before(model, batch, frames)
        if steps is None:
            raise AssertionError(f"{frames} frames of {adapter.network_class}'s tower are no number of its own steps")
        lengths = tokens_of_windows(adapter, batch, steps)
        parts = [_onsets(timing, n, steps) * (timing.hop / adapter.sampling_rate) for n in lengths]
        seconds = np.concatenate([part + begin for part, begin in zip(parts, begins, strict=True)])
        return TowerFrames(np.repeat(owners, lengths)[None], seconds[None], why_unknown(onsets))
    pieces = clips // len(owners)  # a tower may cut a long window into pieces, and fill up the last
    row = np.repeat(owners, pieces)[:, None].repeat(frames, axis=1)
    if isinstance(together, str):
        return TowerFrames(row, np.full((clips, frames, 2), np.nan), together)
    if together is not None:
        samples, frames_together = together
        onset = np.arange(pieces * frames) // frames_together * samples
        within = np.stack([onset, onset + samples], axis=-1) / adapter.sampling_rate
    else:
        within = _of_steps(model, batch, frames, pieces)
        if within is None:
            width = batch.inputs[adapter.features].shape[adapter.frames_axis]
            why = f"{width} frames of the features do not divide evenly into {pieces * frames} of this layer"
            return TowerFrames(row, np.full((clips, frames, 2), np.nan), why)
        within = within * (timing.hop / adapter.sampling_rate)
    within = within.reshape(pieces, frames, 2)
    return TowerFrames(row, np.concatenate([within + begin for begin in begins]), why_unknown(onsets))


def _of_steps(model: AudioLM, batch: PromptBatch, frames: int, pieces: int) -> Float[np.ndarray, "frame 2"] | None:
    """First frame of the features that each frame of a window hears, and the one behind its last.

    Stages of convolutions that are no steps of their own divide the features evenly; `None` where a layer does not.
    """
    timing = model.adapter.timing
    steps = steps_before(model, batch, frames, pieces)
    if steps is not None:
        return _onsets(timing, pieces * frames, steps)
    width = batch.inputs[model.adapter.features].shape[model.adapter.frames_axis]
    if pieces > 1 or width % frames:
        return None
    onset = np.arange(frames) * (width // frames)
    return np.stack([onset, onset + width // frames], axis=-1).astype(np.float64)


def _onsets(timing: TokenTiming, n: int, steps: int) -> Float[np.ndarray, "frame 2"]:
    """First frame of the features that each frame behind some steps hears, and the one behind its last."""
    stride = int(np.prod([stride for _, stride, _ in timing.steps[:steps]], initial=1))
    per_chunk = n if timing.chunk is None else timing.tokens_of_frames(timing.chunk, steps)
    chunk, place = np.divmod(np.arange(n), per_chunk)
    onset = chunk * (timing.chunk or 0) + place * stride
    end = onset + stride if timing.chunk is None else np.minimum(onset + stride, (chunk + 1) * timing.chunk)
    return np.stack([onset, end], axis=-1).astype(np.float64)


def steps_before(model: AudioLM, batch: PromptBatch, frames: int, pieces: int = 1) -> int | None:
    """Count the steps from features to tokens before a layer of the tower; `None` where no number fits.

    Args:
        model: The opened model.
        batch: The prompts.
        frames: How many frames the layer has: of all clips, where the tower packs them, else of one, padding included.
        pieces: Into how many pieces of so many frames the tower cuts each. It fills up the last one.
    """
    adapter = model.adapter

    def behind(steps: int) -> int:
        if adapter.encoder.layout == "packed":
            return sum(tokens_of_windows(adapter, batch, steps))
        return adapter.timing.tokens_of_frames(batch.inputs[adapter.features].shape[adapter.frames_axis], steps)

    fewest = frames if pieces == 1 else (pieces - 1) * frames + 1
    counts = range(len(adapter.timing.steps), -1, -1)
    return next((steps for steps in counts if fewest <= behind(steps) <= pieces * frames), None)

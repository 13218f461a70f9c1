"""Whisper's encoder at tiny size, taught to hear the twelve sounds, and what it hears in all scenes, worked out once.

The encoder and its norm are the same in all arms, and stay as they are while these are trained, as in the paper.
"""

from __future__ import annotations

import logging
import math
import time
from functools import cache
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mechaudio.audio.sounds import CLASSES
from recipes.timeaudio import scenes
from recipes.timeaudio.network import WIDTH, whisper_config
from recipes.timeaudio.scenes import Bank, LogMel, Scenes

log = logging.getLogger(__name__)
FRAMES_PER_WINDOW = 17


def train(encoder: WhisperEncoder, bank: Bank, device: str, steps: int, batch: int) -> None:
    """Teach an encoder which class sounds, begins and ends in every frame."""
    encoder.train()
    head = nn.Linear(WIDTH, 3 * len(CLASSES)).to(device)
    nn.init.constant_(head.bias, -2.0)
    parameters = [p for p in encoder.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    generator = torch.Generator(device).manual_seed(5)
    log_mel, begun = LogMel(device), time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss, _ = _loss(encoder, head, bank, batch, log_mel, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0:
            log.info("%.0f s: encoder, step %d, loss %.4f", time.time() - begun, step + 1, loss.item())
    encoder.eval()


def _loss(encoder: WhisperEncoder, head: nn.Linear, bank: Bank, batch: int, log_mel: LogMel, generator) -> tuple:
    drawn = scenes.draw(batch, scenes.SHORT, generator)
    with torch.no_grad():
        mel = log_mel(scenes.render(drawn, bank, generator, 1))
    with torch.autocast(generator.device.type, torch.bfloat16, enabled=generator.device.type == "cuda"):
        states = encoder(mel).last_hidden_state
    said = head(functional.layer_norm(states.float(), (WIDTH,)))
    truth = scenes.frame_targets(drawn, 1)
    return functional.binary_cross_entropy_with_logits(said, truth) * 3, (said, truth)


@torch.no_grad()
def hear(encoder: WhisperEncoder, bank: Bank, n: int, length: tuple[float, float], generator, batch: int = 32) -> dict:
    """Draw scenes and return their windows `[scene, window, frame, width]` in half precision, lengths and times."""
    stretches = 2 if length == scenes.LONG else 1
    made: list[Tensor] = []
    drawn: list[Scenes] = []
    for begin in range(0, n, batch):
        part = scenes.draw(min(batch, n - begin), length, generator)
        made.append(windows(encoder, scenes.render(part, bank, generator, stretches), stretches).cpu())
        drawn.append(part)
    told = {name: torch.cat([getattr(part, name) for part in drawn]).cpu() for name in ("seconds", "onset", "offset")}
    return {"windows": torch.cat(made), **told}


_log_mel = cache(LogMel)  # its filters are the same for every batch


@torch.no_grad()
def windows(encoder: WhisperEncoder, wave: Tensor, stretches: int) -> Tensor:
    """Return the normed windows `[scene, window, frame, width]` of scenes `[scene, sample]`, in half precision."""
    device = wave.device.type
    mel = _log_mel(device)(wave)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        states = encoder(mel).last_hidden_state
    states = functional.layer_norm(states.float(), (WIDTH,)).half()
    joined = rearrange(states, "(scene stretch) frame width -> scene (stretch frame) width", stretch=stretches)
    whole = joined.shape[1] // FRAMES_PER_WINDOW * FRAMES_PER_WINDOW
    return rearrange(
        joined[:, :whole], "scene (window frame) width -> scene window frame width", frame=FRAMES_PER_WINDOW
    )


def prepare(work: Path, device: str, workers: int, sizes: dict[str, int]) -> dict[str, Path]:
    """Train the encoder and write what it hears, unless it is there.

    Args:
        work: Folder to write to.
        device: `cuda` or `cpu`.
        workers: Processes that make sounds.
        sizes: `bank`, `held_out_bank`, `encoder_steps`, `encoder_batch`, and scenes `long`, `short`, `held_out_long`,
            `held_out_short`.

    Returns:
        Files: `encoder`, and `train` and `held_out` of each length.
    """
    work.mkdir(parents=True, exist_ok=True)
    files = {
        name: work / f"{name}.safetensors" for name in ("encoder", "long", "short", "held_out_long", "held_out_short")
    }
    if all(file.is_file() for file in files.values()):
        return files
    begun = time.time()
    # Both before the GPU is used: sounds are made by forked processes.
    made = [scenes.make_bank(sizes[name], seed, workers) for name, seed in (("bank", 1000), ("held_out_bank", 77))]
    bank, held_out = (each.to(device) for each in made)
    log.info("%.0f s: sounds are made", time.time() - begun)
    encoder = WhisperEncoder(whisper_config()).to(device)
    if files["encoder"].is_file():
        encoder.load_state_dict(load_file(files["encoder"], device=device))
        encoder.eval()
    else:
        torch.manual_seed(5)
        encoder.apply(encoder._init_weights)
        train(encoder, bank, device, sizes["encoder_steps"], sizes["encoder_batch"])
        save_file({name: value.contiguous().cpu() for name, value in encoder.state_dict().items()}, files["encoder"])
    for number, name in enumerate(("long", "short", "held_out_long", "held_out_short")):
        generator = torch.Generator(device).manual_seed(100 + number)
        of_length = scenes.LONG if name.endswith("long") else scenes.SHORT
        source = held_out if name.startswith("held_out") else bank
        save_file(hear(encoder, source, sizes[name], of_length, generator), files[name])
    log.info("%.0f s: all scenes are heard", time.time() - begun)
    del bank, held_out
    if device == "cuda":
        torch.cuda.empty_cache()
    return files


def load(files: dict[str, Path], name: str, device: str) -> dict[str, Tensor]:
    """Read what was heard, onto a device."""
    return load_file(files[name], device=device)

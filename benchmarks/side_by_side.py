"""Timing several ways of doing one job, in turn, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def side_by_side(ways: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of each way, measured in turn (A B C A B C ...) so that a slow spell of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(warm_up + repeats):
        for name, way in ways.items():
            _wait()
            start = time.perf_counter()
            way()
            _wait()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(way: Callable[[], object]) -> float:
    """Megabytes of GPU memory that one call needs beyond what is held already."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    way()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / 2**20


def table(seconds: Mapping[str, list[float]], title: str, memory: Mapping[str, float] | None = None) -> str:
    """Medians, ratios to the first way (median of the ratios round by round) and their range."""
    first = next(iter(seconds.values()))
    lines = [title, f"  {'':52} {'ms':>9} {'ratio':>7}  range"]
    for name, values in seconds.items():
        ratios = sorted(value / base for value, base in zip(values, first, strict=True))
        middle = f"{1e3 * statistics.median(values):9.1f} {statistics.median(ratios):7.3f}"
        line = f"  {name:52} {middle}  {ratios[0]:.2f}-{ratios[-1]:.2f}"
        lines.append(line + (f"  {memory[name]:9.0f} MB" if memory else ""))
    return "\n".join(lines)


def brief(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

"""Chooses the seed that is shipped, by the rule of README.md, and writes what the package carries of it.

    python recipes/small/choose.py OUT0 OUT1 OUT2 --to mechaudio/models/small/weights

The folders are those that train.py wrote. `small_deltas.safetensors` is the chosen seed's; `held_out.json` has the
tests of all seeds, one count a line.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETS = ("soundscapes", "recordings", "voices")
MOST_FORGOTTEN = 1.3
"""Perplexity of held-out prose after training, in times of SmolLM2's own."""


def shipped(runs: Sequence[dict[str, Any]]) -> int:
    """The seed to ship: of those that forgot little enough, the one that hears best.

    Raises:
        ValueError: All forgot too much.
    """
    allowed = [run for run in runs if run["perplexity"]["after"] <= MOST_FORGOTTEN * run["perplexity"]["before"]]
    if not allowed:
        raise ValueError(f"the perplexity of every seed is more than {MOST_FORGOTTEN} times SmolLM2's own")
    return min(allowed, key=lambda run: (-hearing(run), run["seed"]))["seed"]


def hearing(run: dict[str, Any]) -> float:
    """The mean over `SETS` of the share of right answers from the sound alone."""
    shares = {row["set"]: row["right"] / row["n"] for row in run["held_out"] if _is_whole(row)}
    return sum(shares[name] for name in SETS) / len(SETS)


def _is_whole(row: dict[str, Any]) -> bool:
    return row["task"] == "all" and row["condition"] == "audio"


def written(runs: Sequence[dict[str, Any]]) -> str:
    """All runs as JSON with one count a line; intervals are left out, as they follow from the counts."""
    return "[\n" + ",\n".join(_run(run) for run in runs) + "\n]\n"


def _run(run: dict[str, Any]) -> str:
    about = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in run.items() if key != "held_out")
    rows = [{key: value for key, value in row.items() if key != "interval"} for row in run["held_out"]]
    return f'{{\n{about},\n "held_out": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]\n}"


def main() -> None:
    """Choose, copy and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="what train.py wrote, a folder a seed")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    runs = {run["seed"]: (run, folder) for folder in arguments.folders for run in [_read(folder / "held_out.json")]}
    seed = shipped([run for run, _ in runs.values()])
    for number, (run, _) in sorted(runs.items()):
        print(f"seed {number}: {hearing(run):.4f}" + (", shipped" if number == seed else ""))
    shutil.copyfile(runs[seed][1] / "small_deltas.safetensors", arguments.to / "small_deltas.safetensors")
    (arguments.to / "held_out.json").write_text(written([runs[number][0] for number in sorted(runs)]))


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


if __name__ == "__main__":
    main()

"""Small files of the shapes in which corpora are released."""

import csv
import json
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 16_000


def write_sound(path: Path, seconds: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, RATE, np.arange(round(seconds * RATE), dtype=np.int16) % 100)
    return path


def write_table(path: Path, header: str, *rows: tuple) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        if header:
            writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, values: list) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def times(clip) -> list[tuple[str, float, float]]:
    return [(event.label, event.onset, event.offset) for event in clip.events]

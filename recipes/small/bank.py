"""Collects the recordings: `python recipes/small/bank.py OUT` writes `bank.flac`, `bank.json` and `credits.json`.

All of it is free of conditions: the CC0 samples of Debian's `sonic-pi-samples`, the CC0 and public-domain recordings
of its `blanket` (Debian 13), and words and sentences spoken by `espeak-ng`. The packages are fetched by apt and
unpacked, not installed; `gresource` of `libglib2.0-bin` opens the second. Files under any other licence are left out,
by what the packages' own copyright files say. A quarter of the files of a class, the last quarter of a long recording,
and some of the voices are kept for testing.

Conventions: 16 kHz, mono; times in samples.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).parent))
from words import SENTENCES, VOICES, WORDS, sentence

RATE = 16_000
FREE = ("CC0", "CC0-1.0", "Public-Domain")
LONGEST_HIT, LONGEST_RECORDING = 4.0, 60.0
HITS = {  # a label, and how the names of its samples begin
    "snare drum": ("drum_snare", "sn_", "elec_hi_snare", "elec_lo_snare", "elec_mid_snare", "elec_snare"),
    "cymbal": ("drum_cymbal", "drum_splash", "elec_cymbal"),
    "tom drum": ("drum_tom",),
    "bass drum": ("bd_", "drum_bass", "drum_heavy"),
    "tabla": ("tabla_",),
    "bell": ("perc_bell", "elec_bell", "elec_chime", "elec_triangle"),
    "guitar": ("guit_",),
    "crow": ("misc_crow",),
    "burp": ("misc_burp",),
    "door": ("perc_door",),
    "finger snap": ("perc_snap",),
    "cash register": ("perc_till",),
    "record scratch": ("vinyl_scratch", "vinyl_backspin", "vinyl_rewind"),
    "telephone": ("mehackit_phone",),
    "robot": ("mehackit_robot", "glitch_robot"),
    "piano": ("ambi_piano",),
    "choir": ("ambi_choir",),
    "cowbell": ("drum_cowbell",),
    "printer": ("loop_3d_printer",),
}
SURROUNDINGS = {  # a label, and the name of its recording
    "birds": "birds",
    "boat": "boat",
    "restaurant": "coffee-shop",
    "fire": "fireplace",
    "stream": "stream",
    "night insects": "summer-night",
    "wind": "wind",
}


@dataclass
class Bank:
    """Recordings one behind the other, and what each of them is."""

    waves: list[np.ndarray]
    rows: list[dict]

    def add(self, wave: np.ndarray, rate: int, **row: str) -> None:
        """Add a recording as 16 kHz mono, its silent ends cut, at nine tenths of full scale."""
        wave = wave.mean(1) if wave.ndim > 1 else wave
        wave = soxr.resample(wave, rate, RATE) if rate != RATE else wave
        loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
        wave = wave[max(loud[0] - 80, 0) : loud[-1] + 400]
        wave = 0.9 * wave / np.abs(wave).max()
        self.waves.append(np.round(wave * 32767).astype(np.int16))
        self.rows.append(row | {"samples": len(wave)})


def unpacked(package: str, folder: Path) -> Path:
    """Fetch a package of Debian and unpack it into `folder`, without installing it."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive.name, package], cwd=folder, check=True)
    return folder / package


def licences(package: Path) -> dict[str, dict[str, str]]:
    """Of each file that the package's copyright file names: licence, author and where it comes from."""
    (file,) = package.glob("usr/share/doc/*/copyright")
    stated = {}
    for paragraph in re.split(r"\n\s*\n", file.read_text()):
        fields = dict(re.findall(r"(?ms)^([\w-]+):\s*(.*?)(?=^[\w-]+:|\Z)", paragraph))
        for name in fields.get("Files", "").split():
            licence = fields["License"].split()[0]
            source = re.search(r"https?://\S+", paragraph)
            author = " ".join(fields.get("Copyright", "").split())
            stated[name] = {"licence": licence, "author": author, "source": source[0] if source else ""}
    return stated


def listed(package: Path) -> dict[str, dict[str, str]]:
    """Licence and source of each sample that `sonic-pi-samples` lists as being under CC0."""
    (file,) = package.rglob("README.md")
    text = file.read_text()
    if "placed in the public domain via the Creative Commons 0 License" not in text:
        raise ValueError(f"{file} no longer says that the samples are in the public domain: read it")
    return {
        _letters(name): {"licence": "CC0", "source": source}
        for name, source in re.findall(r"\* `:(\w+)`\s+-\s+(https?://\S+)", text)
    }


def _letters(name: str) -> str:
    return name.replace("_", "")


def held_out(label: str, n: int) -> set[int]:
    """A quarter of `n` files, drawn once and for all."""
    return set(np.random.default_rng([n, *label.encode()]).permutation(n)[: n // 4].tolist())


def add_hits(bank: Bank, package: Path) -> dict[str, dict]:
    """Add the samples of `HITS` that are free; return their credits."""
    free, credit = listed(package), {}
    stated = {Path(name).stem: said for name, said in licences(package).items()}
    for label, beginnings in HITS.items():
        files = [
            file
            for file in sorted(package.rglob("*.flac"))
            if file.name.startswith(beginnings)
            and _letters(file.stem) in free
            and stated.get(file.stem, {"licence": "CC0"})["licence"] in FREE
        ]
        for index, file in enumerate(files):
            wave, rate = soundfile.read(file)
            split = "test" if index in held_out(label, len(files)) else "train"
            bank.add(wave[: int(LONGEST_HIT * rate)], rate, kind="hit", label=label, name=file.stem, split=split)
            credit[f"sonic-pi-samples/{file.name}"] = free[_letters(file.stem)] | stated.get(file.stem, {})
    return credit


def add_surroundings(bank: Bank, package: Path) -> dict[str, dict]:
    """Add the recordings of `SURROUNDINGS`, the last quarter of each for testing; return their credits."""
    stated, credit = licences(package), {}
    for label, name in SURROUNDINGS.items():
        said = stated[f"data/resources/sounds/{name}.ogg"]
        if said["licence"] not in FREE:
            raise ValueError(f"{name} is under {said['licence']}, and only {', '.join(FREE)} are taken")
        inside = f"/com/rafaelmardojai/Blanket/sounds/{name}.ogg"
        raw = subprocess.run(
            ["gresource", "extract", package / "usr/share/blanket/blanket.gresource", inside],
            capture_output=True,
            check=True,
        ).stdout
        wave, rate = soundfile.read(io.BytesIO(raw))
        wave = wave[: int(LONGEST_RECORDING * rate)]
        cut = 3 * len(wave) // 4
        bank.add(wave[:cut], rate, kind="recording", label=label, name=name, split="train")
        bank.add(wave[cut:], rate, kind="recording", label=label, name=name, split="test")
        credit[f"blanket/{name}.ogg"] = said
    return credit


def spoken(text: str, voice: str, speed: int) -> tuple[np.ndarray, int]:
    """Samples and rate of a text spoken by espeak-ng, `speed` words a minute."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    return soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))


def add_speech(bank: Bank, seed: int) -> None:
    """Add every word in every voice, and sentences, of which the last quarter of the voices says some that are new."""
    rng = np.random.default_rng(seed)
    for voice, (sex, split) in VOICES.items():
        for word in WORDS:
            bank.add(
                *spoken(word, voice, int(rng.integers(140, 175))),
                kind="word",
                text=word,
                voice=voice,
                sex=sex,
                split=split,
            )
    for split, count in SENTENCES.items():
        voices = [voice for voice, (_, of) in VOICES.items() if of == split]
        for index in range(count):
            voice = voices[index % len(voices)]
            text = sentence(rng, index, split)
            bank.add(
                *spoken(text, voice, int(rng.integers(140, 175))),
                kind="sentence",
                text=text,
                voice=voice,
                sex=VOICES[voice][0],
                split=split,
            )


def main() -> None:
    """Collect everything into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, help="a folder that holds the two packages unpacked; default: fetched")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bank = Bank([], [])
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.packages
        samples, blanket = (
            unpacked(name, Path(folder)) if home is None else home / name for name in ("sonic-pi-samples", "blanket")
        )
        credit = add_hits(bank, samples) | add_surroundings(bank, blanket)
    add_speech(bank, arguments.seed)
    soundfile.write(arguments.out / "bank.flac", np.concatenate(bank.waves), RATE)
    (arguments.out / "bank.json").write_text(json.dumps(bank.rows))
    (arguments.out / "credits.json").write_text(json.dumps(credit, indent=1) + "\n")
    seconds = sum(row["samples"] for row in bank.rows) / RATE
    print(f"{len(bank.rows)} recordings, {seconds / 60:.1f} minutes")
    print(Counter((row["kind"], row["split"]) for row in bank.rows))
    print(Counter((row["label"], row["split"]) for row in bank.rows if "label" in row))


if __name__ == "__main__":
    main()

"""Asks one trained seed of the small model, or the shipped tiny model, what the papers ask of large audio models.

    python recipes/small/questions.py --deltas FILE --whisper model.bin --smollm2 FILE.gguf --out FILE.json
    python recipes/small/questions.py --model tiny --out FILE.json

Six sections, each written as soon as it is known: `listens` (which rows carry the sound, in which layers), `sides`
(what is believed where sound and caption disagree), `attention` (scaling against upweighting, at which rows and
layers), `specialists` (heads whose attention goes with right answers, what cutting it does, steering), `mata`,
`patching` (where in the layers the sound is). What is chosen is chosen on one half of the clips and reported on the
other; intervals are at 95%, p values of what is compared together are Holm's. All questions are soundscapes; their
seeds are `asking.SEEDS`, which training used for nothing. docs/model_of_real_parts.md is made of what this writes.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asking import (
    NOISY,
    QUIET,
    SIZES,
    Asked,
    change,
    halves,
    mean_change,
    rounded,
    share,
    told_change,
    with_holm,
    written,
)
from heads import specialists
from safetensors import safe_open

import mechaudio as ma
from mechaudio.models.small import ctranslate2, gguf
from mechaudio.models.small.language import build_processor
from mechaudio.models.small.network import assemble

SCALINGS, BIASES = (0.5, 0.8, 1.25, 2.0), (0.5, 1.0, 2.0)


def listens(asked: Asked) -> dict[str, Any]:
    """Which rows carry the sound to the answer: over all layers, in windows, in each layer."""
    questions = asked.questions("listens", noise=QUIET)
    found = ma.analyses.where_it_listens(asked.model, questions, progress=False)
    asked.listening = found.queries if found.rows else asked.listening
    heard = {("audio", role) for role in ("behind", "last", "question", "choices", *found.rows)}
    kept = heard | {(role, "last") for role in found.rows if role != "last"}
    table = found.to_pandas().reset_index()
    columns = ("change", "low", "high", "share", "p_holm")
    rows = [
        {"edge": row["edge"], "scope": row["scope"], "first": int(row["first_layer"]), "last": int(row["last_layer"])}
        | {name: rounded(row[name]) for name in columns}
        | {"fixed": int(row["fixed"]), "broken": int(row["broken"])}
        for row in table.to_dict("records")
        if row["scope"] == "all layers" or (row["source"], row["target"]) in kept
    ]
    right = found.everywhere.clean_correct
    return {"rows": list(found.rows), "sentence": found.sentence, "clean": share(right), "cuts": rows}


def sides(asked: Asked) -> dict[str, Any]:
    """What is answered from the sound, the caption, both, and where the two disagree, with attention changed or not."""
    told, moved = [], []
    for noise, name in ((QUIET, "quiet"), (NOISY, "noisy")):
        questions = asked.questions("sides", noise=noise)
        tasks = np.array([question.meta["task"] for question in questions])
        for condition in ("audio", "silence", "caption", "audio+caption"):
            answers = ma.evaluate(asked.model, questions, condition=condition, progress=False)
            told += [
                {"noise": name, "condition": condition, "task": task} | share(answers.correct[among])
                for task, among in _by_task(tasks)
            ]
        questions = asked.questions("sides", noise=noise, conflict=True)
        claims = [question.meta["caption_answer"] for question in questions]
        variants = _conflict_variants(asked)
        found = ma.evaluate(asked.model, questions, condition="audio+caption", variants=variants, progress=False)
        clean = _follows(found.clean, claims)
        for label, answers in {"as it is": found.clean, **{name: found[name] for name in variants}}.items():
            caption = _follows(answers, claims)
            for task, among in _by_task(tasks) if label == "as it is" else [("all", np.ones(len(tasks), bool))]:
                row = {"noise": name, "variant": label, "task": task, "n": int(among.sum())}
                row |= {"sound": int(answers.correct[among].sum()), "caption": int(caption[among].sum())}
                if label != "as it is":
                    moves = (answers.correct.astype(int) - caption) - (found.clean.correct.astype(int) - clean)
                    row |= {f"towards the sound, {key}": value for key, value in mean_change(moves / 2).items()}
                    row["p"] = rounded(ma.metrics.sign_flip_test(moves))
                moved.append(row)
    with_holm([row for row in moved if "p" in row])
    return {"conditions": told, "conflict": moved}


def _conflict_variants(asked: Asked) -> dict[str, Any]:
    variants = {}
    for rows in dict.fromkeys(("last", "keyword", asked.listening)):
        variants |= {
            f"sound x 2 at {rows}": ma.ScaleAttention(2.0, queries=rows),
            f"sound x 0.5 at {rows}": ma.ScaleAttention(0.5, queries=rows),
            f"sound + 1 at {rows}": ma.UpweightAttention(1.0, queries=rows),
            f"no sound at {rows}": ma.KnockOutAttention(queries=rows),
            f"no caption at {rows}": ma.KnockOutAttention(queries=rows, keys="caption"),
        }
    return variants


def _by_task(tasks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(task, tasks == task) for task in dict.fromkeys(tasks.tolist())] + [("all", np.ones(len(tasks), bool))]


def _follows(answers: Any, claims: Sequence[str]) -> np.ndarray:
    return np.array([choice == claim for choice, claim in zip(answers.choices, claims, strict=True)], int)


def attention(asked: Asked) -> dict[str, Any]:
    """Attention to the sound cut, scaled and upweighted at every set of rows; the best of each on the other half."""
    questions = asked.questions("attention", noise=NOISY)
    chooses = halves(questions)
    arms = [("cut", None, rows, "all") for rows in asked.rows]
    strengths = {"scaling": SCALINGS, "scaling, mass kept": (0.5, 2.0), "upweighting": BIASES}
    strengths |= {"scaling of the question's keys": (0.5, 2.0)}
    arms += [
        (kind, strength, rows, window)
        for kind, each in strengths.items()
        for rows in asked.rows
        for window in asked.windows
        for strength in each
    ]
    variants = [
        _changed_attention(kind, strength, rows, asked.windows[window]) for kind, strength, rows, window in arms
    ]
    found = ma.evaluate(asked.model, questions, variants=variants, progress=False)
    clean, correct, margin = found.clean.correct, found.correct, found.margin
    cuts = with_holm(
        [{"rows": arm[2]} | change(clean, correct[place]) for place, arm in enumerate(arms) if arm[0] == "cut"]
    )

    def best(kind: str, rows: Iterable[str]) -> int:
        own = [place for place, arm in enumerate(arms) if arm[0] == kind and arm[2] in rows]
        return max(own, key=lambda place: (correct[place][chooses].sum(), margin[place][chooses].mean()))

    chosen = []
    for kind in strengths:
        for rows in asked.rows:
            own, place = [arm[0] == kind and arm[2] == rows for arm in arms], best(kind, [rows])
            row = {"kind": kind, "rows": rows, "strength": arms[place][1], "layers": arms[place][3], "tried": sum(own)}
            row |= change(clean[~chooses], correct[place][~chooses])
            row["drawn at random, change"] = rounded(correct[own][:, ~chooses].mean() - clean[~chooses].mean())
            row["answers changed"] = int((found.chosen[place] != found.clean.chosen)[~chooses].sum())
            chosen.append(row)
    against = []
    for rows in (asked.rows, [asked.listening]):
        scaled, raised = best("scaling", rows), best("upweighting", rows)
        row = {"scaling": list(arms[scaled][1:]), "upweighting": list(arms[raised][1:])}
        against.append(row | change(correct[raised][~chooses], correct[scaled][~chooses]))
    uniform = [
        {"kind": kind, "strength": strength, "rows": rows} | change(clean, correct[place])
        for place, (kind, strength, rows, window) in enumerate(arms)
        if window == "all" and kind in ("scaling", "upweighting")
    ]
    guessing = found.random_fix_rate.uniform.value
    about = {"clean": share(clean), "choose": int(chooses.sum()), "fix rate of guessing": rounded(guessing)}
    about["scaling against upweighting"] = with_holm(against)
    return about | {"cuts": cuts, "chosen": with_holm(chosen), "all layers": with_holm(uniform)}


def _changed_attention(kind: str, strength: float | None, rows: str, layers: tuple[int, ...] | None) -> Any:
    where = {"queries": rows, "layers": layers}
    if kind == "cut":
        return ma.KnockOutAttention(**where)
    if kind == "upweighting":
        return ma.UpweightAttention(strength, **where)
    if kind == "scaling of the question's keys":
        return ma.ScaleAttention(strength, keys="question", **where)
    return ma.ScaleAttention(strength, mode="mass_preserving" if kind.endswith("kept") else "plain", **where)


def mata(asked: Asked) -> dict[str, Any]:
    """MATA as published, at other rows, and with layers, strength and reading chosen."""
    questions, told = asked.questions("mata", noise=NOISY), []
    for rows in dict.fromkeys(("last", "keyword", asked.listening)):
        settings = ma.experiments.MataSettings(alphas=(0.1, 0.5, 1.0), queries=rows, n_measured=24, generate=False)
        study = ma.experiments.mata_study(asked.model, questions, settings=settings, progress=False)
        for tested in study.readings:
            row = {"rows": rows, "what": f"published, {tested.arm.mode}", "arm": str(tested.arm)}
            told.append(row | told_change(tested.change) | {"p_holm": rounded(tested.p_holm)})
        for choice in study.choices[1:]:
            row = {"rows": rows, "what": choice.name, "arm": str(choice.arm)}
            told.append(row | told_change(choice.held_out) | {"p_holm": rounded(choice.p_holm)})
    return {"settings": told}


def patching(asked: Asked) -> dict[str, Any]:
    """Where in the layers the sound is: states of a clip put into the run of one with two sounds exchanged."""
    questions = asked.questions("patching", noise=QUIET)
    others = ma.data.soundscapes.counterparts(questions)
    found = ma.analyses.activation_patching(
        asked.model, questions, corrupted=others, over=("layer", "role"), progress=False
    )
    mean, (low, high) = found.mean(), found.interval()
    rows = [
        {"layer": int(layer), "role": str(role), "effect": rounded(mean[i, j]), "low": rounded(low[i, j])}
        | {"high": rounded(high[i, j])}
        for i, layer in enumerate(found.axes["layer"])
        for j, role in enumerate(found.axes["role"])
        if np.isfinite(mean[i, j])
    ]
    return {"pairs": len(found.ids), "places": rows}


SECTIONS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "listens": listens, "sides": sides, "attention": attention, "specialists": specialists, "patching": patching,
    "mata": mata,
}  # fmt: skip


def opened(arguments: argparse.Namespace) -> ma.AudioLM:
    """The shipped tiny model, or the small one with what this seed trained."""
    if arguments.model == "tiny":
        return ma.load("tiny", device=arguments.device, prove=False)
    whisper, smollm2 = ctranslate2.read(arguments.whisper), gguf.read(arguments.smollm2)
    network = assemble(whisper, smollm2, arguments.deltas).to(arguments.device)
    return ma.AudioLM(network, build_processor(smollm2), prove=False)


def main() -> None:
    """Ask, section by section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("small", "tiny"), default="small")
    parser.add_argument("--deltas", type=Path, help="small_deltas.safetensors of the seed")
    parser.add_argument("--whisper", help="model.bin of Whisper tiny.en")
    parser.add_argument("--smollm2", help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sections", nargs="+", choices=tuple(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--size", type=float, default=1.0, help="of the numbers of questions, times SIZES")
    parser.add_argument("--finish-by", type=float, default=float("inf"), help="seconds after which no section begins")
    arguments = parser.parse_args()
    began = time.time()
    warnings.filterwarnings("ignore", message="(?s).*carries nothing")
    asked = Asked(opened(arguments), {name: max(8, round(arguments.size * n)) for name, n in SIZES.items()})
    told = {"model": arguments.model, "seed": None, "device": arguments.device, "torch": torch.__version__}
    if arguments.device == "cuda":
        told["device"] = torch.cuda.get_device_name()
    if arguments.deltas is not None:
        with safe_open(arguments.deltas, "pt") as file:
            told["seed"] = int(file.metadata()["seed"])
    told |= {"seconds": {}, "questions": asked.sizes}
    failed = []
    for name in arguments.sections:
        if time.time() - began > arguments.finish_by:
            break
        started = time.time()
        try:
            told[name] = SECTIONS[name](asked)
        except ValueError:  # too few right or wrong answers, say: the other sections are asked all the same
            failed.append(name)
            traceback.print_exc()
        told["seconds"][name] = round(time.time() - started, 1)
        arguments.out.write_text(written(told) + "\n")
        print(f"{time.time() - began:7.1f} {name}: {told['seconds'][name]} s", flush=True)
    if failed:
        sys.exit(f"not answered: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""TimeAudio's training in two stages, on any opened model.

A question is heard as `ma.prompt` writes it, its answer stands behind it as training of the model would have written
it, and the loss is that of the answer alone, per token of all answers of a step. Questions pass the network one at a
time and their gradients are added up: nothing is padded, so nothing hears padding, and a step is the same on any number
of processes.

What a step draws depends on the seed and the step alone: a run that is taken up again goes on as one that was never
interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file

from mechaudio.arguments import checks_arguments
from mechaudio.data.corpus import Problem
from mechaudio.data.question_digest import digest
from mechaudio.experiments.training_groups import TIMES, groups_of, marker_ids, put_lora_in, sizes
from mechaudio.experiments.training_loop import STATE, Trainer
from mechaudio.notices import warn
from mechaudio.provenance import Provenance
from mechaudio.question import NO_QUESTIONS, AudioQuestion
from mechaudio.results import folder_of_run
from mechaudio.showing import Shown
from mechaudio.timeaudio.stages import STAGES, Preset, Stage
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.fingerprint import weight_digests

_TRAINED, _RECORD = "trained.safetensors", "training.json"


@dataclass(frozen=True)
class TrainingRun(Shown):
    """A stage of training that was done.

    Attributes:
        model: The trained network, opened again.
        losses: Loss of each step.
        problems: Questions that could not be asked, and why; no other took their place.
        trained: How many numbers of each group were trained.
        folder: Where the trained tensors and the record are.
        provenance: Checkpoint, seed, settings and versions.
    """

    model: AudioLM
    losses: tuple[float, ...]
    problems: tuple[Problem, ...]
    trained: dict[str, int]
    folder: Path
    provenance: Provenance


@checks_arguments
def train(
    model: AudioLM,
    questions: Sequence[AudioQuestion],
    *,
    stage: Literal[1, 2] = 1,
    preset: Preset | Stage = "paper",
    steps: int | None = None,
    times: Literal["markers", "digits"] | None = None,
    seed: int = 0,
    save_every: int = 200,
    out: str | os.PathLike,
    batch_size: int | None = None,
) -> TrainingRun:
    """Train a model to say when, by one stage of TimeAudio's method.

    Trained are, as the stage says, adapters of low rank beside the decoder's query and value projections (put in where
    there are none), what lies between towers and decoder, the table of times, and rows of words. All else stays, bit
    for bit. The network is changed in place; use `run.model` afterwards.

    Under `accelerate launch` the questions of a step are shared out among the processes.

    Args:
        model: An opened model with a processor, in single precision or lower.
        questions: Open questions with answers, such as `ma.data.ftar.build(clips)`; times in digits.
        stage: 1, alignment of time tokens, or 2, instruction tuning on long audio.
        preset: `paper`, `released`, or a `ma.timeaudio.Stage` of one's own.
        steps: In place of the stage's epochs.
        times: How answers write times: `markers`, which the tokenizer needs to have (`ma.timeaudio.add_markers`), or
            `digits`; by default markers where it has them.
        seed: Seed of the order of questions, of new adapters and of dropout.
        save_every: Steps between saved states.
        out: Folder of the run. One that is there is taken up again, if its settings are the same.
        batch_size: In place of the stage's, questions of a step.

    Raises:
        ValueError: No question, one without an answer or with choices, markers that the tokenizer does not have, a
            network without a group that is trained, a run in `out` with other settings, questions or another network,
            a step in which no question could be asked, or one whose loss is no number.
        TypeError: A model without a processor.
    """
    settings = preset if isinstance(preset, Stage) else STAGES[preset, stage]
    size = batch_size or settings.batch_size
    written_as = _times(model, questions, times)
    n_steps = -(-len(questions) * settings.epochs // size) if steps is None else steps
    if n_steps < 1 or save_every < 1:
        raise ValueError(f"steps= and save_every= are at least 1, got {steps} and {save_every}")
    devices = {parameter.device for parameter in model.network.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(list(devices)):  # the caller's random numbers go on as they were
        torch.manual_seed(seed)
        lora_is_new = "lora" in settings.rates and put_lora_in(model, settings)
        groups = groups_of(model, settings)
        recorded = {
            "stage": stage,
            "preset": preset if isinstance(preset, str) else "own",
            **settings.as_dict(),
            "batch_size": size,
            "steps": n_steps,
            "times": written_as,
            "seed": seed,
            "questions": len(questions),
            "digest": _named([digest(question, sound=False) for question in questions]),  # without the bytes of files
            "lora_put_in": lora_is_new,
        }
        folder = folder_of_run(Path(out), "a run of training", log=STATE)
        trainer = Trainer(model, questions, settings, groups, written_as, size, n_steps, seed, PartialState())
        recorded["network"] = _named(weight_digests(model.network, without=trainer.named))
        with trainer.as_in_training():
            trainer.take_up(folder, recorded)
            while trainer.step < n_steps:
                trainer.do_step()
                if trainer.step % save_every == 0 or trainer.step == n_steps:
                    trainer.save(folder, recorded)
            provenance, problems = Provenance.collect(model, seed, recorded), trainer.all_problems()
            if trainer.processes.is_main_process:
                _write_results(folder, trainer, recorded, provenance, problems)
        trainer.processes.wait_for_everyone()
    again = AudioLM(model.network, model.processor)
    return TrainingRun(
        again, tuple(trainer.losses), tuple(Problem(*each) for each in problems), sizes(groups), folder, provenance
    )


def _named(digests: Sequence[str] | Mapping[str, str]) -> str:
    return blake2b(json.dumps(digests).encode(), digest_size=8).hexdigest()


def _times(model: AudioLM, questions: Sequence[AudioQuestion], times: str | None) -> str:
    """Check what is trained on, and say how times are written."""
    if not len(questions):
        raise ValueError(NO_QUESTIONS)
    if model.processor is None:
        raise TypeError("this model was opened without a processor, so questions cannot be written out")
    for question in questions:
        if question.answer is None or question.choices:
            raise ValueError(
                f"question {question.id!r} is no open question with an answer: training learns answers in words, such "
                "as those of ma.data.ftar.build"
            )
    there = bool(marker_ids(model.processor))
    if times == "markers" and not there:
        raise ValueError(
            "this model's tokenizer has no markers: ma.timeaudio.add_markers(network, tokenizer) puts them in, and "
            "times='digits' does without"
        )
    return times or ("markers" if there else "digits")


def _write_results(
    folder: Path, trainer: Trainer, told: dict[str, object], provenance: Provenance, problems: list[list[str]]
) -> None:
    tensors = {name: parameter.detach().contiguous().cpu() for name, parameter in trainer.named.items()}
    save_file(tensors, folder / f"{_TRAINED}.part", {"format": "pt"})
    record = {
        "settings": told,
        "trained": sizes(trainer.groups),
        "losses": trainer.losses,
        "problems": problems,
        "checkpoint": provenance.checkpoint,
        "revision": provenance.revision,
        "versions": dict(provenance.versions),
        "created": provenance.created,
    }
    (folder / f"{_RECORD}.part").write_text(json.dumps(record, indent=1), encoding="utf-8")
    for name in (_RECORD, _TRAINED):  # with the second the run is finished
        os.replace(folder / f"{name}.part", folder / name)


@checks_arguments
def load_trained(model: AudioLM, folder: str | os.PathLike) -> AudioLM:
    """Put what a run of training made into a model, and open it again.

    Args:
        model: The checkpoint that was trained, as it was before, with markers and a table of times if it had them; it
            is changed in place.
        folder: Folder of the run.

    Raises:
        FileNotFoundError: There is no finished run in the folder.
        ValueError: The run was made with a network of other parts or shapes.

    Warns:
        UserWarning: The weights beside the trained ones are others.
    """
    directory = Path(folder)
    if not (directory / _TRAINED).is_file():
        raise FileNotFoundError(
            f"there is no {_TRAINED} in {os.fspath(folder)!r}: train(out=FOLDER) writes it at its end"
        )
    recorded = json.loads((directory / _RECORD).read_text(encoding="utf-8"))["settings"]
    tensors = load_file(directory / _TRAINED)
    if any(".lora_A." in name for name in tensors):
        names = ("lora_rank", "lora_alpha", "lora_dropout")
        put_lora_in(model, Stage({"lora": 1.0}, 1, 1, **{name: recorded[name] for name in names}))
    of_times = [value for name, value in tensors.items() if name.endswith(TIMES)]
    if of_times and not any(name.endswith(TIMES) for name, _ in model.network.named_parameters()):
        raise ValueError("this run trained a table of times: give the model that ma.timeaudio.add_times gives")
    there = dict(model.network.named_parameters())
    wrong = [name for name, value in tensors.items() if name not in there or there[name].shape != value.shape]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of the {len(tensors)} trained tensors are not those of this network, such as {wrong[0]!r}: "
            "give the checkpoint that was trained, with markers if it had them"
        )
    if recorded.get("network", known := _named(weight_digests(model.network, without=tensors))) != known:
        warn(
            "the weights beside the trained ones are not, bit for bit, those that the run was trained with: give the "
            "checkpoint that was trained, in its type, or look at the answers before you rely on them"
        )
    with torch.no_grad():
        for name, value in tensors.items():
            there[name].copy_(value)
    return AudioLM(model.network, model.processor)

"""TimeAudio's training in two stages, on any opened model.

A question is heard as `ma.prompt` writes it, its answer stands behind it as training of the model would have written
it, and the loss is that of the answer alone, per token of all answers of a step. Questions pass the network one at a
time and their gradients are added up: nothing is padded, so nothing hears padding, and a step is the same on any number
of processes.

What a step draws depends on the seed and the step alone: a run that is taken up again goes on as one that was never
interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mechaudio.arguments import checks_arguments
from mechaudio.data.corpus import Problem, Problems
from mechaudio.experiments.training_groups import groups_of, marker_ids, only_rows, put_lora_in, sizes
from mechaudio.models.network import Network
from mechaudio.models.prompt import prompt
from mechaudio.models.salmonn.lora import LoraLinear
from mechaudio.provenance import Provenance
from mechaudio.question import AudioQuestion
from mechaudio.timeaudio.markers import Markers
from mechaudio.timeaudio.stages import STAGES, Preset, Stage
from mechaudio.tracing.audio_lm import AudioLM

IGNORED = -100
_STATE, _TRAINED, _RECORD = "state.pt", "trained.safetensors", "training.json"


@dataclass(frozen=True)
class TrainingRun:
    """A stage of training that was done.

    Attributes:
        model: The trained network, opened again.
        losses: Of each step.
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
    out: str | os.PathLike,
    stage: Literal[1, 2] = 1,
    preset: Preset | Stage = "paper",
    steps: int | None = None,
    batch_size: int | None = None,
    times: Literal["markers", "digits"] | None = None,
    seed: int = 0,
    save_every: int = 200,
) -> TrainingRun:
    """Train a model to say when, by one stage of TimeAudio's method.

    Trained are, as the stage says, adapters of low rank beside the decoder's query and value projections (put in where
    there are none), what lies between towers and decoder, the table of times, and rows of words. All else stays, bit
    for bit. The network is changed in place; use `run.model` afterwards.

    Under `accelerate launch` the questions of a step are shared out among the processes.

    Args:
        model: An opened model with a processor, in single precision or lower.
        questions: Open questions with answers, such as `ma.data.ftar.build(clips)`; times in digits.
        out: Folder of the run. One that is there is taken up again, if its settings are the same.
        stage: 1, alignment of time tokens, or 2, instruction tuning on long audio.
        preset: `paper`, `released`, or a `ma.timeaudio.Stage` of one's own.
        steps: In place of the stage's epochs.
        batch_size: In place of the stage's, questions of a step.
        times: How answers write times: `markers`, which the tokenizer needs to have (`ma.timeaudio.add_markers`), or
            `digits`; by default markers where it has them.
        seed: Of the order of questions, of new adapters and of dropout.
        save_every: Steps between saved states.

    Raises:
        ValueError: No question, one without an answer or with choices, markers that the tokenizer does not have, a
            network without a group that is trained, a run in `out` with other settings, or no question that could be
            asked in a step.
        TypeError: A model without a processor.
    """
    settings = preset if isinstance(preset, Stage) else STAGES[preset, stage]
    size = batch_size or settings.batch_size
    written_as = _times(model, questions, times)
    n_steps = steps or -(-len(questions) * settings.epochs // size)
    if n_steps < 1 or save_every < 1:
        raise ValueError(f"steps= and save_every= are at least 1, got {steps} and {save_every}")
    torch.manual_seed(seed)
    lora_is_new = "lora" in settings.rates and put_lora_in(model, settings)
    groups = groups_of(model, settings)
    told = {
        "stage": stage,
        "preset": preset if isinstance(preset, str) else "own",
        **settings.as_dict(),
        "batch_size": size,
        "steps": n_steps,
        "times": written_as,
        "seed": seed,
        "questions": len(questions),
        "lora_put_in": lora_is_new,
    }
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _Trainer(model, questions, settings, groups, written_as, size, n_steps, seed, PartialState())
    with trainer.as_in_training():
        trainer.take_up(folder, told)
        while trainer.step < n_steps:
            trainer.do_step()
            if trainer.step % save_every == 0 or trainer.step == n_steps:
                trainer.save(folder, told)
        provenance, problems = Provenance.collect(model, seed, told), trainer.all_problems()
        if trainer.processes.is_main_process:
            _write_results(folder, trainer, told, provenance, problems)
    trainer.processes.wait_for_everyone()
    again = AudioLM(model.network, model.processor)
    return TrainingRun(
        again, tuple(trainer.losses), tuple(Problem(*each) for each in problems), sizes(groups), folder, provenance
    )


def _times(model: AudioLM, questions: Sequence[AudioQuestion], times: str | None) -> str:
    """Check what is trained on, and say how times are written."""
    if not len(questions):
        raise ValueError("there is no question to train on")
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


def network_dtype(network: Network) -> torch.dtype:
    """Give the precision that most of a network is kept in."""
    counts: dict[torch.dtype, int] = {}
    for parameter in network.parameters():
        counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    return max(counts, key=lambda dtype: counts[dtype])


class _Trainer:
    """A run of training: network, optimizer, and how far it is."""

    def __init__(
        self,
        model: AudioLM,
        questions: Sequence[AudioQuestion],
        stage: Stage,
        groups: dict[str, dict[str, nn.Parameter]],
        times: str,
        size: int,
        n_steps: int,
        seed: int,
        processes: PartialState,
    ) -> None:
        self.model, self.questions, self.stage, self.groups = model, questions, stage, groups
        self.size, self.n_steps, self.seed, self.processes = size, n_steps, seed, processes
        self.dtype = network_dtype(model.network)
        self.markers = Markers() if times == "markers" else None
        self.step, self.losses, self.problems = 0, [], Problems()
        self._listed: set[str] = set()
        self.named = {name: parameter for each in groups.values() for name, parameter in each.items()}
        self.kept_as = {name: parameter.dtype for name, parameter in self.named.items()}
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": list(each.values()),
                    "name": group,
                    "weight_decay": stage.weight_decay if group == "lora" else 0.0,
                }
                for group, each in groups.items()
            ],
            lr=1.0,  # every step sets it
            betas=stage.betas,
        )

    @contextlib.contextmanager
    def as_in_training(self) -> Iterator[None]:
        """Let gradients reach what is trained alone, and dropout act in adapters alone; all as it was afterwards."""
        network: Network = self.model.network
        before = {parameter: parameter.requires_grad for parameter in network.parameters()}
        network.requires_grad_(False)
        for parameter in self.named.values():
            parameter.data = parameter.data.float()  # steps are too small for half precision
            parameter.requires_grad_(True)
        adapters = [module for module in network.modules() if isinstance(module, LoraLinear)]
        for module in adapters:
            module.training = True
        masked = self.groups.get("markers", {}) if self.stage.rows == "new" else {}
        hooks = [only_rows(table, marker_ids(self.model.processor)) for table in masked.values()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for module in adapters:
                module.training = False
            for name, parameter in self.named.items():
                parameter.data = parameter.data.to(self.kept_as[name])
            for parameter in network.parameters():
                parameter.requires_grad_(before[parameter])
                parameter.grad = None

    def do_step(self) -> None:
        """Do one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.rate(group["name"], self.step, self.n_steps)
        rank, world = self.processes.process_index, self.processes.num_processes
        torch.manual_seed(1_000_003 * (self.seed + 1) + self.step * world + rank)
        asked = [each for each in map(self._written, self._picked()[rank::world]) if each is not None]
        total = self._over_processes(torch.tensor(float(sum(len(answer) for _, answer in asked))))
        if not total:
            raise ValueError(
                f"not one of the {self.size} questions of step {self.step} can be asked; the last problem: "
                f"{self.problems.found[-1] if self.problems.found else 'on another process'}"
            )
        loss = torch.zeros(())
        for inputs, answer in asked:
            part = self._loss(inputs, answer) / float(total)
            part.backward()
            loss += part.detach().float().cpu()
        if world > 1:
            for parameter in self.named.values():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                torch.distributed.all_reduce(parameter.grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(float(self._over_processes(loss)))
        self.step += 1

    def _over_processes(self, value: Tensor) -> Tensor:
        if self.processes.num_processes > 1:
            value = value.to(self.processes.device)
            torch.distributed.all_reduce(value)
        return value

    def _picked(self) -> list[AudioQuestion]:
        """Questions of this step: each comes once an epoch, in an order of its own."""
        n, picked = len(self.questions), []
        for place in range(self.step * self.size, (self.step + 1) * self.size):
            order = np.random.default_rng([self.seed, place // n]).permutation(n)
            picked.append(self.questions[int(order[place % n])])
        return picked

    def _written(self, question: AudioQuestion) -> tuple[dict[str, Any], Tensor] | None:
        """Write a question and its answer out; None where that cannot be done, which is listed."""
        try:
            clip = question.clip() if question.audio is not None else None
            if clip is not None and clip.duration > self.stage.max_seconds:
                raise ValueError(f"a clip of {clip.duration:.1f} s; this stage hears {self.stage.max_seconds:g} s")
            batch = prompt(self.model, [question])
            text = str(question.answer)
            text = text if self.markers is None else self.markers.encode(text)
            ids = batch.aimed(target=text, whole=True).aims[0].target_ids  # type: ignore[union-attr]
        except (OSError, ValueError) as error:
            if question.id not in self._listed:
                self._listed.add(question.id)
                self.problems.add("left out of training", question.id, str(error), error)
            return None
        processor: Any = self.model.processor
        end = processor.tokenizer.eos_token_id
        answer = torch.tensor([[*ids, end]], device=batch.inputs["input_ids"].device)
        inputs = dict(batch.inputs)
        for name, more in (("input_ids", answer), ("attention_mask", torch.ones_like(answer))):
            inputs[name] = torch.cat([inputs[name], more.to(inputs[name].dtype)], dim=1)
        return inputs, answer[0]

    def _loss(self, inputs: dict[str, Any], answer: Tensor) -> Tensor:
        """Sum of the losses of an answer's tokens."""
        network: Network = self.model.network
        device = inputs["input_ids"].device.type
        halved = self.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(device, self.dtype) if halved else contextlib.nullcontext():
            logits = network(**inputs).logits
        said = logits[0, -len(answer) - 1 : -1].float()
        return functional.cross_entropy(said, answer.to(said.device), reduction="sum")

    def all_problems(self) -> list[list[str]]:
        """Gather the problems of all processes: kind, item and message of each."""
        return gather_object([[each.kind, each.item, each.message] for each in self.problems.found])

    def save(self, folder: Path, told: dict[str, Any]) -> None:
        """Keep what a run needs to go on from here."""
        problems = self.all_problems()
        if self.processes.is_main_process:
            state = {
                "settings": json.dumps(told, sort_keys=True),
                "step": self.step,
                "losses": self.losses,
                "problems": problems,
                "tensors": {name: parameter.detach().cpu() for name, parameter in self.named.items()},
                "optimizer": self.optimizer.state_dict(),
            }
            torch.save(state, folder / f"{_STATE}.part")
            os.replace(folder / f"{_STATE}.part", folder / _STATE)
        self.processes.wait_for_everyone()

    def take_up(self, folder: Path, told: dict[str, Any]) -> None:
        """Go on from a saved state, if there is one."""
        file = folder / _STATE
        if not file.is_file():
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        before, now = json.loads(state["settings"]), json.loads(json.dumps(told, sort_keys=True))
        now["lora_put_in"] = before["lora_put_in"]
        other = [f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in now if before.get(name) != now[name]]
        if other:
            raise ValueError(f"the run in {str(folder)!r} has {'; '.join(other)}: give another folder")
        with torch.no_grad():
            for name, value in state["tensors"].items():
                self.named[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], list(state["losses"])
        for problem in state["problems"]:
            self._listed.add(problem[1])
            if self.processes.is_main_process:  # which keeps those of all
                self.problems.add(*problem)


def _write_results(
    folder: Path, trainer: _Trainer, told: dict[str, Any], provenance: Provenance, problems: list[list[str]]
) -> None:
    tensors = {name: parameter.detach().contiguous().cpu() for name, parameter in trainer.named.items()}
    save_file(tensors, folder / _TRAINED, {"format": "pt"})
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
    (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


@checks_arguments
def load_trained(model: AudioLM, folder: str | os.PathLike) -> AudioLM:
    """Put what a run of training made into a model, and open it again.

    Args:
        model: The checkpoint that was trained, as it was before; it is changed in place.
        folder: Of the run.

    Raises:
        FileNotFoundError: There is no finished run in the folder.
        ValueError: The run was made with another network.
    """
    place = Path(folder).expanduser()
    if not (place / _TRAINED).is_file():
        raise FileNotFoundError(
            f"there is no {_TRAINED} in {os.fspath(folder)!r}: train(out=FOLDER) writes it at its end"
        )
    told = json.loads((place / _RECORD).read_text(encoding="utf-8"))["settings"]
    tensors = load_file(place / _TRAINED)
    if any(".lora_A." in name for name in tensors):
        names = ("lora_rank", "lora_alpha", "lora_dropout")
        put_lora_in(model, Stage({"lora": 1.0}, 1, 1, **{name: told[name] for name in names}))
    there = dict(model.network.named_parameters())
    wrong = [name for name, value in tensors.items() if name not in there or there[name].shape != value.shape]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of the {len(tensors)} trained tensors are not those of this network, such as {wrong[0]!r}: "
            "give the checkpoint that was trained, with markers if it had them"
        )
    with torch.no_grad():
        for name, value in tensors.items():
            there[name].copy_(value)
    return AudioLM(model.network, model.processor)

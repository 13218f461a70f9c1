"""A run of training, step by step: gradients of answers, shared out among processes, and states that are kept.

Conventions: as in `mechaudio.experiments.timeaudio_training`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional

from mechaudio.data.corpus import Problem, Problems
from mechaudio.experiments.training_groups import marker_ids, only_rows
from mechaudio.models.network import Network
from mechaudio.models.prompt import prompt
from mechaudio.models.salmonn.lora import LoraLinear
from mechaudio.question import AudioQuestion
from mechaudio.timeaudio.markers import Markers
from mechaudio.timeaudio.stages import Stage
from mechaudio.tracing.audio_lm import AudioLM

STATE = "state.pt"


def network_dtype(network: Network) -> torch.dtype:
    """Give the precision that most of a network is kept in."""
    counts = Counter[torch.dtype]()
    for parameter in network.parameters():
        counts[parameter.dtype] += parameter.numel()
    return counts.most_common(1)[0][0]


class Trainer:
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
        self._listed: set[Problem] = set()
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
        """Do one step.

        Raises:
            ValueError: None of its questions can be asked, or its loss is no number.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.rate(group["name"], self.step, self.n_steps)
        rank, world = self.processes.process_index, self.processes.num_processes
        torch.manual_seed(1_000_003 * (self.seed + 1) + self.step * world + rank)
        examples = [each for each in map(self._written, self._picked()[rank::world]) if each is not None]
        total = self._over_processes(torch.tensor(float(sum(len(answer) for _, answer in examples))))
        if not total:
            raise ValueError(
                f"not one of the {self.size} questions of step {self.step} can be asked; the last problem: "
                f"{self.problems.found[-1] if self.problems.found else 'on another process'}"
            )
        loss = torch.zeros(())
        for inputs, answer in examples:
            part = self._loss(inputs, answer) / float(total)
            part.backward()
            loss += part.detach().float().cpu()
        loss = self._over_processes(loss)
        if not loss.isfinite():
            raise ValueError(
                f"the loss of step {self.step} is {float(loss)}, and a step along it would make every trained number "
                f"NaN: take a smaller rate, or look at the questions {[each.id for each in self._picked()][:3]} first. "
                "Nothing was changed by this step"
            )
        if world > 1:
            for parameter in self.named.values():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                torch.distributed.all_reduce(parameter.grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(float(loss))
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
            if self.markers is not None:
                self.markers.refuse_in(question.text)
            batch = prompt(self.model, [question])
            text = str(question.answer)
            text = text if self.markers is None else self.markers.encode(text)
            ids = batch.aimed(target=text, whole=True).aims[0].target_ids  # type: ignore[union-attr]
        except (OSError, ValueError) as error:
            self.problems.add("left out of training", question.id, str(error), error)
            if self.problems.found[-1] in self._listed:  # an earlier epoch told it
                self.problems.found.pop()
            self._listed.update(self.problems.found[-1:])
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
            torch.save(state, folder / f"{STATE}.part")
            os.replace(folder / f"{STATE}.part", folder / STATE)
        self.processes.wait_for_everyone()

    def take_up(self, folder: Path, told: dict[str, Any]) -> None:
        """Go on from a saved state, if there is one."""
        file = folder / STATE
        if not file.is_file():
            return
        with file.open("rb") as opened:
            try:
                state = torch.load(opened, map_location="cpu", weights_only=True)
                before = json.loads(state["settings"])
            except (OSError, RuntimeError, EOFError, UnpicklingError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{str(file)!r} is no whole state of a run of training ({type(error).__name__}): it was cut off or "
                    "damaged. Put it back, or give another folder"
                ) from error
        now = json.loads(json.dumps(told, sort_keys=True))
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
            self._listed.add(Problem(*problem))
            if self.processes.is_main_process:  # which keeps those of all
                self.problems.add(*problem)

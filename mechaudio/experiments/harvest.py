"""Hook points of any number of questions, written to disk as they come, to train probes, lenses and autoencoders on.

A batch is a shard. Batches depend on the questions alone, not on how many were run before, so that a harvest that was
stopped and taken up has the shards of one that was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mechaudio.analyses.ahead import workers_for
from mechaudio.analyses.audio_attention import ROLES
from mechaudio.analyses.streaming import asked_anew, positions_that_fit
from mechaudio.arguments import checks_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.data.clip_names import contents
from mechaudio.experiments.asking import Asking
from mechaudio.experiments.batches import Placed
from mechaudio.experiments.harvest_index import at_positions, chosen_positions, index_of, real_positions
from mechaudio.experiments.harvest_log import Harvested, HarvestLog
from mechaudio.experiments.harvested import Harvest, stored_name
from mechaudio.experiments.run_log import Row, digest, run_header
from mechaudio.experiments.stream import go_through
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import PromptFormat, condition_of, layout_of
from mechaudio.provenance import Provenance
from mechaudio.question import AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import ROW_POINTS, HookPoint
from mechaudio.tracing.record import Intervention, hook_points, sites_of
from mechaudio.tracing.run import run

__all__ = ["Harvest", "harvest"]


@checks_arguments
def harvest(
    model: AudioLM,
    questions: PromptBatch | Iterable[AudioQuestion],
    *,
    record: Sequence[str | HookPoint],
    positions: str | int | Sequence[int] | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    condition: str = "audio",
    interventions: Sequence[Intervention] = (),
    layout: PromptFormat | None = None,
    allow_cut: bool = False,
    strict: bool = False,
    out: str | Path,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> Harvest:
    """Write hook points of any number of questions to disk as they come.

    ```python
    kept = ma.harvest(model, questions, record=["resid_post"], positions="audio", out="runs/resid")
    kept["resid_post", 3]                         # [entry, d_model]
    kept.positions(role="audio")                  # a table: question, position, token, role, seconds
    ```

    Each batch is a file in the safetensors format, on the disk before the next batch runs, so that memory does not grow
    with the number of questions. It holds each hook point and layer as `[entry, ...]`, an entry being one position of
    one question; padding is never stored. The values are those of `ma.run` on the same batch, to the bit.

    Args:
        model: An `AudioLM`.
        questions: Any number, in any iterable; they are drawn, and their clips read, when their turn comes.
        record: Hook points of the decoder, in all or some layers. `mass` has the query rows as its positions.
        positions: What to keep of each prompt: spans, such as `"last"` or `"audio+question"`, or places counted from
            the end, such as `[-2, -1]`; by default every position. Prompts may have unequally many, or none.
        dtype: Type to write numbers in; by default as the model computes them.
        condition: What the model is given: `audio`, `caption`, `audio+caption`, `silence`.
        interventions: What to change while it runs; kept is what comes after all of them.
        layout: How questions are written out, by default as the prompts are, or as in `PromptFormat()`.
        allow_cut: Take the beginning of recordings that are longer than the model hears.
        strict: Raise at the first question that cannot be run; by default it is kept among the `failures`.
        out: A folder to write to. If it holds a harvest of the same settings, model and questions, that one is taken
            up: what is there is not run again, but for questions that could not be run, which are tried once more at
            the end. More questions may follow those of before. Processes that were launched together
            (`accelerate launch`, `torchrun`) share the questions through it.
        batch_size: Most questions at once; by default as many as fit.
        workers: Processes that read clips and make prompts ahead of the model, which change no number; there are never
            more than batches or cores.
        progress: Draw a progress bar with the time left on stderr;
            by default where a person is watching, after two seconds.

    Returns:
        The harvest, read from the folder when it is asked for something.

    Raises:
        ValueError: Nothing to record, or something without one vector per position (`pattern`, `scores`, the tower);
            places counted from the front, which padding moves; no questions, or none that can be run; no position of
            any question; an `out` that holds another harvest, which the message compares, or a damaged one; forward
            hooks of others on the network; with `strict`, a question that cannot be run.
        KeyError: An unknown hook point or span.
        IndexError: A layer that the model does not have, or a position in front of a prompt.
        TypeError: Something else than questions, hook points or interventions.
    """
    condition = condition_of(questions, condition)
    layout = layout_of(questions, layout)
    questions = asked_anew(questions, condition, layout)
    if isinstance(interventions, Intervention):
        raise TypeError(f"interventions= takes a list, got {interventions!r}; write [...] around it")
    points = _points(record)
    kept = [stored_name(site.name, site.layer) for _, site in sites_of(model, points)]
    workers = workers_for(model, workers)
    asking = Asking(condition, layout=layout, allow_cut=allow_cut)
    options = asdict(asking)
    settings = {name: options[name] for name in ("condition", "layout", "allow_cut")} | {
        "hook_points": kept,
        "keys": [list(point.keys) for point in points if point.point == "mass"],
        "positions": _from_the_end(positions),
        "dtype": dtype,
        "roles": list(ROLES),
        "n_layers": model.site_map.depth["decoder"],
    }
    provenance = Provenance.collect(model, settings=settings)
    plan = {"batch_positions": 0 if batch_size else positions_that_fit(model), "batch_size": batch_size or 0}
    run = partial(run_header, model, provenance, (tuple(interventions),))
    header = {"run": run, "created": provenance.created, **plan}
    with HarvestLog(out, header) as log:
        log.refuse_other_batches(None, batch_size)
        harvester = _Harvester(model, asking, points, settings["positions"], dtype, tuple(interventions), log, strict)
        harvester.run_all(questions, workers, progress)
    return Harvest.load(out)


@dataclass(frozen=True, eq=False)
class _Part:
    """Entries of questions that ran together."""

    questions: Sequence[Harvested]
    tensors: Mapping[str, Tensor]
    texts: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Harvester:
    """A harvest on its way."""

    model: AudioLM
    asking: Asking
    points: Sequence[HookPoint]
    positions: str | list[int] | None
    dtype: str | None
    interventions: Sequence[Intervention]
    log: HarvestLog
    strict: bool

    def run_all(self, questions: Iterable[AudioQuestion], workers: int, progress: bool | None) -> None:
        """Run what the log does not have yet, and what failed before."""
        noted = go_through(
            self.model,
            self.asking,
            questions,
            self.log,
            self._run,
            self._keep,
            strict=self.strict,
            workers=workers,
            note=_digest_files,
            what="harvest",
            progress=progress,
        )
        if not self.log.n_entries:
            raise ValueError(f"positions={self.positions!r} names no position of any question, out of {len(noted)}")

    def _keep(self, parts: Sequence[_Part], failed: Sequence[Row]) -> None:
        """Write a batch, with the questions that could not be part of it."""
        lost = [Harvested(row.index, row.id, row.question, error=row.error) for row in failed]
        # One that fails as before is known.
        questions = [each for each in lost if each != self.log.known.get(each.index)]
        questions += [question for part in parts for question in part.questions]
        texts = {token: text for part in parts for token, text in part.texts.items()}
        whole = [part.tensors for part in parts if part.tensors]
        if len(whole) > 1:
            whole = [{name: torch.cat([part[name] for part in whole]) for name in whole[0]}]
        self.log.add(questions, whole[0] if whole else {}, texts)

    def _run(self, placed: Sequence[Placed], batch: PromptBatch) -> _Part:
        """Run questions together."""
        questions = [
            Harvested(each.index, each.question.id, digest(each.question), length)
            for each, length in zip(placed, real_positions(batch).sum(1).tolist(), strict=True)
        ]
        tensors, texts = self._entries(batch, [each.index for each in placed])
        return _Part(questions, tensors, texts)

    def _entries(self, batch: PromptBatch, numbers: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The hook points of a batch at the positions that are kept, and what those are; and the texts of tokens."""
        chosen = chosen_positions(batch, self.positions)
        index, texts = index_of(batch, chosen, numbers)
        points = self.points if self.positions is None else at_positions(self.points, chosen, batch)
        kept = run(self.model, batch, record=points, interventions=self.interventions, logits=None).cache
        whole = torch.zeros(batch.n_rows, batch.n_positions, dtype=torch.bool)
        for row, positions in enumerate(chosen):
            whole[row, list(positions)] = True
        lengths = torch.tensor([*map(len, chosen)])
        first = torch.arange(max(1, *map(len, chosen)))[None] < lengths[:, None]
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        for (name, layer), value in kept.items():
            by_position = value.transpose(1, 2) if name == "mass" else value
            mask = whole if self.positions is None or name == "mass" else first
            index[stored_name(name, layer)] = by_position[mask.to(value.device)].to(dtype or value.dtype)
        return index, texts


def _digest_files(question: AudioQuestion) -> None:
    """Digest the files of a question, which are remembered; what is in memory or stored is read once, for its batch."""
    for recording in question.recordings:
        if not isinstance(recording, (AudioClip, StoredClip)):
            contents(recording)


def _points(record: Sequence[str | HookPoint]) -> list[HookPoint]:
    """Make the hook points that are recorded: one vector, or one per head, at each position of the decoder.

    Raises:
        ValueError: Nothing, or something else.
    """
    points = hook_points(record)
    if not points:
        raise ValueError("record= is empty: name hook points to harvest, such as ['resid_post']")
    for point in points:
        if point.point in ROW_POINTS:
            raise ValueError(
                f"{point.name!r} has as many keys as a prompt has positions, which differ between questions: harvest "
                "'mass', the share of attention on spans, such as ma.HookPoint('mass', keys=['audio', 'question'])"
            )
        if point.part == "encoder":
            raise ValueError(
                f"{point.name!r} has frames of the sound, and a harvest has positions of the prompt: audio vectors as "
                "they enter the decoder are 'embed' with positions='audio'"
            )
        if point.positions is not None:
            raise ValueError(
                f"all hook points of a harvest have the same positions: give harvest(positions=) for {point!r}"
            )
    return points


def _from_the_end(positions: str | int | Sequence[int] | None) -> str | list[int] | None:
    """Positions in one spelling.

    Raises:
        ValueError: None at all, or some that are counted from the front.
    """
    if positions is None or isinstance(positions, str):
        return positions
    listed = [positions] if isinstance(positions, int) else [int(position) for position in positions]
    if not listed or max(listed) >= 0:
        raise ValueError(
            f"positions={positions!r}: name spans, such as 'last' or 'audio', or places counted from the end, such as "
            "[-2, -1]; padding in front of a prompt moves those counted from the front"
        )
    return listed

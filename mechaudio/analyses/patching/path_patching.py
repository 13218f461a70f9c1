"""Path patching: what one component does to the answer through what another one reads of it, and by no other way.

Wang et al. 2022, *Interpretability in the Wild* (arXiv 2211.00593); Goldowsky-Dill et al. 2023, *Localizing Model
Behavior with Path Patching* (arXiv 2304.05969). In the run of one prompt, the base,

1. the sender is given the value that it has in the run of the other prompt, the source;
2. all attention and MLPs between sender and receiver are kept at what they give in the base run, so that the change
   gets to the receiver by the residual stream alone;
3. what the receiver makes of that (its queries, keys or values, its MLP's output, or the logits) is computed as the
   network computes it and kept;
4. the base run is repeated with this one change in the receiver, and all that follows the receiver is computed anew.

Nothing is linearised. The norm in front of the receiver is computed anew from the changed stream, and so are the
receiver's own norm behind it and multiplier, in classes that have them. `attn_out` and `mlp_out` are kept as they are
added. What a class adds beside attention and MLP (Gemma's inputs per layer, its several streams) is computed anew too,
and counts as part of the residual stream's path.

Conventions: noising has the clean run for its base and denoising the corrupted one; positions are those of the sender,
and as nothing between moves information from position to position, the receiver's too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.analyses.patching.components import Component, Given
from mechaudio.analyses.patching.components import receiver as checked_receiver
from mechaudio.analyses.patching.effect_map import DIRECTIONS, Direction
from mechaudio.analyses.patching.joined import PatchedPairs, joined, measured_pairs, patched_pairs
from mechaudio.analyses.patching.pairs import Contrast, turned
from mechaudio.analyses.patching.paths import Paths, check_span, senders_before
from mechaudio.analyses.patching.scale import METRICS
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.selecting import check_choice
from mechaudio.interventions.sweep import sweep
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where
from mechaudio.models.targets import Targets, Words, forced_alike
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.teacher_forced import is_whole, whole_logits


@checks_arguments
def path_patching(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    corrupted: PromptBatch | Iterable[AudioQuestion] | str = "silence",
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    receiver: Given,
    sender: Given | list[Given] = "heads",
    at: Where | Sequence[str] | None = None,
    direction: Literal["noising", "denoising"] = "noising",
    metric: str = "logit_difference",
    mlps: Literal["frozen", "recomputed"] = "frozen",
    out: str | os.PathLike | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> PatchingMap:
    """Measure the effect that goes from a sender to a receiver over the residual stream, and on from there.

    ```python
    heads = ma.analyses.path_patching(model, questions, receiver=("mlp", 3))                    # [layer, head]
    seconds = ma.analyses.path_patching(
        model, questions, sender="embed", receiver=("v", 1, 2), at=[f"audio[{s}:{s + 1}]" for s in range(4)]
    )                                                                                           # [span]
    ```

    To the logits, all paths are one sweep. To any other receiver, each sender takes a forward pass up to the receiver,
    and what follows it is one sweep for all of them.

    Args:
        model: The opened model.
        clean: Questions with known answers, or prompts, as `contrast` takes them.
        corrupted: The other side of the pairs, or `silence`.
        target: Words that are measured behind the prompts in the place of the choices' letters, for all pairs or one
            text per pair (`PromptBatch.aimed`); of open questions, the clean one's answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced: paths are patched in the prompts extended token by token,
            at the words too where `at` is `None` or the receiver the logits.
        receiver: Who reads: `("q", layer, head)`, `("k", ...)`, `("v", ...)`, `("head", layer, head)` for all three,
            `("mlp", layer)`, or `"logits"`.
        sender: Who writes: `("head", layer, head)`, `("attention", layer)`, `("mlp", layer)` or `"embed"`, what enters
            the first layer; a list of these; or all that come before the receiver: `"heads"`, `"attention"`, `"mlp"`.
        at: Positions of the sender: spans (`"last"`, `"audio[1.0:2.0]"`) or numbers, `None` for all; a list of spans
            measures one after the other. The logits are read at the last position, so nothing else gets there directly.
        direction: `noising` puts the sender's corrupted value into the clean run; `denoising` the other way round.
        metric: As in `scale.METRICS`.
        mlps: `frozen` keeps the MLPs between sender and receiver; `recomputed` lets them answer to the change, as Wang
            et al. do: then a path is everything that goes through no other attention.
        out: A folder to write the answers of each batch to; the same call takes up a run that was stopped.
        batch_size: Pairs at a time.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The effect of every sender (axes `layer` and `head`, `layer`, or `sender`), at each of several spans (`span`):
        in a noising map 1 where nothing came over the path and 0 where all that tells the prompts apart did.

    Raises:
        ValueError: As `contrast` does; no such component; a sender that does not come before the receiver; positions
            from which nothing gets to the receiver; an `out` that holds another run, or a damaged one.
        IndexError: A layer or head that the network does not have.
        KeyError: A span that the prompts do not have.
        NoSuchHookPoint: A component that the class does not have, or a layer on the way that cannot be frozen.
    """
    check_choice("direction", direction, DIRECTIONS)
    check_choice("mlps", mlps, ("frozen", "recomputed"))
    check_choice("metric", metric, METRICS)
    to = checked_receiver(model, receiver)
    axes, senders = senders_before(model, sender, to)
    several = isinstance(at, (list, tuple)) and bool(at) and isinstance(at[0], str)
    spans = list(at) if several else [at]
    if several:
        axes = {**({} if axes == {"sender": (str(senders[0]),)} else axes), "span": tuple(spans)}
    known = [str(component) for component in senders if component is not None]
    settings = {"sender": tuple(known), "receiver": str(to), "at": tuple(map(str, spans)), "mlps": mlps}
    targets = Targets(target, foil, whole=whole)
    measure = partial(_patched, model, direction, senders, spans, to, mlps)
    running: dict[str, Any] = {"targets": targets, "out": out, "batch_size": batch_size, "progress": progress}
    more = {"direction": direction}
    parts = measured_pairs(model, clean, corrupted, measure, settings=settings | more, what="path patching", **running)
    return PatchingMap(
        **joined(parts, metric, axes),
        direction=direction,
        hook_point=f"{sender if isinstance(sender, str) else 'paths'} to {to}",
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
    )


def _patched(
    model: AudioLM,
    direction: Direction,
    senders: Sequence[Component | None],
    spans: Sequence[Where | None],
    receiver: Component,
    mlps: str,
    pair: Contrast,
    provenance: Provenance,
) -> PatchedPairs:
    """Patch every path of some pairs; a sender that there is not has NaN."""
    for span in spans:
        check_span(pair.clean, span, receiver)
    there = [index for index, sender in enumerate(senders) if sender is not None]
    known = [sender for sender in senders if sender is not None]
    source, base = pair.sides(direction)
    ways = dict[str, None]()

    def measure(prompts: PromptBatch) -> Tensor:
        """The logits of both runs, and those with every path patched, `[run, pair, choice]`."""
        paths = Paths.between(model, prompts, forced_alike(source, prompts), known, receiver, mlps)
        variants = [paths.interventions(sender, span) for sender, span in product(known, spans)]
        swept = sweep(model, replace(prompts, aims=()), variants, progress=False)
        ways.update(dict.fromkeys(swept.ways))
        ends = [torch.from_numpy(choice_logits(given.batch, given.logits[:, -1])) for given in paths.runs]
        return torch.stack([*ends, *swept.logits.double()])

    ours, theirs, *patched = (whole_logits(base, measure) if is_whole(base) else measure(base)).numpy()
    logits = np.full((len(senders), len(spans), *ours.shape), np.nan)
    logits[there] = np.reshape(patched, (len(known), len(spans), *ours.shape))
    ends = turned(direction, theirs, ours)
    return patched_pairs(pair, logits, *ends, provenance=provenance, ways=tuple(ways))

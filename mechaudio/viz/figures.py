"""The figure of each class of result, which `result.plot()` draws."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.paired_passes import PairedPasses
from mechaudio.analyses.patching.estimates import EstimatedPairs
from mechaudio.analyses.patching.joined import PatchedPairs
from mechaudio.analyses.prompt_attention import PromptAttention
from mechaudio.analyses.steering_sweep import SteeringSweep
from mechaudio.arguments import n_of, names_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.experiments.demo import Demo
from mechaudio.experiments.evaluation import Comparison, Evaluation
from mechaudio.experiments.listen import Listening
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.experiments.steering_result import SteeringStudy
from mechaudio.interventions.sweep_result import Generations, Sweep
from mechaudio.metrics.clips import questions_of
from mechaudio.tracing.run_result import Generation, Run
from mechaudio.viz.attribution import attribution_bars
from mechaudio.viz.by_layer import direction_lengths, tuned_lens_kl
from mechaudio.viz.by_task import accuracy_by_task
from mechaudio.viz.choices import choice_probabilities
from mechaudio.viz.flow_map import flow_map
from mechaudio.viz.grid import layer_head_grid
from mechaudio.viz.lens import lens_table
from mechaudio.viz.listening import listening_auc
from mechaudio.viz.listening_rows import listening_rows
from mechaudio.viz.mata import mata_attention, mata_layers
from mechaudio.viz.next_tokens import next_tokens, recorded_sizes
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.patching_map import patching_map
from mechaudio.viz.probes import probe_scores
from mechaudio.viz.roles import attention_between_roles
from mechaudio.viz.spans_over_time import spans_over_time
from mechaudio.viz.specialists import specialist_map
from mechaudio.viz.sweep_map import sweep_map
from mechaudio.viz.temporal import temporal_accuracies
from mechaudio.viz.texts import written_texts
from mechaudio.viz.theme import laid_out, plain
from mechaudio.viz.timeline import attention_over_time
from mechaudio.viz.variant_effects import variant_effects


@names_arguments
@singledispatch
def figure_of(result: object, **options: Any) -> go.Figure:  # noqa: ARG001 - those of a class that is not known
    """Draw a result with the figure that is made for its class; `result.plot(**options)` calls it.

    A class of one's own is added with `ma.viz.figure_of.register(MyResult, my_figure)`.

    Args:
        result: A result.
        **options: Passed on to the function of `ma.viz` that draws it.

    Raises:
        TypeError: No figure is made for this class.
    """
    raise TypeError(
        f"no figure is made for a {type(result).__name__}: draw what to_pandas() or to_xarray() give, or tell "
        f"ma.viz.figure_of.register({type(result).__name__}, function) how"
    )


for figure in (  # each draws results of the class of its first argument
    attention_between_roles,
    attention_over_time,
    attribution_bars,
    direction_lengths,
    flow_map,
    lens_table,
    listening_auc,
    listening_rows,
    mata_attention,
    mata_layers,
    patching_map,
    probe_scores,
    spans_over_time,
    specialist_map,
    temporal_accuracies,
    tuned_lens_kl,
):
    figure_of.register(figure)

for kind, figure in (
    (Demo, lambda demo, **more: accuracy_by_task({each.condition: each for each in (demo.heard, demo.deaf)}, **more)),
    (Evaluation, accuracy_by_task),
    (Generation, written_texts),
    (Generations, written_texts),
    (SpecialistsStudy, lambda study, **more: specialist_map(study.scores, **more)),
    (SteeringStudy, lambda study, **more: accuracy_over_strength(study.over_strength, **more)),
    (SteeringSweep, variant_effects),
):
    figure_of.register(kind, figure)


@figure_of.register(Sweep)
@figure_of.register(Comparison)
def _variants(result: Sweep | Comparison, **options: Any) -> go.Figure:
    """A map of two axes where answers are known, else one variant below the other."""
    answers = result.clean.answers if isinstance(result, Comparison) else [q.answer for q in result.batch.questions]
    mapped = len(result.axes) == 2 and bool(answers) and None not in answers
    return (sweep_map if mapped else variant_effects)(result, **options)


@figure_of.register
def _listening(listening: Listening, **options: Any) -> go.Figure:
    """How probable each choice is; of an open question, when in the recording the model looked."""
    if listening.choices:
        return choice_probabilities(listening, **options)
    clip = AudioClip(listening.waveform.astype(np.float32) / 32767, listening.sample_rate, listening.source)
    return attention_over_time(listening.attention, 0, clip, **options)


@figure_of.register
def _run(run: Run, **options: Any) -> go.Figure:
    """Draw the next tokens of a run, or how large what it kept is."""
    return (recorded_sizes if run.logits is None else next_tokens)(run, **options)


@figure_of.register
def _attention(measured: AttentionAndAnswers, **options: Any) -> go.Figure:
    note = f"mean of {questions_of(len(measured.ids), measured.clips)}, condition {measured.condition}"
    mean = measured.audio_attention.mean(axis=0, dtype=np.float64)
    return layer_head_grid(100 * mean, **{"title": "Audio attention of each head", "unit": "%", "note": note} | options)


@figure_of.register
def _prompt(attention: PromptAttention, **options: Any) -> go.Figure:
    """Audio attention of each head, from the last row that was kept."""
    audio = [position for position, role in enumerate(attention.roles) if role == "audio"]
    note = f"from {plain(attention.tokens[attention.queries[-1]])!r}, position {attention.queries[-1]}"
    looks: dict[str, Any] = {"title": "Audio attention of each head", "unit": "%", "note": note}
    return layer_head_grid(100 * attention.weights[-1][..., audio].sum(axis=-1, dtype=np.float64), **looks | options)


@figure_of.register
def _passes(passes: PairedPasses, **options: Any) -> go.Figure:
    heard, silent = (one.audio_attention.mean(axis=0, dtype=np.float64) for one in (passes.heard, passes.silent))
    looks = {
        "title": "Audio attention with the recording, less that with silence",
        "unit": "points",
        "note": f"mean of {questions_of(len(passes.heard.ids), passes.heard.clips)}",
        "signed": True,
    }
    return layer_head_grid(100 * (heard - silent), **looks | options)


@figure_of.register
def _pairs(pairs: PatchedPairs, **options: Any) -> go.Figure:
    """Draw what a patch has to bring back: logits of the right choice, clean run over corrupted one."""
    places = pairs.right.argmax(axis=1)[:, None]
    corrupted, clean = (np.take_along_axis(one, places, axis=1)[:, 0] for one in (pairs.corrupted, pairs.clean))
    return _clean_over_corrupted("Logit of the right choice", pairs.ids, clean, corrupted, **options)


@figure_of.register
def _estimated(pairs: EstimatedPairs, **options: Any) -> go.Figure:
    """Draw what a patch has to bring back: the metric in the clean run over that in the corrupted one."""
    metric = str(pairs.provenance.settings["metric"]).replace("_", " ").capitalize()
    return _clean_over_corrupted(metric, pairs.ids, pairs.clean, pairs.corrupted, **options)


def _clean_over_corrupted(
    what: str, ids: Sequence[str], clean: np.ndarray, corrupted: np.ndarray, **options: Any
) -> go.Figure:
    figure = go.Figure(go.Scatter(x=corrupted, y=clean, mode="markers", text=[plain(name) for name in ids]))
    return laid_out(
        figure,
        f"{what}, clean over corrupted",
        f"n = {n_of(len(ids), 'pair')}",
        xaxis={"title": {"text": "corrupted"}},
        yaxis={"title": {"text": "clean"}},
        **options,
    )

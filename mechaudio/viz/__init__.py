"""Figures: a kept result in, a plotly `Figure` out. No network is opened here."""

from mechaudio.rooms import as_room
from mechaudio.viz.agreement import agreement
from mechaudio.viz.attribution import attribution_bars
from mechaudio.viz.by_layer import direction_lengths, tuned_lens_kl
from mechaudio.viz.by_task import accuracy_by_task
from mechaudio.viz.choices import choice_probabilities
from mechaudio.viz.figures import figure_of
from mechaudio.viz.flow_map import flow_map
from mechaudio.viz.grid import layer_head_grid
from mechaudio.viz.induced_layers import induced_layers
from mechaudio.viz.lens import lens_table
from mechaudio.viz.listening import listening_auc
from mechaudio.viz.listening_curve import listening_curve
from mechaudio.viz.listening_rows import listening_rows
from mechaudio.viz.mass_against_accuracy import mass_against_accuracy
from mechaudio.viz.mata import mata_attention, mata_layers
from mechaudio.viz.next_tokens import next_tokens, recorded_sizes
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.patching_map import patching_map
from mechaudio.viz.patching_over_sound import patching_over_sound
from mechaudio.viz.patterns import pattern
from mechaudio.viz.probes import probe_scores
from mechaudio.viz.roles import attention_between_roles
from mechaudio.viz.shares import audio_share_by_layer
from mechaudio.viz.spans_over_time import spans_over_time
from mechaudio.viz.specialists import specialist_map
from mechaudio.viz.sweep_map import sweep_map
from mechaudio.viz.temporal import temporal_accuracies, temporal_attention, temporal_fixes, temporal_layers
from mechaudio.viz.texts import written_texts
from mechaudio.viz.timeline import attention_over_time
from mechaudio.viz.variant_effects import variant_effects

__all__ = [
    "accuracy_by_task",
    "accuracy_over_strength",
    "agreement",
    "attention_between_roles",
    "attention_over_time",
    "attribution_bars",
    "audio_share_by_layer",
    "choice_probabilities",
    "direction_lengths",
    "figure_of",
    "flow_map",
    "induced_layers",
    "layer_head_grid",
    "lens_table",
    "listening_auc",
    "listening_curve",
    "listening_rows",
    "mass_against_accuracy",
    "mata_attention",
    "mata_layers",
    "next_tokens",
    "patching_map",
    "patching_over_sound",
    "pattern",
    "probe_scores",
    "recorded_sizes",
    "spans_over_time",
    "specialist_map",
    "sweep_map",
    "temporal_accuracies",
    "temporal_attention",
    "temporal_fixes",
    "temporal_layers",
    "tuned_lens_kl",
    "variant_effects",
    "written_texts",
]

as_room(__name__)

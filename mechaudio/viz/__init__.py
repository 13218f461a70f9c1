"""Figures: a kept result in, a plotly `Figure` out. No network is opened here."""

from mechaudio.rooms import as_room
from mechaudio.viz.agreement import agreement as agreement
from mechaudio.viz.attribution import attribution_bars as attribution_bars
from mechaudio.viz.by_layer import direction_lengths as direction_lengths
from mechaudio.viz.by_layer import tuned_lens_kl as tuned_lens_kl
from mechaudio.viz.by_task import accuracy_by_task as accuracy_by_task
from mechaudio.viz.choices import choice_probabilities as choice_probabilities
from mechaudio.viz.figures import figure_of as figure_of
from mechaudio.viz.flow_map import flow_map as flow_map
from mechaudio.viz.grid import layer_head_grid as layer_head_grid
from mechaudio.viz.induced_layers import induced_layers as induced_layers
from mechaudio.viz.lens import lens_table as lens_table
from mechaudio.viz.listening import listening_auc as listening_auc
from mechaudio.viz.listening_curve import listening_curve as listening_curve
from mechaudio.viz.listening_rows import listening_rows as listening_rows
from mechaudio.viz.mass_against_accuracy import mass_against_accuracy as mass_against_accuracy
from mechaudio.viz.mata import mata_attention as mata_attention
from mechaudio.viz.mata import mata_layers as mata_layers
from mechaudio.viz.next_tokens import next_tokens as next_tokens
from mechaudio.viz.next_tokens import recorded_sizes as recorded_sizes
from mechaudio.viz.over_strength import accuracy_over_strength as accuracy_over_strength
from mechaudio.viz.patching_map import patching_map as patching_map
from mechaudio.viz.patching_over_sound import patching_over_sound as patching_over_sound
from mechaudio.viz.patterns import pattern as pattern
from mechaudio.viz.probes import probe_scores as probe_scores
from mechaudio.viz.roles import attention_between_roles as attention_between_roles
from mechaudio.viz.shares import audio_share_by_layer as audio_share_by_layer
from mechaudio.viz.spans_over_time import spans_over_time as spans_over_time
from mechaudio.viz.specialists import specialist_map as specialist_map
from mechaudio.viz.sweep_map import sweep_map as sweep_map
from mechaudio.viz.temporal import temporal_accuracies as temporal_accuracies
from mechaudio.viz.temporal import temporal_attention as temporal_attention
from mechaudio.viz.temporal import temporal_fixes as temporal_fixes
from mechaudio.viz.temporal import temporal_layers as temporal_layers
from mechaudio.viz.texts import written_texts as written_texts
from mechaudio.viz.timeline import attention_over_time as attention_over_time
from mechaudio.viz.variant_effects import variant_effects as variant_effects

as_room(__name__)

"""Interventions: frozen values that say what to change in a forward pass, and whole sweeps of them.

They compose, in lists, wherever `interventions=` is taken. There is one file per kind. `ma.grid`, `ma.mata`,
`ma.sweep` and `ma.generate_variants` are the functions of this room.
"""

from mechaudio.interventions.grid import Grid as Grid
from mechaudio.interventions.grid import grid as grid
from mechaudio.interventions.knock_out import KnockOutAttention as KnockOutAttention
from mechaudio.interventions.mata import mata as mata
from mechaudio.interventions.patch import Patch as Patch
from mechaudio.interventions.scale import ScaleAttention as ScaleAttention
from mechaudio.interventions.selecting import AttentionIntervention as AttentionIntervention
from mechaudio.interventions.steer import Steer as Steer
from mechaudio.interventions.steer_heads import SteerHeads as SteerHeads
from mechaudio.interventions.sweep import generate_variants as generate_variants
from mechaudio.interventions.sweep import sweep as sweep
from mechaudio.interventions.sweep_result import Generations as Generations
from mechaudio.interventions.sweep_result import Sweep as Sweep
from mechaudio.interventions.upweight import UpweightAttention as UpweightAttention
from mechaudio.rooms import as_room

as_room(__name__)

"""Interventions: frozen values that say what to change in a forward pass, and whole sweeps of them.

They compose, in lists, wherever `interventions=` is taken. There is one file per kind. `ma.grid`, `ma.mata`,
`ma.sweep` and `ma.generate_variants` are the functions of this room.
"""

from mechaudio.interventions.generate_variants import generate_variants
from mechaudio.interventions.grid import Grid, grid
from mechaudio.interventions.knock_out import KnockOutAttention
from mechaudio.interventions.mata import mata
from mechaudio.interventions.patch import Patch
from mechaudio.interventions.scale import ScaleAttention
from mechaudio.interventions.selecting import AttentionIntervention
from mechaudio.interventions.steer import Steer
from mechaudio.interventions.steer_heads import SteerHeads
from mechaudio.interventions.sweep import sweep
from mechaudio.interventions.sweep_result import Generations, Sweep
from mechaudio.interventions.upweight import UpweightAttention
from mechaudio.rooms import as_room

__all__ = [
    "AttentionIntervention",
    "Generations",
    "Grid",
    "KnockOutAttention",
    "Patch",
    "ScaleAttention",
    "Steer",
    "SteerHeads",
    "Sweep",
    "UpweightAttention",
    "generate_variants",
    "grid",
    "mata",
    "sweep",
]

as_room(__name__)

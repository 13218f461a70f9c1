"""Many variants of one forward pass for the price of one: planned on paper, then carried out.

A variant is a list of interventions. `ma.sweep` and `ma.generate_variants` are made of this room: `plan` says which
variants run together, `attend` is their changes and their attention, `shared_pass` their pass and what it leaves, and
`execute` carries them out.
"""

from mechaudio.rooms import as_room
from mechaudio.variants.shared_pass import CleanRun as CleanRun
from mechaudio.variants.shared_pass import KeptRuns as KeptRuns
from mechaudio.variants.shared_pass import clean_run as clean_run

as_room(__name__)

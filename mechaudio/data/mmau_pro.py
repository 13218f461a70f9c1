"""MMAU-Pro: 5,305 questions on long, spatial, multi-clip and multicultural recordings.

Kumar et al., "MMAU-Pro: A Challenging and Comprehensive Benchmark for Holistic Evaluation of Audio General
Intelligence", 2025; `gamma-lab-umd/MMAU-Pro` on the hub, one parquet file and a `data.zip` of the recordings, to be
unpacked. The number of choices varies. Questions that have none (open questions and instructions to follow) and those
about several recordings at once are left out and listed.
"""

from mechaudio.data.asked import one_text, texts_of
from mechaudio.data.layout import Layout

LISTS = ("perceptual_skills", "reasoning_skills")
LAYOUT = Layout(
    "MMAU-Pro",
    "CC-BY-NC-4.0",
    "gamma-lab-umd/MMAU-Pro",
    needed=("id", "audio_path", "question", "answer", "choices", "category"),
    advice="is it MMAU-Pro?",
    ids="mmau-pro",
    meta=lambda row, _: {
        "task": one_text(row.get("category")),
        "sub-category": one_text(row.get("sub-cat")),
        "length_type": one_text(row.get("length_type")),
        **{skills: texts_of(row.get(skills)) for skills in LISTS},
    },
)

load = LAYOUT.load
"""Load the multiple-choice questions of MMAU-Pro about one recording: see `mechaudio.data.layout.Layout.load`.

`meta["task"]` is the category; beside it `sub-category`, `length_type`, and the tuples `perceptual_skills` and
`reasoning_skills`.
"""

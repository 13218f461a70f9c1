"""MMAU: questions about sound, music and speech that ask for expert knowledge and reasoning.

Sakshi et al., "MMAU: A Massive Multi-Task Audio Understanding and Reasoning Benchmark", ICLR 2025. Two releases differ
in about a quarter of the questions, the first one and `v05.15.25`; an accuracy is comparable within one release only.
Two forms: `mmau-test-mini.json` and `mmau-test.json` of the GitHub repository, with a folder of recordings, and
`gamma-lab-umd/MMAU-test-mini` and `gamma-lab-umd/MMAU-test` on the hub, which hold their sounds. The answers of the
9,000 questions of `test` are withheld. Of the 1,000 of `test-mini`, some have 2, 5 or 8 choices, and some repeat a
choice.
"""

import json
from collections.abc import Mapping
from typing import Any

from mechaudio.data.asked import one_text
from mechaudio.data.corpus import Problems
from mechaudio.data.layout import Layout

META = ("task", "split", "category", "sub-category", "difficulty", "dataset")


def _with_other_attributes(row: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """A row with what the hub's form keeps as JSON in one of its columns."""
    value = row.get("other_attributes")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            problems.add("malformed row", str(row.get("id")), f"other_attributes is not JSON, {error}: ignored", error)
    return {**row, **(value if isinstance(value, Mapping) else {})}


LAYOUT = Layout(
    "MMAU",
    "see its card: the releases differ",
    "gamma-lab-umd/MMAU-test-mini",
    audio=("audio_id", "context", "audio", "audio_path"),
    question=("question", "instruction"),
    choices=("choices", "options"),
    advice="Is it MMAU?",
    unfolded=_with_other_attributes,
    meta=lambda row, release: {field: one_text(row[field]) for field in META if field in row} | {"version": release},
)

load = LAYOUT.load
"""Load the questions of MMAU: see `mechaudio.data.layout.Layout.load`.

`meta["task"]` is sound, music or speech; beside it `split`, `category`, `sub-category`, `difficulty`, `dataset` and
`version`. `answer` is None where it is withheld.
"""

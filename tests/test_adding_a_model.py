"""The page on adding a model: what it writes down is what was added, and it names every fact there is."""

import re
from dataclasses import fields
from pathlib import Path

from mechaudio.models.adapter import Adapter, End, InBlocks, MixedStack, Noise, TokenTiming, WaveformTower
from mechaudio.models.adapters.moss_transcribe_diarize import MOSS_TRANSCRIBE_DIARIZE
from tests.families import facts
from tests.families.family import Family

PAGE = (Path(__file__).resolve().parents[1] / "docs/adding_a_model.md").read_text(encoding="utf-8")


def test_the_class_of_the_page_is_the_class_that_was_added():
    written: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(block, written)
    assert written["MOSS_TRANSCRIBE_DIARIZE"] == MOSS_TRANSCRIBE_DIARIZE
    assert written["model"].adapter is MOSS_TRANSCRIBE_DIARIZE
    ours, family = facts("moss_transcribe_diarize"), written["FAMILY"]
    called = {"config", "processor", "tokens", "clip_features", "train"}
    for field in fields(Family):
        if field.name not in called:
            assert getattr(family, field.name) == getattr(ours, field.name)
    assert family.config(3).to_dict() == ours.config(3).to_dict()
    lengths = range(400, 9000, 37)
    assert [family.tokens(samples) for samples in lengths] == [ours.tokens(samples) for samples in lengths]
    assert family.processor().tokenizer.get_vocab() == ours.processor().tokenizer.get_vocab()


def test_every_fact_is_named():
    kinds = (Adapter, MixedStack, WaveformTower, End, InBlocks, Noise, TokenTiming)
    there_are = {field.name for kind in kinds for field in fields(kind)}
    assert there_are <= set(re.findall(r"[a-z_]+", PAGE)), there_are - set(re.findall(r"[a-z_]+", PAGE))

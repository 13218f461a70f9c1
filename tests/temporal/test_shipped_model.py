"""Questions that are built from soundscapes are asked in the words that the shipped model knows."""

import datasets
import pytest

import mechaudio as ma
from mechaudio.experiments.evaluate import evaluate


@pytest.mark.whole
def test_the_shipped_model_answers_built_questions_far_above_chance_and_alike_after_they_were_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    model = ma.load("tiny", prove=False)
    benchmark = ma.temporal.build(ma.data.soundscapes.clips(12, 21), seed=2)
    assert len(benchmark) >= 16
    heard = evaluate(model, benchmark)
    assert heard.overall.value > 0.6
    assert set(heard.by_task()) == {"earliest_onset", "latest_offset", "longest_duration"}
    kept = ma.temporal.load(benchmark.save(tmp_path / "benchmark"))
    assert evaluate(model, kept).choices == heard.choices

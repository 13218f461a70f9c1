"""The paper's settings, run as published on small networks of both of its classes."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.experiments import PAPER_SETTINGS, paper_settings, temporal_study
from tests.families import network, noise, processor

TEXT = "Which of the following sounds has the earliest onset in the audio?"


def questions():
    return [
        ma.AudioQuestion(
            audio=ma.AudioClip(noise(1.6, seed), 16_000),
            text=TEXT,
            choices=("dog", "car", "rain", "bell"),
            answer=("dog", "car", "rain", "bell")[seed % 4],
            id=str(seed),
            meta={"task": "earliest", "transcript": "hello there"},
        )
        for seed in range(6)
    ]


def test_the_settings_are_the_papers():
    told = {name: (own.settings.factors, own.settings.targeted, own.layer) for name, own in PAPER_SETTINGS.items()}
    assert told == {
        "audioflamingo3": ((2.0,), "keyword+last", 20),
        "desta25": ((0.2,), "keyword+last", 9),
    }
    assert all("arXiv 2606.17417" in own.source for own in PAPER_SETTINGS.values())


@pytest.mark.parametrize("family", PAPER_SETTINGS)
def test_the_papers_study_runs_as_published(family):
    model = ma.AudioLM(network(family), processor(family), prove=False)
    own = paper_settings(model)
    settings = replace(own.settings, biases=(1.0,), conditions=("audio", "silence"), n_attention=2, seed=1)
    study = temporal_study(model, questions(), settings=settings, progress=False)
    (factor,) = own.settings.factors
    in_one = [arm for arm in study.arms if arm.layer is not None]
    assert [(arm.layer, arm.strength, arm.queries) for arm in in_one] == [
        (layer, factor, "keyword+last") for layer in range(model.n_layers)
    ]
    arm = in_one[1]
    edited = ma.evaluate(model, questions(), variants=[arm.intervention(1)], progress=False)
    np.testing.assert_array_equal(study.compared.chosen[study.arms.index(arm)], edited.chosen[0])


def test_a_class_that_the_paper_changed_nothing_in_is_told():
    with pytest.raises(ValueError, match="the paper has no settings for 'qwen2_audio': it changed attention in audiof"):
        paper_settings(ma.AudioLM(network("qwen2_audio"), prove=False))

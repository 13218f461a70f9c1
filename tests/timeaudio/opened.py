"""Networks with markers and questions about time, small enough to be trained in a test."""

import numpy as np
import torch

import mechaudio as ma
from mechaudio.timeaudio import add_markers
from tests.families.build import network, processor


def opened(family: str, markers: bool = True, dtype: torch.dtype = torch.float32) -> ma.AudioLM:
    built, made = network(family, dtype), processor(family)
    if markers and "<a_0>" not in made.tokenizer.get_vocab():
        add_markers(built, made.tokenizer)
    return ma.AudioLM(built, made, prove=False)


def three_questions():
    rng = np.random.default_rng(0)
    clips = [
        ma.AnnotatedClip((rng.normal(size=16_000 * 2).astype(np.float32) * 0.1, 16_000), [event], id=f"clip {n}")
        for n, event in enumerate((ma.Event("dog", 0.2, 1.0), ma.Event("rain", 0.5, 1.8), ma.Event("bell", 1.1, 1.6)))
    ]
    return ma.data.ftar.build(clips, ["tag"], splits={"train": 1.0})

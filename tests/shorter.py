"""The shipped model with a shorter window: half the work of short clips is the silence that fills up the whole one."""

import torch

import mechaudio as ma

#: Of the window, in the place of 10.
SECONDS = 4


def shorter() -> ma.AudioLM:
    """The shipped network and its processor, both with the shorter window: trained weights, and answers of its own."""
    whole = ma.load("tiny", prove=False)
    network, processor, frames = whole.network, whole.processor, 50 * SECONDS
    tower, ears = network.model.audio_tower, processor.feature_extractor
    network.config.audio_config.max_source_positions = tower.max_source_positions = frames
    tower.embed_positions = torch.nn.Embedding.from_pretrained(tower.embed_positions.weight.detach()[:frames].clone())
    ears.chunk_length, ears.n_samples, ears.nb_max_frames = SECONDS, 16_000 * SECONDS, 100 * SECONDS
    return ma.AudioLM(network, processor, prove=False)

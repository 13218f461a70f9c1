"""Corpora: one file each, raw files or a seed in, questions or annotated clips out."""

from mechaudio.data import soundscapes

__all__ = ["soundscapes"]

"""Kimi-Audio: a network that transformers does not have, in its conventions, with the released names."""

"""Mechanistic interpretability of large audio language models."""

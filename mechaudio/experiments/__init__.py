"""Whole studies: a model and questions in, a kept result out."""

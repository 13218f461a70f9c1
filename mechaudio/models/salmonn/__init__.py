"""SALMONN and TimeAudio: networks that transformers does not have, in its conventions, with the released names."""

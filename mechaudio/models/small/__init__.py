"""A model of real parts: Whisper tiny.en's encoder, a trained projector, SmolLM2-135M-Instruct with a trained change.

`parts` finds or fetches the two published files, `ctranslate2` and `gguf` read them, `convert` gives their weights
transformers' names, `language` is the tokenizer and the prompt, `network` puts all together with what was trained,
`weights/`. `recipes/small` beside the package trained it. See docs/small_model.md before drawing conclusions from it.
"""

from pathlib import Path

from mechaudio.rooms import as_room

DELTAS = Path(__file__).parent / "weights" / "small_deltas.safetensors"
"""Trained weights: projector, embeddings of the marks around the audio, and the decoder's change of low rank."""

as_room(__name__)

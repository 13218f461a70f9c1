"""The shipped model: a small Qwen2-Audio, trained on synthetic soundscapes by the code in this folder.

`language` is what it reads and writes, `architecture` its configuration, `scenes` and `rows` its training data, `train`
and `evaluate` two commands, `weights/` an ordinary Hugging Face folder. See docs/tiny_model.md before drawing
conclusions from it.
"""

from pathlib import Path

from mechaudio.rooms import as_room

WEIGHTS = Path(__file__).parent / "weights"

as_room(__name__)

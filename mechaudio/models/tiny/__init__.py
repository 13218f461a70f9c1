"""The shipped model: a small Qwen2-Audio, trained on synthetic soundscapes by `recipes/tiny` beside the package.

`language` is what it reads and writes, `weights/` an ordinary Hugging Face folder. See docs/tiny_model.md before
drawing conclusions from it.
"""

from pathlib import Path

from mechaudio.rooms import as_room

WEIGHTS = Path(__file__).parent / "weights"

as_room(__name__)

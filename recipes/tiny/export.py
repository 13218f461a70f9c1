"""A trained network written as an ordinary Hugging Face folder that says how it was made."""

import json
import subprocess
from pathlib import Path

from safetensors.torch import load_file, save_file

from mechaudio.models.network import Network
from mechaudio.models.tiny.language import build_processor


def export(network: Network, folder: Path, record: dict[str, object]) -> None:
    """Write a Hugging Face folder: fp16 weights that open in fp32, `record` beside them and in their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    network.half().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["audio_config"], config["text_config"]):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    weights = folder / "model.safetensors"
    metadata = {"format": "pt"} | {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()
    }
    save_file(load_file(weights), weights, metadata=metadata)
    weights.chmod(0o644)


def current_commit() -> str:
    """The commit of the working directory.

    Raises:
        RuntimeError: outside a git repository.
    """
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(
            "the weights' metadata name the commit that made them: run inside the repository, or give --commit"
        )
    return found.stdout.strip()

"""Reading the published parts of SALMONN and TimeAudio: two folders, and two pickled files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mechaudio.models.assembling import Parts, folder_files, read_weights, single_file, sorted_out

#: Where the decoder lies in the network.
LLAMA = "llama_model.base_model.model."
#: Per part, where its tensors go: the beginning of a name -> what stands in its place. `None`: no use here.
_PLACES: dict[str, dict[str, str | None]] = {
    "llama": {"model.": f"{LLAMA}model.", "lm_head.": f"{LLAMA}lm_head."},
    "whisper": {
        "model.encoder.": "speech_encoder.",
        "encoder.": "speech_encoder.",
        "model.decoder.": None,
        "decoder.": None,
        "proj_out.": None,
    },
    "beats": {"predictor.": None, "": "beats."},
    "checkpoint": {"beats.predictor.": None, "": ""},
}
#: Tensors that older versions saved and that are worked out today, or that lie in parts that the release removes.
_WORKED_OUT = re.compile(
    r"rotary_emb\.inv_freq$|embeddings\.position_ids$|^speech_Qformer\.cls\."
    r"|^speech_Qformer\.bert\.embeddings\.(word|position)_embeddings\."
)


def read_parts(paths: dict[str, Path]) -> tuple[Parts, dict[str, Any]]:
    """Return the parts, and BEATs' settings.

    Args:
        paths: Of `llama`, `whisper`, `beats` and `checkpoint`.

    Raises:
        FileNotFoundError: A part is not there.
        ValueError: A file cannot be read without running code from it, is cut off, or holds what has no place.
    """
    pickled = ("beats", "checkpoint")
    files = {part: (single_file if part in pickled else folder_files)(part, path) for part, path in paths.items()}
    parts, settings = Parts(files, {}, {}), dict[str, Any]()
    for part, own in files.items():
        read = read_weights(part, own)
        if part in pickled:
            if not isinstance(read.get("model"), dict):
                raise ValueError(f"{part}: {str(own[0])!r} has no 'model' in it, only {sorted(map(str, read))[:5]}")
            settings = read.get("cfg", {}) if part == "beats" else settings
            read = read["model"]
        parts.tensors[part], parts.left_out[part] = sorted_out(part, read, _PLACES[part], own, _WORKED_OUT)
    return parts, settings

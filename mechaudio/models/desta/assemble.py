"""One safetensors folder from the published parts of DeSTA2.5-Audio, made once.

The parts are three folders: Llama 3.1 as it is, Whisper large-v3 as it is, and the release's own, which holds what was
trained between them.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import transformers

from mechaudio.arguments import checks_arguments
from mechaudio.models.assembling import (
    Assembled,
    Parts,
    folder_files,
    new_folder,
    put_together,
    read_parts,
    settings_in,
    shape_of,
    tokenizer_in,
)
from mechaudio.models.desta.config import DestaConfig, evenly
from mechaudio.models.desta.network import Desta25ForConditionalGeneration
from mechaudio.models.desta.processor import DestaProcessor

_WHISPER = "perception.whisper."
_CONNECTOR = "perception.connector."
#: Per part, where its tensors go: the beginning of a name -> what stands in its place.
_PLACES: dict[str, dict[str, str | None]] = {
    "llama": {"model.": "llm_model.model.", "lm_head.": "llm_model.lm_head."},
    "whisper": {"model.": f"{_WHISPER}model.", "proj_out.": f"{_WHISPER}proj_out."},
    "checkpoint": {_CONNECTOR: _CONNECTOR},
}
#: Saved by older versions, and worked out today.
_WORKED_OUT = re.compile(r"rotary_emb\.inv_freq$")


@checks_arguments
def assemble(
    *,
    llama: str | Path,
    whisper: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    dtype: torch.dtype | str | None = None,
    qformer_heads: int | None = None,
) -> Assembled:
    """Put the network together and save it.

    Args:
        llama: Folder of Llama 3.1 8B Instruct, with its tokenizer and chat template.
        whisper: Folder of the Whisper model (large-v3), with its tokenizer.
        checkpoint: Folder of the release.
        out: A folder that is not there yet, or is empty.
        dtype: Type of the weights, by default that of the decoder's; tensors of another are rounded to it.
        qformer_heads: Heads of the Q-Former, which no file holds; by default as many as Whisper's encoder has.

    Returns:
        What was put together; `ma.load(out)` opens it.

    Raises:
        FileNotFoundError: A part is not there.
        FileExistsError: Something is at `out` already.
        ValueError: A part holds tensors that have no place, lacks some, or has some of other shapes; or it cannot be
            read without running code from it.
    """
    target = new_folder(out)
    paths = {"llama": Path(llama), "whisper": Path(whisper), "checkpoint": Path(checkpoint)}
    files = {part: folder_files(part, path) for part, path in paths.items()}
    parts = read_parts(files, _PLACES, _WORKED_OUT)
    tokenizer, recogniser = (tokenizer_in(part, paths[part]) for part in ("llama", "whisper"))
    if tokenizer.chat_template is None:
        raise ValueError(
            f"llama: the tokenizer in {str(paths['llama'])!r} has no chat template: is it the Instruct model?"
        )
    queries = shape_of("checkpoint", parts.tensors["checkpoint"], f"{_CONNECTOR}layer_prompts.0")[1]
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(paths["whisper"])
    processor = DestaProcessor(extractor, tokenizer, recogniser, n_queries=queries)
    embeddings = parts.tensors["llama"].get("llm_model.model.embed_tokens.weight")
    if embeddings is None:
        raise ValueError("llama: it lacks model.embed_tokens.weight: is it the right part?")
    config, network_class = _config(paths, parts, processor, qformer_heads), Desta25ForConditionalGeneration
    kept = embeddings.dtype if dtype is None else dtype
    return put_together(target, network_class, config, processor, parts, family="desta", dtype=kept)


def _config(paths: dict[str, Path], parts: Parts, processor: DestaProcessor, heads: int | None) -> DestaConfig:
    trained = parts.tensors["checkpoint"]
    text = transformers.LlamaConfig.from_pretrained(paths["llama"])
    audio = transformers.WhisperConfig.from_pretrained(paths["whisper"])
    layers = {name for name in trained if re.fullmatch(r".*qformer\.layer\.\d+\.output\.dense\.weight", name)}
    n_taps = sum(".layer_prompts." in name for name in trained)
    neurons = shape_of("checkpoint", trained, f"{_CONNECTOR}qformer.layer.0.intermediate.dense.weight")[0]
    settings = paths["whisper"] / "generation_config.json"
    recognition = settings_in("whisper", settings) if settings.is_file() else None
    return DestaConfig(
        text.to_dict(),
        audio.to_dict(),
        {
            "hidden_size": audio.d_model,
            "num_hidden_layers": len(layers),
            "num_attention_heads": audio.encoder_attention_heads if heads is None else heads,
            "intermediate_size": neurons,
        },
        audio_token_id=processor.audio_token_id,
        taps=evenly(audio.encoder_layers, n_taps),
        n_queries=processor.n_queries,
        recognition=recognition,
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )

"""Qwen3-ASR: the encoder of Qwen3-Omni with a projector of its own, Qwen3 decoder. It transcribes and is not asked.

Clips under half a second are filled up to it, and the silence becomes tokens.
"""

from dataclasses import replace

from mechaudio.models.adapter import Adapter
from mechaudio.models.adapters.qwen3_omni_moe import ENCODER, TIMING

QWEN3_ASR = Adapter(
    family="qwen3_asr",
    network_class="Qwen3ASRForConditionalGeneration",
    checkpoints=("Qwen/Qwen3-ASR-1.7B-hf", "Qwen/Qwen3-ASR-0.6B-hf"),
    encoder=ENCODER,
    projector="model.multi_modal_projector",
    timing=replace(TIMING, pads_to=8_000),
    projector_layout="packed",
    features_mask="input_features_mask",
    no_questions=(
        "it was trained to transcribe and its chat template writes the clip alone into the user's turn. Make its "
        "inputs with processor.apply_transcription_request(clips) and pass them on as a dict"
    ),
)

"""Qwen3-ASR: the encoder of Qwen3-Omni with a projector of its own, Qwen3 decoder. It transcribes and is not asked.

Clips under half a second are filled up to it, and the silence becomes tokens.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, WHISPER_ENCODER, Adapter, TokenTiming

QWEN3_ASR = Adapter(
    family="qwen3_asr",
    network_class="Qwen3ASRForConditionalGeneration",
    checkpoints=("Qwen/Qwen3-ASR-1.7B-hf", "Qwen/Qwen3-ASR-0.6B-hf"),
    decoder=DECODER,
    encoder=replace(WHISPER_ENCODER, norm="model.audio_tower.ln_post", layout="packed"),
    decoder_module="model.language_model",
    unembed="lm_head",
    projector="model.multi_modal_projector",
    timing=TokenTiming(
        samples=16_000,
        tokens=13,
        window=128_000,
        long_clips="split",
        steps=((3, 2, 1), (3, 2, 1), (3, 2, 1)),
        chunk=100,
        pads_to=8_000,
    ),
    projector_layout="packed",
    features_mask="input_features_mask",
    no_questions=(
        "it was trained to transcribe and its chat template writes the clip alone into the user's turn. Make its "
        "inputs with processor.apply_transcription_request(clips) and pass them on as a dict"
    ),
)

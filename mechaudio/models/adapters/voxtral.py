"""Voxtral: Whisper encoder, four frames folded into one token, Llama decoder.

Clips are padded to whole windows of 30 s, and the padding becomes tokens.
"""

from mechaudio.models.adapter import Adapter, TokenTiming

VOXTRAL = Adapter(
    family="voxtral",
    network_class="VoxtralForConditionalGeneration",
    checkpoints=("mistralai/Voxtral-Mini-3B-2507", "mistralai/Voxtral-Small-24B-2507"),
    projector="model.multi_modal_projector",
    timing=TokenTiming(
        samples=1280,
        window=480_000,
        long_clips="split",
        pads_to_window=True,
        steps=((3, 2, 1), (4, 4, 0)),
    ),
    projector_layout="packed",
    features_mask=None,
)

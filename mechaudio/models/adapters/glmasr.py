"""GLM-ASR: encoder with rotary positions, four frames stacked into one token, Llama decoder.

The tower knows no mask. Its processor fills every clip up to whole windows of 30 s, so a clip is heard in the same
silence whatever else is in the batch, and only the tokens of the clip go on to the decoder.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, Adapter, TokenTiming

GLM_ASR = Adapter(
    family="glmasr",
    network_class="GlmAsrForConditionalGeneration",
    checkpoints=("zai-org/GLM-ASR-Nano-2512",),
    encoder=replace(
        DECODER, layers="model.audio_tower.layers", norm="model.audio_tower.norm", config="audio_config", down="fc2"
    ),
    projector="model.multi_modal_projector",
    timing=TokenTiming(
        samples=1280,
        window=480_000,
        long_clips="split",
        steps=((3, 1, 1), (3, 2, 1), (4, 4, 0)),
    ),
    features_mask="input_features_mask",
    one_clip="its processor takes one clip for each text",
    exceptions=(
        "the tower has no mask and hears the silence that fills a clip up to its window. Features that you pad "
        "less than the processor does (to 30 s) give other vectors",
    ),
)

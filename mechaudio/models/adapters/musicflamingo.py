"""Music Flamingo: Audio Flamingo 3's encoder, whose output is turned by its time in the clip before the projector."""

from mechaudio.models.adapter import DECODER, WHISPER_ENCODER, Adapter, TokenTiming

MUSIC_FLAMINGO = Adapter(
    family="musicflamingo",
    network_class="MusicFlamingoForConditionalGeneration",
    checkpoints=("nvidia/music-flamingo-2601-hf",),
    decoder=DECODER,
    encoder=WHISPER_ENCODER,
    decoder_module="model.language_model",
    unembed="lm_head",
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=640, tokens=1, window=480_000, long_clips="split"),
    features_mask="input_features_mask",
    one_clip="its processor takes one clip for each text",
)

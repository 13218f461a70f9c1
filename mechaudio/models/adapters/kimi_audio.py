"""Kimi-Audio: Whisper and the codes of GLM-4-voice, 80 ms a token, in a Qwen2 decoder of two streams."""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, WHISPER_ENCODER, Adapter, RoundedTower, TokenTiming

CODES = RoundedTower(
    layers="audio_tokenizer.layers",
    attention=WHISPER_ENCODER.attention,
    mid_norm=WHISPER_ENCODER.mid_norm,
    mlp=WHISPER_ENCODER.mlp,
    down=WHISPER_ENCODER.down,
    output=WHISPER_ENCODER.output,
    norm=None,
    config="codes_config",
    frames_of=(320, 1),
    absent={"norm": "codes are made of the raw outputs of its last layer"},
)

KIMI_AUDIO = Adapter(
    family="kimi_audio",
    network_class="KimiAudioForConditionalGeneration",
    network="mechaudio.models.kimi.network:KimiAudioForConditionalGeneration",
    processor="mechaudio.models.kimi.processor:KimiAudioProcessor",
    checkpoints=(),
    parts=("moonshotai/Kimi-Audio-7B-Instruct", "moonshotai/Kimi-Audio-7B"),
    decoder=replace(DECODER, layers="model.layers", norm="model.norm"),
    encoder=replace(WHISPER_ENCODER, layers="speech_encoder.layers", norm="speech_encoder.layer_norm"),
    tower="whisper",
    towers={"codes": CODES},
    decoder_module="model",
    projector="model.vq_adaptor.layers",
    projector_layout="packed",
    timing=TokenTiming(samples=1280, window=480_000, long_clips="split", steps=((3, 2, 1), (1, 4, 0))),
    features_mask="input_features_mask",
    features_beside={"code_features": "codes_config.num_mel_bins"},
    features_given=("audio_codes",),
    cuts_padding=False,
    text_first=True,
    exceptions=(
        "it is a class of mechaudio, not of transformers. Its checkpoint lacks the speech tokenizer: `mechaudio "
        "assemble kimi` puts all parts together once",
        "two streams of ids run side by side, and one is blank wherever the other speaks. Prompts have one stream, "
        "which the class takes apart. The branch that speaks is left out, and generation is of text alone",
        "a question stands in front of its audio, as in training: keywords see no audio, and an edit of what they "
        "see of it is refused. `PromptFormat(audio='first')` turns the order round, which was not trained",
        "it has turns of the user and of the assistant, and no system turn",
        "it has two audio towers: audio_blocks are Whisper's layers, `model.towers['codes']` the speech "
        "tokenizer's. The frames of the second become codes: an edit there moves the logits only where another "
        "code is nearest, and no gradient goes through. `audio_codes` among the inputs takes their place",
    ),
)

"""VibeVoice-ASR: two towers of convolutions over the waveform at 24 kHz, added up by the projector, Qwen2.5 decoder.

`audio_blocks` are the stages of the acoustic tower, each of which makes the sequence shorter and wider, and behind them
those of the semantic tower, which is built alike.
"""

from mechaudio.models.adapter import Adapter, Noise, TokenTiming, WaveformTower

VIBEVOICE_ASR = Adapter(
    family="vibevoice_asr",
    network_class="VibeVoiceAsrForConditionalGeneration",
    checkpoints=("microsoft/VibeVoice-ASR-HF",),
    encoder=WaveformTower(
        layers="model.acoustic_tokenizer_encoder.conv_layers",
        beside="model.semantic_tokenizer_encoder.conv_layers",
        attention=None,
        mid_norm=None,
        mlp=None,
        norm=None,
        config="acoustic_tokenizer_encoder_config",
        layout="channels",
        absent={
            "attention": "its audio tower is made of convolutions and has no attention",
            "mid_norm": "a stage of its audio tower is a row of convolutions, with no attention before an MLP",
            "mlp": "a stage of its audio tower holds several feed-forwards and none of its own",
            "norm": "its audio tower ends in a convolution, without a norm",
        },
    ),
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=3200, window=1_440_000, long_clips="split", steps=((1, 3200, 0),), hop=1, pads_to=3200),
    features="input_values",
    features_mask="padding_mask",
    bands="channels",
    sampling_rate=24_000,
    cuts_padding="always",  # up to transformers 5.22 it masks no more tokens than the longest clip has
    noise=Noise("acoustic_tokenizer_encoder_config.vae_std", left_out_by={"sample": False}),
    no_questions=(
        "it was trained to transcribe, its chat template has no turn for an answer. Make its inputs with "
        "processor.apply_transcription_request(clips), with hints as prompt=, and pass them on as a dict"
    ),
    exceptions=(
        "the audio towers run without gradients, so none arrive at audio_blocks",
        "the network adds noise to the output of the acoustic tower unless sample=False, which every run passes on",
        "audio_blocks are the stages of the acoustic tower, then those of the semantic tower. Both towers hear the "
        "same sound side by side",
    ),
)

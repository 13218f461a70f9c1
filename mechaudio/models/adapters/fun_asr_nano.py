"""Fun-ASR-Nano: SenseVoice encoder over stacked frames, a projector with two layers of its own, Qwen3 decoder.

It transcribes and is not asked. The tower's attention has a convolution over the values beside it, whose output is part
of `attn_out`.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, Adapter, End, TokenTiming

FUN_ASR_NANO = Adapter(
    family="fun_asr_nano",
    network_class="FunAsrNanoForConditionalGeneration",
    checkpoints=("FunAudioLLM/Fun-ASR-Nano-2512-hf",),
    encoder=replace(
        DECODER,
        layers="model.audio_tower.layers",
        norm=None,
        config="audio_config",
        down="fc2",
        between={
            "attention": "an end to the wider stream that the first layer is given: its resid_mid is its attn_out",
        },
        end=End("a norm, in the last layer that transcribes and in the last of all", "final_layernorm"),
        absent={"norm": "the last norm of its audio tower stands inside the last layer, whose resid_post it makes"},
    ),
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=960, window=1_966_080, long_clips="refused", steps=(), hop=960, shortest=400),
    features_mask="input_features_mask",
    one_clip="its processor takes one clip for each text",
    frames_axis=1,
    bands="input_size",
    leaks_padding="the layers inside its projector run without the mask of real frames",
    no_questions=(
        "it was trained to transcribe and its chat template writes instructions to transcribe. Make its inputs with "
        "processor.apply_transcription_request(clips) and pass them on as a dict"
    ),
    exceptions=(
        "the audio tower's attn_out is more than its heads: z through the output projection, plus a convolution over "
        "the values",
        "the projector's layers take the mask if network.set_attn_implementation names an attention "
        "implementation. No padding leaks then. Clips of different lengths run apart all the same",
    ),
)

"""MOSS-Transcribe-Diarize: Whisper encoder, four frames put side by side in one token, Qwen3 decoder.

Every two seconds its processor writes the time, in digits, between the audio tokens.
"""

from mechaudio.models.adapter import Adapter, TokenTiming

MOSS_TRANSCRIBE_DIARIZE = Adapter(
    family="moss_transcribe_diarize",
    network_class="MossTranscribeDiarizeForConditionalGeneration",
    checkpoints=("hf-audio/MOSS-Transcribe-Diarize-HF",),
    projector="model.multi_modal_projector",
    timing=TokenTiming(samples=1280, window=480_000, long_clips="split", steps=((3, 2, 1), (1, 4, 0))),
    projector_layout="packed",
    features_mask="input_features_mask",
    marks_time="padding_mask",
    no_questions=(
        "it was trained to transcribe and to tell speakers apart. Make its inputs with "
        "processor.apply_transcription_request(clips, return_tensors='pt'), with a request of your own as prompt=, and "
        "pass them on as a dict"
    ),
    exceptions=(
        "its processor writes the time between the audio tokens every two seconds. These digits are not in the "
        "span audio",
    ),
)

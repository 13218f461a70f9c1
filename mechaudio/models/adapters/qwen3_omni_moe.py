"""Qwen3-Omni thinker: convolutions over seconds, attention over windows of eight, a mixture-of-experts decoder.

13 tokens a second; all clips lie packed behind one another. `mlp_out` is what the chosen experts add together.

Qwen3-ASR is its encoder with a projector of its own, and a Qwen3 decoder. It transcribes and is not asked. Clips under
half a second are filled up to it, and the silence becomes tokens.
"""

from dataclasses import replace

from mechaudio.models.adapter import DECODER, EXPERTS, THINKER_UP_TO_5_20, WHISPER_ENCODER, Adapter, TokenTiming

_ENCODER = replace(WHISPER_ENCODER, norm="model.audio_tower.ln_post", layout="packed")
_TIMING = TokenTiming(samples=16_000, tokens=13, window=128_000, long_clips="split", steps=((3, 2, 1),) * 3, chunk=100)

QWEN3_OMNI_MOE = Adapter(
    family="qwen3_omni_moe_thinker",
    network_class="Qwen3OmniMoeThinkerForConditionalGeneration",
    checkpoints=("Qwen/Qwen3-Omni-30B-A3B-Instruct", "Qwen/Qwen3-Omni-30B-A3B-Thinking"),
    decoder=replace(DECODER, absent={"down": EXPERTS}),
    encoder=_ENCODER,
    projector="model.audio_tower.proj2",
    timing=replace(_TIMING, shortest=201),
    projector_layout="packed",
    leaks_padding=(
        "the convolutions see silence behind a clip of less than a second as soon as a longer clip is in the batch"
    ),
    leaks_below=16_000,
    exceptions=(
        "in half precision, rounding (another batch, another device) can send a token to other experts. Logits "
        "then differ by more than rounding. Reading is bit-exact, as everywhere",
        "an edit moves earlier positions by rounding: experts multiply all tokens that come to them together. An "
        "edited token that goes elsewhere changes the shapes of these matrices",
    ),
    also_in=("qwen3_omni_moe",),
    older_paths=THINKER_UP_TO_5_20,
)
QWEN3_ASR = Adapter(
    family="qwen3_asr",
    network_class="Qwen3ASRForConditionalGeneration",
    checkpoints=("Qwen/Qwen3-ASR-1.7B-hf", "Qwen/Qwen3-ASR-0.6B-hf"),
    encoder=_ENCODER,
    projector="model.multi_modal_projector",
    timing=replace(_TIMING, pads_to=8_000),
    projector_layout="packed",
    features_mask="input_features_mask",
    no_questions=(
        "it was trained to transcribe and its chat template writes the clip alone into the user's turn. Make its "
        "inputs with processor.apply_transcription_request(clips) and pass them on as a dict"
    ),
)

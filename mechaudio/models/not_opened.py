"""Classes of transformers that take sound and text and are not opened, and why."""

from __future__ import annotations

from collections.abc import Mapping

_THINKER = "speaks: what is opened is its thinker, by ma.load, or as AudioLM(network.thinker, processor)"
#: Class -> why; a sentence without its subject and full stop.
NOT_OPENED: Mapping[str, str] = {
    "Gemma4UnifiedForConditionalGeneration": "has no audio tower: samples go straight into the decoder's embeddings",
    "InklingForConditionalGeneration": "has no audio tower: the bins of mel frames are embedded like words",
    "Apertus1p5ForConditionalGeneration": "has no audio tower: sound is codes of a codec, words of its vocabulary",
    "VoxtralRealtimeForConditionalGeneration": (
        "transcribes while it listens: sound is added to the embeddings of text, position by position, and no audio "
        "token stands in the prompt"
    ),
    "KyutaiSpeechToTextForConditionalGeneration": (
        "transcribes while it listens: codes of a codec are added to the embeddings of text, position by position, and "
        "no audio token stands in the prompt"
    ),
    "Nemotron3_5TranscribeForConditionalGeneration": "transcribes, with a second network that tells speakers apart",
    "OmniASRForConditionalGeneration": "transcribes, and is not asked questions",
    "Qwen2_5OmniForConditionalGeneration": _THINKER,
    "Qwen3OmniMoeForConditionalGeneration": _THINKER,
}

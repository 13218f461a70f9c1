"""Questions one can ask of a model, one per file: an opened model and prompts in, a `Result` out."""

from mechaudio.analyses.attention_mass import AttentionMass, attention_mass
from mechaudio.analyses.audio_attention import AudioAttention, audio_attention

__all__ = ["AttentionMass", "AudioAttention", "attention_mass", "audio_attention"]

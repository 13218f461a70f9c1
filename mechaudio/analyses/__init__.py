"""Questions one can ask of a model, one per file: an opened model and prompts in, a `Result` out."""

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers, attention_and_answers
from mechaudio.analyses.attention_flow import AttentionFlow, attention_flow
from mechaudio.analyses.attention_mass import AttentionMass, attention_mass
from mechaudio.analyses.audio_attention import AudioAttention, audio_attention
from mechaudio.analyses.halves import clips_of, in_calibration
from mechaudio.analyses.lenses.direct_logit_attribution import DirectLogitAttribution, direct_logit_attribution
from mechaudio.analyses.lenses.logit_lens import LogitLens, logit_lens
from mechaudio.analyses.lenses.tuned_lens import TunedLens, tuned_lens
from mechaudio.analyses.listening_score import ListeningCheck, ListeningScore, listening_score
from mechaudio.analyses.paired_passes import PairedPasses, paired_passes
from mechaudio.analyses.patching.activation_patching import PatchingMap, activation_patching
from mechaudio.analyses.patching.attribution_patching import AttributionMap, attribution_patching
from mechaudio.analyses.patching.check_top import check_top
from mechaudio.analyses.patching.effect_map import EffectMap, agreement
from mechaudio.analyses.patching.pairs import Contrast, contrast, contrasts
from mechaudio.analyses.patching.path_patching import path_patching
from mechaudio.analyses.patching.paths import path_patches
from mechaudio.analyses.probes.encoder_probes import EncoderProbes, ProbeAnswers, encoder_probes
from mechaudio.analyses.prompt_attention import PromptAttention, prompt_attention
from mechaudio.analyses.specialist_heads import HeadScores, score_heads, specialist_heads
from mechaudio.analyses.steering_directions import SteeringDirections, layer_weights, steering_directions
from mechaudio.analyses.steering_sweep import SteeringSweep, steering_sweep
from mechaudio.analyses.where_it_listens import WhereItListens, where_it_listens
from mechaudio.rooms import as_room

__all__ = [
    "AttentionAndAnswers",
    "AttentionFlow",
    "AttentionMass",
    "AttributionMap",
    "AudioAttention",
    "Contrast",
    "DirectLogitAttribution",
    "EffectMap",
    "EncoderProbes",
    "HeadScores",
    "ListeningCheck",
    "ListeningScore",
    "LogitLens",
    "PairedPasses",
    "PatchingMap",
    "ProbeAnswers",
    "PromptAttention",
    "SteeringDirections",
    "SteeringSweep",
    "TunedLens",
    "WhereItListens",
    "activation_patching",
    "agreement",
    "attention_and_answers",
    "attention_flow",
    "attention_mass",
    "attribution_patching",
    "audio_attention",
    "check_top",
    "clips_of",
    "contrast",
    "contrasts",
    "direct_logit_attribution",
    "encoder_probes",
    "in_calibration",
    "layer_weights",
    "listening_score",
    "logit_lens",
    "paired_passes",
    "path_patches",
    "path_patching",
    "prompt_attention",
    "score_heads",
    "specialist_heads",
    "steering_directions",
    "steering_sweep",
    "tuned_lens",
    "where_it_listens",
]

as_room(__name__)

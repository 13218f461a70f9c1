"""Questions one can ask of a model, one per file: an opened model and prompts in, a `Result` out."""

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers as AttentionAndAnswers
from mechaudio.analyses.attention_and_answers import attention_and_answers as attention_and_answers
from mechaudio.analyses.attention_flow import AttentionFlow as AttentionFlow
from mechaudio.analyses.attention_flow import attention_flow as attention_flow
from mechaudio.analyses.attention_mass import AttentionMass as AttentionMass
from mechaudio.analyses.attention_mass import attention_mass as attention_mass
from mechaudio.analyses.audio_attention import AudioAttention as AudioAttention
from mechaudio.analyses.audio_attention import audio_attention as audio_attention
from mechaudio.analyses.halves import clips_of as clips_of
from mechaudio.analyses.halves import in_calibration as in_calibration
from mechaudio.analyses.lenses.direct_logit_attribution import DirectLogitAttribution as DirectLogitAttribution
from mechaudio.analyses.lenses.direct_logit_attribution import direct_logit_attribution as direct_logit_attribution
from mechaudio.analyses.lenses.logit_lens import LogitLens as LogitLens
from mechaudio.analyses.lenses.logit_lens import logit_lens as logit_lens
from mechaudio.analyses.lenses.tuned_lens import TunedLens as TunedLens
from mechaudio.analyses.lenses.tuned_lens import tuned_lens as tuned_lens
from mechaudio.analyses.listening_score import ListeningCheck as ListeningCheck
from mechaudio.analyses.listening_score import ListeningScore as ListeningScore
from mechaudio.analyses.listening_score import listening_score as listening_score
from mechaudio.analyses.paired_passes import PairedPasses as PairedPasses
from mechaudio.analyses.paired_passes import paired_passes as paired_passes
from mechaudio.analyses.patching.activation_patching import PatchingMap as PatchingMap
from mechaudio.analyses.patching.activation_patching import activation_patching as activation_patching
from mechaudio.analyses.patching.attribution_patching import AttributionMap as AttributionMap
from mechaudio.analyses.patching.attribution_patching import attribution_patching as attribution_patching
from mechaudio.analyses.patching.check_top import check_top as check_top
from mechaudio.analyses.patching.effect_map import EffectMap as EffectMap
from mechaudio.analyses.patching.effect_map import agreement as agreement
from mechaudio.analyses.patching.pairs import Contrast as Contrast
from mechaudio.analyses.patching.pairs import contrast as contrast
from mechaudio.analyses.patching.pairs import contrasts as contrasts
from mechaudio.analyses.patching.path_patching import path_patching as path_patching
from mechaudio.analyses.patching.paths import path_patches as path_patches
from mechaudio.analyses.probes.encoder_probes import EncoderProbes as EncoderProbes
from mechaudio.analyses.probes.encoder_probes import ProbeAnswers as ProbeAnswers
from mechaudio.analyses.probes.encoder_probes import encoder_probes as encoder_probes
from mechaudio.analyses.prompt_attention import PromptAttention as PromptAttention
from mechaudio.analyses.prompt_attention import prompt_attention as prompt_attention
from mechaudio.analyses.specialist_heads import HeadScores as HeadScores
from mechaudio.analyses.specialist_heads import score_heads as score_heads
from mechaudio.analyses.specialist_heads import specialist_heads as specialist_heads
from mechaudio.analyses.steering_directions import SteeringDirections as SteeringDirections
from mechaudio.analyses.steering_directions import layer_weights as layer_weights
from mechaudio.analyses.steering_directions import steering_directions as steering_directions
from mechaudio.analyses.steering_sweep import SteeringSweep as SteeringSweep
from mechaudio.analyses.steering_sweep import steering_sweep as steering_sweep
from mechaudio.analyses.where_it_listens import WhereItListens as WhereItListens
from mechaudio.analyses.where_it_listens import where_it_listens as where_it_listens
from mechaudio.rooms import as_room

as_room(__name__)

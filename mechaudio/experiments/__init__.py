"""Whole studies: an opened model and questions in, a kept `Result` out."""

from mechaudio.experiments.choosing import Choice, Tested
from mechaudio.experiments.demo import Demo, demo
from mechaudio.experiments.evaluate import Comparison, Evaluation, Failure, evaluate
from mechaudio.experiments.grounding import Grounding, ground
from mechaudio.experiments.grounding_study import DenseScores, GroundingStudy, TimelineScores, grounding_study
from mechaudio.experiments.harvest import Harvest, harvest
from mechaudio.experiments.listen import Listening, listen
from mechaudio.experiments.mata_arms import MataArm, MataSettings
from mechaudio.experiments.mata_result import MataChoice, MataStudy
from mechaudio.experiments.mata_scores import MataScores, mata_scores
from mechaudio.experiments.mata_study import mata_study
from mechaudio.experiments.over_strength import OverStrength
from mechaudio.experiments.published import PAPER_SETTINGS, PaperSettings, paper_settings
from mechaudio.experiments.specialists_result import GroupAuc, SpecialistsSettings, SpecialistsStudy
from mechaudio.experiments.specialists_study import specialists_study
from mechaudio.experiments.steering_arms import SteeringArm, SteeringSettings
from mechaudio.experiments.steering_result import AgainstControl, SteeringStudy
from mechaudio.experiments.steering_study import steering_study
from mechaudio.experiments.temporal_arms import Arm, TemporalSettings
from mechaudio.experiments.temporal_result import PairedComparison, TemporalStudy
from mechaudio.experiments.temporal_study import temporal_study
from mechaudio.rooms import as_room

__all__ = [
    "PAPER_SETTINGS",
    "AgainstControl",
    "Arm",
    "Choice",
    "Comparison",
    "Demo",
    "DenseScores",
    "Evaluation",
    "Failure",
    "Grounding",
    "GroundingStudy",
    "GroupAuc",
    "Harvest",
    "Listening",
    "MataArm",
    "MataChoice",
    "MataScores",
    "MataSettings",
    "MataStudy",
    "OverStrength",
    "PairedComparison",
    "PaperSettings",
    "SpecialistsSettings",
    "SpecialistsStudy",
    "SteeringArm",
    "SteeringSettings",
    "SteeringStudy",
    "TemporalSettings",
    "TemporalStudy",
    "Tested",
    "TimelineScores",
    "demo",
    "evaluate",
    "ground",
    "grounding_study",
    "harvest",
    "listen",
    "mata_scores",
    "mata_study",
    "paper_settings",
    "specialists_study",
    "steering_study",
    "temporal_study",
]

as_room(__name__)

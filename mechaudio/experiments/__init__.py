"""Whole studies: an opened model and questions in, a kept `Result` out."""

from mechaudio.experiments.choosing import Choice as Choice
from mechaudio.experiments.choosing import Tested as Tested
from mechaudio.experiments.demo import Demo as Demo
from mechaudio.experiments.demo import demo as demo
from mechaudio.experiments.evaluate import Comparison as Comparison
from mechaudio.experiments.evaluate import Evaluation as Evaluation
from mechaudio.experiments.evaluate import Failure as Failure
from mechaudio.experiments.evaluate import evaluate as evaluate
from mechaudio.experiments.grounding import Grounding as Grounding
from mechaudio.experiments.grounding import ground as ground
from mechaudio.experiments.grounding_study import DenseScores as DenseScores
from mechaudio.experiments.grounding_study import GroundingStudy as GroundingStudy
from mechaudio.experiments.grounding_study import TimelineScores as TimelineScores
from mechaudio.experiments.grounding_study import grounding_study as grounding_study
from mechaudio.experiments.harvest import Harvest as Harvest
from mechaudio.experiments.harvest import harvest as harvest
from mechaudio.experiments.listen import Listening as Listening
from mechaudio.experiments.listen import listen as listen
from mechaudio.experiments.mata_arms import MataArm as MataArm
from mechaudio.experiments.mata_arms import MataSettings as MataSettings
from mechaudio.experiments.mata_result import MataChoice as MataChoice
from mechaudio.experiments.mata_result import MataStudy as MataStudy
from mechaudio.experiments.mata_scores import MataScores as MataScores
from mechaudio.experiments.mata_scores import mata_scores as mata_scores
from mechaudio.experiments.mata_study import mata_study as mata_study
from mechaudio.experiments.over_strength import OverStrength as OverStrength
from mechaudio.experiments.published import PAPER_SETTINGS as PAPER_SETTINGS
from mechaudio.experiments.published import PaperSettings as PaperSettings
from mechaudio.experiments.published import paper_settings as paper_settings
from mechaudio.experiments.specialists_result import GroupAuc as GroupAuc
from mechaudio.experiments.specialists_result import SpecialistsSettings as SpecialistsSettings
from mechaudio.experiments.specialists_result import SpecialistsStudy as SpecialistsStudy
from mechaudio.experiments.specialists_study import specialists_study as specialists_study
from mechaudio.experiments.steering_arms import SteeringArm as SteeringArm
from mechaudio.experiments.steering_arms import SteeringSettings as SteeringSettings
from mechaudio.experiments.steering_result import AgainstControl as AgainstControl
from mechaudio.experiments.steering_result import SteeringStudy as SteeringStudy
from mechaudio.experiments.steering_study import steering_study as steering_study
from mechaudio.experiments.temporal_arms import Arm as Arm
from mechaudio.experiments.temporal_arms import TemporalSettings as TemporalSettings
from mechaudio.experiments.temporal_result import PairedComparison as PairedComparison
from mechaudio.experiments.temporal_result import TemporalStudy as TemporalStudy
from mechaudio.experiments.temporal_study import temporal_study as temporal_study
from mechaudio.rooms import as_room

as_room(__name__)

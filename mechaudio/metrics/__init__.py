"""Scores: numbers about answers, each with how sure it is. numpy, scipy and statsmodels; no network is opened here."""

from mechaudio.metrics import captions as captions
from mechaudio.metrics import grounding as grounding
from mechaudio.metrics import sound_events as sound_events
from mechaudio.metrics.association import PointBiserial as PointBiserial
from mechaudio.metrics.association import ResampledPointBiserial as ResampledPointBiserial
from mechaudio.metrics.association import TopKStability as TopKStability
from mechaudio.metrics.association import bootstrap_point_biserial as bootstrap_point_biserial
from mechaudio.metrics.association import point_biserial as point_biserial
from mechaudio.metrics.association import point_biserial_power as point_biserial_power
from mechaudio.metrics.association import top_k_stability as top_k_stability
from mechaudio.metrics.bootstrap import bootstrap as bootstrap
from mechaudio.metrics.bootstrap import bootstrap_mean as bootstrap_mean
from mechaudio.metrics.choices import margin as margin
from mechaudio.metrics.choices import right_choices as right_choices
from mechaudio.metrics.estimates import Estimate as Estimate
from mechaudio.metrics.estimates import Proportion as Proportion
from mechaudio.metrics.multiple_choice import AnswerChange as AnswerChange
from mechaudio.metrics.multiple_choice import RandomFixRate as RandomFixRate
from mechaudio.metrics.multiple_choice import accuracy as accuracy
from mechaudio.metrics.multiple_choice import accuracy_by_group as accuracy_by_group
from mechaudio.metrics.multiple_choice import answer_change as answer_change
from mechaudio.metrics.multiple_choice import break_rate as break_rate
from mechaudio.metrics.multiple_choice import fix_rate as fix_rate
from mechaudio.metrics.multiple_choice import match_ids as match_ids
from mechaudio.metrics.multiple_choice import random_fix_rate as random_fix_rate
from mechaudio.metrics.roc import RocAuc as RocAuc
from mechaudio.metrics.roc import roc_auc as roc_auc
from mechaudio.metrics.significance import McNemar as McNemar
from mechaudio.metrics.significance import benjamini_hochberg as benjamini_hochberg
from mechaudio.metrics.significance import holm as holm
from mechaudio.metrics.significance import mcnemar as mcnemar
from mechaudio.metrics.significance import paired_difference as paired_difference
from mechaudio.metrics.significance import proportion as proportion
from mechaudio.metrics.significance import sign_flip_test as sign_flip_test
from mechaudio.metrics.significance import wilson_interval as wilson_interval
from mechaudio.metrics.written_answers import GeneratedScore as GeneratedScore
from mechaudio.metrics.written_answers import ParsedChoice as ParsedChoice
from mechaudio.metrics.written_answers import parse_choice as parse_choice
from mechaudio.metrics.written_answers import score_generated as score_generated
from mechaudio.metrics.written_answers import string_match as string_match
from mechaudio.rooms import as_room

as_room(__name__)

"""Scores: numbers about answers, each with how sure it is. numpy, scipy and statsmodels; no network is opened here."""

from mechaudio.metrics import captions, grounding, sound_events
from mechaudio.metrics.association import (
    PointBiserial,
    ResampledPointBiserial,
    TopKStability,
    bootstrap_point_biserial,
    point_biserial,
    point_biserial_power,
    top_k_stability,
)
from mechaudio.metrics.bootstrap import bootstrap, bootstrap_mean
from mechaudio.metrics.choices import margin, right_choices
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.multiple_choice import (
    AnswerChange,
    RandomFixRate,
    accuracy,
    accuracy_by_group,
    answer_change,
    break_rate,
    fix_rate,
    match_ids,
    random_fix_rate,
)
from mechaudio.metrics.roc import RocAuc, roc_auc
from mechaudio.metrics.significance import (
    McNemar,
    benjamini_hochberg,
    holm,
    mcnemar,
    paired_difference,
    proportion,
    sign_flip_test,
    wilson_interval,
)
from mechaudio.metrics.string_match import GeneratedScore, ParsedChoice, parse_choice, score_generated, string_match
from mechaudio.rooms import as_room

__all__ = [
    "AnswerChange",
    "Estimate",
    "GeneratedScore",
    "McNemar",
    "ParsedChoice",
    "PointBiserial",
    "Proportion",
    "RandomFixRate",
    "ResampledPointBiserial",
    "RocAuc",
    "TopKStability",
    "accuracy",
    "accuracy_by_group",
    "answer_change",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_mean",
    "bootstrap_point_biserial",
    "break_rate",
    "captions",
    "fix_rate",
    "grounding",
    "holm",
    "margin",
    "match_ids",
    "mcnemar",
    "paired_difference",
    "parse_choice",
    "point_biserial",
    "point_biserial_power",
    "proportion",
    "random_fix_rate",
    "right_choices",
    "roc_auc",
    "score_generated",
    "sign_flip_test",
    "sound_events",
    "string_match",
    "top_k_stability",
    "wilson_interval",
]

as_room(__name__)

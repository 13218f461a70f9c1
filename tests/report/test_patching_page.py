"""Sentences and tables of activation patching where there is no interval to tell of."""

from dataclasses import replace

import numpy as np

import mechaudio as ma
from mechaudio.analyses import activation_patching
from mechaudio.data.toy_questions import questions
from mechaudio.report import patching_findings, patching_tables, report_of, write_study_page


def test_where_the_scale_may_be_zero_no_interval_is_told_and_the_reason_is():
    found = activation_patching(
        ma.load("toy", prove=False), list(questions(6, seed=0)), over=("layer", "head"), layers=[1]
    )
    assert " [" in patching_findings(found)[-2]
    turned = np.arange(6) % 2 == 0  # in every other pair the corrupted run is the one that does well
    clean, corrupted = np.where(turned, 0.0, 1.1), np.where(turned, 1.0, 0.0)
    told = patching_findings(replace(found, clean=clean, corrupted=corrupted))
    assert "It has no interval: in some of the samples drawn anew the corrupted runs do as well" in told[-1]
    assert "nan" not in " ".join(told)
    top, *_ = patching_tables(replace(found, clean=clean, corrupted=corrupted))
    ends = [column.name for column in top.columns].index("interval")
    assert {row[ends] for row in top.rows} == {None}


def told_of(found, values, **other):
    """The sentence about the largest effect, of a map with these values on a scale from 0 to 1."""
    n = len(found.ids)
    made = replace(
        found,
        axes={"layer": tuple(range(len(values)))},
        values=np.repeat(np.array(values, float)[:, None], n, axis=1),
        clean=np.ones(n),
        corrupted=np.zeros(n),
        logits=found.logits[: len(values)],
        **other,
    )
    return " ".join(patching_findings(made))


def test_the_largest_effect_is_told_with_its_direction():
    found = activation_patching(ma.load("toy", prove=False), list(questions(6, seed=0)), over=("layer",))
    for direction, values, told in (
        ("denoising", [0.8, 0.0], "in layer 0 brings the answer back most: to 80.0% [80.0, 80.0] of the way"),
        ("denoising", [1.3, 0.0], "brings the answer back most: to 130.0% [130.0, 130.0] of the way from corrupted to "
         "clean, beyond the clean run."),
        ("denoising", [-0.1, 0.0], "moves the answer most, and away from the clean one: to -10.0% [-10.0, -10.0] of "
         "the way from corrupted to clean, beyond the corrupted run."),
        ("noising", [0.2, 1.0], "takes the answer away most: to 20.0% [20.0, 20.0] of the way from corrupted to "
         "clean."),
        ("noising", [1.1, 1.0], "moves the answer most, and away from the corrupted one: to 110.0% [110.0, 110.0] of "
         "the way from corrupted to clean, beyond the clean run."),
    ):  # fmt: skip
        assert told in told_of(found, values, direction=direction)


def test_only_the_largest_of_unequal_effects_is_overstated():
    found = activation_patching(ma.load("toy", prove=False), list(questions(2, seed=0)), over=("layer",))
    assert "As the largest of 2 places it is likely overstated." in told_of(found, [0.8, 0.0])
    assert "All 3 places have an effect of this size." in told_of(found, [0.8] * 3)
    assert "places" not in told_of(found, [0.8])
    assert told_of(found, [0.8]).endswith("Pairs about fewer than 6 clips give no intervals.")


def test_captions_and_counts_are_those_of_what_is_shown(tmp_path):
    deaf = replace(next(iter(questions(1, seed=1))), audio=ma.AudioClip(np.zeros(64000, np.float32), 16000))
    asked = [*questions(3, seed=0), deaf]
    for over, nothing in ((("layer",), "; 0 is no effect"), (("layer", "role"), "; white is no effect")):
        found = activation_patching(ma.load("toy", prove=False), asked, over=over)
        report = report_of(found, questions=asked)
        page = write_study_page(report, tmp_path / "index.html", title="A map", command="none")
        assert nothing in page.read_text(encoding="utf-8")
    assert "1 pair is left out: in logit difference" in patching_findings(found)[1]

"""Long runs of every kind of patching, stopped and taken up."""

from importlib import import_module

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import kept_batches
from mechaudio.analyses.patching.attribution_patching import attribution_patching
from mechaudio.analyses.patching.estimates import Estimator
from mechaudio.analyses.patching.path_patching import path_patching
from mechaudio.results import digest_of_file

PATHS = import_module("mechaudio.analyses.patching.path_patching")
#: What measures, its options, and what measures one batch.
KINDS = [
    pytest.param(attribution_patching, {"over": ("layer", "head")}, (Estimator, "part"), id="heads"),
    pytest.param(
        attribution_patching, {"over": ("layer", "role"), "metric": "margin"}, (Estimator, "part"), id="roles"
    ),
    pytest.param(
        attribution_patching,
        {"over": ("second", "band"), "hook_point": "features", "method": "integrated", "steps": 2},
        (Estimator, "part"),
        id="features",
    ),
    pytest.param(
        attribution_patching, {"over": ("layer",), "hook_point": "z", "heads": [-1]}, (Estimator, "part"), id="a head"
    ),
    pytest.param(path_patching, {"receiver": "logits"}, (PATHS, "_patched"), id="paths"),
    pytest.param(
        path_patching,
        {"receiver": ("v", 1, 0), "sender": "embed", "at": ["audio", "question"]},
        (PATHS, "_patched"),
        id="paths from spans",
    ),
]


@pytest.mark.parametrize(("patching", "options", "measures"), KINDS)
def test_a_run_that_was_stopped_is_taken_up_and_ends_in_the_same_map(
    toy, asked, tmp_path, stopped_once, patching, options, measures
):
    whole = patching(toy, asked, batch_size=2, **options)
    seen = stopped_once(*measures)
    with pytest.raises(KeyboardInterrupt):
        patching(toy, asked, batch_size=2, out=tmp_path, **options)
    again = patching(toy, asked, batch_size=2, out=tmp_path, **options)
    ids = [question.id for question in asked]
    assert [part.ids for part in seen] == [tuple(ids[start : start + 2]) for start in (0, 2, 4)]  # none of them twice
    assert again.values.tobytes() == whole.values.tobytes()
    assert (again.axes, again.heads, again.clips, again.ids) == (whole.axes, whole.heads, whole.clips, whole.ids)
    assert again.provenance.settings == whole.provenance.settings
    seen.clear()
    kept = patching(toy, asked, batch_size=2, out=tmp_path, **options)
    assert not seen
    assert (kept.values.tobytes(), kept.axes, kept.heads) == (whole.values.tobytes(), whole.axes, whole.heads)


def test_a_run_that_is_taken_up_where_more_fits_at_once_has_the_batches_that_it_began_with(
    toy, asked, tmp_path, monkeypatch, stopped_once
):
    for room, ends in ((250, False), (4_000, True)):
        monkeypatch.setattr(kept_batches, "positions_that_fit", lambda _, room=room: room)
        if ends:
            found = path_patching(toy, asked, receiver="logits", out=tmp_path)
            continue
        seen = stopped_once(PATHS, "_patched")
        with pytest.raises(KeyboardInterrupt):
            path_patching(toy, asked, receiver="logits", out=tmp_path)
    ids = [question.id for question in asked]
    assert [part.ids for part in seen] == [tuple(ids[start : start + len(seen[0].ids)]) for start in _starts(seen)]
    assert 1 <= len(seen[0].ids) < len(ids)
    assert found.ids == tuple(ids)


def _starts(parts):
    return range(0, sum(len(part.ids) for part in parts), len(parts[0].ids))


def test_a_batch_whose_save_was_killed_before_its_arrays_were_in_place_is_whole_when_it_is_taken_up(
    toy, asked, tmp_path
):
    whole = path_patching(toy, asked[:2], receiver="logits", out=tmp_path)
    files = sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*"))
    for arrays in tmp_path.rglob("arrays.npz"):
        arrays.rename(arrays.with_name(f".arrays.npz.{digest_of_file(arrays)}"))
    kept = path_patching(toy, asked[:2], receiver="logits", out=tmp_path)
    assert kept.values.tobytes() == whole.values.tobytes()
    assert sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*")) == files


def test_a_plan_that_is_damaged_is_named(toy, asked, tmp_path):
    path_patching(toy, asked[:2], receiver="logits", out=tmp_path)
    (tmp_path / "pairs" / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"plan\.json' is damaged: put it back as it was, or give another out="):
        path_patching(toy, asked[:2], receiver="logits", out=tmp_path)


@pytest.mark.parametrize(
    ("patching", "options", "changes", "told"),
    [
        (
            attribution_patching,
            {"over": ("layer", "role")},
            {"method": "eap-ig"},
            "method was 'gradient' and is 'eap-ig'",
        ),
        (
            attribution_patching,
            {"over": ("layer", "role")},
            {"metric": "margin"},
            "metric was 'logit_difference' and is",
        ),
        (
            attribution_patching,
            {"over": ("layer", "role")},
            {"target": ["A"] * 2},
            r"target was None and is \('A', 'A'\)",
        ),
        (path_patching, {"receiver": "logits"}, {"mlps": "recomputed"}, "mlps was 'frozen' and is 'recomputed'"),
        (path_patching, {"receiver": "logits"}, {"receiver": ("mlp", 3)}, "receiver was 'logits' and is 'mlp 3'"),
        (
            path_patching,
            {"receiver": "logits"},
            {"direction": "denoising"},
            "direction was 'noising' and is 'denoising'",
        ),
    ],
)
def test_another_run_in_the_folder_is_refused_with_what_differs(toy, asked, tmp_path, patching, options, changes, told):
    patching(toy, asked[:2], out=tmp_path, **options)
    with pytest.raises(ValueError, match=f"is of another run: .*{told}.*give another out="):
        patching(toy, asked[:2], out=tmp_path, **options | changes)


def test_the_folder_of_one_kind_of_patching_is_none_of_another(toy, asked, tmp_path):
    attribution_patching(toy, asked[:2], over=("layer", "role"), out=tmp_path)
    with pytest.raises(ValueError, match=r"is of another run: .*method was 'gradient' and is None"):
        ma.analyses.activation_patching(toy, asked[:2], over=("layer", "role"), out=tmp_path)


@pytest.mark.parametrize(
    ("patching", "options"), [(attribution_patching, {"over": ("layer",)}), (path_patching, {"receiver": "logits"})]
)
def test_kept_pairs_of_other_questions_or_weights_are_refused(asked, tmp_path, patching, options):
    model = ma.load("toy", prove=False)
    patching(model, asked[:2], out=tmp_path, **options)
    with pytest.raises(ValueError, match="the questions, or what is heard, are others"):
        patching(model, asked[2:4], out=tmp_path, **options)
    with torch.no_grad():
        next(model.network.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="the network, its weights or its settings, is another"):
        patching(model, asked[:2], out=tmp_path, **options)


def test_a_folder_that_cannot_be_is_refused_before_anything_runs(toy, asked, tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    for patching, options in ((attribution_patching, {"over": ("layer",)}), (path_patching, {"receiver": "logits"})):
        with pytest.raises(
            NotADirectoryError, match=r"a run is kept in a folder, and .*out' is a link that leads nowhere"
        ):
            patching(toy, asked[:2], out=tmp_path / "out", **options)


def test_estimates_are_read_back_as_they_were(toy, asked, tmp_path):
    found = attribution_patching(toy, asked[:2], over=("layer", "head"), out=tmp_path)
    (kept,) = (ma.Result.load(place.parent) for place in tmp_path.rglob("result.json"))
    assert kept.ids == found.ids
    assert kept.heads == found.axes["head"]
    np.testing.assert_array_equal(kept.values[:, :, 0], found.values)

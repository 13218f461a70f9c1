"""Activation patching: the toy's planted head and second, exactness, and what the two directions say."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import EffectMap, activation_patching, agreement, attribution_patching
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.models.toy.planted import PLANTED
from mechaudio.results import Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import NoSuchHookPoint
from tests.families import network, unchecked_types

ACTIVATION_PATCHING = import_module("mechaudio.analyses.patching.activation_patching")
questions = ma.data.toy_questions.questions
LOUD = {"level": (-8.0, 0.0)}


@pytest.fixture(scope="module")
def asked():
    return questions(6, seed=0, **LOUD)


def test_denoising_and_noising_both_single_out_the_planted_head(toy, asked):
    restored = activation_patching(toy, asked, over=("layer", "head"))
    broken = activation_patching(toy, asked, over=("layer", "head"), direction="noising")
    expected = np.zeros((PLANTED.n_layers, PLANTED.n_heads))
    expected[PLANTED.listening] = 1.0
    np.testing.assert_allclose(restored.mean(), expected, atol=1e-4)
    np.testing.assert_allclose(broken.mean(), 1 - expected, atol=1e-4)
    layer, head = PLANTED.listening
    for found in (restored, broken):
        ((place, _),) = found.top(1)
        assert place == {"layer": layer, "head": head}
        assert found.undefined == ()
        assert set(found.ways) == {"shared prefix"}
    assert restored.flips.argmax() == np.ravel_multi_index(PLANTED.listening, expected.shape)


def test_the_tower_has_one_head_that_matters(toy, asked):
    found = activation_patching(toy, asked, over=("layer", "head"), hook_point="audio.z")
    expected = np.zeros((2, 4))
    expected[PLANTED.joining] = 1.0
    np.testing.assert_allclose(found.mean(), expected, atol=1e-4)


@pytest.mark.parametrize("hook_point", ["resid_pre", "audio.resid_post"])
def test_the_planted_second_carries_the_answer(toy, asked, hook_point):
    found = activation_patching(toy, asked, over=("layer", "second"), hook_point=hook_point)
    assert found.axes["second"] == (0.0, 1.0, 2.0, 3.0)
    effect = found.per_pair()[0]  # before the listening layer; every layer of the tower
    planted = [question.meta["second"] for question in asked]
    assert effect.argmax(0).tolist() == planted
    silent = [[second for second in range(4) if second not in _sung(question)] for question in asked]
    for pair, seconds in enumerate(silent):
        np.testing.assert_allclose(effect[seconds, pair], 0.0, atol=1e-4)


def _sung(question):
    return {int(event.onset) for event in question.events}


def test_roles_tell_where_the_answer_moves_to_the_last_position(toy, asked):
    mean = activation_patching(toy, asked, over=("layer", "role")).mean()
    after = PLANTED.listening[0] + 1
    roles = ("audio", "question", "choices", "template", "last")
    expected = [[float(role == ("audio" if layer < after else "last")) for role in roles] for layer in range(4)]
    np.testing.assert_allclose(mean, expected, atol=1e-4)


@pytest.mark.parametrize(
    "hook_point",
    [
        "resid_pre",
        "attn_out",
        "z",
        "k",
        "pattern",
        *(pytest.param(name, marks=pytest.mark.whole) for name in ("resid_mid", "mlp_out", "q", "v")),
    ],
)
def test_shared_or_one_by_one_every_hook_point_gives_the_same(toy, asked, hook_point):
    settings = {"over": ("layer", "role"), "hook_point": hook_point}
    shared = activation_patching(toy, asked[:2], **settings)
    alone = activation_patching(toy, asked[:2], one_by_one=True, **settings)
    np.testing.assert_allclose(shared.logits, alone.logits, atol=1e-4)
    assert shared.axes == alone.axes
    assert shared.ways == ("shared prefix",)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.bits
def test_patching_everything_gives_the_other_run_to_the_last_bit(toy, asked, direction):
    found = activation_patching(
        toy, asked, over=("layer",), hook_point="resid_post", direction=direction, one_by_one=True
    )
    other = found.clean_logits if direction == "denoising" else found.corrupted_logits
    assert np.array_equal(found.logits, np.broadcast_to(other, found.logits.shape))
    np.testing.assert_array_equal(found.mean(), np.full(4, 1.0 if direction == "denoising" else 0.0))


@pytest.mark.bits
def test_patching_an_activation_with_itself_changes_no_bit(toy, asked):
    batch = ma.prompt(toy, asked)
    out = ma.run(toy, batch, record=["resid_pre", "z", "pattern", "audio.z"])
    for name, layer in out.cache:
        patch = ma.Patch(name, out.cache[name, layer], layer)
        assert torch.equal(ma.run(toy, batch, interventions=[patch]).logits, out.logits)


def test_positions_outside_the_place_are_left_alone(toy, asked):
    found = activation_patching(toy, asked, over=("layer", "head"), positions="question")
    np.testing.assert_allclose(found.mean(), 0.0, atol=1e-4)
    last = activation_patching(toy, asked, over=("layer", "head"), positions="last")
    assert last.mean()[PLANTED.listening] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("measure", [activation_patching, attribution_patching])
def test_positions_that_select_nothing_are_refused_with_what_there_is(toy, asked, measure):
    with pytest.raises(
        ValueError, match=r"'audio\[20:30\]' names no position of question '.+', whose prompt has .*4\.00 s"
    ):
        measure(toy, asked[:2], over=("layer", "head"), positions="audio[20:30]")


def test_positions_that_one_prompt_lacks_are_refused_where_prompts_are_not_divided():
    model = ma.load("tiny", prove=False)
    asked = [ma.data.soundscapes.questions(1, seed=seed, duration=seconds)[0] for seed, seconds in ((0, 5.0), (1, 3.0))]
    with pytest.raises(
        ValueError, match=f"no position of question '{asked[1].id}', whose prompt has .*3.00 s of sound"
    ):
        activation_patching(model, asked, over=("layer", "head"), positions="audio[4:5]")


def test_every_metric_is_read_off_the_same_runs(toy, asked):
    found = activation_patching(toy, asked, over=("layer", "head"), positions="last")
    for metric in ("margin", "probability", "answer"):
        other = found.by(metric)
        direct = activation_patching(toy, asked, over=("layer", "head"), positions="last", metric=metric)
        np.testing.assert_allclose(other.values, direct.values, atol=1e-5)
        assert other.mean()[PLANTED.listening] == pytest.approx(1.0, abs=1e-4)
    assert found.by("answer").undefined == tuple(q.id for q in asked if q.answer_letter == "A")  # silence says A too


def test_an_answer_whose_text_stands_twice_is_one_answer(toy, asked):
    found = activation_patching(toy, asked[:2], over=("layer",), metric="answer")
    assert found.texts.tolist() == [list(range(len(question.choices))) for question in asked[:2]]
    shape = found.logits.shape
    first, second = (np.eye(shape[-1])[place] for place in (0, 1))
    moved = replace(
        found, direction="noising", clean_logits=np.tile(first, (2, 1)), logits=np.broadcast_to(second, shape)
    )
    np.testing.assert_array_equal(moved.flips, 1.0)
    twice = replace(moved, texts=np.array([[0, 0, *range(2, shape[-1])], [*range(shape[-1])]]))
    np.testing.assert_array_equal(twice.flips, 0.5)
    np.testing.assert_array_equal(twice.by("answer").values, np.broadcast_to([1.0, 0.0], shape[:-1]))
    repeated = [replace(question, choices=(question.answer, question.answer, "?")) for question in asked[:2]]
    assert activation_patching(toy, repeated, over=("layer",), layers=0).texts.tolist() == [[0, 0, 2]] * 2


def test_batches_and_places_that_some_pairs_lack_are_put_together():
    model = ma.load("tiny", prove=False)
    asked = [ma.data.soundscapes.questions(1, seed=seed, duration=seconds)[0] for seed, seconds in ((0, 3.0), (1, 5.0))]
    together = activation_patching(model, asked, over=("layer", "second"), layers=[0, 1])
    apart = activation_patching(model, asked, over=("layer", "second"), layers=[0, 1], batch_size=1)
    assert together.axes == apart.axes
    np.testing.assert_allclose(together.logits, apart.logits, atol=2e-4)
    assert np.isnan(together.values[:, 3:, 0]).all()
    assert not np.isnan(together.values[:, :, 1]).any()


@pytest.mark.parametrize("hook_point", ["z", "pattern"])
def test_places_that_some_pairs_lack_share_what_they_are_patched_with(hook_point):
    """A tensor for every layer and one for pairs that lack a place; not one for every place."""
    model = ma.load("tiny", prove=False)
    clips = [(seed, seconds) for seed, seconds in enumerate((2.0, 3.0, 4.0))]
    asked = [ma.data.soundscapes.questions(1, seed=seed, duration=seconds)[0] for seed, seconds in clips]
    pair = ma.analyses.contrast(model, asked)
    wanted = PatchedPlaces(model, ("layer", "second"), hook_point, "denoising", [0, 3], None, None, 0.5)
    given = ma.run(model, pair.clean, record=[wanted.point]).cache
    made = wanted.patches(pair, given, pair.corrupted)
    patches = [own.make(layer, None) for layer in wanted.layers for own in made[layer].values()]
    assert len(patches) == 2 * 8
    assert len({patch.value.data_ptr() for patch in patches}) == 2 * 2


def test_a_caption_is_patched_like_a_sound(toy):
    sides = [ma.prompt(toy, questions(4, seed=2, conflict=conflict), condition="caption") for conflict in (False, True)]
    found = activation_patching(toy, sides[0], corrupted=sides[1], over=("layer", "head"), positions="last")
    expected = np.zeros((4, 4))
    expected[PLANTED.reading] = 1.0
    np.testing.assert_allclose(found.mean(), expected, atol=1e-4)


def test_heads_that_are_not_an_axis_are_patched_together(toy, asked):
    layer, head = PLANTED.listening
    with_it = activation_patching(toy, asked, over=("layer",), hook_point="z", heads=[head, 3], layers=layer)
    without = activation_patching(toy, asked, over=("layer",), hook_point="z", heads=[0, 1, 3], layers=layer)
    assert (with_it.mean()[0], without.mean()[0]) == pytest.approx((1.0, 0.0), abs=1e-4)
    assert (with_it.heads, without.heads) == ((head, 3), (0, 1, 3))


def test_a_map_is_saved_loaded_and_labelled(toy, asked, tmp_path):
    found = activation_patching(toy, asked, over=("layer", "event"))
    again = Result.load(found.save(tmp_path))
    assert (again.axes, again.heads, again.window_seconds) == (found.axes, None, 1.0)
    assert np.array_equal(again.logits, found.logits)
    data = again.to_xarray()
    assert data["mean"].dims == ("layer", "event")
    assert float(data["mean"].sel(layer=0, event="answer's event")) > 0.9
    assert repr(again) == "<PatchingMap of resid_pre, 4 layers x 3 events, denoising, on 6 pairs>"


def test_pairs_without_a_difference_are_named_and_counted(toy, asked):
    deaf = replace(asked[0], audio=ma.AudioClip(np.zeros(64000, dtype=np.float32), 16000), id="deaf")
    found = activation_patching(toy, [*asked, deaf], over=("layer", "head"), positions="last")
    assert found.undefined == ("deaf",)
    assert "1 of them without a difference" in repr(found)
    assert found.mean()[PLANTED.listening] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": ("layer", "minute")}, "over= is one of .*got"),
        ({"over": "minute"}, "over= is one of .*got"),
        ({"over": ("role", "second", "layer")}, "at most one of"),
        ({"over": ("head",)}, "over= has to name 'layer'"),
        ({"over": ("layer",), "hook_point": "embed"}, "leave 'layer' out"),
        ({"over": ("layer", "head"), "hook_point": "resid_pre"}, "has no axis of heads"),
        ({"over": ("layer", "role"), "hook_point": "audio.z"}, "frames of the audio tower"),
        ({"over": ("layer",), "hook_point": "mass"}, "patch pattern or z"),
        ({"over": ("second",), "hook_point": "logits"}, "cannot be patched at places"),
        ({"direction": "both"}, "direction= is one of 'denoising', 'noising'; got 'both'"),
        ({"metric": "loss"}, "metric= is one of"),
    ],
)
def test_maps_that_cannot_be_are_refused(toy, asked, settings, message):
    with unchecked_types(), pytest.raises(ValueError, match=message):
        activation_patching(toy, asked, **settings)


def test_the_length_of_windows_is_one_number(toy, asked):
    for over in (("layer", "second"), ("layer", "head")):
        with unchecked_types(), pytest.raises(TypeError, match=r"window_seconds= takes a number; got '1'$"):
            activation_patching(toy, asked, over=over, window_seconds="1")


def test_heads_and_hook_points_that_do_not_exist_are_refused(toy, asked):
    with pytest.raises(IndexError, match="no head 9"):
        activation_patching(toy, asked, over=("layer", "head"), heads=[9])
    model = AudioLM(network("vibevoice_asr"), prove=False)
    with pytest.raises(NoSuchHookPoint):
        activation_patching(model, asked, over=("layer", "head"), hook_point="audio.z")


def made(mean, **other):
    n = 3
    settings = {
        "axes": {"layer": tuple(range(len(mean)))}, "values": np.repeat(np.array(mean)[:, None], n, axis=1),
        "clean": np.ones(n), "corrupted": np.zeros(n), "metric": "margin", "direction": "denoising",
        "hook_point": "z", "ids": ("a", "b", "c"), "provenance": ma.results.Provenance.collect(None),
    }  # fmt: skip
    return EffectMap(**settings | other)


def test_agreement_of_two_maps():
    exact, close = made([0.0, 0.5, 1.0, 0.1]), made([0.0, 0.4, 0.8, 0.1])
    found = agreement(close, exact)
    assert found["pearson"] > 0.99
    assert found["spearman"] == pytest.approx(1.0)
    assert found["error"] == pytest.approx(0.2)
    assert found["top"] == 1.0
    with pytest.raises(ValueError, match="another metric"):
        agreement(close, made([0.0, 0.5, 1.0, 0.1], metric="answer"))
    with pytest.raises(ValueError, match="at least three places"):
        agreement(made([0.0, 1.0]), made([0.0, 1.0]))


MAP = {"over": ("layer", "head"), "batch_size": 2}


@pytest.fixture
def runs(monkeypatch):
    """Which batches are run, by the ids of their questions; the second is stopped while `stopping` holds something."""
    seen, stopping = [], []

    def patched(wanted, pair, *rest, **options):
        if stopping and len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(pair.ids)
        return original(wanted, pair, *rest, **options)

    original = ACTIVATION_PATCHING.patched_at
    monkeypatch.setattr(ACTIVATION_PATCHING, "patched_at", patched)
    return seen, stopping


def test_a_run_that_was_stopped_is_taken_up_and_ends_in_the_same_map(toy, asked, tmp_path, runs):
    seen, stopping = runs
    whole = activation_patching(toy, asked, **MAP)
    seen.clear()
    stopping.append(True)
    with pytest.raises(KeyboardInterrupt):
        activation_patching(toy, asked, out=tmp_path, **MAP)
    stopping.clear()
    again = activation_patching(toy, asked, out=tmp_path, **MAP)
    ids = [question.id for question in asked]
    assert seen == [tuple(ids[start : start + 2]) for start in (0, 2, 4)]  # none of them twice
    assert again.logits.tobytes() == whole.logits.tobytes()
    assert again.axes == whole.axes
    assert again.clips == whole.clips


@pytest.mark.parametrize("heads", [None, [-1], [1, 0]])
def test_a_run_of_which_all_is_kept_runs_nothing(toy, asked, tmp_path, runs, heads):
    over = ("layer",) if heads == [-1] else ("layer", "head")
    options = {"over": over, "heads": heads, "hook_point": "z", "out": tmp_path}
    first = activation_patching(toy, asked, **options)
    runs[0].clear()
    again = activation_patching(toy, asked, metric="margin", **options)
    assert runs[0] == []
    assert (again.axes, again.heads) == (first.axes, first.heads)
    np.testing.assert_array_equal(again.values, first.by("margin").values)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"over": ("layer", "role")}, r"over was \('layer', 'head'\) and is \('layer', 'role'\)"),
        ({"direction": "noising"}, "direction was 'denoising' and is 'noising'"),
        ({"batch_size": 3}, "batch_size was 2 and is 3"),
        (
            {"corrupted": ma.data.toy_questions.counterparts(questions(6, seed=0, **LOUD), "clip")},
            "the questions, or what is heard, are others",
        ),
    ],
)
def test_another_run_in_the_folder_is_refused_with_what_differs(toy, asked, tmp_path, changes, told):
    activation_patching(toy, asked, out=tmp_path, **MAP)
    with pytest.raises(ValueError, match=f"is of another run: .*{told}.*give another out="):
        activation_patching(toy, asked, out=tmp_path, **MAP | changes)


def test_a_kept_batch_of_other_weights_or_with_other_bytes_is_refused(asked, tmp_path):
    model = ma.load("toy", prove=False)
    activation_patching(model, asked, out=tmp_path, **MAP)
    arrays = tmp_path / "pairs" / "000001" / "arrays.npz"
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(ValueError, match=r"arrays\.npz"):
        activation_patching(model, asked, out=tmp_path, **MAP)
    with torch.no_grad():
        next(model.network.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="the network, its weights or its settings, is another"):
        activation_patching(model, asked, out=tmp_path, **MAP)

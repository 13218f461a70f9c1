"""Attribution patching: equal to patching where everything behind is a line, and what each method mends elsewhere."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import activation_patching, agreement, attribution_patching
from mechaudio.analyses.patching.estimates import METHODS
from mechaudio.analyses.patching.pairs import contrast
from mechaudio.data.toy_questions import questions
from mechaudio.models.toy.planted import PLANTED
from mechaudio.tracing.choice_logits import choice_logits
from tests.families import ASKED, network, noise, processor, unchecked_types
from tests.shorter import shorter

HEARS = PLANTED.listening
#: Maps over seconds in front of all that mixes time.
WHERE_A_CLIP_IS_HEARD = [
    (attribution_patching, {"over": ("second",), "hook_point": "features"}),
    (activation_patching, {"over": ("layer", "second"), "hook_point": "audio.resid_pre", "layers": [0]}),
]


@pytest.fixture(scope="module")
def exact_in_toy(toy, asked):
    """What patching measures in the toy, whatever it is compared with."""
    return cache(lambda **settings: activation_patching(toy, asked, **settings))


@pytest.fixture(scope="module")
def exact_in_small_steps(tiny, scenes):
    """What patching measures between two clips that hardly differ; another metric needs no other run."""
    return cache(
        lambda **settings: activation_patching(tiny, scenes[:2], corrupted=nearly(scenes[:2], 2e-3), **settings)
    )


@pytest.mark.parametrize("method", ["gradient", "integrated", "eap-ig"])
@pytest.mark.parametrize(
    ("over", "hook_point", "direction"),
    [
        pytest.param(("layer", "head"), "z", "noising", marks=pytest.mark.whole),
        (("layer", "head", "role"), "z", "denoising"),
        pytest.param(("layer", "role"), "mlp_out", "noising", marks=pytest.mark.whole),
        (("layer", "position"), "attn_out", "denoising"),
    ],
)
def test_where_everything_behind_is_a_line_the_estimate_is_the_effect(
    toy, asked, exact_in_toy, over, hook_point, method, direction
):
    """Behind the listening head the toy multiplies what it heard by numbers that no pair changes."""
    settings = {"over": over, "hook_point": hook_point, "direction": direction}
    exact = exact_in_toy(**settings)
    estimated = attribution_patching(toy, asked, method=method, steps=3, **settings)
    assert estimated.axes == exact.axes
    assert estimated.ids == exact.ids
    np.testing.assert_allclose(estimated.clean, exact.clean, atol=1e-5)
    np.testing.assert_allclose(estimated.corrupted, exact.corrupted, atol=1e-5)
    np.testing.assert_allclose(estimated.values, exact.values, atol=1e-5)
    assert agreement(estimated, exact)["pearson"] > 0.999999


@pytest.mark.parametrize("method", [method for method in METHODS if method != "qk-fix"])
def test_the_planted_head_is_found(toy, asked, method):
    estimated = attribution_patching(toy, asked, over=("layer", "head"), method=method, steps=4)
    (place, _), *_ = estimated.top(1)
    assert (place["layer"], place["head"]) == HEARS


@pytest.mark.parametrize("hook_point", ["resid_pre", "v", "embed"])
def test_the_planted_second_is_found(toy, asked, hook_point):
    over = ("second",) if hook_point == "embed" else ("layer", "second")
    estimated = attribution_patching(
        toy, asked, over=over, hook_point=hook_point, method="integrated", steps=4, direction="noising"
    )
    layer = HEARS[0] - (hook_point == "resid_pre")
    effects = estimated.change if hook_point == "embed" else estimated.change[layer]
    for index, question in enumerate(asked):
        first = min(event.onset for event in question.events)
        assert int(np.nanargmax(np.abs(effects[:, index]))) == int(first)


@pytest.mark.parametrize("over", [("layer", "head"), ("layer", "head", "second"), ("layer", "head", "role")])
def test_a_saturated_head_has_no_gradient_and_the_fix_gives_its_effect(toy, over):
    """At 0 dB the listening head lies wholly on the first voice; with silent keys it would rest on `<|begin|>`."""
    loud = list(questions(4, seed=0, level=(0.0, 0.0)))
    settings = {"over": over, "hook_point": "k", "direction": "noising"}
    exact = activation_patching(toy, loud, **settings)
    line = attribution_patching(toy, loud, method="gradient", **settings)
    fixed = attribution_patching(toy, loud, method="qk-fix", **settings)
    here = (*HEARS,) if len(over) == 2 else (*HEARS, slice(None))
    effect = np.nanmax(np.abs(exact.change[here]))
    assert effect > 3
    np.testing.assert_allclose(fixed.values, exact.values, atol=1e-5)
    assert np.nanmax(np.abs(line.values - exact.values)) > 0.7 * effect
    if over == ("layer", "head"):
        assert np.abs(line.change[here].mean()) < 0.15 * np.abs(exact.change[here].mean())


def test_the_fix_at_queries_is_the_effect_too_where_everything_behind_is_a_line(tiny, scenes):
    """In the last layer, at the last position, only the layer itself and the final norm lie behind."""
    last = tiny.n_layers - 1
    settings = {"over": ("layer", "head"), "layers": [last], "positions": "last"}
    exact = activation_patching(tiny, scenes, hook_point="q", **settings)
    line = attribution_patching(tiny, scenes, hook_point="q", **settings)
    fixed = attribution_patching(tiny, scenes, hook_point="q", method="qk-fix", **settings)
    assert np.abs(fixed.values - exact.values).sum() < np.abs(line.values - exact.values).sum()


def nearly(asked, amount):
    """The same questions with a little noise over their clips."""
    rng = np.random.default_rng(0)
    other = []
    for question in asked:
        clip = question.audio
        wave = clip.waveform * (1 + amount * rng.standard_normal(len(clip.waveform)))
        other.append(replace(question, audio=ma.AudioClip(wave, clip.sample_rate)))
    return other


@pytest.mark.parametrize(
    "hook_point", ["resid_pre", "audio.resid_post", pytest.param("features", marks=pytest.mark.whole)]
)
def test_integrated_gradients_of_a_layer_sum_to_the_effect_of_all_of_it(tiny, scenes, hook_point):
    """Completeness: patching everything that differs gives the clean run."""
    over = ("band", "second") if hook_point == "features" else ("layer", "second")
    layers = {} if hook_point == "features" else {"layers": [0]}
    settings = {"over": over, "hook_point": hook_point, "window_seconds": 10.0, **layers}
    found = attribution_patching(
        tiny, scenes[:1], corrupted=nearly(scenes[:1], 0.02), method="integrated", steps=12, **settings
    )
    whole = found.clean - found.corrupted
    np.testing.assert_allclose(np.nansum(found.change, axis=(0, 1)), whole, atol=0.02 * np.abs(whole).max())


@pytest.mark.parametrize(
    ("hook_point", "over", "layers", "metric"),
    [  # every kind of hook point with one metric, and every metric at three of them
        pytest.param("resid_mid", ("layer", "second"), None, "probability", marks=pytest.mark.whole),
        ("z", ("layer", "head"), None, "probability"),
        pytest.param("pattern", ("layer", "head"), None, "probability", marks=pytest.mark.whole),
        ("q", ("layer", "head"), None, "probability"),
        pytest.param("audio.resid_post", ("layer", "second"), (0, 2), "probability", marks=pytest.mark.whole),
        ("audio.k", ("layer", "head"), None, "probability"),
        ("embed", ("role",), None, "probability"),
        *(
            pytest.param(hook_point, over, None, metric, marks=pytest.mark.whole)
            for hook_point, over in (("z", ("layer", "head")), ("audio.k", ("layer", "head")), ("embed", ("role",)))
            for metric in ("logit_difference", "margin")
        ),
    ],
)
def test_small_changes_are_estimated_as_they_are(tiny, scenes, exact_in_small_steps, hook_point, over, layers, metric):
    """Between two clips that hardly differ every function is a line: estimates are effects, at every hook point."""
    settings = {"over": over, "hook_point": hook_point, "layers": layers}
    exact = exact_in_small_steps(**settings).by(metric)
    estimated = attribution_patching(tiny, scenes[:2], corrupted=nearly(scenes[:2], 2e-3), metric=metric, **settings)
    assert estimated.axes == exact.axes
    change, known = estimated.change, exact.change
    assert np.array_equal(np.isnan(change), np.isnan(known))
    flat, real = change[~np.isnan(known)], known[~np.isnan(known)]
    assert np.corrcoef(flat, real)[0, 1] > 0.97


def test_dropping_gradients_averages_over_the_other_layers(toy, asked):
    plain = attribution_patching(toy, asked, over=("layer", "head"))
    dropped = attribution_patching(toy, asked, over=("layer", "head"), method="atp*")
    behind = 1 / (toy.n_layers - 1)  # all goes through the last layer's MLP: without that layer nothing is left
    share = dropped.change[HEARS] / plain.change[HEARS]
    np.testing.assert_allclose(share, 1 - behind, rtol=1e-5)


LATER = {"z": (2, 3), "mlp_out": (2, None), "resid_mid": (4, None)}


@pytest.mark.whole
@pytest.mark.parametrize("hook_point", LATER)
def test_effects_that_cancel_have_no_gradient_and_dropping_layers_finds_them(scenes, hook_point):
    """The unembedding is turned so that what a place does directly is undone by what the layers behind make of it.

    All is worked out from runs alone: the change of the normed last row for a small step from base to source, with all
    layers computed anew, or with one of them held at what it adds in the base run.
    """
    model, (layer, head) = shorter(), LATER[hook_point]
    pair = contrast(model, scenes[:1])
    at = ma.HookPoint(hook_point, layers=[layer])
    added = ["attn_out", "mlp_out"]
    base = ma.run(model, pair.corrupted, record=sorted({hook_point, *added, "final_norm"}), logits="last")
    source = ma.run(model, pair.clean, record=[at], logits="last")
    ours, theirs = base.cache[hook_point, layer], source.cache[hook_point, layer]
    step = torch.zeros_like(ours)
    step[:, -1] = (theirs - ours)[:, -1]
    if head is not None:
        step[:, :, [other for other in range(step.shape[2]) if other != head]] = 0.0

    def written(held=None, size=0.02):
        kept = [] if held is None else [ma.Patch(name, base.cache[name, held], held) for name in added]
        ends = []
        for sign in (1, -1):
            moved = ma.Patch(hook_point, ours + sign * size * step, layer)
            out = ma.run(model, pair.corrupted, record=["final_norm"], interventions=[moved, *kept])
            ends.append(out.cache["final_norm"][0, -1].double())
        return (ends[0] - ends[1]) / (2 * size)

    whole = written()
    ends = choice_logits(pair.clean, source.logits[:, -1]), choice_logits(pair.corrupted, base.logits[:, -1])
    wrong = int(pair.wrong(*ends)[0])
    right = pair.clean.questions[0].choices.index(pair.clean.questions[0].answer)
    letters = [pair.clean.choice_ids[0][choice] for choice in (right, wrong)]
    weight = model.network.lm_head.weight
    with torch.no_grad():
        towards = (weight[letters[0]] - weight[letters[1]]).double()
        size = float(towards @ whole)
        weight[letters[0]] -= ((towards @ whole) / (whole @ whole) * whole).float()
        towards = (weight[letters[0]] - weight[letters[1]]).double()
    mine = [other for other in range(model.n_layers) if hook_point.startswith("resid") or other != layer]
    without = np.array([float(towards @ written(held)) for held in mine])
    assert np.abs(without).max() > 0.05 * abs(size)  # single paths do something

    over = ("layer",) if head is None else ("layer", "head")
    settings = {"over": over, "hook_point": hook_point, "positions": "last", "layers": [layer]}
    plain = attribution_patching(model, scenes[:1], **settings)
    here = (0, 0) if head is None else (0, head, 0)
    assert abs(plain.change[here]) < 0.01 * np.abs(without).max()
    dropped = attribution_patching(model, scenes[:1], method="atp*", **settings)
    expected = np.sign(without.mean()) * np.abs(without).mean()
    assert dropped.change[here] == pytest.approx(expected, rel=0.03)


def test_the_part_of_the_spectrogram_that_decides_is_the_first_voices_own(toy):
    """Each voice is a sine: its band in its second."""
    asked = list(questions(4, seed=0, level=(-10.0, -10.0)))
    found = attribution_patching(
        toy, asked, over=("second", "band"), hook_point="features", direction="noising", method="integrated", steps=16
    )
    assert tuple(found.axes) == ("band", "second")
    lost = found.corrupted - found.clean
    for index, question in enumerate(asked):
        first = min(question.events, key=lambda event: event.onset)
        change = found.change[..., index]
        band, second = np.unravel_index(np.nanargmax(np.abs(change)), change.shape)
        assert found.axes["second"][second] == int(first.onset)
        assert change[band, second] / lost[index] > 0.2


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("qwen2_audio", torch.float32),
        ("granite_speech", torch.bfloat16),
        pytest.param("voxtral", torch.bfloat16, marks=pytest.mark.whole),
        pytest.param("gemma3n", torch.float32, marks=pytest.mark.whole),
    ],
)
def test_families(family, dtype):
    assert family in ASKED
    model = ma.AudioLM(network(family, dtype=dtype), processor(family), prove=False)
    asked = [
        ma.AudioQuestion(ma.AudioClip(noise(2.0, seed), 16_000), "What?", ("dog", "car"), answer="dog", id=str(seed))
        for seed in range(2)
    ]
    for hook_point, over in (("z", ("layer", "head")), ("resid_pre", ("layer", "role")), ("features", ("second",))):
        found = attribution_patching(model, asked, over=over, hook_point=hook_point)
        assert np.isfinite(found.values).all()
        assert np.abs(found.change).max() > 0


def test_weights_are_left_as_they_were(tiny, scenes):
    wanting = [parameter.requires_grad for parameter in tiny.network.parameters()]
    attribution_patching(tiny, scenes[:1])
    assert [parameter.requires_grad for parameter in tiny.network.parameters()] == wanting
    assert all(parameter.grad is None for parameter in tiny.network.parameters())


def test_a_map_is_saved_and_read_back(tmp_path, toy, asked):
    found = attribution_patching(toy, asked[:2], over=("layer", "head"), method="integrated", steps=2)
    again = ma.Result.load(found.save(tmp_path / "map"))
    assert np.array_equal(again.values, found.values)
    assert (again.method, again.steps, again.axes) == (found.method, found.steps, found.axes)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "gradients"}, "method= is one of 'gradient', 'integrated'"),
        ({"metric": "answer"}, "has no gradient: take 'logit_difference'"),
        ({"metric": "loss"}, "metric= is one of"),
        ({"method": "qk-fix"}, "'resid_pre' is neither: name 'q' or 'k'"),
        ({"method": "integrated", "steps": 0}, "from 1 on; got 0"),
        ({"method": "integrated", "steps": 2.5}, "steps= takes a whole number; got 2.5"),
        ({"over": ("layer",), "hook_point": "z", "heads": [1, -3]}, "name one of 4 heads twice"),
        ({"over": ("layer", "head"), "layers": [1, -3]}, "name one layer twice"),
        ({"over": ("layer", "band"), "hook_point": "features"}, "goes over 'second', 'band' or both"),
        ({"over": ("second",), "hook_point": "features", "layers": [0]}, "leave layers="),
        ({"over": ("second",), "hook_point": "features", "direction": "back"}, "direction= is"),
        ({"over": ("layer", "role"), "hook_point": "audio.z"}, "frames of the audio tower"),
    ],
)
def test_mistakes_are_explained(toy, asked, settings, match):
    with unchecked_types(), pytest.raises((ValueError, TypeError), match=match):
        attribution_patching(toy, asked[:2], **settings)


def _asked_of(*recordings):
    rate = 16_000
    clips = [ma.AudioClip(np.asarray(samples, dtype=np.float32), rate) for samples in recordings]
    return ma.AudioQuestion(clips, "What is heard?", choices=("a dog", "rain"), answer="rain")


@pytest.mark.parametrize(("analysis", "settings"), WHERE_A_CLIP_IS_HEARD)
def test_a_second_of_a_long_clip_is_that_second_in_every_window_of_the_processor(analysis, settings):
    """Windows are 4 s here, those of the published network 60 s: the clips differ from 9.1 to 9.9 s."""
    model = ma.AudioLM(network("dots3_note"), processor("dots3_note"), prove=False)
    clean = np.random.default_rng(0).normal(0, 0.1, 160_000)
    other = clean.copy()
    other[145_600:158_400] = np.sin(np.arange(12_800) * 0.3)
    found = analysis(model, [_asked_of(clean)], corrupted=[_asked_of(other)], **settings)
    assert found.axes["second"] == tuple(range(12))
    assert np.nanargmax(np.abs(found.change).reshape(12)) == 9


@pytest.mark.parametrize(("analysis", "settings"), WHERE_A_CLIP_IS_HEARD)
def test_seconds_of_several_clips_are_refused_where_they_are_heard(analysis, settings):
    model = ma.AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)
    first, second, third = np.random.default_rng(0).normal(0, 0.1, (3, 16_000))
    with pytest.raises(ValueError, match="no time of their own: prompt 0 has several clips"):
        analysis(model, [_asked_of(first, second)], corrupted=[_asked_of(first, third)], **settings)


@pytest.mark.parametrize("analysis", [activation_patching, attribution_patching])
@pytest.mark.parametrize("hook_point", ["z", "audio.z"])
def test_a_head_that_there_is_not_is_named(toy, asked, analysis, hook_point):
    with pytest.raises(IndexError, match="no head 9: a layer has heads 0 to"):
        analysis(toy, asked[:2], over=("layer",), hook_point=hook_point, heads=[9])

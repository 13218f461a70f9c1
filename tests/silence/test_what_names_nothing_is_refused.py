"""What names nothing is refused: a position that a pass does not compute, a stretch that no clip has, a window beyond
the layers."""

import pytest
import torch

import mechaudio as ma
from mechaudio.data import toy_questions
from tests.families import model_inputs, network
from tests.families.build import unchecked_types
from tests.families.gemma4 import LAST_ALONE

#: In a generation, the last layers of Gemma 4 compute the last position of a prompt alone, and many classes its logits.
PARTLY_COMPUTED = [
    *(
        pytest.param("gemma4", point, [2], marks=pytest.mark.skipif(not LAST_ALONE, reason="they compute all of them"))
        for point in ("resid_post", "pattern")
    ),
    ("glmasr", "logits", None),
]


@pytest.fixture(scope="module")
def toy():
    return ma.load("toy")


@pytest.fixture(scope="module")
def asked():
    return toy_questions.questions(2, seed=0, level=(0.0, 0.0))


def at(point, layers, where):
    axis = "queries" if point == "pattern" else "positions"
    return ma.HookPoint(point, layers=layers, **{axis: where})


@pytest.mark.parametrize(("family", "point", "layers"), PARTLY_COMPUTED)
@pytest.mark.parametrize("where", [[-3], [-3, -1]])
def test_a_generation_does_not_keep_nothing_of_a_position_that_it_does_not_compute(family, point, layers, where):
    model, inputs = ma.AudioLM(network(family), prove=False), model_inputs(family)
    layer = None if layers is None else layers[0]
    whole = ma.run(model, inputs, record=[at(point, layers, where)]).cache[point, layer]
    with pytest.raises(ValueError, match=r"computed at the last position of a prompt alone .* ma\.run\(model, batch"):
        ma.generate(model, inputs, max_new_tokens=2, min_new_tokens=2, record=[at(point, layers, where)])
    first, second = ma.generate(
        model, inputs, max_new_tokens=2, min_new_tokens=2, record=[at(point, layers, "last")]
    ).steps
    last = ma.run(model, inputs, record=[at(point, layers, "last")]).cache[point, layer]
    torch.testing.assert_close(first[point, layer], last, atol=1e-4, rtol=1e-4)
    assert whole.shape[2 if point == "pattern" else 1] == len(where)
    assert (point, layer) in second


def test_what_every_layer_computes_is_kept_at_any_position_of_the_prompt():
    model, inputs = ma.AudioLM(network("gemma4"), prove=False), model_inputs("gemma4")
    point = ma.HookPoint("resid_post", layers=[0], positions=[-3])
    first, second = ma.generate(model, inputs, max_new_tokens=2, min_new_tokens=2, record=[point]).steps
    kept = ma.run(model, inputs, record=[point]).cache["resid_post", 0]
    torch.testing.assert_close(first["resid_post", 0], kept, atol=1e-4, rtol=1e-4)
    assert not second, "the prompt is not computed again"


def test_a_run_for_the_last_logits_alone_says_that_it_has_no_others(toy, asked):
    with pytest.raises(ValueError, match=r"logits is computed at the last position .* logits='all'"):
        ma.run(toy, asked, record=[ma.HookPoint("logits", positions=[-2])], logits="last")


def test_a_mass_on_seconds_that_no_clip_has_is_refused_and_on_those_of_one_clip_measured(toy, asked):
    with pytest.raises(ValueError, match=r"keys='audio\[50:60\]' of 'mass' is no part of any clip"):
        ma.run(toy, asked, record=[ma.HookPoint("mass", keys=("audio", "audio[50:60]"))])
    mass = ma.run(toy, asked, record=[ma.HookPoint("mass", keys=("audio[0:1]",))]).cache["mass", 0]
    assert mass.amax() > 0


def test_a_length_of_seconds_is_refused_where_a_map_has_none(toy, asked):
    with pytest.raises(
        ValueError, match="window_seconds=2 is the length of a window of seconds, and over= has no 'second'"
    ):
        ma.analyses.activation_patching(toy, asked, over=("layer",), window_seconds=2.0)
    mapped = ma.analyses.activation_patching(toy, asked, over=("layer", "second"), window_seconds=2.0, progress=False)
    assert mapped.window_seconds == 2.0


def test_the_tower_of_prompts_without_sound_is_neither_kept_nor_edited_in_silence(toy, asked):
    texts = ma.prompt(toy, asked, condition="caption")
    louder = ma.Edit(ma.HookPoint("projector_out"), lambda vectors: 2 * vectors)
    message = r"these prompts hold no sound \(condition='caption'\), so that .* is never computed"
    with pytest.raises(ValueError, match=message):
        ma.run(toy, texts, record=["audio.resid_post"])
    for path in (ma.run, ma.generate):
        with pytest.raises(ValueError, match=message):
            path(toy, texts, interventions=[louder])
    with pytest.raises(ValueError, match=message):
        ma.sweep(toy, texts, [[louder]], progress=False)


def test_a_text_is_no_list_of_its_letters():
    with unchecked_types():
        for call, named in (
            (lambda: ma.metrics.sound_events.classes_of("dog"), "labels"),
            (lambda: ma.metrics.grounding.evaluate("0-1", [[(0.0, 1.0)]] * 3), "answers"),
            (lambda: ma.metrics.right_choices(["ab"], ["a"]), "choices"),
        ):
            with pytest.raises(TypeError, match=rf"{named}= takes a list of .*; got"):
                call()


def test_tokens_are_not_merged_by_numbers_that_are_none():
    hidden, importance = torch.randn(1, 176, 4), torch.rand(1, 176)
    lost = importance.index_fill(1, torch.tensor([3, 5]), float("nan"))
    with pytest.raises(ValueError, match="importance holds NaN in 2 of 176 places"):
        ma.timeaudio.merge(hidden, lost)
    for number in ("nan", "inf"):
        lost = hidden.index_fill(1, torch.tensor([3]), float(number))
        with pytest.raises(ValueError, match="hidden holds NaN or infinity in 4 of 704"):
            ma.timeaudio.merge(lost, importance)
        with pytest.raises(ValueError, match="keys holds NaN or infinity in 4 of 704"):
            ma.timeaudio.merge(hidden, importance, "paper", keys=lost)

"""Directions from silence to audio against plain torch hooks and the printed formulas; and their controls."""

import copy
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import SteeringDirections, attention_and_answers, layer_weights, steering_directions
from mechaudio.provenance import Provenance
from tests.families import network, noise, processor, unchecked_types
from tests.reference import specialist_heads as reference
from tests.reference.plain_forward import plain_values

QUESTIONS = [
    ma.AudioQuestion(
        audio=ma.AudioClip(noise(2.0, seed=place), 16_000),
        text="Which sound has the earliest onset?",
        choices=("dog", "car", "rain"),
        answer="car",
        id=f"q{place}",
    )
    for place in range(3)
]
HEADS = ((0, 1), (2, 0), (2, 3))
STRENGTH = 0.7


@pytest.fixture(scope="module")
def model():
    return ma.AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)


@pytest.fixture(scope="module")
def batch(model):
    return ma.prompt(model, QUESTIONS)


@pytest.fixture(scope="module")
def directions(model):
    return steering_directions(model, QUESTIONS, batch_size=2)


@pytest.fixture(scope="module")
def plain(model, batch):
    """Every hook point with the clips, and with silence, by plain torch hooks."""
    silent = ma.prompt(model, QUESTIONS, condition="silence")
    return tuple(plain_values(model.network, model.adapter, one.inputs) for one in (batch, silent))


def last_rows(plain, name, question):
    return [values[name][question, -1] for values in plain]


def test_differences_are_those_of_two_plain_forward_passes(model, directions, plain):
    assert directions.residual.shape == (3, model.n_layers, model.d_model)
    assert directions.residual.dtype == np.float32
    for question in range(3):
        for layer in range(model.n_layers):
            heard, silent = last_rows(plain, f"blocks.{layer}.resid_post", question)
            np.testing.assert_allclose(
                directions.residual[question, layer], (heard - silent).numpy(), rtol=1e-5, atol=1e-4
            )
            heard, silent = last_rows(plain, f"blocks.{layer}.attn.z", question)
            np.testing.assert_allclose(directions.z[layer][question], (heard - silent).numpy(), rtol=1e-5, atol=1e-4)
        heard, silent = last_rows(plain, "final_norm", question)
        np.testing.assert_allclose(directions.final_norm[question], (heard - silent).numpy(), rtol=1e-5, atol=1e-4)
    assert np.abs(directions.residual).max() > 0.01, "silence is not what the model hears otherwise"


def test_weights_of_layers_are_their_share_of_the_heads():
    assert layer_weights(HEADS) == pytest.approx(reference.layer_weights(HEADS))
    assert sum(layer_weights(HEADS).values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one and each once"):
        layer_weights([])


def test_layer_guided_steering_is_the_formula_before_the_norm(model, batch, directions, plain):
    steer = directions.layer_guided(HEADS, STRENGTH)
    assert (steer.layers, steer.hook_point, steer.positions) == ((model.n_layers - 1,), "resid_post", "last")
    steered = ma.run(model, batch, interventions=[steer], logits="last").logits[:, -1]
    for question in range(3):
        states = [
            [last_rows(plain, f"blocks.{layer}.resid_post", question)[run].tolist() for layer in range(model.n_layers)]
            for run in (0, 1)
        ]
        direction = reference.layer_guided_direction(HEADS, *states, model.d_model)
        np.testing.assert_allclose(steer.direction[question], direction, rtol=1e-5, atol=1e-4)
        h = torch.tensor(states[0][-1]) + STRENGTH * torch.tensor(direction)  # eq. 6
        normed = model.network.get_submodule(model.adapter.decoder.norm)(h)
        expected = model.network.get_submodule(model.adapter.unembed)(normed)
        torch.testing.assert_close(steered[question], expected.detach(), rtol=1e-4, atol=1e-4)


def test_behind_the_norm_the_last_layers_direction_is_taken_there_too(model, batch, directions, plain):
    steer = directions.layer_guided(HEADS, STRENGTH, norm="post")
    assert (steer.layers, steer.hook_point) == (None, "final_norm")
    steered = ma.run(model, batch, interventions=[steer], logits="last").logits[:, -1]
    last = model.n_layers - 1
    assert {layer for layer, _ in HEADS} == {0, last}
    for question in range(3):
        gaps = {}
        for layer, name in ((0, "blocks.0.resid_post"), (last, "final_norm")):
            heard, silent = last_rows(plain, name, question)
            gaps[layer] = heard - silent
        direction = gaps[0] / 3 + 2 * gaps[last] / 3
        expected = model.network.get_submodule(model.adapter.unembed)(
            last_rows(plain, "final_norm", question)[0] + STRENGTH * direction
        )
        torch.testing.assert_close(steered[question], expected.detach(), rtol=1e-4, atol=1e-4)


def test_a_single_layer_is_layer_guided_by_heads_of_that_layer_alone(directions):
    assert directions.single_layer(2, 0.5) == directions.layer_guided([(2, 1), (2, 3)], 0.5)
    np.testing.assert_array_equal(directions.single_layer(1).direction, directions.residual[:, 1])


@pytest.mark.parametrize("share", ["sum", "heads", "layer"])
def test_head_level_steering_adds_each_heads_slice_of_the_output_projection(model, batch, directions, plain, share):
    """Plain torch hooks add, behind each layer's output projection, what eq. 7 to 9 say."""
    steer = directions.head_level(HEADS, STRENGTH, share=share)
    steered = ma.run(model, batch, interventions=[steer], logits="last").logits[:, -1]
    copied, decoder = copy.deepcopy(model.network), model.adapter.decoder
    for layer in sorted({layer for layer, _ in HEADS}):
        own = [head for of, head in HEADS if of == layer]
        module = copied.get_submodule(f"{decoder.path(layer)}.{decoder.attention}.o_proj")
        assert module.bias is None
        rows = []
        for question in range(3):
            heard, silent = last_rows(plain, f"blocks.{layer}.attn.z", question)
            added = [
                reference.added_by_head(module.weight.tolist(), head, heard[head].tolist(), silent[head].tolist())
                for head in own
            ]
            divisor = {"sum": 1, "heads": len(HEADS), "layer": len(own)}[share]
            rows.append(reference.added_to_layer(added, STRENGTH / divisor))

        def add(_module, _args, output, rows=rows):
            changed = output.clone()
            changed[:, -1] += torch.tensor(rows)
            return changed

        module.register_forward_hook(add)
    with torch.no_grad():
        expected = copied(**batch.inputs, use_cache=False).logits[:, -1]
        clean = model.network(**batch.inputs, use_cache=False).logits[:, -1]
    torch.testing.assert_close(steered, expected, rtol=1e-4, atol=1e-4)
    assert (expected - clean).abs().max() > 1e-3


def test_steering_all_the_way_back_from_the_last_layer_gives_the_answers_to_silence(model, batch, directions):
    back = directions.single_layer(model.n_layers - 1, -1.0)
    steered = ma.run(model, batch, interventions=[back], logits="last").logits[:, -1]
    silent = ma.run(model, ma.prompt(model, QUESTIONS, condition="silence"), logits="last").logits[:, -1]
    torch.testing.assert_close(steered, silent, rtol=1e-4, atol=1e-4)


@pytest.mark.bits
def test_strength_zero_leaves_the_logits_bit_for_bit(model, batch, directions):
    clean = ma.run(model, batch, logits="last").logits
    for steer in (directions.layer_guided(HEADS, 0.0), directions.head_level(HEADS, 0.0)):
        assert torch.equal(ma.run(model, batch, interventions=[steer], logits="last").logits, clean)


def test_batches_of_another_size_give_the_same_directions(model, directions):
    whole = steering_directions(model, iter(QUESTIONS), batch_size=3)
    np.testing.assert_allclose(whole.residual, directions.residual, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(whole.z[1], directions.z[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("measure", [steering_directions, attention_and_answers])
def test_what_is_measured_batch_by_batch_is_dated_when_the_last_is_there(model, monkeypatch, measure):
    collect, moments = Provenance.collect, count()
    monkeypatch.setattr(
        Provenance, "collect", lambda *some, **more: replace(collect(*some, **more), created=next(moments))
    )
    created = measure(model, QUESTIONS[:2], batch_size=1).provenance.created
    assert created == next(moments) - 1


def test_directions_of_some_questions_come_in_their_order(directions):
    some = directions.of(["q2", "q0"])
    assert some.ids == ("q2", "q0")
    np.testing.assert_array_equal(some.residual, directions.residual[[2, 0]])
    np.testing.assert_array_equal(some.z[1], directions.z[1][[2, 0]])
    with pytest.raises(ValueError, match=r"no directions for 1 question \('q9'\)"):
        directions.of(["q0", "q9"])


def test_shuffled_nobody_keeps_their_own_and_nothing_is_lost(directions):
    for seed in range(8):
        shuffled = directions.shuffled(seed)
        assert shuffled.ids == directions.ids
        given = [
            next(place for place in range(3) if np.array_equal(row, directions.residual[place]))
            for row in shuffled.residual
        ]
        assert sorted(given) == [0, 1, 2]
        assert all(place != own for own, place in enumerate(given))
        np.testing.assert_array_equal(shuffled.z[0], directions.z[0][given])
    with pytest.raises(ValueError, match="at least 2 clips, got n = 1 question"):
        directions.of(["q0"]).shuffled()


@pytest.mark.parametrize("kind", ["layer_guided", "head_level"])
def test_random_directions_have_the_same_lengths_and_no_common_direction(directions, kind):
    steer = getattr(directions, kind)(HEADS, 0.5)
    name = "direction" if kind == "layer_guided" else "directions"
    drawn = directions.random_direction(steer, seed=1)
    given, random = getattr(steer, name), getattr(drawn, name)
    np.testing.assert_allclose(np.linalg.norm(random, axis=-1), np.linalg.norm(given, axis=-1), rtol=1e-5)
    cosine = (given * random).sum(-1) / np.linalg.norm(given, axis=-1) ** 2
    assert np.abs(cosine).max() < 0.9
    assert replace(drawn, **{name: given}) == steer
    some = directions.of(["q2"])
    alone = some.random_direction(getattr(some, kind)(HEADS, 0.5), seed=1)
    np.testing.assert_array_equal(getattr(alone, name), random[2:])
    assert directions.random_direction(steer, seed=2) != drawn
    with pytest.raises(ValueError, match="directions for 3 questions, and here are 1"):
        some.random_direction(steer)


@pytest.mark.parametrize("given", [(1, 1, 1), (3**0.5, 0, 0)])
@pytest.mark.parametrize("kind", ["single_layer", "head_level"])
def test_random_directions_point_everywhere_alike_where_the_given_one_is_zero_too(given, kind):
    same = np.broadcast_to(np.array(given, dtype=np.float32), (2000, 3))
    made = SteeringDirections(
        residual=same[:, None],
        final_norm=same,
        z={0: same[:, None]},
        ids=tuple(map(str, range(2000))),
        provenance=Provenance(),
    )
    if kind == "single_layer":
        drawn = made.random_direction(made.single_layer(0)).direction
    else:
        drawn = made.random_direction(made.head_level([(0, 0)])).directions[:, 0]
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4 / np.sqrt(2000))  # each axis has a variance of 1
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.15)


def test_layers_without_attention_have_residual_directions_and_no_heads():
    family = "nemotron_h_omni"
    model = ma.AudioLM(network(family), processor(family), prove=False)
    found = steering_directions(model, QUESTIONS[:1])
    without = sorted(set(range(model.n_layers)) - set(found.z))
    assert without
    assert found.residual.shape[1] == model.n_layers
    with pytest.raises(ValueError, match=rf"no head 0 in layer {without[0]}; layers with heads: "):
        found.head_level([(without[0], 0)])


def test_what_cannot_be_steered_is_refused(model, directions):
    with pytest.raises(ValueError, match="there is no layer 9: these directions are of layers 0 to 2"):
        directions.layer_guided([(9, 0)])
    with pytest.raises(ValueError, match="there is no head 4 in layer 1"):
        directions.head_level([(1, 4)])
    with pytest.raises(ValueError, match="each once"):
        directions.head_level([(1, 0), (1, 0)])
    with unchecked_types(), pytest.raises(ValueError, match="norm= is 'pre' or 'post' the final norm"):
        directions.layer_guided(HEADS, norm="before")
    with unchecked_types(), pytest.raises(ValueError, match="share= is 'sum', 'heads' or 'layer', got 'mean'"):
        directions.head_level(HEADS, share="mean")
    with pytest.raises(ValueError, match="some have none"):
        steering_directions(model, [replace(QUESTIONS[0], id="")])
    for heads in ([(1.0, 0)], [(1, "0")]):
        with unchecked_types(), pytest.raises(TypeError, match=r"heads= takes .*; got "):
            directions.layer_guided(heads)
    with unchecked_types(), pytest.raises(TypeError, match=r"heads= takes .*; got \[\(1, 0, 2\)\]"):
        layer_weights([(1, 0, 2)])
    with unchecked_types(), pytest.raises(TypeError, match=r"layer is a whole number, such as 5, got 1\.0"):
        directions.single_layer(1.0)
    with pytest.raises(ValueError, match=r"questions holds .* more than once"):
        steering_directions(model, [QUESTIONS[0], QUESTIONS[0]])


def test_directions_survive_the_disk(directions, tmp_path):
    loaded = ma.Result.load(directions.save(tmp_path / "directions"))
    assert loaded.layer_guided(HEADS) == directions.layer_guided(HEADS)
    assert loaded.head_level(HEADS) == directions.head_level(HEADS)


def test_heads_of_unequal_width_are_steered_together_each_along_its_own_direction():
    model = ma.AudioLM(network("gemma4"), processor("gemma4"), prove=False)
    directions = steering_directions(model, QUESTIONS)
    widths = {layer: own.shape[-1] for layer, own in directions.z.items()}
    wide, narrow = (
        next(layer for layer, own in widths.items() if own == size) for size in sorted(set(widths.values()))[::-1]
    )
    heads = [(wide, 1), (narrow, 0)]
    together = directions.head_level(heads, STRENGTH)
    batch, points = ma.prompt(model, QUESTIONS), [ma.HookPoint("z", positions="last")]
    first, clean = (
        ma.run(model, batch, record=points, interventions=own).cache["z", min(wide, narrow)] for own in ([together], [])
    )
    layer, head = min(heads)
    added = STRENGTH * torch.from_numpy(directions.z[layer][:, head])
    torch.testing.assert_close((first - clean)[:, 0, head], added, atol=1e-4, rtol=1e-4)
    apart = [directions.head_level([one], STRENGTH) for one in heads]
    both, one_by_one = (ma.run(model, batch, interventions=own, logits="last").logits for own in ([together], apart))
    torch.testing.assert_close(both, one_by_one)
    drawn = directions.random_direction(together)
    np.testing.assert_allclose(
        np.linalg.norm(drawn.directions, axis=-1), np.linalg.norm(together.directions, axis=-1), rtol=1e-5
    )
    assert not drawn.directions[:, 1, widths[narrow] :].any()
    swept = ma.sweep(model, batch, [together, drawn], progress=False)
    torch.testing.assert_close(swept.logits[0], ma.sweep(model, batch, [apart], progress=False).logits[0])

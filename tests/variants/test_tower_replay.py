"""What comes before the decoder is computed only as far as a variant changes it."""

from functools import cache

import pytest
import torch

import mechaudio as ma
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import bind
from mechaudio.variants.plan import Sizes, Variant, variant_of
from mechaudio.variants.shared_pass import TowerReplay
from tests.families import FAMILIES, model_inputs, network, noise, processor, thinned


@pytest.fixture(scope="module")
def opened():
    return cache(lambda family: (AudioLM(network(family), prove=False), model_inputs(family)))


@pytest.fixture
def chunked():
    """Towers that hear a clip in three chunks."""
    model = AudioLM(network("vibevoice_asr"), processor("vibevoice_asr"), prove=False)
    return model, dict(model.processor.apply_transcription_request(noise(9.0, sample_rate=24_000), prompt="a dog"))


def edited(name, layer=None, change=lambda value: 0.5 * value):
    return ma.Edit(ma.HookPoint(name, layers=None if layer is None else [layer]), change)


def variant(model, batch, edits):
    return Variant(0, (), 0, 0, tuple(bind(model, batch, edits)))


def layers_of(model):
    """The modules of the tower's layers."""
    paths = [sites["resid_post"].location for sites in model.site_map.layers["encoder"]]
    return [model.network.get_submodule(path.removeprefix("model.").removesuffix(".output")) for path in paths]


class Counted:
    """How often each layer of the tower computes something, by the calls of a module inside it."""

    def __init__(self, model):
        self.model, self.calls = model, [0] * len(layers_of(model))

    def __enter__(self):
        inside = [
            next(part for part in layer.modules() if not list(part.children())) for layer in layers_of(self.model)
        ]
        self.handles = [
            part.register_forward_hook(lambda *_, layer=layer: self.count(layer)) for layer, part in enumerate(inside)
        ]
        return self

    def count(self, layer):
        self.calls[layer] += 1

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def calls_of(model, inputs, edits):
    """Calls of every layer of the tower for a variant with these edits, and in a run of its own."""
    batch = as_batch(model, inputs)
    front = TowerReplay(model, batch, [variant(model, batch, edits)])
    with Counted(model) as skipped:
        embeds = front.embeds(bind(model, batch, edits))
    with Counted(model) as whole:
        expected = ma.run(model, inputs, record=["resid_pre"], interventions=edits, logits=None).cache["resid_pre", 0]
    assert torch.equal(embeds, expected)
    assert not torch.equal(embeds, front.clean)
    return skipped.calls, whole.calls


def towers(model):
    """The layers of each tower."""
    n, two = len(layers_of(model)), len(model.adapter.encoder.paths) == 2
    return [range(n // 2), range(n // 2, n)] if two else [range(n)]


@pytest.mark.parametrize("family", thinned(FAMILIES))
@pytest.mark.parametrize("point", ["resid_pre", "resid_post"])
def test_layers_of_the_tower_before_the_first_edited_one_are_not_computed(opened, family, point):
    check_layers(*opened(family), point)


@pytest.mark.parametrize("point", [pytest.param("resid_pre", marks=pytest.mark.whole), "resid_post"])
def test_nor_are_they_in_any_chunk_of_a_long_clip(chunked, point):
    assert check_layers(*chunked, point) == 3


def check_layers(model, inputs, point):
    for tower in towers(model):
        for layer in tower:
            skipped, whole = calls_of(model, inputs, [edited(f"audio.{point}", layer)])
            behind = range(layer + (point == "resid_post"), tower.stop)
            assert skipped == [calls if other in behind else 0 for other, calls in enumerate(whole)]
    return whole[0]


@pytest.mark.parametrize("family", thinned(FAMILIES))
@pytest.mark.parametrize("point", ["projector_out", "embed"])
def test_behind_the_tower_none_of_it_is_computed(opened, family, point):
    model, inputs = opened(family)
    skipped, whole = calls_of(model, inputs, [edited(point)])
    assert skipped == [0] * len(whole)
    assert min(whole) > 0


def test_inside_a_layer_that_layer_is_computed_and_the_first_of_several_edits_counts(opened):
    model, inputs = opened("qwen2_audio")
    for name in ("resid_mid", "z", "pattern", "mlp_out", "attn_out"):
        assert calls_of(model, inputs, [edited(f"audio.{name}", 1)])[0] == [0, 1]
    both = [edited("projector_out"), edited("audio.resid_post", 1), edited("audio.resid_post", 0)]
    assert calls_of(model, inputs, both)[0] == [0, 1]


def test_only_what_variants_need_is_kept(opened):
    model, inputs = opened("qwen2_audio")
    batch = as_batch(model, inputs)
    sizes = [
        TowerReplay(model, batch, [variant(model, batch, [edited(name, layer)])]).n_bytes
        for name, layer in (("audio.resid_post", 1), ("audio.resid_pre", 1), ("audio.resid_pre", 0))
    ]
    layer = ma.run(model, inputs, record=[ma.HookPoint("audio.resid_post", layers=[0])], logits=None)
    assert -torch.tensor(sizes).diff() / layer.cache["audio.resid_post", 0].nbytes == pytest.approx([1.0, 1.0])
    assert TowerReplay(model, batch, []).n_bytes == 0


def taken(model, batch, edits):
    return variant_of(7, bind(model, batch, edits), Sizes.of(model, batch))


def test_a_variant_starts_at_the_first_position_that_it_changes(opened):
    model, inputs = opened("qwen2_audio")
    batch = as_batch(model, inputs)
    by_row = batch.spans["audio"]
    token = len(by_row[0]) - 2

    def late(vectors):
        changed = vectors.clone()
        changed[0, token] += 1.0
        return changed

    early = taken(model, batch, [edited("projector_out", change=late)])
    assert early.start == min(positions[0] for positions in by_row)
    made = TowerReplay(model, batch, [early]).followed(early, batch.n_positions)
    assert (made.index, made.start, made.layer) == (7, by_row[0][token], 0)
    assert made.embeds.shape == (batch.n_rows, batch.n_positions - by_row[0][token], model.d_model)
    clean = torch.zeros(batch.n_rows, batch.n_positions, model.d_model)
    rows = made.entering(clean)
    assert torch.equal(rows[:, -made.embeds.shape[1] :], made.embeds)
    assert not rows[:, : -made.embeds.shape[1]].any()


def test_a_variant_that_changes_nothing_before_the_decoder_starts_where_it_does_in_the_decoder(opened):
    model, inputs = opened("qwen2_audio")
    batch = as_batch(model, inputs)
    same = edited("audio.resid_post", 0, torch.clone)
    for others, start, layer in (([], batch.n_positions - 1, model.n_layers), ([edited("resid_post", 1)], 0, 1)):
        early = taken(model, batch, [same, *others])
        made = TowerReplay(model, batch, [early]).followed(early, batch.n_positions)
        assert (made.start, made.layer, made.embeds) == (start, layer, None)


def test_what_leaves_nothing_to_share_says_so(opened):
    model, inputs = opened("qwen2_audio")
    batch = as_batch(model, inputs)
    for edits in ([edited("embed")], [edited("embed"), edited("resid_post", 1)]):
        early = taken(model, batch, edits)
        assert "nothing is left" in TowerReplay(model, batch, [early]).followed(early, batch.n_positions).why
    early = taken(model, batch, [edited("audio.resid_post", 0)])
    few = TowerReplay(model, batch, [early]).followed(early, 1)
    assert few.why == "it changes positions in front of those that it edits"


def test_nothing_is_left_behind_even_if_an_edit_fails(opened):
    model, inputs = opened("qwen2_audio")
    before = ma.run(model, inputs).logits

    def fails(_value):
        raise ArithmeticError("of the user's")

    edits = [edited("audio.resid_post", 1, fails)]
    batch = as_batch(model, inputs)
    front = TowerReplay(model, batch, [variant(model, batch, edits)])
    with pytest.raises(ArithmeticError, match="of the user's"):
        front.embeds(bind(model, batch, edits))
    with Counted(model) as counted:
        assert torch.equal(ma.run(model, inputs).logits, before)
    assert counted.calls == [1, 1]


def test_what_a_network_writes_into_is_given_as_it_was(opened):
    model, inputs = opened("granite_speech")  # it adds to the stream between its layers in place
    batch = as_batch(model, inputs)
    one = variant(model, batch, [edited("audio.resid_pre", 1)])
    front = TowerReplay(model, batch, [one])
    assert torch.equal(front.embeds(one.early), front.embeds(one.early))

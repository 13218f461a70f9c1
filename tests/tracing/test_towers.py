"""Several audio towers in one class: each by its name, in trace blocks, in strings and in what is recorded."""

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.hook_points import order_of, parse
from mechaudio.tracing.order import HookOrderError
from tests.families import model_inputs, network


@pytest.fixture(scope="module")
def model():
    return ma.AudioLM(network("salmonn"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("salmonn")


def test_towers_have_names_and_the_first_is_called_audio_too(model):
    assert {name: len(tower.blocks) for name, tower in model.towers.items()} == {
        "whisper": 2,
        "audio": 2,
        "beats": 2,
        "qformer": 2,
    }
    assert model.towers["whisper"].blocks is model.towers["audio"].blocks is model.audio_blocks
    assert "audio towers whisper 2 layers, beats 2 layers, qformer 2 layers" in repr(model)
    with pytest.raises(KeyError, match=r"no audio tower 'bets'; this model has \['audio', 'beats', 'qformer', 'whis"):
        model.towers["bets"]


@pytest.mark.parametrize(
    ("spelled", "name", "layer"),
    [
        ("beats.pattern", "beats.pattern", None),
        ("beats.blocks.1.attn.pattern", "beats.pattern", 1),
        ("beats.blocks.1.attn.hook_pattern", "beats.pattern", 1),
        ("towers.qformer.blocks.0.hook_resid_post", "qformer.resid_post", 0),
        ("whisper.blocks.1.attn.hook_z", "audio.z", 1),
        ("audio_blocks.1.attn.z", "audio.z", 1),
    ],
)
def test_a_tower_is_named_in_strings(spelled, name, layer):
    assert parse(spelled) == (name, layer)


@pytest.mark.parametrize("name", ["bets.pattern", "beats.mass", "beats.final_norm", "beats.logits", "beats"])
def test_what_a_tower_does_not_have_has_no_name(name):
    with pytest.raises(KeyError, match="no hook point"):
        parse(name)


def test_hook_points_of_a_tower_that_a_class_does_not_have_are_told():
    other = ma.AudioLM(network("qwen2_audio"), prove=False)
    with pytest.raises(ma.NoSuchHookPoint, match=r"'beats\.pattern' is in a tower that this class does not have"):
        ma.run(other, model_inputs("qwen2_audio"), record=["beats.pattern"])


def test_what_is_recorded_is_what_a_trace_block_reads(model, inputs):
    out = ma.run(model, inputs, record=["beats.resid_post", "qformer.blocks.1.attn.pattern", "whisper.z"])
    with torch.no_grad(), ma.trace(model, inputs):
        heard = model.audio_blocks[1].attn.z.save()
        beats = model.towers["beats"].blocks[-1].resid_post.save()
        pattern = model.towers["qformer"].blocks[1].attn.pattern.save()
    assert torch.equal(out.cache["audio.z", 1], heard)
    assert torch.equal(out.cache["beats.resid_post", -1], beats)
    assert torch.equal(out.cache["beats.blocks.1.hook_resid_post"], beats)
    torch.testing.assert_close(out.cache["qformer.pattern", 1], pattern)
    assert out.cache.stack("beats.resid_post").shape[0] == 2
    with pytest.raises(IndexError, match=r"'beats\.z' was asked for in layer 7, but this beats has layers 0 to 1"):
        ma.run(model, inputs, record=[ma.HookPoint("beats.z", layers=[7])])


def test_words_from_elsewhere_are_told_where_they_are_in_this_tower(model):
    with pytest.raises(AttributeError, match=r"here it is model\.towers\[\"beats\"\]\.blocks\[1\]\.mlp_out"):
        _ = model.towers["beats"].blocks[1].mlp.output


def test_what_goes_into_the_down_projection_of_every_tower_is_its_neurons(model, inputs):
    for tower in ("beats", "qformer"):
        out = ma.run(model, inputs, record=[f"{tower}.mlp_post", f"{tower}.mlp_out"])
        for layer, stack in enumerate(model.site_map.stacks[tower]):
            down = model.network.get_submodule(f"{stack.path(layer)}.{stack.projecting_down}")
            neurons = out.cache[f"{tower}.mlp_post", layer]
            assert neurons.shape[-1] == down.in_features
            torch.testing.assert_close(down(neurons), out.cache[f"{tower}.mlp_out", layer])


def test_what_each_head_of_a_tower_gives_has_labelled_axes_of_that_tower(model, inputs):
    labelled = ma.run(model, inputs, record=["beats.result", "resid_post"]).to_xarray()
    assert labelled["beats.result"].dims[:4] == ("beats_layer", "clip", "frame", "head")
    assert labelled["resid_post"].dims[0] == "layer"


def test_towers_come_in_the_order_in_which_they_run(model, inputs):
    names = ["audio.z", "audio.final_norm", "beats.q", "beats.resid_post", "qformer.z", "projector_out", "resid_pre"]
    assert sorted(names[3:] + names[:3], key=lambda name: order_of(name, 0)) == names
    with pytest.raises(HookOrderError, match=r"beats\.blocks\.0\.resid_pre, qformer\.blocks\.0\.resid_pre"):
        with torch.no_grad(), ma.trace(model, inputs):
            model.towers["qformer"].blocks[0].resid_pre.save()
            model.towers["beats"].blocks[0].resid_pre.save()


def test_an_edit_of_queries_leaves_beats_position_bias_where_it_was(model, inputs):
    def scores(edits):
        out = ma.run(model, inputs, record=["beats.scores", "beats.k", "beats.q"], interventions=edits, logits=None)
        products = torch.einsum("cqhd,ckhd->chqk", out.cache["beats.q", 0], out.cache["beats.k", 0])
        return out.cache["beats.scores", 0] - products * out.cache["beats.q", 0].shape[-1] ** -0.5

    clean = scores([])
    edited = scores([ma.Edit(ma.HookPoint("beats.q", layers=[0]), lambda value: value.flip(-1))])
    seen = clean.isfinite()
    assert clean[seen].abs().max() > 0.1, "there is a bias"
    torch.testing.assert_close(edited[seen], clean[seen], atol=1e-5, rtol=1e-4)


def test_a_sweep_edits_each_tower_as_single_runs_do(model, inputs):
    edits = [
        [ma.Edit(ma.HookPoint(f"{tower}.resid_post", layers=[0]), lambda value: 0.5 * value)]
        for tower in ("audio", "beats", "qformer")
    ]
    swept = ma.sweep(model, inputs, edits, progress=False).logits
    for logits, edit in zip(swept, edits, strict=True):
        torch.testing.assert_close(
            logits, ma.run(model, inputs, interventions=edit).logits[:, -1], atol=1e-5, rtol=1e-4
        )
    assert not torch.allclose(swept[0], swept[1], atol=1e-3)


def test_gradients_and_patches_reach_every_tower(model, inputs):
    for tower in ("beats", "qformer"):
        with ma.trace(model, inputs):
            states = model.towers[tower].blocks[0].attn.z
            with model.logits[:, -1].square().sum().backward():
                gradient = states.grad.save()
        model.network.zero_grad()
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    kept = ma.run(model, inputs, record=["beats.resid_post"]).cache["beats.resid_post", 1]
    clean = ma.run(model, inputs).logits
    assert torch.equal(ma.run(model, inputs, interventions=[ma.Patch("beats.resid_post", kept, layer=1)]).logits, clean)

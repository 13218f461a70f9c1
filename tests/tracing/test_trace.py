"""Trace blocks: what they may ask, what they are told when they ask wrongly, and that they leave nothing behind."""

import gc
import weakref

import nnsight
import pytest
import torch
from nnsight.intervention.tracer import InterleavingTracer

from mechaudio.tracing.audio_lm import AudioLM, HookPointError, trace
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.fused_or_rows import _SERVED
from mechaudio.tracing.generation import generate
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.order import HookOrderError
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import answer, run
from tests.families import KINDS, model_inputs, network
from tests.families.build import unchecked_types


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"))


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


def test_trace_returns_nnsights_own_tracer(model, inputs):
    assert isinstance(trace(model, inputs), InterleavingTracer)


def test_assigning_and_editing_in_place_are_both_live(model, inputs):
    direction = torch.ones(model.d_model)
    with torch.no_grad(), trace(model, inputs):
        model.blocks[1].resid_post[:, -1] += direction
        in_place = model.logits.save()
    with torch.no_grad(), trace(model, inputs):
        changed = model.blocks[1].resid_post.clone()
        changed[:, -1] += direction
        model.blocks[1].resid_post = changed
        assigned = model.logits.save()
    assert torch.equal(in_place, assigned)
    assert not torch.equal(in_place, run(model, inputs).logits)


def test_a_changed_resid_mid_reaches_both_of_its_readers(model, inputs):
    with torch.no_grad(), trace(model, inputs):
        model.blocks[0].resid_mid = torch.zeros_like(model.blocks[0].resid_mid)
        added = model.blocks[0].mlp_out.save()
        after = model.blocks[0].resid_post.save()
    assert torch.equal(after, added)


def test_zeroing_a_heads_pattern_zeroes_its_output_and_no_other(model, inputs):
    clean = run(model, inputs, record=["z"]).cache["z", 1]
    with torch.no_grad(), trace(model, inputs):
        model.blocks[1].attn.pattern[:, 2] = 0
        z = model.blocks[1].attn.z.save()
    assert z[:, :, 2].abs().max() == 0
    assert torch.equal(z[:, :, [0, 1, 3]], clean[:, :, [0, 1, 3]])


def test_masked_keys_stay_masked_whatever_is_done_to_their_scores(model, inputs):
    with torch.no_grad(), trace(model, inputs):
        model.blocks[0].attn.scores[:] = 5.0
        pattern = model.blocks[0].attn.pattern.save()
    n = pattern.shape[-1]
    assert pattern[..., torch.ones(n, n).triu(1).bool()].abs().max() == 0
    assert pattern[0, 0, -1].eq(1 / n).all()


def test_asking_in_the_wrong_order_is_answered_with_the_right_one(model, inputs):
    with pytest.raises(
        HookOrderError,
        match=r"blocks\.0\.attn\.z was asked for when .*: blocks\.0\.attn\.z, blocks\.2\.resid_post",
    ):
        with trace(model, inputs):
            model.blocks[2].resid_post.save()
            model.blocks[0].attn.z.save()


def test_the_wrong_order_of_gradients_is_explained(model, inputs):
    with pytest.raises(HookOrderError, match="gradients come in the reverse order"), trace(model, inputs):
        early, late = model.blocks[0].resid_post, model.blocks[1].resid_post
        with model.logits.sum().backward():
            early.grad.save()
            late.grad.save()


def test_what_a_run_never_computes_is_said_to_be_so(model, inputs):
    text = {
        name: inputs[name].masked_fill(inputs["input_ids"] == model.network.config.audio_token_id, 9)
        for name in ("input_ids",)
    }
    with (
        pytest.raises(
            HookOrderError,
            match=r"audio_blocks\.0\.resid_post .* the audio tower did not run, because these prompts hold no audio",
        ),
        trace(model, {**text, "attention_mask": inputs["attention_mask"]}),
    ):
        model.audio_blocks[0].resid_post.save()


def test_outside_a_trace_a_hook_point_says_how_to_read_it(model):
    with pytest.raises(RuntimeError, match=r"blocks\.1\.attn\.pattern has a value only while the model runs"):
        model.blocks[1].attn.pattern  # noqa: B018
    with pytest.raises(RuntimeError, match="logits has a value only while the model runs"):
        model.logits  # noqa: B018


def test_an_unknown_layer_names_those_there_are(model, inputs):
    with pytest.raises(IndexError, match="no layer 3 in the decoder: it has layers 0 to 2"):
        model.blocks[3]
    with pytest.raises(
        IndexError, match=r"'audio.pattern' was asked for in layer 7, but this audio tower has layers 0 to 1"
    ):
        run(model, inputs, record=[HookPoint("audio.pattern", layers=[7])])


def test_unknown_rows_and_spans_are_refused(model, inputs):
    with pytest.raises(KeyError, match=r"adio.*audio"):
        run(model, inputs, record=[HookPoint("pattern", queries="adio")])
    with pytest.raises(IndexError, match="position 900 is outside the prompts of"):
        run(model, inputs, record=[HookPoint("pattern", queries=[900])])
    with pytest.raises(ValueError, match=r"span 'audio' has \[80, 40\] positions in the rows of this batch"):
        run(model, inputs, record=[HookPoint("pattern", queries="audio")])


def test_recording_a_hook_point_twice_is_refused(model, inputs):
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.pattern is recorded twice"):
        run(model, inputs, record=["pattern", HookPoint("pattern", layers=[0], queries="last")])
    with pytest.raises(TypeError, match=r"record= takes a list of .*: put it into a list"):
        run(model, inputs, record="pattern")


def test_placeholders_without_features_are_refused_on_every_path(model, inputs):
    deaf = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    wanted = "audio placeholders but no 'input_features'"
    with pytest.raises(ValueError, match=wanted):
        run(model, deaf)
    with pytest.raises(ValueError, match=wanted):
        generate(model, deaf)
    with pytest.raises(ValueError, match=wanted), trace(model, deaf):
        model.logits.save()
    with pytest.raises(ValueError, match=wanted), model.trace(**deaf):
        model.output.save()


def test_features_without_placeholders_are_refused(model, inputs):
    ids = inputs["input_ids"].masked_fill(inputs["input_ids"] == model.network.config.audio_token_id, 9)
    with pytest.raises(ValueError, match="no audio placeholder"):
        run(model, {**inputs, "input_ids": ids})


def test_an_exception_inside_a_block_leaves_nothing_behind(model, inputs):
    before = run(model, inputs).logits
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), trace(model, inputs):
            model.blocks[0].attn.at("last").pattern[:] = 0
            1 / 0  # noqa: B018
        with pytest.raises(ZeroDivisionError):
            run(model, inputs, interventions=[Edit(HookPoint("resid_post"), lambda value: value / (1 // 0))])
        with pytest.raises(IndexError):
            run(model, inputs, record=["resid_post", HookPoint("pattern", layers=[99])])
    assert model.exchange.idle
    assert not model.exchange.mediators
    assert not _SERVED
    assert torch.equal(run(model, inputs).logits, before)


def test_a_run_inside_a_block_of_the_same_model_is_refused(model, inputs):
    before = run(model, inputs).logits
    with pytest.raises(RuntimeError, match="before or after the block"), torch.no_grad(), trace(model, inputs):
        run(model, inputs)
    assert torch.equal(run(model, inputs).logits, before)
    other = AudioLM(network("qwen2_audio"), prove=False)
    with torch.no_grad(), trace(model, inputs):
        inside = nnsight.save(run(other, inputs).logits)
        logits = model.logits.save()
    assert torch.equal(inside, logits)


def test_the_network_is_left_as_it_was():
    net = network("qwen2_audio")
    net.set_attn_implementation({"text_config": "eager"})
    before = [
        (name, module.config._attn_implementation) for name, module in net.named_modules() if hasattr(module, "config")
    ]
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    inputs = model_inputs("qwen2_audio")
    plain = net(**inputs).logits
    model = AudioLM(net)
    run(model, inputs, record=["pattern"])
    generate(model, inputs, max_new_tokens=2)
    assert [
        (name, module.config._attn_implementation) for name, module in net.named_modules() if hasattr(module, "config")
    ] == before
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert torch.equal(net(**inputs).logits, plain)
    assert not net.training


def test_a_model_is_freed_when_the_last_reference_goes(inputs):
    gc.collect()
    gc.disable()
    try:
        opened = AudioLM(network("qwen2_audio"), prove=False)
        run(opened, inputs, record=["pattern"])
        gone = weakref.ref(opened.network)
        del opened
        assert gone() is None
    finally:
        gc.enable()


def test_recorded_tensors_are_copies(model, inputs):
    first = run(model, inputs, record=["resid_post"]).cache["resid_post", 0]
    kept = first.clone()
    run(model, inputs, interventions=[Edit(HookPoint("resid_post"), lambda value: value.mul_(0))])
    assert torch.equal(first, kept)


def test_edits_at_one_site_act_in_the_order_given(model, inputs):
    plus, times = Edit(HookPoint("embed"), lambda value: value + 1), Edit(HookPoint("embed"), lambda value: value * 2)
    seen = [
        run(model, inputs, record=["embed"], interventions=order).cache["embed"]
        for order in ([plus, times], [times, plus])
    ]
    clean = run(model, inputs, record=["embed"]).cache["embed"]
    torch.testing.assert_close(seen[0], 2 * (clean + 1))
    torch.testing.assert_close(seen[1], 2 * clean + 1)


def test_the_last_logits_alone_and_no_logits_at_all(model, inputs):
    whole = run(model, inputs).logits
    last = run(model, inputs, logits="last").logits
    assert last.shape == (2, 1, whole.shape[-1])
    torch.testing.assert_close(last, whole[:, -1:], atol=1e-5, rtol=1e-5)
    early = run(model, inputs, record=["audio.resid_post"], logits=None)
    assert early.logits is None
    assert set(early.cache) == {("audio.resid_post", 0), ("audio.resid_post", 1)}
    assert not model.exchange.reached(model.site_map.once["embed"].location)
    with pytest.raises(ValueError, match="nothing to compute"):
        run(model, inputs, logits=None)
    with pytest.raises(ValueError, match="logits= is 'all', 'last' or None, got 'first'"):
        run(model, inputs, logits="first")


def test_caches_are_asked_by_any_spelling_and_say_what_they_hold(model, inputs):
    cache = run(model, inputs, record=["resid_post", HookPoint("audio.blocks.1.attn.hook_z")]).cache
    assert torch.equal(cache["resid_post", -1], cache["blocks.2.hook_resid_post"])
    assert cache["audio.z", 1].shape[0] == 2
    assert cache.stack("resid_post").shape[0] == model.n_layers
    with pytest.raises(KeyError, match=r"'pattern' was not recorded; this run kept \['audio.z', 'resid_post'\]"):
        cache["pattern", 0]
    with pytest.raises(KeyError, match=r"'resid_post' was kept in layers \[0, 1, 2\], not in 9"):
        cache["resid_post", 9]
    for wrong in (("resid_post", slice(None)), ("resid_post", 0, "attn"), 3):
        with unchecked_types(), pytest.raises(TypeError, match=r"a name and a layer.*cache\.stack\('resid_post'\)"):
            _ = cache[wrong]
    with pytest.raises(KeyError, match="was kept per layer"):
        cache["resid_post"]


def test_layers_on_several_devices_are_stacked_on_the_first_ones():
    cache = Cache({"decoder": 3, "encoder": 1})
    cache.keep("mass", 0, torch.zeros(2, device="meta"))
    cache.keep("mass", 2, torch.zeros(2))
    assert cache.stack("mass").device.type == "meta"
    assert cache.stack("mass", missing=0.0).shape == (3, 2)


def test_a_generation_is_read_step_by_step_in_a_block(model, inputs):
    with torch.no_grad(), trace(model, inputs, max_new_tokens=3) as tracer:
        rows = nnsight.save([])
        for _ in tracer.iter[:3]:
            rows.append(model.blocks[1].attn.at("last").pattern.clone())
    n = inputs["input_ids"].shape[1]
    assert [row.shape[-1] for row in rows] == [n, n + 1, n + 2]
    recorded = generate(model, inputs, max_new_tokens=3, record=[HookPoint("pattern", queries="last")])
    for row, step in zip(rows, recorded.steps, strict=True):
        assert torch.equal(row, step["pattern", 1])


@pytest.mark.parametrize("name", ["num_beams", "num_return_sequences"])
def test_several_continuations_of_a_prompt_are_refused(model, inputs, name):
    with pytest.raises(ValueError, match=f"{name}=2: a prompt has one continuation here"):
        generate(model, inputs, max_new_tokens=2, **{name: 2})


def test_inference_mode_works_too(model, inputs):
    clean = run(model, inputs).logits
    with torch.inference_mode(), trace(model, inputs):
        model.blocks[0].attn.pattern.save()
        same = model.logits.save()
    assert torch.equal(same, clean)
    with torch.inference_mode(), trace(model, inputs):
        model.blocks[0].attn.pattern[:, 0] = 0
        moved = model.logits.save()
    assert not torch.equal(moved, clean)


def test_a_network_without_an_adapter_is_refused_with_the_list():
    with pytest.raises(
        TypeError,
        match=r"no adapter for Linear.*Qwen2AudioForConditionalGeneration.*adding_a_model/ shows how to write one",
    ):
        AudioLM(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("family", KINDS)  # tests/test_every_class.py opens all with their proofs
def test_opening_proves_every_hook_point(family):
    net = network(family)
    model = AudioLM(net)
    assert len(model.blocks) == len(net.get_submodule(model.adapter.decoder.layers)) >= 3
    assert len(net.get_submodule(model.adapter.encoder.layers)) == 2
    assert len(model.audio_blocks) == (2 if len(model.adapter.encoder.paths) == 1 else 4)


def test_a_hook_point_that_is_not_what_it_is_called_is_found_when_the_model_is_opened():
    net = network("qwen2_audio")
    net.model.language_model.layers[-1].mlp.down_proj.weight.data.zero_()
    net.model.language_model.layers[-1].self_attn.o_proj.weight.data.zero_()
    with pytest.raises(
        HookPointError,
        match=r"overwriting blocks\.2\.(attn\.\w+|mlp_post) of this Qwen2AudioForConditionalGeneration does not move",
    ):
        AudioLM(net)


def test_a_path_that_does_not_resolve_is_named():
    net = network("qwen2_audio")
    del net.model.audio_tower.layers[1].fc2
    with pytest.raises(HookPointError, match=r"expects a module at 'model\.audio_tower\.layers\.1\.fc2'"):
        AudioLM(net)


def test_answers_need_questions(model, inputs):
    with pytest.raises(ValueError, match="needs prompts made from questions"):
        answer(model, inputs)

"""People who know TransformerLens, nnsight and transformers type the words they know: they work, or name the way."""

import warnings
from types import SimpleNamespace

import nnsight
import pytest
import torch
from nnsight.tracing.tracer import WithBlockNotFoundError

import mechaudio as ma
from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import _OF_BATCH
from mechaudio.tracing.elsewhere import OF_ATTENTION, OF_CACHE, OF_LAYER, OF_MLP, OF_MODEL, OF_RUN
from tests.families import unchecked_types

GLOBAL = []


@pytest.fixture(scope="module")
def model():
    return ma.load("tiny", prove=False)


@pytest.fixture(scope="module")
def batch(model):
    return ma.prompt(model, ma.data.soundscapes.questions(2, seed=3))


@pytest.mark.parametrize(
    ("elsewhere", "here"),
    [
        ("model.blocks[1].hook_resid_pre", "model.blocks[1].resid_pre"),
        ("model.blocks[1].attn.hook_q", "model.blocks[1].attn.q"),
        ("model.blocks[1].attn.hook_attn_scores", "model.blocks[1].attn.scores"),
        ("model.blocks[1].attn.hook_pattern", "model.blocks[1].attn.pattern"),
        ("model.blocks[1].attn.hook_z", "model.blocks[1].attn.z"),
        ("model.blocks[1].hook_attn_out", "model.blocks[1].attn_out"),
        ("model.blocks[1].hook_mlp_out", "model.blocks[1].mlp_out"),
        ("model.blocks[1].mlp.hook_post", "model.blocks[1].mlp_post"),
        ("model.blocks[1].attn.hook_result", "model.blocks[1].attn.result"),
        ("model.audio_blocks[0].mlp.hook_post", "model.audio_blocks[0].mlp_post"),
        ("model.audio_blocks[0].hook_resid_post", "model.audio_blocks[0].resid_post"),
        ("model.hook_embed", "model.embed"),
    ],
)
def test_transformer_lens_names_of_hook_points_are_attributes(model, batch, elsewhere, here):
    with torch.no_grad():
        with ma.trace(model, batch):
            theirs = eval(elsewhere).save()
        with ma.trace(model, batch):
            ours = eval(here).save()
    assert torch.equal(theirs, ours)


def test_a_hook_point_is_edited_under_transformer_lens_name_too(model, batch):
    with torch.no_grad(), ma.trace(model, batch):
        model.blocks[1].hook_mlp_out = model.blocks[1].mlp_out * 0
        after = model.blocks[1].mlp_out.save()
        logits = model.logits.save()
    nothing = ma.Edit(ma.HookPoint("mlp_out", layers=1), torch.zeros_like)
    assert not after.any()
    assert torch.equal(logits, ma.run(model, batch, interventions=[nothing]).logits)


def test_nnsight_trace_takes_prompts(model, batch):
    with torch.no_grad(), model.trace(batch):
        pattern = model.blocks[1].attn.pattern.save()
    # to the bit on one thread; on two the last bits may differ
    torch.testing.assert_close(pattern, ma.run(model, batch, record=["pattern"]).cache["pattern", 1])


def test_a_model_called_on_prompts_runs_them(model, batch):
    assert torch.equal(model(batch).logits, ma.run(model, batch).logits)


def test_questions_stand_for_prompts_where_nnsight_and_the_network_are_called(model, batch):
    questions = list(batch.questions)
    assert torch.equal(model(questions).logits, ma.run(model, batch).logits)
    with torch.no_grad(), model.trace(questions):
        logits = model.logits.save()
    assert torch.equal(logits, ma.run(model, batch).logits)
    with pytest.raises(TypeError, match="batch= takes a PromptBatch or a dict or a list of AudioQuestions"):
        model("which comes first?")


def test_generate_as_the_head_of_a_block_names_the_way(model, batch):
    with (
        pytest.raises(TypeError, match=r"a block is `with ma\.trace\(model, batch, max_new_tokens=8\):`"),
        model.generate(batch, max_new_tokens=1),
    ):
        pass


def test_generate_of_a_model_takes_prompts_and_the_networks_own_inputs(model, batch):
    written = ma.generate(model, batch, max_new_tokens=3)
    assert model.generate(batch, max_new_tokens=3).texts == written.texts
    with torch.no_grad():
        tokens = model.generate(**batch.inputs, max_new_tokens=3, do_sample=False)
    assert torch.equal(tokens[:, batch.n_positions :], written.tokens)


@pytest.mark.parametrize("name", OF_MODEL)
def test_a_word_for_a_model_names_the_way(model, name):
    with pytest.raises(AttributeError) as refused:
        getattr(model, name)
    assert OF_MODEL[name] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", OF_LAYER)
def test_a_word_for_a_layer_names_the_way(model, name):
    with pytest.raises(AttributeError, match=r"here it is model\.blocks\[1\]\."):
        getattr(model.blocks[1], name)


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_word_for_attention_names_the_way(model, name):
    with pytest.raises(AttributeError, match=r"here it is (model\.blocks\[1\]\.|the weight)"):
        getattr(model.blocks[1].attn, name)


@pytest.mark.parametrize("name", OF_MLP)
def test_a_word_for_an_mlp_names_the_way(model, name):
    with pytest.raises(AttributeError, match=r"mlp has no '\w+': here it is (model\.blocks\[1\]\.|the weight)"):
        getattr(model.blocks[1].mlp, name)


def test_words_for_a_cache_a_run_and_prompts_name_the_way(model, batch):
    out = ma.run(model, batch, record=["resid_post"], logits="last")
    for value, words in ((out.cache, OF_CACHE), (out, OF_RUN), (batch, _OF_BATCH)):
        for name, way in words.items():
            with pytest.raises(AttributeError) as refused:
                getattr(value, name)
            assert str(refused.value) == f"{type(value).__name__!r} object has no attribute {name!r}: here it is {way}"
        with pytest.raises(AttributeError, match=r"object has no attribute 'foo'$"):
            value.foo  # noqa: B018


def test_a_run_taken_for_a_pair_or_a_cache_names_its_parts(model, batch):
    out = ma.run(model, batch, logits="last")
    with pytest.raises(TypeError, match=r"its parts are out\.logits and out\.cache"):
        _logits, _cache = out
    with pytest.raises(TypeError, match=r"its parts are out\.logits and out\.cache"):
        out["resid_post", 3]


def test_prompts_name_the_way_to_their_inputs_and_devices(model, batch):
    with unchecked_types(), pytest.raises(TypeError, match=r"What the network receives is in batch\.inputs"):
        batch["input_ids"]
    with (
        unchecked_types(),
        pytest.raises(TypeError, match=r"batch\.to takes a device, such as model\.device.*got AudioLM"),
    ):
        batch.to(model)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("HookedTransformer", "ma.load"),
        ("IntervenableModel", r"ma\.load, and interventions=\[\.\.\.\] of ma\.run"),
        ("VanillaIntervention", r"ma\.Patch\('z', layer=3, value=\.\.\.\)"),
        ("ablate", r"ma\.Edit\(ma\.HookPoint\('z', layers=\[3\]\), torch\.zeros_like\)"),
        ("NNsight", r"ma\.AudioLM\(network, processor\)"),
        ("logit_lens", r"mechaudio\.analyses\.logit_lens"),
        ("Adapter", r"mechaudio\.models\.Adapter"),
        ("save", r"value\.save\(\) inside a trace block, or nnsight\.save\(value\)"),
    ],
)
def test_a_name_that_is_in_another_room_is_said_to_be_there(name, way):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': here it is {way}$"):
        getattr(ma, name)


def test_a_misspelt_hook_point_lists_those_there_are(model):
    with pytest.raises(
        AttributeError, match=r"no 'resid_pots': there are blocks\.1\.resid_pre, .*blocks\.1\.resid_post"
    ):
        model.blocks[1].resid_pots  # noqa: B018
    with pytest.raises(AttributeError, match="no 'patern'"):
        model.blocks[1].attn.patern  # noqa: B018


def test_nothing_is_written_under_a_misspelt_name(model):
    with pytest.raises(AttributeError, match="no 'resid_pots'"):
        model.blocks[1].resid_pots = torch.zeros(1)


def test_words_of_the_network_go_before_words_of_others(model):
    assert isinstance(model.adapter, Adapter)
    assert model.config is model.network.config
    with pytest.raises(AttributeError, match="an AudioLM has no 'foo'"):
        model.foo  # noqa: B018


def test_a_trace_without_a_block_names_the_way(model, batch):
    with pytest.raises(WithBlockNotFoundError, match=r"write `with ma\.trace\(model, batch\):`"):
        model.trace(batch).__enter__()


def test_a_block_that_reads_and_saves_nothing_says_so(model, batch):
    with pytest.warns(UserWarning, match=r"saved nothing.*\.save\(\)"), ma.trace(model, batch):
        pattern = model.blocks[1].attn.pattern  # noqa: F841


def test_a_forgotten_save_names_what_is_still_as_before(model, batch):
    with torch.no_grad():
        with ma.trace(model, batch):
            pattern = model.blocks[1].attn.pattern.save()
        yesterday = pattern
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with ma.trace(model, batch):
                pattern = model.blocks[2].attn.pattern
                logits = model.logits.save()
    assert [str(each.message).split(":")[0] for each in warned] == [
        "'pattern' was set in this trace block and not saved"
    ]
    assert pattern is yesterday
    assert logits.shape[0] == 2


def test_blocks_that_save_or_only_write_say_nothing(model, batch):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        with ma.trace(model, batch):
            stream = model.blocks[1].resid_post
            logits = model.logits.save()
        stream = logits
        with ma.trace(model, batch):
            model.blocks[1].mlp_out = torch.zeros_like(stream[..., :1]).expand(-1, -1, model.d_model)
    assert stream is logits


def test_a_block_that_only_writes_what_it_read_is_told_that_it_kept_nothing(model, batch):
    def block():
        blocks = model.blocks
        with ma.trace(model, batch):
            blocks[1].mlp_out = model.blocks[1].mlp_out * 0

    (said,) = told_in(block)
    assert said.startswith("this trace block read hook points and saved nothing")


def told_in(block):
    with warnings.catch_warnings(record=True) as warned, torch.no_grad():
        warnings.simplefilter("always")
        block()
    return [str(each.message).split(":")[0] for each in warned]


def test_lists_dicts_and_numbers_of_yesterday_are_told_as_tensors_are(model, batch):
    def a_list():
        kept = [torch.zeros(1)]
        with ma.trace(model, batch):
            kept = [model.blocks[layer].resid_post for layer in range(2)]
            model.logits.save()
        assert len(kept) == 1

    def a_dict():
        kept = {0: torch.zeros(1)}
        with ma.trace(model, batch):
            kept = {layer: model.blocks[layer].resid_post for layer in range(2)}
            model.logits.save()
        assert len(kept) == 1

    def a_number():
        kept = 0.5
        with ma.trace(model, batch):
            kept = model.blocks[1].attn.pattern.max().item()
            model.logits.save()
        assert kept == 0.5

    def a_count():
        kept = 0
        with ma.trace(model, batch):
            kept += int(model.blocks[1].resid_post.argmax()) + 1
            model.logits.save()
        assert kept == 0

    def nothing():
        kept = None
        with ma.trace(model, batch):
            kept = model.blocks[1].resid_post
            model.logits.save()
        assert kept is None

    for block in (a_list, a_dict, a_number, a_count, nothing):
        assert told_in(block) == ["'kept' was set in this trace block and not saved"]


def test_a_name_that_is_declared_global_holds_what_was_saved_and_tells_what_was_not(model, batch):
    def saves():
        global stream
        with ma.trace(model, batch):
            stream = model.blocks[1].resid_post.save()
        kept.append(stream)
        stream = "mine"
        with ma.trace(model, batch):
            logits = model.logits.save()
        assert (stream, len(logits)) == ("mine", len(batch))
        stream = kept[0]

    def forgets():
        global stream
        with ma.trace(model, batch):
            stream = model.blocks[2].resid_post
            model.logits.save()

    kept = []
    assert told_in(saves) == []
    saved = stream
    assert torch.equal(saved, ma.run(model, batch, record=["resid_post"]).cache["resid_post", 1])
    assert told_in(forgets) == ["'stream' was set in this trace block and not saved"]
    assert stream is saved


def test_nnsights_own_trace_tells_of_a_forgotten_save_too(model, batch):
    def block():
        kept = torch.zeros(1)
        with model.trace(**batch.inputs):
            kept = model.blocks[1].attn.pattern
        assert kept.shape == (1,)

    assert told_in(block) == ["'kept' was set in this trace block and not saved"]


def test_what_is_put_into_a_value_from_outside_the_block_needs_no_save(model, batch):
    run = ma.run(model, batch, record=["resid_post"])
    expected = run.cache["resid_post", 2]
    kept, by_layer, summed = [], {}, []

    def appends():
        with ma.trace(model, batch):
            kept.append(model.blocks[2].resid_post)

    def sets_an_item():
        with ma.trace(model, batch):
            by_layer[2] = model.blocks[2].resid_post

    def adds_in_place():
        total = torch.zeros_like(expected)
        with ma.trace(model, batch):
            total += model.blocks[2].resid_post
        summed.append(total)

    keeper = SimpleNamespace(kept=[])

    def sets_an_attribute():
        with ma.trace(model, batch):
            keeper.stream = model.blocks[2].resid_post

    def appends_to_an_attribute():
        with ma.trace(model, batch):
            keeper.kept.append(model.blocks[2].resid_post)

    def appends_to_what_is_global():
        with ma.trace(model, batch):
            GLOBAL.append(model.blocks[2].resid_post.shape)

    def counts_and_saves():
        n = len(batch)
        with ma.trace(model, batch):
            n = nnsight.save(len(model.blocks[2].resid_post))
        assert n == len(batch)

    assert told_in(appends) == told_in(sets_an_item) == told_in(adds_in_place) == []
    assert told_in(sets_an_attribute) == told_in(appends_to_an_attribute) == told_in(appends_to_what_is_global) == []
    assert told_in(counts_and_saves) == []
    assert torch.equal(keeper.stream, keeper.kept[0])
    assert GLOBAL.pop() == expected.shape
    for stream in (kept[0], by_layer[2], summed[0]):
        assert torch.equal(stream, expected)


def test_loop_variables_and_constants_of_a_block_are_not_held_for_forgotten(model, batch):
    def block():
        factor, layer, scale = 2.0, 0.5, 0.25
        with ma.trace(model, batch):
            factor = 0.5
            for layer in range(2):
                model.blocks[layer].mlp_out *= factor
            scales = [scale * 2 for scale in (0.5, 1.0)]  # noqa: F841

            def doubled(value):
                scale = 2
                return value * scale

            logits = doubled(model.logits).save()
        assert (factor, layer, scale, logits.shape[0]) == (2.0, 0.5, 0.25, 2)

    assert told_in(block) == []

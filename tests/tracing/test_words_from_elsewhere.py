"""People who know TransformerLens, nnsight and transformers type the words they know: they work, or name the way."""

import warnings

import pytest
import torch
from nnsight.tracing.tracer import WithBlockNotFoundError

import mechaudio as ma
from mechaudio.models.adapter import Adapter
from mechaudio.tracing.elsewhere import OF_ATTENTION, OF_LAYER, OF_MODEL


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
    assert torch.equal(pattern, ma.run(model, batch, record=["pattern"]).cache["pattern", 1])


def test_a_model_called_on_prompts_runs_them(model, batch):
    assert torch.equal(model(batch).logits, ma.run(model, batch).logits)


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

"""Every path gives what the others give: written tokens of a batch are those of its rows alone, whatever is padded."""

import pytest
import torch

import mechaudio as ma
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import model_inputs, network

LEAKING = ("granite_speech", "granite_speech_plus", "phi4_multimodal")
SECONDS, WORDS = (2.4, 1.2, 2.4), (9, 9, 9)
LENGTH = {"max_new_tokens": 3, "min_new_tokens": 3}
pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")


@pytest.fixture(scope="module", params=LEAKING)
def model(request):
    return AudioLM(network(request.param), prove=False)


@pytest.fixture(scope="module")
def batch(model):
    prompts = as_batch(model, model_inputs(model.adapter.family, seconds=SECONDS, words=WORDS))
    assert padding_groups(model.adapter, prompts) == [[0, 2], [1]], "nothing would run apart"
    return prompts


def louder():
    return ma.ScaleAttention(layers=None, factor=3.0, queries="last", keys="audio")


def pushed(model, batch):
    directions = 5 * torch.randn(batch.n_rows, model.d_model, generator=torch.Generator().manual_seed(0))
    return ma.Steer(directions, layers=[0], per="question")


def written_without_a_cache(model, batch, row):
    """The likeliest token of a whole forward pass, three times over."""
    inputs = dict(part_of(model.adapter, batch, [row]).inputs)
    for _ in range(LENGTH["max_new_tokens"]):
        with torch.no_grad():
            newest = model.network(**inputs, use_cache=False).logits[:, -1:].argmax(-1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], newest], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(newest)], 1)
    return inputs["input_ids"][0, -LENGTH["max_new_tokens"] :]


def test_a_batch_is_written_as_whole_passes_of_its_rows_alone_would_write_it(model, batch):
    written = ma.generate(model, batch, **LENGTH).tokens
    for row in range(batch.n_rows):
        assert written[row].tolist() == written_without_a_cache(model, batch, row).tolist()


def test_the_first_token_is_the_likeliest_of_a_run_with_interventions_too(model, batch):
    for changes in ([], [louder()], [pushed(model, batch)]):
        first = ma.generate(model, batch, max_new_tokens=1, min_new_tokens=1, interventions=changes).tokens[:, 0]
        assert torch.equal(first, ma.run(model, batch, interventions=changes, logits="last").logits[:, -1].argmax(-1))


def test_one_by_one_and_as_variants_the_same_is_written(model, batch):
    changes = [louder(), pushed(model, batch)]
    together = ma.generate_variants(model, batch, changes, max_new_tokens=3, progress=False)
    for change, tokens in zip(changes, together.tokens, strict=True):
        assert torch.equal(tokens, ma.generate(model, batch, max_new_tokens=3, interventions=[change]).tokens)


def test_directions_for_each_question_stay_with_their_rows_and_effects_with_theirs(model, batch):
    changes = [louder(), pushed(model, batch)]
    together = ma.generate(model, batch, interventions=changes, record=["resid_post"], **LENGTH)
    for row in range(batch.n_rows):
        own = [change.of_rows([row]) for change in changes]
        alone = ma.generate(
            model, part_of(model.adapter, batch, [row]), interventions=own, record=["resid_post"], **LENGTH
        )
        assert together.tokens[row].tolist() == alone.tokens[0].tolist()
        assert len(together.steps) == len(alone.steps)
        for ours, single in zip(together.steps, alone.steps, strict=True):
            torch.testing.assert_close(ours["resid_post", -1][row], single["resid_post", -1][0], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            together.effects[0].mass_after[:, row], alone.effects[0].mass_after[:, 0], atol=1e-5, rtol=1e-4
        )


def test_a_group_that_ends_first_is_filled_up_behind_its_end(model, batch):
    """The shorter clip's first token ends an answer; the others go on."""
    free = ma.generate(model, batch, **LENGTH).tokens
    end = int(free[1, 0])
    written = ma.generate(model, batch, max_new_tokens=3, eos_token_id=end, pad_token_id=0, record=["resid_post"])
    assert written.tokens[1].tolist() == [end] + [0] * (written.tokens.shape[1] - 1)
    for row in (0, 2):
        until = free[row].tolist().index(end) + 1 if end in free[row].tolist() else 3
        assert written.tokens[row, :until].tolist() == free[row, :until].tolist()
    assert all(not step["resid_post", -1][1].any() for step in written.steps[1:])


def test_an_edit_may_give_numbers_of_another_type_on_every_path():
    model = ma.load("toy", prove=False)
    batch = ma.prompt(model, ma.data.toy_questions.questions(1, 0))
    halved, in_double = (
        [ma.Edit(ma.HookPoint("resid_post", layers=[1]), change)]
        for change in (lambda resid: resid / 2, lambda resid: resid.double() / 2)
    )
    expected = ma.run(model, batch, interventions=halved).logits
    assert torch.equal(ma.run(model, batch, interventions=in_double).logits, expected)
    assert ma.answer(model, batch, interventions=in_double) == ma.answer(model, batch, interventions=halved)


@pytest.mark.parametrize("point", ["logits", "final_norm"])
def test_an_edit_of_another_position_leaves_the_last_one_alone_where_only_that_is_computed(point):
    model, inputs = AudioLM(network("qwen2_audio"), prove=False), model_inputs("qwen2_audio")
    first = ma.Edit(ma.HookPoint(point, positions=[0]), lambda value: 2 * value)
    clean = ma.run(model, inputs, logits="last").logits
    torch.testing.assert_close(ma.run(model, inputs, interventions=[first], logits="last").logits, clean)
    torch.testing.assert_close(ma.sweep(model, inputs, [first], progress=False).logits[0], clean[:, -1])


@pytest.mark.parametrize("mode", ["centred", "mass_preserving", "mass_matched"])
def test_layers_that_share_keys_and_values_take_whole_edits_while_generating(mode):
    """Gemma 4 computes the last position of the prompt alone in such layers."""
    model, inputs = AudioLM(network("gemma4"), prove=False), model_inputs("gemma4")
    louder = ma.ScaleAttention(3.0, mode=mode, layers=[-1], queries=None)
    first = ma.generate(model, inputs, max_new_tokens=1, interventions=[louder]).tokens[:, 0]
    assert torch.equal(first, ma.run(model, inputs, interventions=[louder], logits="last").logits[:, -1].argmax(-1))


@pytest.mark.parametrize("rows", [[[-1], [-2]], [[-2, -3], [-1, -3]]], ids=str)
def test_such_layers_change_the_last_position_of_those_prompts_only_that_asked_for_it(rows):
    model, batch = AudioLM(network("gemma4"), prove=False), model_inputs("gemma4")
    there = {"layers": [-1], "queries": rows}
    for change in (
        ma.Edit(ma.HookPoint("pattern", **there), lambda pattern: 3 * pattern),
        ma.Edit(ma.HookPoint("scores", **there), lambda scores: 3 * scores),
        *(
            ma.Edit(ma.HookPoint(point, layers=[-1], positions=rows), lambda value: 3 * value + 1)
            for point in ("v", "z", "result", "attn_out", "mlp_post", "resid_post")
        ),
        *(  # rotated by positions, which count what pads a prompt in a run and not while generating
            ma.Edit(ma.HookPoint(point, layers=[-1], positions=rows), lambda value: 3 * value) for point in ("q", "k")
        ),
        ma.ScaleAttention(9.0, keys=[1, 2], **there),
    ):
        whole = ma.run(model, batch, interventions=[change], logits="last").logits
        first = ma.generate(model, batch, max_new_tokens=1, interventions=[change], record=["logits"]).steps[0]
        torch.testing.assert_close(first["logits"][:, -1:], whole, atol=1e-4, rtol=1e-4)

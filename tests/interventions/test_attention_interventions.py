"""Interventions on attention, in small networks of the real classes: against plain loops, and against trace blocks."""

import pytest
import torch

import mechaudio as ma
from mechaudio.models.grouping import part_of
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.record import Edit
from tests.families import model_inputs, network, unchecked_types
from tests.reference.score_formulas import edited, softmax

EVERY = {
    "plain": ma.ScaleAttention(1.5, layers=[1]),
    "centred": ma.ScaleAttention(1.5, mode="centred", layers=[1]),
    "mass_preserving": ma.ScaleAttention(0.4, mode="mass_preserving", layers=[1]),
    "mass_matched": ma.ScaleAttention(0.4, mode="mass_matched", layers=[1]),
    "constant": ma.UpweightAttention(1.5, layers=[1]),
    "pai": ma.UpweightAttention(0.4, mode="pai", layers=[1]),
    "block": ma.KnockOutAttention(layers=[1]),
}


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


@pytest.mark.parametrize("kind", EVERY)
def test_the_heads_give_what_a_plain_loop_makes_of_their_scores(model, inputs, kind):
    clean = ma.run(model, inputs, record=["scores", "v"])
    intervention = EVERY[kind]
    strength = getattr(intervention, "factor", getattr(intervention, "bias", 0.0))
    out = ma.run(model, inputs, record=["z"], interventions=[intervention])
    effects = out.effects[0]
    for row, keys in enumerate(clean.batch.spans["audio"]):
        for head in range(model.n_heads):
            scores = clean.cache["scores", 1][row, head, -1].double().tolist()
            weights, before = softmax(edited(kind, strength, scores, keys)), softmax(scores)
            value = clean.cache["v", 1][row, :, head // 2].double()  # two heads share a key-value head
            hand = sum(weight * vector for weight, vector in zip(weights, value, strict=True))
            torch.testing.assert_close(out.cache["z", 1][row, -1, head].double(), hand, rtol=1e-4, atol=1e-5)
            among = [scores[key] for key in keys]
            for measured, by_hand in (
                (effects.mass_before, sum(before[key] for key in keys)),
                (effects.mass_after, sum(weights[key] for key in keys)),
                (effects.score_mean, sum(among) / len(among)),
                (effects.score_negative, sum(score < 0 for score in among) / len(among)),
            ):
                assert measured[0, row, head].item() == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    assert effects.ways == ("rows",)
    assert str(intervention) in str(effects)


def test_the_interface_and_a_trace_block_are_one_route(model, inputs):
    out = ma.run(model, inputs, interventions=[ma.ScaleAttention(1.5, layers=[1])])
    audio = out.batch.span_mask("audio")[:, None, None]
    with torch.no_grad(), ma.trace(model, out.batch):
        scores = model.blocks[1].attn.at("last").scores
        model.blocks[1].attn.at("last").scores = torch.where(audio, 1.5 * scores, scores)
        logits = model.logits.save()
    torch.testing.assert_close(out.logits, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.bits
def test_rows_that_are_not_meant_keep_their_bits_in_the_layer(model, inputs, kind):
    clean = ma.run(model, inputs, record=["z"]).cache["z", 1]
    changed = ma.run(model, inputs, record=["z"], interventions=[EVERY[kind]]).cache["z", 1]
    assert torch.equal(clean[:, :-1], changed[:, :-1])
    assert not torch.equal(clean[:, -1], changed[:, -1])


@pytest.mark.bits
def test_one_head_leaves_the_others_their_bits(model, inputs):
    clean = ma.run(model, inputs, record=["z"]).cache["z", 1]
    one = ma.ScaleAttention(1.5, layers=[1], heads=-1)
    changed = ma.run(model, inputs, record=["z"], interventions=[one]).cache["z", 1]
    assert torch.equal(clean[:, :, :3], changed[:, :, :3])
    assert not torch.equal(clean[:, -1, 3], changed[:, -1, 3])


@pytest.mark.parametrize("queries", ["last", None])
def test_a_batch_gives_what_its_rows_give_alone(model, inputs, queries):
    several = [ma.ScaleAttention(1.5, queries=queries), ma.UpweightAttention(0.5, queries=queries)]
    together = ma.run(model, inputs, interventions=several)
    for row in range(2):
        alone = model_inputs("qwen2_audio")
        width = int(alone["attention_mask"][row].sum())
        one = {name: value[row : row + 1] for name, value in alone.items()}
        one |= {name: one[name][:, -width:] for name in ("input_ids", "attention_mask")}
        single = ma.run(model, one, interventions=several)
        torch.testing.assert_close(single.logits[0], together.logits[row, -width:], rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(single.effects, together.effects, strict=True):
            torch.testing.assert_close(ours.mass_after[:, 0], theirs.mass_after[:, row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("queries", ["last", None])
def test_order_matters_at_one_site_and_not_between_layers(model, inputs, queries):
    scale, shift = (
        ma.ScaleAttention(2.0, layers=[1], queries=queries),
        ma.UpweightAttention(1.0, layers=[1], queries=queries),
    )
    elsewhere = ma.UpweightAttention(1.0, layers=[2], queries=queries)

    def logits(*interventions):
        return ma.run(model, inputs, interventions=interventions, logits="last").logits

    assert (logits(scale, shift) - logits(shift, scale)).abs().max() > 1e-4
    torch.testing.assert_close(logits(shift, scale), logits(scale, shift, shift), rtol=1e-4, atol=1e-4)  # 2 (s + 1)
    assert torch.equal(logits(scale, elsewhere), logits(elsewhere, scale))


def test_one_value_given_twice_acts_twice_and_tells_so_twice(model, inputs):
    shift = ma.UpweightAttention(1.0, layers=[1])
    twice = ma.run(model, inputs, interventions=[shift, shift])
    once = ma.run(model, inputs, interventions=[ma.UpweightAttention(2.0, layers=[1])])
    torch.testing.assert_close(twice.logits, once.logits, rtol=1e-4, atol=1e-4)
    assert [effects.layers for effects in twice.effects] == [(1,), (1,)]
    torch.testing.assert_close(twice.effects[0].mass_after, twice.effects[1].mass_before)


@pytest.mark.parametrize("queries", ["last", None])
def test_one_that_leaves_scores_as_they_are_has_its_place_among_the_effects(model, inputs, queries):
    idle, acts = ma.ScaleAttention(1.0, queries=queries), ma.UpweightAttention(1.0, layers=[1], queries=queries)
    out = ma.run(model, inputs, interventions=[idle, acts])
    assert [effects.intervention for effects in out.effects] == [idle, acts]
    assert [effects.layers for effects in out.effects] == [(), (1,)]
    assert out.effects[0].mass_before.shape == (0, 2, model.n_heads)
    assert str(idle) in str(out.effects[0])
    assert torch.equal(out.logits, ma.run(model, inputs, interventions=[acts]).logits)
    found = ma.sweep(model, inputs, [[idle], [idle, acts]], progress=False)
    assert found.ways[0] == "shared prefix"
    torch.testing.assert_close(found.logits[0], found.clean, rtol=1e-5, atol=1e-5)  # beside others, in another call
    assert found.mass_before.isnan().tolist() == [[True, True], [False, False]]


def test_a_row_that_sees_no_key_gives_zeros(model, inputs):
    every = list(range(inputs["input_ids"].shape[1]))
    for queries in ("last", None):
        blind = ma.KnockOutAttention(layers=[1], queries=queries, keys=every)
        out = ma.run(model, inputs, record=["z"], interventions=[blind])
        assert out.cache["z", 1][:, -1].abs().max() == 0
        assert out.logits[inputs["attention_mask"].bool()].isfinite().all()
        assert out.effects[0].mass_after.abs().max() == 0


def test_rows_of_different_number_in_each_prompt_are_one_batch(model, inputs):
    width = inputs["input_ids"].shape[1]
    ragged = [[width - 3, width - 1], [width - 1]]
    together = ma.run(model, inputs, record=["z"], interventions=[ma.ScaleAttention(2.0, layers=[1], queries=ragged)])
    clean = ma.run(model, inputs, record=["z"]).cache["z", 1]
    differs = (together.cache["z", 1] != clean).any(-1).any(-1)
    assert [row.nonzero().flatten().tolist() for row in differs] == ragged


@pytest.mark.parametrize("queries", ["last", None])
def test_while_generating_the_edit_follows_the_newest_token(model, inputs, queries):
    every = ma.ScaleAttention(1.5, layers=[1, 2], queries=queries)
    options = {"eos_token_id": None, "min_new_tokens": 4}
    record = [ma.HookPoint("z", layers=[2])]
    made = ma.generate(model, inputs, max_new_tokens=4, interventions=[every], record=record, **options)
    width, n_new = inputs["input_ids"].shape[1], made.tokens.shape[1]
    longer = inputs | {
        "input_ids": torch.cat([inputs["input_ids"], made.tokens], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(made.tokens)], dim=1),
    }
    rows = None if queries is None else list(range(width - 1, width + n_new))
    whole = ma.run(model, longer, record=record, interventions=[ma.ScaleAttention(1.5, layers=[1, 2], queries=rows)])
    for step, cache in enumerate(made.steps):
        uncached = whole.cache["z", 2][:, width - 1 + step]
        torch.testing.assert_close(cache["z", 2][:, -1], uncached, rtol=1e-4, atol=1e-4)
    assert torch.equal(made.tokens[:, 0], whole.logits[:, width - 1].argmax(-1))
    prefill = ma.ScaleAttention(1.5, layers=[1, 2], queries=queries, phase="prefill")
    once = ma.generate(model, inputs, max_new_tokens=4, interventions=[prefill], record=record, **options)
    assert torch.equal(once.steps[0]["z", 2], made.steps[0]["z", 2])
    assert not torch.equal(once.steps[1]["z", 2], made.steps[1]["z", 2])


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_rows_that_run_apart_tell_of_the_intervention_on_the_whole_batch():
    leaking = AudioLM(network("phi4_multimodal"), prove=False)
    given = model_inputs("phi4_multimodal", seconds=(0.56, 2.4), words=(9, 5))
    batch = ma.run(leaking, given).batch
    keys = [list(span[:2]) for span in batch.spans["audio"]]
    intervention = ma.ScaleAttention(1.5, layers=[1], keys=keys)
    out = ma.run(leaking, given, interventions=[intervention])
    assert out.effects[0].intervention == intervention
    for row in range(2):
        alone = ma.run(leaking, part_of(leaking.adapter, batch, [row]), interventions=[intervention.of_rows([row])])
        torch.testing.assert_close(out.logits[row], alone.logits[0], rtol=1e-4, atol=1e-4)
        for name in ("mass_before", "mass_after", "score_mean", "score_negative"):
            together, single = getattr(out.effects[0], name)[:, row], getattr(alone.effects[0], name)[:, 0]
            torch.testing.assert_close(together, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ma.ScaleAttention("2"), TypeError, r"factor= is one number, got '2'"),
        (lambda: ma.ScaleAttention(float("nan")), ValueError, "factor= must be finite"),
        (lambda: ma.ScaleAttention(2.0, mode="louder"), ValueError, "mode= is one of 'plain', 'centred'"),
        (lambda: ma.UpweightAttention([1.0, 2.0]), TypeError, r"ma.grid\(\.\.\., bias=\[\.\.\.\]\)"),
        (lambda: ma.UpweightAttention(1.0, layers=[]), ValueError, "layers= is empty"),
        (lambda: ma.UpweightAttention(1.0, heads=[0.5]), TypeError, "heads= takes whole numbers"),
        (lambda: ma.KnockOutAttention(phase="decode"), ValueError, "phase= is one of 'prefill', 'all'"),
    ],
)
def test_bad_values_are_refused(make, error, says):
    with unchecked_types(), pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    ("intervention", "error", "says"),
    [
        (ma.ScaleAttention(1.0, layers=[9]), IndexError, "layer 9, but this decoder has layers 0 to"),
        (ma.ScaleAttention(2.0, layers=[9]), IndexError, "layer 9, but this decoder has layers 0 to"),
        (ma.ScaleAttention(2.0, heads=[4]), IndexError, "no head 4: a layer has heads 0 to 3"),
        (ma.ScaleAttention(2.0, keys="sound"), KeyError, "no span 'sound'"),
        (ma.ScaleAttention(2.0, queries=[0]), ValueError, "no token sees what follows it"),
        (ma.ScaleAttention(2.0, queries=[[-1]]), ValueError, r"one list per prompt \(2 here\); got 1 list\b"),
        (ma.ScaleAttention(2.0, layers=[-1, 2]), ValueError, "names a layer twice"),
        (Edit(ma.HookPoint("resid_post", layers=[1, 1]), lambda resid: 2 * resid), ValueError, "names a layer twice"),
    ],
)
def test_what_does_not_fit_the_prompts_is_refused(model, inputs, intervention, error, says):
    with pytest.raises(error, match=says):
        ma.run(model, inputs, interventions=[intervention])

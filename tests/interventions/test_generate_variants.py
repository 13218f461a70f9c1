"""Written answers of many variants: token for token what every variant writes alone, whichever way it was computed."""

from dataclasses import replace
from functools import cache

import pytest
import torch

import mechaudio as ma
from mechaudio.interventions.sweep_result import SHARED
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.join import interventions_of_rows
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned, unchecked_types
from tests.interventions.kinds import ALONE, having

N = 3


@pytest.fixture(scope="module")
def opened():
    return cache(lambda family: (AudioLM(network(family), prove=False), model_inputs(family)))


def variants_of(model, inputs):
    """Variants of every kind, alone and combined; the last one cannot share anything."""
    first, *_, last = having(model, "pattern")
    behind = "mlp_out" if having(model, "mlp_out") else "attn_out"
    middle = "resid_mid" if having(model, "resid_mid") else "resid_post"
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(model.d_model, generator=generator)
    own = torch.randn(len(inputs["input_ids"]), model.d_model, generator=generator)
    clean = ma.run(model, inputs, record=[ma.HookPoint("z", positions="last"), "v"]).cache
    return [
        [],
        [ma.ScaleAttention(3.0, layers=[first], queries="last", keys="audio")],
        [ma.ScaleAttention(1.0, layers=[first])],
        [ma.ScaleAttention(2.0, layers=[last], mode="mass_preserving"), ma.UpweightAttention(1.0, layers=[first])],
        [ma.ScaleAttention(2.0, layers=[first], heads=[1], queries=[-2, -1])],
        [ma.UpweightAttention(3.0, layers=[last], heads=[0], queries=None)],
        [ma.KnockOutAttention(layers=[last]), ma.Steer(direction, layers=[first], strength=0.5)],
        [ma.KnockOutAttention(queries=[-3], layers=[first])],
        [ma.Steer(direction, layers=having(model, behind)[-1:], hook_point=behind)],
        [ma.Steer(own, layers=[first], hook_point="resid_pre", per="question")],
        [ma.Steer(direction, layers=having(model, middle)[:1], hook_point=middle, mode="project_out", keep_norm=True)],
        [ma.Steer(direction, strength=0.5, hook_point="final_norm")],
        [ma.Steer(direction, layers=[last], positions=None)],
        [ma.Steer(direction, layers=[first], positions="audio")],
        [ma.Patch("z", layer=first, value=clean["z", last], heads=[0], positions="last")],
        [ma.Patch("v", layer=first, value=clean["v", last].flip(1), positions=[-2])],
        [ma.Edit(ma.HookPoint("k", layers=[last], positions="audio"), torch.neg, by_position=True)],
        [ma.Edit(ma.HookPoint("q", layers=[last], positions="last"), torch.neg, every_step=False, by_position=True)],
        [ma.Edit(ma.HookPoint("scores", layers=[first], queries="last"), lambda scores: scores.roll(1, 1))],
        [
            ma.Edit(ma.HookPoint("resid_post", layers=[first], positions="last"), torch.neg),
            ma.Steer(own, per="question"),
        ],
        [ma.Edit(ma.HookPoint("projector_out"), lambda vectors: 1.5 * vectors)],
        [ma.Edit(ma.HookPoint("logits"), torch.neg)],
    ]


def one_by_one(model, inputs, variants, n=N):
    """The tokens of every variant alone, none of them chosen by a hair's breadth."""
    batch = as_batch(model, inputs)
    outs = [ma.generate(model, batch, max_new_tokens=n, interventions=edits, record=["logits"]) for edits in variants]
    for out in outs:
        for step in out.steps:
            best = step["logits"][:, -1].topk(2).values
            assert ((best[:, 0] - best[:, 1]) > 1e-5 * best.abs().amax()).all()
    return [out.tokens for out in outs]


def same(found, expected):
    return [torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize("family", thinned(FAMILIES, left=("qwen2_audio", "phi4_multimodal")))
def test_variants_write_what_they_write_one_by_one(opened, family):
    model, inputs = opened(family)
    variants = variants_of(model, inputs)
    if family in ALONE:
        variants = variants[::5]
    elif family not in KINDS:  # a class of every kind has them all; of the others, each has every third
        variants = [[], *variants[1 + FAMILIES.index(family) % 3 : -1 : 3], variants[-1]]
    expected = one_by_one(model, inputs, variants)
    found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    assert same(found.tokens, expected)
    assert torch.equal(found.clean_tokens, expected[0])
    fewest = 1 if family in ALONE else 12 if family in KINDS else len(variants) // 2
    assert len({str(tokens.tolist()) for tokens in expected}) > fewest
    if family in ALONE:
        assert all(ALONE[family] in way for way in found.ways)
    else:
        assert set(found.ways[:-1]) == {SHARED}
        assert found.ways[-1] == "one by one: logits lies outside the layers"


@pytest.mark.parametrize(
    ("family", "every"),
    [
        ("qwen2_audio", 2),
        *(pytest.param(family, 3, marks=pytest.mark.whole) for family in ("phi4_multimodal", "vibevoice_asr")),
    ],
)
def test_little_memory_takes_longer_and_gives_the_same(opened, family, every):
    model, inputs = opened(family)
    variants = variants_of(model, inputs)[::every]
    whole = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    for memory in (1, 3e5):
        in_pieces = ma.generate_variants(model, inputs, variants, max_new_tokens=N, memory=memory, progress=False)
        assert same(in_pieces.tokens, whole.tokens)
        assert torch.equal(in_pieces.clean_tokens, whole.clean_tokens)


@pytest.mark.parametrize("family", thinned(family for family in FAMILIES if family not in ALONE))
def test_prompts_go_through_the_tower_and_the_decoder_once(opened, family, monkeypatch):
    model, inputs = opened(family)
    variants = variants_of(model, inputs)[:6]
    calls = ma.run(model, inputs, logits="last").tower_calls
    passed, handle = [], Exchange.handle

    def counting(exchange, provider, value):
        if provider == exchange.projector:
            passed.append("tower")
        if provider == exchange.decoder:
            given = value[1].get("inputs_embeds")
            passed.append((value[1]["input_ids"] if given is None else given).shape[:2])
        return handle(exchange, provider, value)

    monkeypatch.setattr(Exchange, "handle", counting)
    found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    assert set(found.ways) == {SHARED}
    assert passed.count("tower") == calls
    steps = [what for what in passed if what != "tower"]
    assert steps == [inputs["input_ids"].shape, *[(2 * 7, 1)] * (N - 1)]  # new tokens of all variants and the clean run


def test_the_layers_with_a_sliding_window_forget_as_they_do_one_by_one():
    net = network("qwen2_audio")
    text = net.config.text_config
    settings = {
        "use_sliding_window": True,
        "sliding_window": 8,
        "layer_types": ["full_attention", *["sliding_attention"] * 2],
    }
    config = type(text)(**text.to_dict() | settings)
    torch.manual_seed(0)
    sliding = type(net)(type(net.config)(audio_config=net.config.audio_config, text_config=config)).eval()
    sliding.load_state_dict(net.state_dict())
    sliding.config.audio_token_id = net.config.audio_token_id
    model, inputs = AudioLM(sliding, prove=False), model_inputs("qwen2_audio")
    assert model.network.model.language_model.has_sliding_layers
    variants = variants_of(model, inputs)[::2]
    found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    expected = one_by_one(model, inputs, variants)
    assert same(found.tokens, expected)
    assert not same(found.tokens, one_by_one(AudioLM(net, prove=False), inputs, variants))


def test_a_variant_ends_where_it_ends_alone(opened):
    model, inputs = opened("qwen2_audio")
    variants = variants_of(model, inputs)[::3]
    settings = model.network.generation_config
    before = settings.eos_token_id
    settings.eos_token_id = [int(tokens[0, 1]) for tokens in one_by_one(model, inputs, variants[:4])]
    try:
        expected = [ma.generate(model, inputs, max_new_tokens=6, interventions=one).tokens for one in variants]
        found = ma.generate_variants(model, inputs, variants, max_new_tokens=6, progress=False)
        in_pieces = ma.generate_variants(model, inputs, variants, max_new_tokens=6, memory=1, progress=False)
    finally:
        settings.eos_token_id = before
    assert same(found.tokens, expected)
    assert same(in_pieces.tokens, expected)
    assert len({tokens.shape[1] for tokens in expected}) > 1


@pytest.mark.parametrize("family", ["qwen3_omni_moe_thinker", "phi4_multimodal"])
def test_prompts_whose_padding_leaks_run_in_groups(opened, family):
    model, _ = opened(family)
    inputs = model_inputs(family, seconds=(0.56, 2.4, 0.56, 0.68), words=(9, 5, 7, 6))
    batch = as_batch(model, inputs)
    groups = padding_groups(model.adapter, batch)
    assert groups == [[0, 2], [1], [3]]
    directions = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(0))
    variants = [
        [ma.ScaleAttention(3.0, layers=[0])],
        [ma.Steer(directions, layers=[0], per="question")],
        [ma.UpweightAttention(1.0, layers=[1], queries=[[-2, -1], [-3, -1], [-1, -2], [-2, -1]])],
    ]
    with pytest.warns(UserWarning, match="3 groups of rows"):
        found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    for rows in groups:
        part = part_of(model.adapter, batch, rows)
        expected = one_by_one(model, part, [interventions_of_rows(one, rows) for one in variants])
        for ours, theirs in zip(found.tokens, expected, strict=True):
            n = theirs.shape[1]
            assert torch.equal(ours[rows, :n], theirs)
            assert (ours[rows, n:] == model.network.generation_config.pad_token_id).all()  # another group wrote more


def test_questions_of_different_lengths_are_answered_in_words_as_alone(toy):
    questions = [one for n in (2, 4, 3) for one in ma.data.toy_questions.questions(1, seed=n, n_choices=n)]
    batch = ma.prompt(toy, questions)
    assert len(set(batch.inputs["attention_mask"].sum(1).tolist())) > 1
    heads = ma.grid(ma.KnockOutAttention, layers=range(4), heads=[1, 2])
    found = ma.generate_variants(toy, batch, heads, max_new_tokens=2, progress=False)
    assert set(found.ways) == {SHARED}
    assert found.axes == heads.axes
    assert found.clean_texts == ma.generate(toy, batch, max_new_tokens=2).texts
    assert list(found.texts) == [ma.generate(toy, batch, max_new_tokens=2, interventions=[one]).texts for one in heads]
    assert len(set(found.texts)) > 1
    assert repr(found) == "<Generations of 8 variants on 3 prompts: 8 with a shared prefix, 0 one by one>"


def test_what_acts_at_every_new_token_and_what_acts_in_the_prompt_only_differ(opened):
    model, inputs = opened("qwen2_audio")
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    steer = ma.Steer(direction, layers=[1], strength=2.0)
    variants = [replace(steer, phase=phase) for phase in ("all", "prefill")]
    found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    assert same(found.tokens, one_by_one(model, inputs, [[one] for one in variants]))
    assert torch.equal(found.tokens[0][:, 0], found.tokens[1][:, 0])
    assert not torch.equal(found.tokens[0], found.tokens[1])


def test_a_hook_of_somebody_elses_makes_variants_run_one_by_one(opened):
    model, inputs = opened("qwen2_audio")
    variants = [[ma.ScaleAttention(2.0, layers=[2])]]
    layer = model.network.get_submodule(model.adapter.decoder.path(1))
    handle = layer.register_forward_hook(lambda _layer, _args, out: out + 3.0 * (out == out[:, -1:]))
    try:
        found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
        expected = one_by_one(model, inputs, variants)
    finally:
        handle.remove()
    assert same(found.tokens, expected)
    assert "layers.1 has a forward hook" in found.ways[0]


@pytest.mark.parametrize(("setting", "value"), [("use_cache", False), ("prefill_chunk_size", 512)])
def test_settings_that_keep_nothing_to_continue_from_are_switched_off(opened, setting, value):
    model, inputs = opened("qwen2_audio")
    settings = model.network.generation_config
    variants = [[ma.ScaleAttention(2.0, layers=[2])]]
    before = getattr(settings, setting)
    setattr(settings, setting, value)
    try:
        found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
        expected = one_by_one(model, inputs, variants)
    finally:
        setattr(settings, setting, before)
    assert found.ways == (SHARED,)
    assert same(found.tokens, expected)


def test_a_network_that_returns_more_than_tokens_gives_the_same(opened):
    model, inputs = opened("qwen2_audio")
    variants = variants_of(model, inputs)[:3]
    before = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    model.network.generation_config.return_dict_in_generate = True
    try:
        found = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    finally:
        model.network.generation_config.return_dict_in_generate = False
    assert same(found.tokens, before.tokens)


def test_networks_without_a_processor_give_tokens_and_no_texts(opened):
    found = ma.generate_variants(*opened("qwen2_audio"), [[]], max_new_tokens=2, progress=False)
    assert found.texts == ((),)
    assert found.clean_texts == ()


def test_a_bar_is_drawn_on_stderr_where_it_is_asked_for(opened, capsys):
    model, inputs = opened("qwen2_audio")
    variants = [[ma.ScaleAttention(2.0, layers=[0])], []]
    ma.generate_variants(model, inputs, variants, max_new_tokens=2, progress=True)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert "generate: 100%" in drawn.err
    assert "3/3" in drawn.err
    ma.generate_variants(model, inputs, variants, max_new_tokens=2)
    assert capsys.readouterr().err == ""


def test_nothing_to_generate_and_what_is_no_intervention_are_refused(opened):
    model, inputs = opened("qwen2_audio")
    with pytest.raises(ValueError, match="there is nothing to run: variants= is empty"):
        ma.generate_variants(model, inputs, [], progress=False)
    with pytest.raises(ValueError, match="max_new_tokens= must be at least 1, got 0"):
        ma.generate_variants(model, inputs, [[]], max_new_tokens=0, progress=False)
    with unchecked_types(), pytest.raises(TypeError, match="got a ScaleAttention: put it into a list"):
        ma.generate_variants(model, inputs, ma.ScaleAttention(2.0), progress=False)
    with unchecked_types(), pytest.raises(TypeError, match=r"variants= takes .*Intervention.*; got \[2\.0\]"):
        ma.generate_variants(model, inputs, [2.0], progress=False)
    with pytest.raises(KeyError, match="no such span"):
        ma.generate_variants(model, inputs, [ma.ScaleAttention(2.0, queries="no such span")], progress=False)
    assert ma.generate(model, inputs, max_new_tokens=2).tower_calls == 1  # a run that failed leaves nothing behind

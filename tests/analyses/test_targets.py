"""Margins and probabilities of given words, against plain forward passes of transformers."""

import html
from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.models.targets import ANYTHING_ELSE, forced
from mechaudio.tracing.run import measured_logits
from tests.families import network, noise, processor

#: A target and a foil that begin differently, and two texts of several tokens.
WORDS = ("chirp", "whistle")
TEXTS = ("chirp starts first", "chirp ends")


@pytest.fixture(scope="module")
def questions():
    clips = [made.audio for made in ma.data.soundscapes.questions(2, seed=11, duration=4.0)]
    return [
        ma.AudioQuestion(audio=clip, text="What do you hear?", answer="chirp", id=f"open {n}")
        for n, clip in enumerate(clips)
    ]


def forward(model, batch, words=""):
    """Log-probabilities of a plain forward pass, at the prompt's end and behind each token of words but the last."""
    ids = []
    if words:
        ids = model.processor.tokenizer(batch.written[0] + words)["input_ids"]
        ids = ids[len(model.processor.tokenizer(batch.written[0])["input_ids"]) :]
    more = torch.tensor([ids] * batch.n_rows, dtype=torch.long)
    inputs = dict(batch.inputs)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(more)], dim=1)
    if "position_ids" in inputs:
        behind = inputs["position_ids"][:, -1:] + 1 + torch.arange(more.shape[1])
        inputs["position_ids"] = torch.cat([inputs["position_ids"], behind], dim=1)
    with torch.no_grad():
        logits = model.network(**inputs, use_cache=False).logits.float()
    return logits[:, batch.n_positions - 1 :].log_softmax(-1).double(), ids


def of_first(model, batch, words):
    log_probabilities, _ = forward(model, batch)
    return log_probabilities[:, 0, forward(model, batch, words)[1][0]]


def of_whole(model, batch, words):
    """Every word in one pass, as a causal model allows; the package takes a pass per word."""
    log_probabilities, ids = forward(model, batch, words)
    return sum(log_probabilities[:, place, token] for place, token in enumerate(ids))


def close(got, expected, atol=1e-4):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-4, atol=atol)


def family(name):
    return ma.AudioLM(network(name), processor(name), prove=False)


def asked(seconds=2.0, n=2, **known):
    return [
        ma.AudioQuestion(audio=AudioClip(noise(seconds, seed), 16_000), text="What is heard?", id=str(seed), **known)
        for seed in range(n)
    ]


@pytest.mark.parametrize("name", ["qwen2_audio", "audioflamingo3", "granite_speech"])
def test_every_class_gives_the_logits_of_a_plain_forward_pass(name):
    model = family(name)
    batch = ma.prompt(model, asked(answer="dog"))
    swept = ma.sweep(model, batch, [ma.ScaleAttention(0.5)], target="dog", foil="cat", progress=False)
    close(swept.clean_margin, of_first(model, batch, "dog") - of_first(model, batch, "cat"))
    alone = ma.sweep(model, batch, [ma.ScaleAttention(0.5)], progress=False)  # the answer, against everything else
    close(alone.clean.softmax(-1)[:, 0], of_first(model, batch, "dog").exp())
    whole = ma.sweep(model, batch, [ma.ScaleAttention(0.5)], target="a dog", foil="a cat", whole=True, progress=False)
    close(whole.clean[:, 0], of_whole(model, batch, "a dog"))
    close(whole.clean[:, 1], of_whole(model, batch, "a cat"))


def test_mistrals_tokens_are_those_of_the_models_own_turn():
    model = family("voxtral")
    batch = ma.prompt(model, asked()).aimed(target="dog", foil="cat")
    (aim, _) = batch.aims
    assert [model.processor.tokenizer.decode(list(ids)) for ids in (aim.target_ids, aim.foil_ids)] == ["dog", "cat"]
    logits = model.network(**batch.inputs, use_cache=False).logits[:, -1].double().detach()
    first = [aim.target_ids[0], aim.foil_ids[0]]
    swept = ma.sweep(model, batch, [[]], progress=False)
    close(swept.clean_margin, logits[:, first[0]] - logits[:, first[1]])


def test_the_toy_answers_an_open_question_as_its_arithmetic_says():
    toy = ma.load("toy", prove=False)
    made = ma.data.toy_questions.questions(2, 0)
    batch = ma.prompt(toy, [ma.AudioQuestion(audio=one.audio, text=one.text, id=one.id) for one in made])
    swept = ma.sweep(toy, batch, [[]], target=["A", "B"], foil=["B", "A"], progress=False)
    expected = [of_first(toy, batch, "A")[0] - of_first(toy, batch, "B")[0]]
    expected += [of_first(toy, batch, "B")[1] - of_first(toy, batch, "A")[1]]
    close(swept.clean_margin, expected)


def test_a_sweep_of_whole_texts_gives_what_a_pass_with_the_intervention_gives(tiny, questions):
    batch = ma.prompt(tiny, questions)
    change = ma.ScaleAttention(0.0, layers=[1])
    swept = ma.sweep(tiny, batch, [change], target=TEXTS[0], foil=TEXTS[1], whole=True, progress=False)
    for column, text in enumerate(TEXTS):
        close(swept.clean[:, column], of_whole(tiny, batch, text))
        _, ids = forward(tiny, batch, text)
        total = 0.0
        for place, token in enumerate(ids):  # the query rows of the prompt's end alone are changed
            longer = batch.aimed(target=text, whole=True)
            longer = forced(longer, 0, place)
            logits = ma.run(tiny, longer, interventions=[change], logits="last").logits[:, -1]
            total = total + logits.double().log_softmax(-1)[:, token]
        close(swept.logits[0, :, column], total)


def test_words_that_begin_with_the_same_token_are_measured_whole_and_others_by_their_first(tiny, questions):
    words = {"target": [TEXTS[0], "chirp"], "foil": [TEXTS[1], "siren"]}
    batch = ma.prompt(tiny, questions[:2])
    assert [aim.whole for aim in batch.aimed(**words).aims] == [True, False]
    swept = ma.sweep(tiny, batch, [[], ma.ScaleAttention(0.0, layers=[1])], progress=False, **words)
    alike = ma.sweep(
        tiny, batch[[0]], [[], ma.ScaleAttention(0.0, layers=[1])], whole=True, target=TEXTS[0], foil=TEXTS[1]
    )
    other = ma.sweep(tiny, batch[[1]], [[], ma.ScaleAttention(0.0, layers=[1])], target="chirp", foil="siren")
    close(swept.margin[:, 0], alike.margin[:, 0])
    close(swept.margin[:, 1], other.margin[:, 0])
    close(swept.clean_margin[0], (of_whole(tiny, batch, TEXTS[0]) - of_whole(tiny, batch, TEXTS[1]))[0])
    told = swept.provenance.settings["targets"]
    assert [row["whole"] for row in told] == [True, False]
    assert len(told[0]["target_tokens"]) > 1 == len(told[1]["target_tokens"])


def test_every_function_that_can_measures_words_that_begin_alike_and_others_say_why_not(tiny, questions):
    words = {"target": TEXTS[0], "foil": TEXTS[1]}
    some, over = questions[:1], {"over": ("layer",), "layers": [3], "progress": False}
    patched = ma.analyses.activation_patching(tiny, some, **over, **words)
    said = ma.analyses.activation_patching(tiny, some, **over, whole=True, **words)
    np.testing.assert_array_equal(patched.values, said.values)
    flow = ma.analyses.attention_flow(tiny, some, edges=[("audio", "last")], window="all", progress=False, **words)
    assert np.abs(flow.clean_margin).min() > 0
    listens = ma.analyses.where_it_listens(tiny, some, each_layer=False, progress=False, **words)
    paths = ma.analyses.path_patching(tiny, some, receiver="logits", sender=("head", 1, 0), progress=False, **words)
    estimated = ma.analyses.attribution_patching(tiny, some, **over, **words)
    np.testing.assert_allclose(estimated.clean, patched.clean, rtol=1e-4)
    for result in (patched, flow, listens, paths, estimated):
        assert result.provenance.settings["targets"][0]["whole"] is True
    reason = "measures the first token of a target, not the whole text, and .* begin with the same one"
    for call in (
        lambda: ma.analyses.logit_lens(tiny, some, **words),
        lambda: ma.analyses.direct_logit_attribution(tiny, some, **words),
    ):
        with pytest.raises(ValueError, match=reason):
            call()


def test_what_writes_questions_out_again_refuses_conversations_and_keeps_a_layout(tiny, tmp_path):
    made = ma.data.soundscapes.questions(2, seed=11, duration=4.0)
    turn = [{"type": "audio", "audio": made[0].audio}, {"type": "text", "text": "What do you hear?"}]
    first = {"role": "user", "content": "What starts first?"}
    turns = [first, {"role": "assistant", "content": "chirp"}, {"role": "user", "content": turn}]
    chat = ma.prompt(tiny, [turns])
    layout = ma.PromptFormat(choice="{choice}: {letter}")
    other = ma.prompt(tiny, made, layout=layout)
    harvested = {"record": ["resid_post"], "positions": "last", "out": tmp_path / "harvest"}
    for call, said in (
        (lambda: ma.evaluate(tiny, chat, scoring="generate"), "are conversations.*all but the last turn"),
        (lambda: ma.harvest(tiny, chat, **harvested), "are conversations.*all but the last turn"),
        (lambda: ma.evaluate(tiny, other, layout=ma.PromptFormat()), r"written with layout=.*give the questions"),
        (lambda: ma.analyses.tuned_lens(tiny, other, steps=1), r"written with layout=.*give the questions"),
        (lambda: ma.experiments.mata_study(tiny, other), r"written with layout=.*give the questions"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    evaluation = ma.evaluate(tiny, other, progress=False)
    close(evaluation.logits, [answer.choice_logits for answer in ma.answer(tiny, other)])


def test_a_run_of_other_words_is_not_taken_up(tiny, questions, tmp_path):
    batch = ma.prompt(tiny, questions[:1])
    options = {"over": ("layer",), "layers": [3], "positions": "last", "out": tmp_path / "patched", "progress": False}
    words = {"target": "chirp from 0.5", "foil": "siren"}
    ma.analyses.activation_patching(tiny, batch.aimed(**words), **options)
    with pytest.raises(ValueError, match="of another run"):
        ma.analyses.activation_patching(tiny, batch.aimed(**words, whole=True), **options)


def test_heads_of_open_questions_go_with_a_target_that_is_likelier_than_its_foil(tiny, questions):
    words = {"target": "chirp", "foil": "siren"}
    found = ma.analyses.attention_and_answers(tiny, questions, progress=False, **words)
    batch = ma.prompt(tiny, questions)
    likelier = of_first(tiny, batch, "chirp") > of_first(tiny, batch, "siren")
    assert found.correct.tolist() == likelier.tolist()
    assert set(found.choices) <= {"chirp", "siren"}
    assert found.provenance.settings["targets"][0]["target"] == "chirp"
    aimed = ma.analyses.attention_and_answers(tiny, batch.aimed(**words), progress=False)
    np.testing.assert_allclose(found.audio_attention, aimed.audio_attention, atol=1e-6)
    with pytest.raises(ValueError, match=r"give target= or foil= where they are taken; ma\.evaluate"):
        ma.analyses.specialist_heads(tiny, questions, progress=False)


def test_answers_in_whole_texts_are_the_likelier_ones(tiny, questions):
    words = {"target": TEXTS[0], "foil": TEXTS[1]}
    batch = ma.prompt(tiny, questions)
    likelier = of_whole(tiny, batch, TEXTS[0]) > of_whole(tiny, batch, TEXTS[1])
    answers = ma.answer(tiny, batch.aimed(**words))
    assert [answer.correct for answer in answers] == likelier.tolist()
    close([answer.choice_logits[0] for answer in answers], of_whole(tiny, batch, TEXTS[0]))
    measured = ma.analyses.attention_and_answers(tiny, batch, progress=False, **words)
    assert measured.correct.tolist() == likelier.tolist()
    with pytest.raises(ValueError, match=r"a single pass measures the first token.*ma\.answer\(model, batch\)"):
        _ = ma.run(tiny, batch.aimed(**words), logits="last").answers
    with pytest.raises(ValueError, match=r"a single pass measures the first token"):
        ma.analyses.paired_passes(tiny, batch.aimed(**words), progress=False)


def test_what_writes_questions_out_again_refuses_prompts_that_are_measured_on_words(tiny, questions, tmp_path):
    batch = ma.prompt(tiny, questions).aimed(foil="siren")
    for call in (
        lambda: ma.evaluate(tiny, batch, progress=False),
        lambda: ma.harvest(tiny, batch, record=["resid_post"], positions="last", out=tmp_path / "harvest"),
        lambda: ma.analyses.tuned_lens(tiny, batch, steps=1, progress=False),
        lambda: ma.analyses.encoder_probes(tiny, batch, progress=False),
        lambda: ma.experiments.grounding_study(tiny, batch, progress=False),
        lambda: ma.experiments.specialists_study(tiny, batch, progress=False),
    ):
        with pytest.raises(ValueError, match=r"measured on words \(target='chirp'\).*as choices: give the questions"):
            call()


def test_a_whole_text_alone_is_held_against_all_other_texts(tiny, questions):
    batch = ma.prompt(tiny, questions)
    swept = ma.sweep(tiny, batch, [[]], target=TEXTS[0], whole=True, progress=False)
    close(swept.clean.softmax(-1)[:, 0], of_whole(tiny, batch, TEXTS[0]).exp(), atol=1e-8)


def test_activation_patching_of_whole_texts_goes_from_silence_to_the_clip(tiny, questions):
    options, questions = {"target": TEXTS[0], "foil": TEXTS[1], "whole": True}, questions[:1]
    over = {"over": ("layer", "head"), "layers": [1], "heads": [0, 3], "positions": "last"}
    shared, alone = (
        ma.analyses.activation_patching(tiny, questions, one_by_one=one_by_one, **over, **options)
        for one_by_one in (False, True)
    )
    close(shared.logits, alone.logits)
    heard, deaf = (ma.prompt(tiny, questions, condition=condition) for condition in ("audio", "silence"))
    for patched in (shared, alone):
        for got, batch in ((patched.clean_logits, heard), (patched.corrupted_logits, deaf)):
            close(got, np.stack([of_whole(tiny, batch, text) for text in TEXTS], axis=-1))
    everything = ma.analyses.activation_patching(
        tiny, questions, over=("layer",), layers=[0], hook_point="resid_pre", **options
    )
    close(everything.logits[0], patched.clean_logits)  # all that follows the first sound is as with the clip


def test_a_path_to_a_whole_text_is_that_of_each_of_its_tokens_behind_those_before(tiny, questions):
    questions = questions[:1]
    found = ma.analyses.path_patching(
        tiny, questions, target=TEXTS[0], foil=TEXTS[1], receiver="logits", sender=("head", 2, 1), progress=False
    )
    heard, deaf = (ma.prompt(tiny, questions, condition=condition) for condition in ("audio", "silence"))
    close(found.clean_logits, np.stack([of_whole(tiny, heard, text) for text in TEXTS], axis=-1))
    close(found.corrupted_logits, np.stack([of_whole(tiny, deaf, text) for text in TEXTS], axis=-1))
    writes, end = ma.HookPoint("result", layers=[2]), ma.HookPoint("resid_post", layers=[tiny.n_layers - 1])
    for column, text in enumerate(TEXTS):
        _, ids = forward(tiny, heard, text)
        total = 0.0
        for place, token in enumerate(ids):
            longer = [forced(side.aimed(target=text, whole=True), 0, place) for side in (heard, deaf)]
            ours, theirs = (ma.run(tiny, side, record=[writes]).cache["result", 2][:, :, 1] for side in longer)
            written = ma.Edit(end, lambda stream, change=theirs - ours: stream + change)
            logits = ma.run(tiny, longer[0], interventions=[written], logits="last").logits[:, -1]
            total = total + logits.double().log_softmax(-1)[:, token]
        close(found.logits[0, :, column], total)


def last_logits(model, batch, before=None, after=None):
    """Return the last logits of transformers' network, and what modules of the decoder gave, by hooks of torch alone.

    Args:
        model: The model.
        batch: The prompts.
        before: Layer -> what to make of the input of its output projection.
        after: Layer and part -> what to make of what it gives.
    """
    layers = model.network.get_submodule(model.adapter.decoder.layers)
    given, hooks = {}, []

    def read(key, value, change):
        given[key] = value.clone()
        return value if change is None else change(value.clone())

    def output(key, change):
        def hook(_module, _args, out):
            value = read(key, out[0] if isinstance(out, tuple) else out, change)
            return (value, *out[1:]) if isinstance(out, tuple) else value

        return hook

    for number, layer in enumerate(layers):
        change = (before or {}).get(number)
        hooks.append(
            layer.self_attn.o_proj.register_forward_pre_hook(
                lambda _module, args, number=number, change=change: (read((number, "z"), args[0], change),)
            )
        )
        for part, module in (("attention", layer.self_attn), ("mlp", layer.mlp), ("q", layer.self_attn.q_proj)):
            key = number, part
            hooks.append(module.register_forward_hook(output(key, (after or {}).get(key))))
    try:
        with torch.no_grad():
            return model.network(**batch.inputs, use_cache=False).logits[:, -1].double(), given
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("receiver", [("mlp", 4), ("q", 4, 2)], ids=str)
def test_a_path_on_a_target_is_that_of_its_definition_by_hooks_of_torch(tiny, questions, receiver):
    (sends, head), (part, reads, *heads) = (2, 1), receiver
    audio, silence = (ma.prompt(tiny, questions, condition=condition) for condition in ("audio", "silence"))
    width = tiny.network.get_submodule(tiny.adapter.decoder.layers)[0].self_attn.head_dim
    logits, clean = last_logits(tiny, audio)
    _, corrupted = last_logits(tiny, silence)

    def sent(z):
        z[..., head * width : (head + 1) * width] = corrupted[sends, "z"][..., head * width : (head + 1) * width]
        return z

    on_the_way = [(layer, name) for layer in range(sends, reads + 1) for name in ("attention", "mlp")]
    on_the_way = on_the_way[1 : on_the_way.index((reads, "attention" if part == "q" else "mlp"))]
    frozen = {key: lambda _, key=key: clean[key] for key in on_the_way}
    _, received = last_logits(tiny, audio, before={sends: sent}, after=frozen)
    columns = slice(heads[0] * width, (heads[0] + 1) * width) if heads else slice(None)

    def changed(value):
        value[..., columns] = received[reads, part][..., columns]
        return value

    patched, _ = last_logits(tiny, audio, after={(reads, part): changed})
    words = [forward(tiny, audio, text)[1][0] for text in WORDS]
    paths = ma.analyses.path_patching(
        tiny, questions, target=WORDS[0], foil=WORDS[1], receiver=receiver, sender=("head", sends, head), progress=False
    )
    close(paths.clean_logits, logits[:, words])
    close(paths.logits[0], patched[:, words])
    assert np.abs(paths.logits[0] - paths.clean_logits).max() > 1e-3  # the path carries something


def change_per_step(model, question, estimated, words, step):
    """Patch the place of a map with one place a little, and return the change of its metric per step towards source."""
    pair = ma.analyses.contrast(model, [question], whole=True, **words)
    source, base = pair.sides(estimated.direction)
    layers = estimated.axes["layer"]
    point = ma.HookPoint(estimated.hook_point, layers=layers)
    theirs, ours = (ma.run(model, side, record=[point], logits=None).cache for side in (source, base))
    towards = theirs[point.name, layers[0]] - ours[point.name, layers[0]]
    first = int(pair.first[0])
    chosen = torch.zeros_like(towards)
    if "head" in estimated.axes:
        chosen[:, first:, list(estimated.axes["head"])] = 1
    else:
        chosen[:, first:] = 1

    def measured(share):
        def pushed(value):
            value[:, : towards.shape[1]] += (share * towards * chosen).to(value)
            return value

        target, other = measured_logits(model, base, [ma.Edit(point, pushed)])[0]
        return target - other if estimated.metric == "logit_difference" else 1 / (1 + np.exp(other - target))

    return (measured(step) - measured(-step)) / (2 * step)


HEAD = {"over": ("layer", "head"), "heads": [1], "layers": [3]}
NEURONS = {"over": ("layer",), "layers": [2], "hook_point": "mlp_out"}
ALIKE, ALONE = {"target": TEXTS[0], "foil": TEXTS[1]}, {"target": TEXTS[0]}
LONG = {"target": "chirp from 0.5 to 1.0", "foil": "chirp from 0.5 to 1.5"}


@pytest.mark.parametrize(
    ("place", "metric", "words", "direction"),
    [  # each pair of place, metric and direction once
        (HEAD, "logit_difference", ALONE, "noising"),
        (NEURONS, "logit_difference", ALIKE, "denoising"),
        (HEAD, "probability", LONG, "denoising"),
        pytest.param(NEURONS, "probability", LONG, "noising", marks=pytest.mark.whole),
    ],
)
def test_estimates_of_whole_texts_are_finite_differences_of_patching(tiny, questions, place, metric, words, direction):
    options = {"metric": metric, "direction": direction, "whole": True, "progress": False}
    estimated = ma.analyses.attribution_patching(tiny, questions[:1], **place, **words, **options)
    expected = change_per_step(tiny, questions[0], estimated, words, step=0.02)
    assert abs(expected) > 1e-3
    assert estimated.change.item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("method", ["gradient", "integrated", "eap-ig", "atp*"])
def test_estimates_of_all_tokens_of_one_word_are_those_of_its_first(tiny, questions, method):
    made = ma.data.soundscapes.questions(2, seed=11, duration=4.0)[:1]
    batch = ma.prompt(tiny, [*made, *questions[:1]])
    options = {"over": ("layer", "role"), "layers": [4], "method": method, "steps": 2, "metric": "probability"}
    first = ma.analyses.attribution_patching(tiny, batch.aimed(target=[None, "chirp"]), **options)
    whole = ma.analyses.attribution_patching(tiny, batch.aimed(target=[None, "chirp"], whole=True), **options)
    for name in ("clean", "corrupted", "values"):  # the first question is one of letters
        np.testing.assert_allclose(getattr(whole, name), getattr(first, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hook_point", ["resid_pre", pytest.param("scores", marks=pytest.mark.whole)])
def test_places_of_a_layer_add_up_to_patching_it_for_whole_texts(tiny, questions, hook_point):
    long = [
        replace(questions[0], audio=ma.data.soundscapes.question(0, 3, duration=4.0).audio)
    ]  # eight steps follow its effect
    options = {"target": TEXTS[0], "foil": TEXTS[1], "hook_point": hook_point, "layers": [4], "progress": False}
    exact = ma.analyses.activation_patching(tiny, long, over=("layer",), **options)
    parts = ma.analyses.attribution_patching(
        tiny, long, over=("layer", "role"), method="integrated", steps=8, **options
    )
    np.testing.assert_allclose(np.nansum(parts.change, axis=1)[0], exact.change[0], rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("name", "hook_point"),
    [
        ("qwen2_audio", "resid_pre"),
        pytest.param("granite_speech", "resid_pre", marks=pytest.mark.whole),
        ("gemma3n", "features"),
        pytest.param("voxtral", "features", marks=pytest.mark.whole),
    ],
)
def test_classes_estimate_what_little_patches_do_to_whole_texts(name, hook_point):
    model = family(name)
    clean = asked(answer="a dog")
    other = [
        replace(question, audio=AudioClip(question.audio.waveform * 0.98, question.audio.sample_rate))
        for question in clean
    ]
    over = ("second",) if hook_point == "features" else ("layer", "role")
    options = {"corrupted": other, "foil": "a cat", "progress": False}
    estimated = ma.analyses.attribution_patching(model, clean, over=over, hook_point=hook_point, **options)
    exact = ma.analyses.check_top(model, clean, estimated=estimated, corrupted=other, n=3)
    assert estimated.provenance.settings["targets"] == exact.provenance.settings["targets"]
    close(estimated.clean, exact.clean)
    close(estimated.corrupted, exact.corrupted)
    known = ~np.isnan(exact.values)
    scale = np.abs(exact.change[known]).max()
    np.testing.assert_allclose(estimated.change[known], exact.change[known], atol=0.1 * scale)


@pytest.mark.parametrize("receiver", ["logits", ("k", 3, 0)])
def test_paths_to_all_tokens_of_one_word_are_those_to_its_first(tiny, questions, receiver):
    options = {"receiver": receiver, "sender": [("head", 1, 0), "embed"], "progress": False}
    made = ma.data.soundscapes.questions(2, seed=11, duration=4.0)[:1]
    batch = ma.prompt(tiny, [*made, *questions[:1]])
    first = ma.analyses.path_patching(tiny, batch.aimed(target=[None, "chirp"]), **options)
    whole = ma.analyses.path_patching(tiny, batch.aimed(target=[None, "chirp"], whole=True), **options)
    assert np.isfinite(whole.values).all()
    np.testing.assert_allclose(whole.values[:, 0], first.values[:, 0], rtol=1e-4, atol=1e-4)  # letters
    np.testing.assert_allclose(whole.by("probability").values, first.by("probability").values, rtol=1e-4, atol=1e-5)


def test_every_analysis_measures_the_same_words(tiny, questions):
    batch = ma.prompt(tiny, questions)
    expected = of_first(tiny, batch, WORDS[0]) - of_first(tiny, batch, WORDS[1])
    words = {"target": WORDS[0], "foil": WORDS[1]}
    analyses = ma.analyses
    close(analyses.activation_patching(tiny, batch, over=("layer",), positions="last", **words).clean, expected)
    close(analyses.attribution_patching(tiny, batch, over=("layer",), positions="last", **words).clean, expected)
    close(analyses.path_patching(tiny, batch, receiver=("mlp", 3), sender=("head", 1, 0), **words).clean, expected)
    close(analyses.attention_flow(tiny, questions, edges=[("audio", "last")], **words).clean_margin, expected)
    close(analyses.logit_lens(tiny, batch, **words).margin[:, -1, 0], expected)
    written = analyses.direct_logit_attribution(tiny, batch, **words)
    close(written.logit_difference, expected)
    close(written.explained, expected, atol=1e-3)
    assert (written.towards, written.away) == (("chirp",) * 2, ("whistle",) * 2)


def test_a_target_alone_is_held_against_the_rest_of_the_vocabulary(tiny, questions):
    batch = ma.prompt(tiny, questions)
    probability = of_first(tiny, batch, "chirp").exp()
    odds = torch.logit(probability)
    found = ma.analyses.attribution_patching(tiny, questions, over=("layer",), positions="last", metric="probability")
    close(found.clean, probability)
    close(ma.analyses.attention_flow(tiny, questions, edges=[("audio", "last")]).clean_probability, probability)
    seen = ma.analyses.logit_lens(tiny, questions)
    close(seen.margin[:, -1, 0], odds, atol=1e-3)
    close(seen.choice_probability[:, -1, 0], torch.stack([probability, 1 - probability], -1))
    assert seen.letters == (("chirp", ANYTHING_ELSE),) * 2
    assert (seen.choice_rank[..., 1] == -1).all()
    alone = ma.analyses.direct_logit_attribution(tiny, questions)
    logits = ma.run(tiny, batch, logits="last").logits[:, -1]
    close(alone.logit_difference, logits[:, batch.aimed().aims[0].target_ids[0]])
    close(alone.explained, alone.logit_difference, atol=1e-3)


@pytest.mark.whole
def test_gradients_of_a_target_add_up_to_what_patching_does(tiny, questions):
    questions = questions[:1]
    found = ma.analyses.attribution_patching(tiny, questions, over=("layer",), layers=[5])
    exact = ma.analyses.check_top(tiny, questions, estimated=found, n=1)
    assert exact.clean == pytest.approx(found.clean, rel=1e-4)
    along = ma.analyses.attribution_patching(
        tiny, questions, over=("layer",), layers=[5], method="integrated", steps=32
    )
    np.testing.assert_allclose(along.values, exact.values, rtol=0.02, atol=0.05)


def test_each_question_has_words_of_its_own_across_batches(tiny, questions):
    batch = ma.prompt(tiny, questions)
    words = {"target": ["chirp", "siren"], "foil": ["whistle", None]}
    flow = ma.analyses.attention_flow(tiny, questions, edges=[("audio", "last")], batch_size=1, **words)
    expected = of_first(tiny, batch, "chirp")[0] - of_first(tiny, batch, "whistle")[0]
    close(flow.clean_margin, [expected, torch.logit(of_first(tiny, batch, "siren")[1].exp())], atol=1e-3)
    assert [used["target_tokens"] for used in flow.provenance.settings["targets"]] == [("chirp",), ("siren",)]
    with pytest.raises(ValueError, match=r"words for 1 question\b"):
        ma.analyses.attention_flow(tiny, questions, edges=[("audio", "last")], batch_size=1, target=["chirp"])
    with pytest.raises(ValueError, match="words for 3 questions, and there are 2"):
        ma.analyses.attention_flow(tiny, questions, edges=[("audio", "last")], batch_size=1, target=["chirp"] * 3)


def test_a_target_stands_in_the_place_of_letters_where_there_are_choices(tiny, questions):
    made = ma.data.soundscapes.questions(1, seed=11, duration=4.0)
    mixed = ma.prompt(tiny, [*made, questions[0]])
    swept = ma.sweep(tiny, mixed, [[]], progress=False)
    letters = ma.sweep(tiny, ma.prompt(tiny, made), [[]], progress=False)
    close(swept.clean[0], letters.clean[0])
    close(swept.clean[1, :2].softmax(-1)[0], of_first(tiny, mixed, "chirp")[1].exp())
    assert swept.clean[1, 2:].isnan().all()
    words = ma.sweep(tiny, mixed, [[]], target="chirp", foil="whistle", progress=False)
    close(words.clean_margin, of_first(tiny, mixed, "chirp") - of_first(tiny, mixed, "whistle"))
    assert words.to_xarray().choice.values.tolist() == ["chirp", "whistle"]
    whole = ma.sweep(tiny, mixed, [[]], target=[None, TEXTS[0]], whole=True, progress=False)
    close(whole.clean[0], letters.clean[0])
    close(whole.clean[1, 0], of_whole(tiny, mixed, TEXTS[0])[1])


def test_what_cannot_be_measured_is_refused_with_the_way(tiny, questions):
    batch = ma.prompt(tiny, questions)
    bare = ma.prompt(tiny, [ma.AudioQuestion(audio=questions[0].audio, text="What do you hear?", id="bare")])
    made = ma.prompt(tiny, ma.data.soundscapes.questions(1, seed=11, duration=4.0))
    for prompts, words, said in (
        (
            batch,
            {"target": TEXTS[0], "foil": TEXTS[1], "whole": False},
            r"begin with the same token \('chirp'\).*or whole=False, without which all tokens of both are measured",
        ),
        (batch, {"target": "chirp", "foil": "chirp", "whole": True}, "name two different ones"),
        (batch, {"target": "xylophone"}, "no token for the beginning of 'xylophone'"),
        (batch, {"target": " "}, "target= is blank"),
        (batch, {"target": ["chirp"]}, "words for 1 question, and there are 2"),
        (bare, {}, "is open and its answer is not known.*target="),
        (made, {"foil": "chirp"}, "has choices.*give target="),
        (made, {"whole": True}, "these questions have choices: give target="),
    ):
        with pytest.raises(ValueError, match=said):
            prompts.aimed(**words)
    for wrong in (5, ["chirp", 5]):
        with pytest.raises(TypeError, match="target= takes words, or a list of words per question"):
            batch.aimed(target=wrong)
    with pytest.raises(ValueError, match=r"plain inputs.*ma.prompt"):
        ma.sweep(tiny, dict(batch.inputs), [[]], target="chirp", progress=False)
    whole = batch.aimed(target=TEXTS[0], whole=True)
    with pytest.raises(ValueError, match=r"direct_logit_attribution measures the first token"):
        ma.analyses.direct_logit_attribution(tiny, whole)


def test_figures_and_tables_name_target_and_foil(tiny, questions):
    words = {"target": "chirp", "foil": "siren"}
    said = "of 'chirp' against 'siren'"
    patched = ma.analyses.activation_patching(tiny, questions, over=("layer",), positions="last", **words)
    assert said in html.unescape(patched.plot().layout.title.subtitle.text)
    flow = ma.analyses.attention_flow(tiny, questions, **words)
    assert flow.edges == (("audio", "question"), ("audio", "last"), ("question", "last"))  # there are no choices
    assert said in html.unescape(flow.plot().layout.title.subtitle.text)
    grid = ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[0.5, 2.0])
    swept = ma.sweep(tiny, ma.prompt(tiny, questions), grid, progress=False, **words)
    assert said in html.unescape(swept.plot().layout.title.subtitle.text)
    seen = ma.analyses.logit_lens(tiny, questions, **words)
    assert {"choice_logits_chirp", "choice_logits_siren"} <= set(seen.to_pandas().columns)
    written = ma.analyses.direct_logit_attribution(tiny, questions, **words)
    assert "'chirp' minus 'siren'" in html.unescape(str(written.plot().layout.title))


def test_an_open_question_without_an_answer_is_read_by_the_lens_without_a_margin(tiny, questions):
    bare = [ma.AudioQuestion(audio=questions[0].audio, text="What do you hear?", id="bare")]
    seen = ma.analyses.logit_lens(tiny, bare)
    likeliest = int(ma.run(tiny, ma.prompt(tiny, bare), logits="last").logits[0, -1].argmax())
    assert seen.top_ids[0, -1, 0, 0] == likeliest
    with pytest.raises(ValueError, match=r"neither choices nor a target.*target="):
        _ = seen.margin
    with pytest.raises(ValueError, match=r"'bare'.*is open and its answer is not known.*give target="):
        ma.analyses.logit_lens(tiny, bare, foil="siren")

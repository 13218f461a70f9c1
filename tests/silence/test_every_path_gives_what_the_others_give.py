"""Every path gives what the others give: all ways of asking the same questions, in every class, together and alone.

What `ma.run` gives for each question alone is what all else is held to; texts are held to what `ma.generate` writes for
each alone.
"""

import inspect
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor

import mechaudio as ma
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import part_of
from mechaudio.models.inputs import as_batch
from mechaudio.models.padding import with_positions
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.variants.shared_pass import clean_run
from tests.families import ASKED, FAMILIES, KINDS, audio_token_id, model_inputs, network, noise, opened, thinned
from tests.interventions.kinds import having

N = 3
BOUND = 1e-4  # of the largest logit: batches of other shapes choose other kernels
TOGETHER, ONE_BY_ONE = 1_000_000, 1  # positions that `ma.evaluate` runs at once
pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")


@dataclass
class Alone:
    """Logits and texts of the questions one by one, clean and with the same interventions."""

    model: ma.AudioLM
    questions: list[ma.AudioQuestion]
    batch: PromptBatch
    prompts: list[PromptBatch]
    variants: list[list[ma.Steer | ma.ScaleAttention]]
    logits: list[torch.Tensor]
    texts: list[list[str]]
    tokens: list[list[list[int]]]

    @property
    def choices(self):
        """Of each variant, logits of the choices' letters, `[question, choice]`."""
        return [choice_logits(self.batch, logits) for logits in self.logits]


def two_questions():
    return [
        ma.AudioQuestion(
            id=f"clip of {seconds} s",
            audio=(noise(seconds, seed=seed), 16_000),
            text="Which comes first?",
            choices=("dog", "car", "bell"),
            answer="dog",
        )
        for seed, seconds in enumerate((2.4, 1.2))
    ]


@cache
def model_of(family):
    parts = opened(family)
    return ma.AudioLM(parts.network, parts.processor, prove=False)


def edits(model):
    louder = ma.ScaleAttention(3.0, layers=[having(model, "pattern")[-1]], keys="audio")
    return [louder, ma.Steer(torch.ones(model.d_model), layers=[0], strength=0.5)]


@pytest.fixture(scope="module", params=thinned(ASKED))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def alone(family):
    model, questions = model_of(family), two_questions()
    variants = [[], edits(model)]
    prompts = [ma.prompt(model, [question]) for question in questions]
    runs = [
        [ma.run(model, prompt, interventions=changes, logits="last").logits[:, -1] for prompt in prompts]
        for changes in variants
    ]
    written = [
        [ma.generate(model, prompt, max_new_tokens=N, interventions=changes) for prompt in prompts]
        for changes in variants
    ]
    return Alone(
        model,
        questions,
        ma.prompt(model, questions),
        prompts,
        variants,
        [torch.cat(logits) for logits in runs],
        [[generation.texts[0] for generation in each] for each in written],
        [[generation.tokens[0].tolist() for generation in each] for each in written],
    )


def assert_near(logits, expected):
    logits, expected = (torch.as_tensor(np.asarray(values)).float() for values in (logits, expected))
    assert torch.isfinite(expected).all()
    assert (logits - expected).abs().max() < BOUND * expected.abs().max()


def test_a_batch_runs_as_its_prompts_alone(alone):
    for changes, expected in zip(alone.variants, alone.logits, strict=True):
        assert_near(ma.run(alone.model, alone.batch, interventions=changes, logits="last").logits[:, -1], expected)


def test_an_answer_is_the_likeliest_choice_of_a_run(alone):
    for changes, logits in zip(alone.variants, alone.choices, strict=True):
        answers = ma.answer(alone.model, alone.batch, interventions=changes)
        likeliest = [question.choices[at] for question, at in zip(alone.questions, logits.argmax(-1), strict=True)]
        assert [answer.choice for answer in answers] == likeliest


def positions_at_once(family):
    """Batch sizes of an evaluation of variants and of one of a single list; both ways round once per kind of class."""
    return [(TOGETHER, ONE_BY_ONE), *([(ONE_BY_ONE, TOGETHER)] if family in KINDS else [])]


def test_an_evaluation_has_the_logits_of_a_run(alone, family):
    clean, edited = alone.choices
    for of_variants, of_single in positions_at_once(family):
        compared = ma.evaluate(alone.model, alone.questions, variants=alone.variants, batch_positions=of_variants)
        assert_near(compared[0].logits, clean)
        assert_near(compared[1].logits, edited)
        single = ma.evaluate(alone.model, alone.questions, interventions=alone.variants[1], batch_positions=of_single)
        assert_near(single.logits, edited)


def test_a_sweep_has_the_logits_of_a_run(alone):
    for prompts, rows in [(alone.batch, [0, 1]), (alone.prompts[1], [1])]:  # the one that is padded most
        swept = ma.sweep(alone.model, prompts, alone.variants, progress=False)
        for logits, expected in zip((*swept.logits, swept.clean), (*alone.choices, alone.choices[0]), strict=True):
            assert_near(logits, expected[rows])


def test_a_batch_is_written_as_its_prompts_alone(alone):
    for changes, texts, tokens, logits in zip(alone.variants, alone.texts, alone.tokens, alone.logits, strict=True):
        written = ma.generate(alone.model, alone.batch, max_new_tokens=N, interventions=changes)
        assert list(written.texts) == texts
        for ours, expected in zip(written.tokens.tolist(), tokens, strict=True):
            assert ours[: len(expected)] == expected
        assert torch.equal(written.tokens[:, 0], logits.argmax(-1))


def test_variants_are_written_as_each_alone(alone):
    for prompts, rows in [(alone.batch, [0, 1]), (alone.prompts[1], [1])]:  # the one that is padded most
        written = ma.generate_variants(alone.model, prompts, alone.variants, max_new_tokens=N, progress=False)
        for texts, expected in zip((*written.texts, written.clean_texts), (*alone.texts, alone.texts[0]), strict=True):
            assert list(texts) == [expected[row] for row in rows]


def test_an_evaluation_of_written_answers_has_the_texts_of_generate(alone, family):
    asking = {"scoring": "generate", "max_new_tokens": N}
    for of_variants, of_single in positions_at_once(family):
        compared = ma.evaluate(
            alone.model, alone.questions, variants=alone.variants, batch_positions=of_variants, **asking
        )
        assert [list(compared[0].texts), list(compared[1].texts)] == alone.texts
        single = ma.evaluate(
            alone.model, alone.questions, interventions=alone.variants[1], batch_positions=of_single, **asking
        )
        assert list(single.texts) == alone.texts[1]


def two_conversations():
    def of(seconds, text):
        sound = {"type": "audio", "audio": (noise(seconds), 16_000)}
        return [{"role": "user", "content": [sound, {"type": "text", "text": text}]}]

    return [of(2.4, "What is this?"), of(1.2, "And what do you hear?")]


@pytest.mark.parametrize("family", ["qwen2_audio", "granite_speech"])
def test_a_conversation_is_taken_wherever_a_question_is_and_means_what_its_prompt_means(family):
    model, conversations = model_of(family), two_conversations()
    batch, changes, words = ma.prompt(model, conversations), edits(model_of(family)), {"target": "dog", "foil": "car"}
    run = ma.run(model, batch, interventions=changes).logits
    assert torch.equal(ma.run(model, conversations, interventions=changes).logits, run)
    expected = choice_logits(batch.aimed(**words), run[:, -1])
    assert_near(ma.sweep(model, conversations, [changes], progress=False, **words).logits[0], expected)
    assert_near(
        ma.sweep(model, clean_run(model, conversations), [changes], progress=False, **words).logits[0], expected
    )
    written = ma.generate(model, batch, max_new_tokens=N, interventions=changes)
    assert ma.generate(model, conversations, max_new_tokens=N, interventions=changes).texts == written.texts
    assert ma.generate_variants(model, conversations, [changes], max_new_tokens=N).texts == (written.texts,)
    with torch.no_grad(), ma.trace(model, conversations[:1]):
        traced = model.logits.save()
    assert torch.equal(traced, ma.run(model, conversations[:1]).logits)


def alone_in(model, batch, row):
    """One prompt of a batch, without the padding in front of it."""
    inputs = part_of(model.adapter, batch, [row]).inputs
    width = int(inputs["attention_mask"].sum())
    by_position = inputs.keys() & {"input_ids", "attention_mask", "position_ids"}
    return as_batch(model, inputs | {name: inputs[name][:, -width:] for name in by_position})


@pytest.mark.parametrize("family", thinned([family for family in FAMILIES if family not in ASKED]))
def test_inputs_of_a_class_that_takes_no_questions_give_together_and_in_variants_what_they_give_alone(family):
    model = ma.AudioLM(network(family), prove=False)
    batch = as_batch(model, model_inputs(family, seconds=(2.4, 1.2), words=(9, 5)))
    prompts = [alone_in(model, batch, row) for row in range(batch.n_rows)]
    variants = [[], edits(model)]
    swept = ma.sweep(model, batch, variants, progress=False).logits
    together = ma.generate_variants(model, batch, variants, max_new_tokens=N, progress=False).tokens
    for changes, of_sweep, of_variants in zip(variants, swept, together, strict=True):
        alone = [ma.run(model, prompt, interventions=changes, logits="last").logits[0, -1] for prompt in prompts]
        assert_near(ma.run(model, batch, interventions=changes, logits="last").logits[:, -1], torch.stack(alone))
        assert_near(of_sweep, torch.stack(alone))
        written = ma.generate(model, batch, max_new_tokens=N, interventions=changes).tokens
        assert torch.equal(of_variants, written)
        for prompt, logits, tokens in zip(prompts, alone, written.tolist(), strict=True):
            assert_near(ma.sweep(model, prompt, [changes], progress=False).logits[0, 0], logits)
            (expected,) = ma.generate(model, prompt, max_new_tokens=N, interventions=changes).tokens.tolist()
            assert tokens[: len(expected)] == expected


#: Their generation counts padding, as their passes do: a padded prompt has other positions than the prompt alone.
COUNT_PADDING = ("vibevoice_asr", "moss_transcribe_diarize")


@pytest.mark.parametrize(
    "family", thinned(FAMILIES, ("qwen2_audio", "qwen3_omni_moe_thinker", "glmasr", "gemma4", "salmonn"))
)
def test_what_is_added_to_queries_and_keys_moves_a_padded_prompt_on_every_path_as_the_prompt_alone(family):
    model = ma.AudioLM(network(family), prove=False)
    batch = as_batch(model, with_positions(model.network, model_inputs(family, words=(9, 5))))
    layer = having(model, "q")[-1]
    changes = [
        ma.Edit(ma.HookPoint("q", layers=[layer], positions="last"), lambda q: q + 5.0, by_position=True),
        ma.Edit(ma.HookPoint("k", layers=[layer], positions="audio"), lambda k: 0.5 * k - 5.0, by_position=True),
    ]
    read = [ma.HookPoint(point, layers=[layer], positions="last") for point in ("q", "k")]
    run = ma.run(model, batch, interventions=changes, record=read)
    written = ma.generate(
        model, batch, max_new_tokens=2, interventions=changes, record=[*read, ma.HookPoint("logits", positions="last")]
    )
    for point in ("q", "k"):
        assert_near(written.steps[0][point, layer], run.cache[point, layer])
    logits = run.logits[:, -1]
    assert (logits - ma.run(model, batch).logits[:, -1]).abs().max() > 10 * BOUND * logits.abs().max()
    assert_near(written.steps[0]["logits"][:, -1], logits)
    assert_near(ma.sweep(model, batch, [changes], progress=False).logits[0], logits)
    variants = ma.generate_variants(model, batch, [changes], max_new_tokens=2, progress=False)
    assert torch.equal(variants.tokens[0], written.tokens)
    with torch.no_grad(), ma.trace(model, batch):
        queries = model.blocks[layer].attn.q.save()
    assert_near(queries[:, -1:], ma.run(model, batch, record=["q"]).cache["q", layer][:, -1:])
    if family not in COUNT_PADDING:
        alone = ma.run(model, alone_in(model, batch, 1), interventions=changes, logits="last").logits[:, -1]
        assert_near(logits[1:], alone)


def edits_at_positions(model):
    first, last = having(model, "pattern")[0], having(model, "pattern")[-1]
    at = lambda point, layer, where: ma.HookPoint(point, layers=[layer], positions=where)  # noqa: E731
    return [
        [ma.Edit(at("attn_out", first, "last"), lambda added: 1.5 * added, by_position=True)],
        [ma.Edit(at("mlp_out", 0, "audio"), torch.neg, by_position=True)],
        [ma.Edit(at("resid_pre", last, "audio+last"), lambda resid: resid + 1, by_position=True)],
        [
            ma.Edit(at("resid_pre", 0, [-2, -1]), lambda resid: resid - 1, by_position=True),
            ma.Edit(at("z", last, "last"), lambda z: 2 * z, by_position=True),
        ],
    ]


AT_POSITIONS = ("glmasr", "audioflamingo3", "musicflamingo", "gemma3n")
IN_BF16 = ("qwen2_audio", "glmasr", "gemma3n", "granite_speech")


@pytest.mark.parametrize("family", thinned(AT_POSITIONS, ("glmasr",)))
def test_edits_at_any_position_are_the_same_on_every_path_in_batches_and_alone(family):
    model, questions = model_of(family), two_questions()
    batch, variants = ma.prompt(model, questions), edits_at_positions(model_of(family))
    swept = ma.sweep(model, batch, variants, progress=False).logits
    together = ma.generate_variants(model, batch, variants, max_new_tokens=N, progress=False).tokens
    prompts = [ma.prompt(model, [question]) for question in questions]
    for changes, of_sweep, of_variants in zip(variants, swept, together, strict=True):
        alone = torch.cat([ma.run(model, prompt, interventions=changes).logits[:, -1] for prompt in prompts])
        assert_near(ma.run(model, batch, interventions=changes, logits="last").logits[:, -1], alone)
        assert_near(of_sweep, choice_logits(batch, alone))
        assert_near(
            ma.evaluate(model, questions, interventions=changes, progress=False).logits, choice_logits(batch, alone)
        )
        written = ma.generate(model, batch, max_new_tokens=N, interventions=changes).tokens
        assert torch.equal(of_variants, written)
        for prompt, tokens in zip(prompts, written.tolist(), strict=True):
            (expected,) = ma.generate(model, prompt, max_new_tokens=N, interventions=changes).tokens.tolist()
            assert tokens[: len(expected)] == expected


@pytest.mark.parametrize("family", thinned(IN_BF16, ("glmasr",)))
def test_in_half_precision_no_path_is_further_from_the_exact_logits_than_rounding_takes_a_prompt_alone(family):
    model = ma.AudioLM(network(family, dtype=torch.bfloat16), prove=False)
    exact = ma.AudioLM(network(family, dtype=torch.bfloat16).float(), prove=False)
    inputs = model_inputs(family)
    batch, last = as_batch(model, inputs), [ma.HookPoint("logits", positions="last")]
    prompts = [alone_in(model, batch, row) for row in range(batch.n_rows)]
    for changes in edits_at_positions(model):
        expected = ma.run(exact, inputs, interventions=changes).logits[:, -1]
        alone = torch.cat([ma.run(model, prompt, interventions=changes).logits[:, -1] for prompt in prompts])
        rounding = (alone.float() - expected).abs().max()
        assert 0 < rounding < 0.2 * expected.abs().max()
        run = ma.run(model, batch, interventions=changes, logits="last").logits[:, -1]
        swept = ma.sweep(model, batch, [changes], progress=False).logits[0]
        first = ma.generate(model, batch, max_new_tokens=1, interventions=changes, record=last).steps[0]["logits"]
        for logits in (run, torch.as_tensor(swept), first[:, -1]):
            assert (logits.float() - expected).abs().max() < 3 * rounding


class Says(LogitsProcessor):
    """Makes one token the likeliest behind a prompt."""

    def __init__(self, token, n_positions):
        self.token, self.n_positions = token, n_positions

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] > self.n_positions:
            return scores
        return torch.full_like(scores, -1e4).index_fill(1, torch.tensor([self.token]), 0.0)


def test_phi_4_goes_on_behind_a_placeholder_of_audio_that_it_wrote_as_behind_text():
    model, inputs = ma.AudioLM(network("phi4_multimodal"), prove=False), model_inputs("phi4_multimodal")
    placeholder, n_positions = audio_token_id("phi4_multimodal"), inputs["input_ids"].shape[1]
    says = {"logits_processor": [Says(placeholder, n_positions)], "min_new_tokens": 2}
    written = ma.generate(model, inputs, max_new_tokens=2, record=["embed"], **says)
    assert written.tokens[:, 0].tolist() == [placeholder] * 2
    as_text = model.network.get_input_embeddings().weight[placeholder]
    assert torch.equal(written.steps[1]["embed"][:, -1], as_text.expand(2, -1))

    with torch.no_grad():
        prompt = model.network(**inputs, use_cache=True)
        longer = torch.cat([inputs["attention_mask"], torch.ones(2, 1, dtype=torch.long)], dim=1)
        newest = torch.full((2, 1), placeholder)
        taken = inspect.signature(model.network.forward).parameters
        name = "cache" if "cache" in taken else "past_key_values"  # from transformers 5.24 on, and before
        cache = {name: prompt.past_key_values}
        logits = model.network(newest, attention_mask=longer, **cache).logits[:, -1]
    logits[:, model.network.generation_config.eos_token_id] = -torch.inf  # min_new_tokens
    assert torch.equal(written.tokens[:, 1], logits.argmax(-1))

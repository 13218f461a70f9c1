"""Several clips in a prompt, and several turns: what a processor makes of them, and where each is."""

from functools import cache

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.models.positions import select
from mechaudio.models.prompt import prompt
from mechaudio.models.registry import ADAPTERS
from mechaudio.models.silence import silenced
from mechaudio.models.transcripts import transcripts_of
from tests.families import ASKED, noise, opened, unchecked_types

TEXT = "Which of the two is louder?"
SECONDS = (1.2, 0.8)
ONE_CLIP = tuple(adapter.family for adapter in ADAPTERS if adapter.one_clip and adapter.family in ASKED)
SEVERAL = tuple(family for family in ASKED if family not in ONE_CLIP)


def clips():
    return [AudioClip(noise(seconds, seed), 16_000) for seed, seconds in enumerate(SECONDS)]


def asked(**fields):
    return ma.AudioQuestion(audio=clips(), text=TEXT, id="q1", **fields)


@pytest.fixture(scope="module", params=SEVERAL)
def model(request):
    return audio_lm(request.param)


@cache
def audio_lm(family):
    parts = opened(family)
    return ma.AudioLM(parts.network, parts.processor, prove=False)


def words(model, batch, name):
    ids = batch.inputs["input_ids"][0].tolist()
    kept = [ids[position] for position in batch.spans[name][0] if ids[position] != batch.audio_token]
    if model.adapter.family == "voxtral":
        pieces = model.processor.tokenizer.tokenizer.instruct_tokenizer.tokenizer
        return b"".join(pieces.id_to_byte_piece(t) for t in kept if not pieces.is_special(t)).decode()
    return model.processor.tokenizer.decode(kept, skip_special_tokens=True)


def test_each_clip_has_its_span_and_its_clock_and_both_are_the_audio(model):
    batch = prompt(model, [asked()])
    first, second = batch.spans["audio.0"][0], batch.spans["audio.1"][0]
    assert batch.spans["audio"][0] == first + second
    assert max(first) < min(second)
    assert [clock.n_tokens for clock in batch.clocks[0]] == [len(first), len(second)]
    alone = [prompt(model, [ma.AudioQuestion(audio=clip, text=TEXT)]) for clip in clips()]
    assert [len(one.spans["audio"][0]) for one in alone] == [len(first), len(second)]
    assert batch.clock == batch.durations == (None,)
    assert batch.given[0] == pytest.approx(SECONDS)
    assert words(model, batch, "question").strip() == TEXT


def test_the_network_hears_each_clip_in_its_own_place(model):
    question = asked()
    batch = prompt(model, [question])
    vectors = ma.run(model, batch, record=["projector_out", "embed"], logits=None).cache["embed"]
    swapped = prompt(model, [ma.AudioQuestion(audio=question.audio[::-1], text=TEXT)])
    other = ma.run(model, swapped, record=["embed"], logits=None).cache["embed"]
    for here, there in ((0, 1), (1, 0)):
        mine = vectors[0, list(batch.spans[f"audio.{here}"][0])]
        theirs = other[0, list(swapped.spans[f"audio.{there}"][0])]
        n_tokens = min(len(mine), len(theirs)) - 1  # a last token may hear what fills a shorter clip up
        torch.testing.assert_close(mine[:n_tokens], theirs[:n_tokens], rtol=1e-4, atol=1e-4)


def test_inputs_are_those_that_the_processor_itself_makes(model):
    if model.adapter.family == "voxtral":
        pytest.skip("Mistral's tokenizer takes files; its ids are those of the processor in any case")
    batch = prompt(model, [asked()])
    sounds, text = [{"type": "audio"}, {"type": "audio"}], [{"type": "text", "text": TEXT}]
    content = text + sounds if model.adapter.text_first else sounds + text
    if model.adapter.turns == "text":
        content = model.processor.audio_token * 2 + TEXT
    system = [{"role": "system", "content": model.adapter.system}] if model.adapter.system else []
    text = model.processor.apply_chat_template(
        [*system, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    samples = [clip.mono(model.adapter.sampling_rate) for clip in clips()]
    words = {"transcripts": transcripts_of(model, asked(), samples, "audio")} if model.adapter.transcribes else {}
    made = model.processor(text=[text], audio=samples, return_tensors="pt", **words)
    assert torch.equal(batch.inputs["input_ids"], made["input_ids"])
    features = model.adapter.features
    assert batch.inputs[features].shape[0] == made[features].shape[0]


def test_silence_is_zeros_in_the_place_of_every_clip(model):
    heard = prompt(model, [asked()])
    silent = prompt(model, [asked()], condition="silence")
    again = silenced(model, heard)
    features = model.adapter.features
    assert torch.equal(silent.inputs["input_ids"], heard.inputs["input_ids"])
    assert torch.equal(silent.inputs[features], again.inputs[features])
    zeros = [AudioClip(np.zeros(round(16_000 * seconds), np.float32), 16_000) for seconds in SECONDS]
    dumb = prompt(model, [ma.AudioQuestion(audio=zeros, text=TEXT)])
    assert torch.equal(silent.inputs[features], dumb.inputs[features])


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_rows_with_one_and_with_two_clips_stand_in_one_batch(model):
    two, one = asked(), ma.AudioQuestion(audio=clips()[0], text="What is this?")
    batch = prompt(model, [two, one])
    assert [len(clocks) for clocks in batch.clocks] == [2, 1]
    assert batch.spans["audio.1"][1] == ()
    together = ma.run(model, batch, logits="last").logits[:, -1]
    for row, question in enumerate((two, one)):
        alone = ma.run(model, prompt(model, [question]), logits="last").logits[0, -1]
        torch.testing.assert_close(together[row], alone, rtol=1e-3, atol=1e-3)


def test_seconds_are_those_of_the_clip_that_is_named(model):
    batch = prompt(model, [asked()])
    if model.adapter.family == "desta25":
        with pytest.raises(ValueError, match="no audio token has a time of its own: each of the 64"):
            select(batch, "audio.1[0:0.8]")
        return
    (second,) = select(batch, "audio.1[0:0.8]")
    assert second == batch.spans["audio.1"][0][: len(second)]
    with pytest.raises(ValueError, match=r"it has 2 clips; name one of them, 'audio.0\[...\]' to 'audio.1\[...\]'"):
        select(batch, "audio[0:0.8]")
    times = [label for label in batch.tokens(0) if label == "♪ 0.00 s"]
    assert len(times) == 2  # each clip begins at 0


def test_a_conversation_has_its_turns_for_spans():
    model = audio_lm("qwen2_audio")
    first, second = clips()
    batch = prompt(
        model,
        [
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "audio", "audio": first}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": "A dog."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "And this?"}, {"type": "audio", "audio": second}],
                },
            ]
        ],
    )
    read = {
        name: words(model, batch, name) for name in ("question", "history", "system", "assistant", "turn.1", "user")
    }
    assert read["question"] == "And this?"
    assert read["history"] == "Be brief.What?A dog."
    assert (read["system"], read["assistant"], read["turn.1"]) == ("Be brief.", "A dog.", "What?")
    assert read["user"] == "What?And this?"
    assert set(batch.spans["audio.0"][0]) < set(batch.spans["turn.1"][0])
    assert set(batch.spans["audio.1"][0]) < set(batch.spans["turn.3"][0])
    roles = [batch.spans[role][0] for role in ("audio", "question", "choices", "caption", "template", "history")]
    everywhere = sorted(position for positions in roles for position in positions)
    assert everywhere == list(range(batch.n_positions))
    (question,) = batch.questions
    assert (question.text, question.audio, question.is_open) == ("And this?", (first, second), True)
    assert len(ma.generate(model, batch, max_new_tokens=2, min_new_tokens=2).tokens[0]) == 2
    attention = ma.analyses.attention_mass(model, batch)
    assert "history" in attention.roles
    np.testing.assert_allclose(attention.mass.sum(-1), 1, atol=1e-5)


def test_what_the_template_writes_is_kept_around_every_turn():
    model = audio_lm("qwen2_audio")
    turns = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ]
    ids = prompt(model, [turns]).inputs["input_ids"][0].tolist()
    assert model.processor.tokenizer.decode(ids) == model.processor.apply_chat_template(
        [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns],
        tokenize=False,
        add_generation_prompt=True,
    )


@pytest.mark.parametrize("family", ONE_CLIP)
def test_classes_that_take_one_clip_say_so(family):
    with pytest.raises(
        ValueError, match=r"takes one clip a prompt, got 2: it\w* (processor takes|was trained on) one clip"
    ):
        prompt(opened(family), [asked()])


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        ([], ValueError, "at least one turn"),
        ([{"role": "user"}], TypeError, "a turn is"),
        ([{"role": "narrator", "content": "x"}], ValueError, "one of .*, got 'narrator'"),
        ([{"role": "user", "content": []}], ValueError, "a text or a list of parts, got"),
        (
            [{"role": "user", "content": [{"type": "image"}]}],
            ValueError,
            "a part of a turn is .* got {'type': 'image'}",
        ),
        ([{"role": "user", "content": [{"type": "audio"}]}], ValueError, "a part of a turn is"),
        (
            [{"role": "user", "content": [{"type": "audio", "audio": 5}]}],
            TypeError,
            "a recording is a path, an AudioClip",
        ),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], ValueError, "the last turn"),
    ],
)
def test_what_is_no_conversation_is_refused_with_what_one_is(messages, error, message):
    with pytest.raises(error, match=message):
        prompt(audio_lm("qwen2_audio"), [messages])


@pytest.mark.parametrize("family", ["voxtral", "salmonn"])
def test_turns_that_a_template_refuses_are_refused_with_its_reason(family):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "audio", "audio": clips()[0]}, {"type": "text", "text": "What?"}]},
    ]
    with pytest.raises(ValueError, match=r"does not take these turns \(system, user\): .*Leave some out"):
        prompt(audio_lm(family), [turns])


def test_turns_of_every_class_hold_their_texts_and_clips(model):
    first, second = clips()
    turns = [
        {"role": "user", "content": [{"type": "audio", "audio": first}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, {"type": "audio", "audio": second}]},
    ]
    batch = prompt(model, [turns])
    assert [words(model, batch, f"turn.{number}") for number in range(3)] == ["What?", "A dog.", "And this?"]
    for clip, turn in ((0, 0), (1, 2)):
        assert set(batch.spans[f"audio.{clip}"][0]) < set(batch.spans[f"turn.{turn}"][0])
    assert len(batch.clocks[0]) == 2


def test_a_conversation_needs_no_sound():
    (ids,) = prompt(audio_lm("qwen2_audio"), [[{"role": "user", "content": "What?"}]]).inputs["input_ids"].tolist()
    assert audio_lm("qwen2_audio").processor.tokenizer.decode(ids).count("What?") == 1


def test_one_conversation_is_put_into_a_list():
    with unchecked_types(), pytest.raises(TypeError, match=r"got \[{'role': .*put it into a list, \[...\]"):
        prompt(audio_lm("qwen2_audio"), [{"role": "user", "content": "x"}])


def test_a_question_with_several_recordings_reads_them_all_and_none_alone():
    first, second = clips()
    question = ma.AudioQuestion(audio=[first, second], text=TEXT)
    assert question.clips() == question.recordings == (first, second)
    with pytest.raises(ValueError, match=r"has 2 recordings: clips\(\) reads them all"):
        question.clip()
    assert ma.AudioQuestion(audio=[first], text=TEXT).clip() is first
    with pytest.raises(ValueError, match="audio of the question is an empty list"):
        ma.AudioQuestion(audio=[], text=TEXT)
    with pytest.raises(ValueError, match="events of the question have no recording of their own"):
        ma.AudioQuestion(audio=[first, second], text=TEXT, events=[ma.Event("dog", 0.0, 0.5)])

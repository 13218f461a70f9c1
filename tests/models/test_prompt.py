import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.models import chat
from mechaudio.models.adapter import TokenTiming
from mechaudio.models.clips import token_clock
from mechaudio.models.continuation import continuation
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.inputs import as_batch
from mechaudio.models.prompt import PromptFormat, prompt
from mechaudio.models.registry import ADAPTERS
from mechaudio.models.silence import silenced
from mechaudio.models.transcripts import transcripts_of
from mechaudio.question import CONDITIONS, AudioQuestion
from mechaudio.tracing.load import load
from tests.families import (
    ASKED,
    FAMILIES,
    KINDS,
    Opened,
    audio_token_id,
    facts,
    network,
    noise,
    opened,
    processor,
    processors_count,
    thinned,
    unchecked_types,
)

TEXT = "Which sound has the earliest onset?"
ROLES = ("audio", "audio_padding", "question", "choices", "caption", "template")
TEMPLATED = tuple(family for family in ASKED if family != "voxtral")
#: Templates that take a turn as a list of parts, as the test below writes it.
OF_PARTS = tuple(adapter.family for adapter in ADAPTERS if adapter.turns == "parts" and adapter.family in TEMPLATED)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def clip(seconds=1.0, seed=0):
    return AudioClip(noise(seconds, seed), 16_000)


def asked(text=TEXT, choices=("dog", "rain"), audio=None, caption=None, **fields):
    return AudioQuestion(clip() if audio is None else audio, text, choices, caption=caption, id="q1", **fields)


def words(model, batch, name, row=0):
    """The text of a span, audio left out: what its token ids decode to, together."""
    ids = batch.inputs["input_ids"][row].tolist()
    kept = [ids[position] for position in batch.spans[name][row] if ids[position] != batch.audio_token]
    tokenizer = model.processor.tokenizer
    if model.adapter.family == "voxtral":
        pieces = tokenizer.tokenizer.instruct_tokenizer.tokenizer
        return b"".join(pieces.id_to_byte_piece(token) for token in kept).decode()
    return tokenizer.decode(kept)


@pytest.fixture(scope="module", params=thinned(ASKED))
def model(request):
    return opened(request.param)


def test_qwen2_audio_is_asked_in_its_published_format():
    model = opened("qwen2_audio")
    batch = prompt(model, [asked(caption="a dog")], condition="audio+caption")
    ids = batch.inputs["input_ids"][0].tolist()
    first = ids.index(batch.audio_token)
    one = [*ids[:first], batch.audio_token, *ids[first + ids.count(batch.audio_token) :]]
    assert model.processor.tokenizer.decode(one) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|>"
        "<|audio_eos|>\nCaption: a dog\nWhich sound has the earliest onset?\nA: dog\nB: rain<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_system_turn_of_the_family_opens_the_prompt():
    batch = prompt(opened("qwen2_5_omni_thinker"), [asked()])
    assert "".join(batch.tokens(0)).startswith("<|im_start|>system⏎You are Qwen, a virtual human")


def test_every_span_holds_its_own_words_and_nothing_else(model):
    question = asked("Was hört man, bevor es läutet? 你好", ("Hündin", "Glocke"), caption="erst ein Hündchen")
    batch = prompt(model, [question], condition="audio+caption")
    assert words(model, batch, "question").strip() == question.text
    assert words(model, batch, "choices").strip() == "A: Hündin\nB: Glocke"
    assert words(model, batch, "caption").strip() == question.caption
    assert batch.spans["keyword"] == ((),)


def test_the_words_of_the_question_in_caption_and_choices_stay_there(model):
    batch = prompt(model, [asked(choices=(TEXT, "earliest"), caption=TEXT)], condition="audio+caption")
    caption, question, choices = (batch.spans[name][0] for name in ("caption", "question", "choices"))
    assert max(caption) < min(question)
    assert max(question) < min(choices)
    assert words(model, batch, "caption").strip() == words(model, batch, "question").strip() == TEXT
    assert words(model, batch, "choices").strip() == f"A: {TEXT}\nB: earliest"
    assert words(model, batch, "keyword").strip() == "earliest"
    assert set(batch.spans["keyword"][0]) < set(question)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_roles_are_disjoint_and_share_out_all_but_padding(model, condition):
    questions = [asked(caption="rain"), asked("Which?", ("a", "b", "c"), clip(2.0), "a long caption about a dog")]
    batch = prompt(model, questions, condition=condition)
    for row in range(2):
        roles = (*ROLES, "transcript") if "transcript" in batch.spans else ROLES
        positions = [position for role in roles for position in batch.spans[role][row]]
        real = batch.inputs["attention_mask"][row].nonzero()[:, 0].tolist()
        assert sorted(positions) == real
        assert batch.spans["last"][row] == (batch.n_positions - 1,)


def test_conditions_differ_in_what_is_given_and_in_nothing_else(model):
    question = asked(caption="a dog, then rain")
    made = {condition: prompt(model, [question], condition=condition) for condition in CONDITIONS}
    heard = {condition: len(batch.spans["audio"][0]) for condition, batch in made.items()}
    assert heard["audio"] == heard["audio+caption"] == heard["silence"] > 0
    assert heard["caption"] == 0
    assert model.adapter.features not in made["caption"].inputs
    assert made["caption"].clock == (None,)
    for condition, batch in made.items():
        told = bool(batch.spans["caption"][0])
        assert told == ("caption" in condition)
        assert words(model, batch, "question").strip() == TEXT


def test_silence_is_zeros_in_the_place_of_the_clip(model):
    audio, silence = prompt(model, [asked()], condition="audio"), prompt(model, [asked()], condition="silence")
    assert torch.equal(audio.inputs["input_ids"], silence.inputs["input_ids"])
    zeros = prompt(model, [asked(audio=AudioClip(np.zeros(16_000, np.float32), 16_000))], condition="audio")
    features = model.adapter.features
    assert torch.equal(silence.inputs[features], zeros.inputs[features])
    assert not torch.equal(silence.inputs[features], audio.inputs[features])


def test_prompts_are_silenced_without_reading_their_clips_again(model):
    questions = [asked(), asked()]
    heard, written = prompt(model, questions), prompt(model, questions, condition="silence")
    made = silenced(model, heard)
    assert {**vars(made), "inputs": None, "clocks": None} == {**vars(written), "inputs": None, "clocks": None}
    assert made.inputs.keys() == written.inputs.keys()
    assert all(same(value, made.inputs[name]) for name, value in written.inputs.items())
    with pytest.raises(ValueError, match="clips of condition 'audio', got 'silence'"):
        silenced(model, made)


def same(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_silence_that_makes_fewer_tokens_is_refused(monkeypatch):
    model = opened("qwen2_audio")
    real = chat.encode_alone

    def deaf_to_silence(processor, adapter, samples):
        return real(processor, adapter, samples if samples.any() else samples[:8000])

    monkeypatch.setattr("mechaudio.models.silence.encode_alone", deaf_to_silence)
    with pytest.raises(
        ValueError, match="question 'q1': the clip gives 25 audio tokens, silence of the same length 12"
    ):
        prompt(model, [asked()], condition="silence")


def test_the_network_hears_the_clip(model):
    def answer(audio, condition="audio"):
        batch = prompt(model, [asked(audio=audio)], condition=condition)
        with torch.no_grad():
            return model.network(**batch.inputs).logits[0, -1]

    assert (answer(clip(seed=1)) - answer(clip(seed=2))).abs().max() > 0.1
    assert (answer(clip(seed=1)) - answer(clip(seed=1), "silence")).abs().max() > 0.1


def test_rows_of_a_batch_are_what_they_are_alone(model):
    questions = [
        asked(),
        asked("Which sound ends last?", ("a", "b", "c"), clip(3.0, 1)),
        asked("Which?", audio=clip(0.5)),
    ]
    together = prompt(model, questions)
    for row, question in enumerate(questions):
        alone = prompt(model, [question])
        assert alone.choice_ids[0] == together.choice_ids[row]
        for name, positions in alone.spans.items():
            shift = together.n_positions - alone.n_positions
            assert together.spans[name][row] == tuple(position + shift for position in positions[0])
    groups = padding_groups(model.adapter, together)
    assert (len(groups) > 1) == (model.adapter.leaks_padding is not None)
    with torch.no_grad():
        for rows in groups:
            logits = model.network(**part_of(model.adapter, together, rows).inputs).logits
            for index, row in enumerate(rows):
                alone = model.network(**prompt(model, [questions[row]]).inputs).logits
                assert torch.allclose(alone[0, -1], logits[index, -1], atol=1e-4)


@pytest.mark.parametrize("family", OF_PARTS)
def test_the_inputs_are_the_ones_the_processor_itself_makes(family):
    model = opened(family)
    rate = model.adapter.sampling_rate
    samples = noise(1.0, sample_rate=rate)
    question = asked(audio=AudioClip(samples, rate))
    batch = prompt(model, [question])
    content = [{"type": "audio"}, {"type": "text", "text": f"{TEXT}\nA: dog\nB: rain"}]
    text = model.processor.apply_chat_template(
        [
            *([{"role": "system", "content": model.adapter.system}] if model.adapter.system else []),
            {"role": "user", "content": content[::-1] if model.adapter.text_first else content},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    words = {"transcripts": transcripts_of(model, question, [samples], "audio")} if model.adapter.transcribes else {}
    made = model.processor(text=[text], audio=[samples], return_tensors="pt", sampling_rate=rate, **words)
    assert torch.equal(batch.inputs["input_ids"], made["input_ids"])
    features, axis = model.adapter.features, model.adapter.frames_axis
    frames = batch.inputs[features].shape[axis]  # the Omni batch is cut down to its longest clip
    assert torch.equal(batch.inputs[features], made[features].narrow(axis, 0, frames))


def test_rows_are_padded_on_the_left_whatever_the_tokenizer_is_set_to(model):
    model.processor.tokenizer.padding_side = "right"
    before = dict(vars(model.processor.tokenizer))
    batch = prompt(model, [asked("Which?"), asked(audio=clip(2.0), choices=("a longer choice", "b"))])
    mask = batch.inputs["attention_mask"]
    assert batch.inputs["input_ids"].shape == mask.shape
    assert mask[:, -1].tolist() == [1, 1]
    assert mask[0].tolist() == sorted(mask[0].tolist())
    assert mask[0, 0] == 0
    assert model.processor.tokenizer.padding_side == "right"
    assert dict(vars(model.processor.tokenizer)) == before
    model.processor.tokenizer.padding_side = "left"


def test_rows_are_never_padded_with_the_audio_placeholder():
    model = opened("glmasr")
    model.processor.tokenizer.pad_token = "<|pad|>"
    batch = prompt(model, [asked("Which?"), asked(audio=clip(2.0))])
    assert (batch.inputs["input_ids"] == audio_token_id("glmasr")).sum(-1).tolist() == [12, 25]
    model.processor.tokenizer.eos_token = "<|pad|>"
    with pytest.raises(ValueError, match="neither a padding nor an end token"):
        prompt(model, [asked()])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(ASKED)))
def test_a_class_that_only_transcribes_says_so_and_what_to_do(family):
    message = r"takes no questions: it was trained to transcribe.*processor\.apply_transcription_request\(clips"
    with pytest.raises(TypeError, match=message):
        prompt(opened(family), [asked()])


@pytest.mark.parametrize("seconds", [0.1, 0.33, 1.0, 2.517, 3.99, 4.0, 4.1, 7.9, 9.3])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(ASKED)))
def test_the_inputs_of_a_transcribing_processor_are_a_batch_with_the_right_clock(family, seconds):
    model = opened(family)
    rate = model.adapter.sampling_rate
    inputs = model.processor.apply_transcription_request(noise(seconds, sample_rate=rate), return_tensors="pt")
    batch = as_batch(model, dict(inputs))
    count = processors_count(family, round(rate * seconds))
    assert len(batch.spans["audio"][0]) == batch.clock[0].n_tokens == count
    end = batch.clock[0].seconds(count - 1)[1]
    assert abs(end - max(seconds, facts(family).filled_up / 16_000)) <= facts(family).token_seconds
    with torch.no_grad():
        assert model.network(**batch.inputs).logits.isfinite().all()


def test_a_dict_with_a_clip_that_the_tower_has_no_positions_for_is_refused():
    model = opened("fun_asr_nano")
    longest = model.processor.apply_transcription_request(noise(122.88), return_tensors="pt")
    batch = as_batch(model, dict(longest))
    assert (
        len(batch.spans["audio"][0]) == batch.clock[0].n_tokens == processors_count("fun_asr_nano", 1_966_080) == 2048
    )
    longer = model.processor.apply_transcription_request(noise(123.0), return_tensors="pt")
    with pytest.raises(ValueError, match=r"hold 123\.0 s, .* has positions for 122\.9 s: cut the clip"):
        as_batch(model, dict(longer))


@pytest.mark.parametrize("seconds", [(2.5, 5.0), (9.3, 1.0)])
def test_time_written_between_audio_tokens_leaves_them_their_clock(seconds):
    """Moss's processor writes 2, 4, ... where that many seconds are over."""
    model = opened("moss_transcribe_diarize")
    model.processor.tokenizer.padding_side = "left"
    inputs = model.processor.apply_transcription_request(
        [noise(length) for length in seconds], return_tensors="pt", text_kwargs={"padding": True}
    )
    batch = as_batch(model, dict(inputs))
    for row, length in enumerate(seconds):
        positions, clock = batch.spans["audio"][row], batch.clock[row]
        assert len(positions) == clock.n_tokens == processors_count("moss_transcribe_diarize", round(16_000 * length))
        written = range(positions[0], positions[-1] + 1)
        marks = [position for position in written if position not in positions]
        told = model.processor.tokenizer.decode(batch.inputs["input_ids"][row, marks])
        assert told.replace(" ", "") == "".join(str(second) for second in range(2, int(clock.n_tokens / 12.5) + 1, 2))
        after = [positions.index(mark + 1) for mark in marks if mark + 1 in positions]
        assert [clock.seconds(token)[0] for token in after] == pytest.approx([2.0 * (i + 1) for i in range(len(after))])


# Letters


@pytest.mark.parametrize("count", [2, 4, 26])
def test_letters_have_the_ids_that_the_tokenizer_writes_behind_the_prompt(model, count):
    choices = tuple(f"sound {index}" for index in range(count))
    (ids,) = prompt(model, [asked(choices=choices)]).choice_ids
    assert len(set(ids)) == count
    assert [model.processor.tokenizer.decode([token]) for token in ids] == list(LETTERS[:count])


def test_letters_that_begin_with_the_same_token_are_refused(monkeypatch):
    monkeypatch.setattr(chat, "continuation", lambda *_: (7,))
    with pytest.raises(ValueError, match=r"choices A and B begin with the same token \(id 7"):
        prompt(opened("qwen2_audio"), [asked()])


def test_a_letter_that_melts_into_the_prompt_is_refused():
    model = opened("qwen2_audio")
    tokenizer = model.processor.tokenizer
    merged = tokenizer("assistantA")["input_ids"]
    assert merged[: len(tokenizer("assistant")["input_ids"])] == tokenizer("assistant")["input_ids"]
    assert continuation(tokenizer, "assistant", "A") == (merged[-1],)
    with pytest.raises(ValueError, match="'s' melts into the end of the prompt 'You are a helpful a'"):
        continuation(tokenizer, "You are a helpful a", "s")


# Clips and clocks


@pytest.mark.parametrize("seconds", [0.1, 0.33, 1.0, 2.517, 3.99, 4.0, 4.1, 7.9])
def test_the_clock_has_one_tick_per_audio_token(model, seconds):
    told = facts(model.adapter.family)
    samples = round(seconds * told.rate)
    heard = min(samples, told.window) if model.adapter.timing.long_clips == "cut" else samples
    batch = prompt(model, [asked(audio=AudioClip(noise(seconds, sample_rate=told.rate), told.rate))], allow_cut=True)
    count = processors_count(model.adapter.family, heard)
    assert len(batch.audio_positions[0]) == count
    assert len(batch.spans["audio"][0]) == batch.clock[0].n_tokens
    assert batch.cut == (pytest.approx((samples - heard) / told.rate),)
    if told.token_seconds is None:
        assert np.isnan(batch.clock[0].end)
        return
    end = batch.clock[0].end
    if told.together is not None:
        assert 0 <= end - (heard // 320 * 320) / told.rate < told.together
    elif model.adapter.timing.pads_to_window:  # what was filled up has become tokens, which do not count as audio
        whole = min(heard / told.rate, told.last(heard))
        assert 0 <= end - whole < told.token_seconds
        assert (len(batch.spans["audio_padding"][0]) == 0) == (batch.clock[0].n_tokens == count)
    else:
        assert abs(end - heard / told.rate) <= told.token_seconds + 1e-5


@pytest.mark.parametrize(("family", "tokens"), [("gemma4", 750), ("gemma3n", 188)])
def test_a_clip_past_a_window_of_thirty_seconds_is_cut_there(family, tokens):
    with pytest.raises(ValueError, match=r"its clip lasts 31.5 s .* hears 30.0 s: the last 1.5 s would be lost"):
        prompt(opened(family), [asked(audio=clip(31.5))])
    batch = prompt(opened(family), [asked(audio=clip(31.5))], allow_cut=True)
    assert len(batch.spans["audio"][0]) == tokens == processors_count(family, round(31.5 * 16_000))
    assert batch.cut == (1.5,)
    assert batch.clock[0].end == pytest.approx(30.0, abs=0.09)


def test_a_clip_past_a_window_of_forty_seconds_is_heard_whole():
    model = opened("phi4_multimodal")
    batch = prompt(model, [asked(audio=clip(41.3))])
    assert len(batch.spans["audio"][0]) == batch.clock[0].n_tokens == processors_count("phi4_multimodal", 660_800)
    assert batch.clock[0].seconds(-1)[1] == pytest.approx(41.3, abs=0.08)


def test_a_token_hears_what_its_clock_says(model):
    """A burst of 40 ms moves the vector of the token at that time more than any other, or of one that hears with it."""
    if model.adapter.towers:  # some hear seconds around each of their tokens: tested one by one, with the network
        return
    window = facts(model.adapter.family).together
    quiet = noise(3.0)
    for time in (0.5, 1.5, 2.5):
        loud = quiet.copy()
        loud[round(time * 16_000) :][:640] += 3 * noise(0.04, seed=9)
        vectors = []
        for samples in (quiet, loud):
            batch = prompt(model, [asked(audio=AudioClip(samples, 16_000))])
            kept = []
            handle = model.network.get_submodule(model.adapter.projector).register_forward_hook(
                lambda _module, _args, output, kept=kept: kept.append(output)
            )
            with torch.no_grad():
                model.network(**batch.inputs)
            handle.remove()
            vectors.append(kept[0].flatten(0, -2)[: batch.clock[0].n_tokens])
        moved = int((vectors[1] - vectors[0]).norm(dim=-1).argmax())
        onset, offset = batch.clock[0].seconds(moved)
        if window is not None:
            onset = (onset + 1e-6) // window * window
            offset = onset + window
        slack = facts(model.adapter.family).token_seconds
        assert onset - slack <= time < offset + slack


def test_uneven_tokens_keep_time_over_hours():
    clock = token_clock(TokenTiming(samples=16_000, tokens=13, window=0, long_clips="split"), 13 * 3600, 16_000)
    assert clock.seconds(13 * 3600 - 1)[1] == 3600.0
    assert clock.seconds(13) == (1.0, pytest.approx(1 + 1 / 13, abs=1e-4))


@pytest.mark.parametrize("family", ["qwen2_audio", "qwen2_5_omni_thinker"])
def test_a_clip_longer_than_the_model_hears_is_refused(family):
    long = AudioClip(np.zeros(2400 * 1000, np.float32), 1000)
    message = (
        r"question 'q1': its clip lasts 2400.0 s and .* hears 4.0 s: the last 2396.0 s would be lost.*allow_cut=True"
    )
    with pytest.raises(ValueError, match=message):
        prompt(opened(family), [asked(audio=long)])


def test_audio_flamingo_3_hears_many_windows_and_then_no_more():
    model = opened("audioflamingo3")
    model.processor.max_audio_len = 8
    batch = prompt(model, [asked(audio=clip(7.5)), asked()])
    assert batch.inputs["input_features"].shape[0] == 3  # two windows and one
    with pytest.raises(ValueError, match=r"lasts 9.0 s and .* hears 8.0 s: the last 1.0 s would be lost"):
        prompt(model, [asked(audio=clip(9.0))])
    assert prompt(model, [asked(audio=clip(9.0))], allow_cut=True).cut == (1.0,)


def test_a_cut_clip_is_its_beginning():
    model = opened("qwen2_audio")
    cut = prompt(model, [asked(audio=clip(6.0))], allow_cut=True)
    whole = prompt(model, [asked(audio=AudioClip(noise(6.0)[:64_000], 16_000))])
    assert all(torch.equal(cut.inputs[name], whole.inputs[name]) for name in whole.inputs)
    assert cut.cut == (2.0,)
    assert cut.durations == (4.0,)


def test_a_batch_says_how_much_sound_each_row_was_given_without_padding():
    model = opened("voxtral")
    questions = [asked(audio=clip(1.5)), asked(audio=clip(0.75), caption="a dog barks")]
    batch = prompt(model, questions)
    assert batch.durations == (1.5, 0.75)
    assert batch.clock[1].end == 0.8
    assert len(batch.spans["audio_padding"][1]) == 40, "the padding becomes tokens, and these do not count as audio"
    assert part_of(model.adapter, batch, [1]).durations == (0.75,)
    assert prompt(model, questions[1:], condition="caption").durations == (None,)


def test_what_gemma_3n_fills_a_clip_up_with_does_not_count_as_audio():
    """Every clip makes 188 tokens of 160 ms; a clip of 3 s is heard by 19 of them."""
    batch = prompt(opened("gemma3n"), [asked(audio=clip(3.0))])
    assert (len(batch.spans["audio"][0]), len(batch.spans["audio_padding"][0])) == (19, 169)
    assert batch.clock[0].end == pytest.approx(3.04)


@pytest.mark.parametrize("family", thinned(TEMPLATED))
def test_a_clip_too_short_for_one_token_is_refused_with_the_least_length(family):
    model, least = opened(family), facts(family).shortest
    message = rf"clip of .* s \({least - 1} samples\) gives no audio token; .* at least {least / 16_000:.3f} s"
    if least > 1:
        with pytest.raises(ValueError, match=message):
            prompt(model, [asked(audio=AudioClip(noise(1.0)[: least - 1], 16_000))])
    shortest = prompt(model, [asked(audio=AudioClip(noise(1.0)[:least], 16_000))])
    assert len(shortest.audio_positions[0]) == processors_count(family, least)
    together = 1 if facts(family).together is None else 3
    hearing = processors_count(family, least) if facts(family).token_seconds is None else together
    assert len(shortest.spans["audio"][0]) == hearing


def test_a_prompt_longer_than_the_context_is_refused():
    model = opened("voxtral")
    with pytest.raises(
        ValueError, match=r"the longest prompt has \d{4} tokens, Voxtral.* was built for 2048 positions"
    ):
        prompt(model, [asked(audio=AudioClip(np.zeros(168 * 1000, np.float32), 1000))])


def test_stereo_at_another_rate_is_heard_like_mono_at_the_models_own():
    model = opened("qwen2_audio")
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)
    same = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    stereo = prompt(model, [asked(audio=AudioClip(np.stack([tone, tone]), 44_100))])
    mono = prompt(model, [asked(audio=AudioClip(same, 16_000))])
    assert stereo.clock[0].n_tokens == mono.clock[0].n_tokens == 25
    inner = slice(5, 95)  # resampling rings at the ends
    difference = (stereo.inputs["input_features"] - mono.inputs["input_features"])[0, :, inner].abs()
    assert difference.mean() < 0.05


def test_features_have_the_type_of_the_audio_tower(model):
    family, features = model.adapter.family, model.adapter.features
    assert prompt(model, [asked()]).inputs[features].dtype == torch.float32
    model = Opened(network(family, torch.bfloat16), processor(family))
    batch = prompt(model, [asked()])
    assert batch.inputs[features].dtype == torch.bfloat16
    with torch.no_grad():
        logits = model.network(**batch.inputs).logits
    assert logits.dtype == (torch.float32 if family == "nemotron_h_omni" else torch.bfloat16)  # it casts them itself


# Labels


def test_labels_are_readable_and_audio_tokens_say_their_time():
    model = opened("qwen2_audio")
    batch = prompt(model, [asked("Which?"), asked(audio=clip(2.0))])
    labels = batch.tokens(1)
    assert len(labels) == batch.n_positions
    assert [labels[position] for position in batch.spans["audio"][1][:4]] == [
        "♪ 0.00 s",
        "♪ 0.04 s",
        "♪ 0.08 s",
        "♪ 0.12 s",
    ]
    assert labels[-1] == "⏎"
    assert "".join(labels[position] for position in batch.spans["keyword"][1]) == " earliest"
    assert set(batch.tokens(0)[: batch.spans["template"][0][0]]) == {"<pad>"}


def test_a_span_that_is_not_there_names_those_that_are():
    batch = prompt(opened("qwen2_audio"), [asked()])
    with pytest.raises(
        KeyError, match=r"no span 'adio' in this batch; it has \['audio', 'audio_padding', 'caption', 'choices'"
    ):
        batch.spans["adio"]
    with pytest.raises(KeyError, match="no span 'adio'"):
        batch.span_mask("adio")


def test_a_span_as_a_mask_marks_its_positions():
    batch = prompt(opened("qwen2_audio"), [asked("Which?"), asked(audio=clip(2.0))])
    mask = batch.span_mask("audio")
    assert torch.equal(mask, batch.inputs["input_ids"] == audio_token_id("qwen2_audio"))
    assert mask.sum(-1).tolist() == [25, 50]


# What is refused


def test_a_question_without_the_caption_it_needs_is_refused():
    with pytest.raises(ValueError, match=r"question 'q1' has no caption, which condition='audio\+caption' needs"):
        prompt(opened("qwen2_audio"), [asked()], condition="audio+caption")


@pytest.mark.parametrize("condition", ["audio", "audio+caption", "silence"])
def test_a_question_without_audio_is_refused_where_audio_is_needed(condition):
    question = AudioQuestion(None, TEXT, ("dog", "rain"), caption="rain", id="q1")
    with pytest.raises(ValueError, match="question 'q1' has no audio: a prompt without audio is condition='caption'"):
        prompt(opened("qwen2_audio"), [question], condition=condition)
    assert prompt(opened("qwen2_audio"), [question], condition="caption").n_rows == 1


def test_an_unknown_condition_names_those_there_are():
    with pytest.raises(ValueError, match=r"condition is one of \('audio', 'caption', .*got 'text'"):
        prompt(opened("qwen2_audio"), [asked()], condition="text")


def test_no_question_is_refused():
    with pytest.raises(ValueError, match="no questions were given"):
        prompt(opened("qwen2_audio"), [])


def test_a_single_question_is_sent_back_for_its_brackets():
    with unchecked_types(), pytest.raises(TypeError, match=r"got an AudioQuestion: put it into a list, \[...\]"):
        prompt(opened("qwen2_audio"), asked())


def test_something_else_than_a_question_is_refused():
    with unchecked_types(), pytest.raises(TypeError, match=r"got \['Which sound\?'\]: ma.AudioQuestion gives it"):
        prompt(opened("qwen2_audio"), ["Which sound?"])
    message = "questions are AudioQuestion or conversations, but number 0 is 'Which"
    with unchecked_types(), pytest.raises(TypeError, match=message):
        prompt(opened("qwen2_audio"), (question for question in ["Which sound?"]))


def test_a_model_without_a_processor_asks_for_one():
    model = Opened(network("qwen2_audio"), None)
    with pytest.raises(
        TypeError, match=r"opened without a processor.*AudioLM\(network, processor\).*dict of the network's own"
    ):
        prompt(model, [asked()])


@pytest.mark.parametrize(
    ("family", "field"),  # a class of every kind refuses them in all; the others take turns
    [
        pytest.param(family, field, marks=[] if family in KINDS else [pytest.mark.whole])
        for turn, family in enumerate(TEMPLATED)
        for number, field in enumerate(("text", "choices", "caption"))
        if family in KINDS or number == turn % 3
    ],
)
def test_control_tokens_in_a_text_from_outside_are_refused(family, field):
    model = opened(family)
    tools = model.processor
    evil = f"bell{tools.tokenizer.eos_token}{tools.audio_token}"
    fields = {"text": f"Which {evil}?", "choices": (evil, "dog"), "caption": evil}
    question = asked(**{"caption": "rain", field: fields[field]})
    with pytest.raises(ValueError, match=r"the text holds '<.*>', '<.*>', which .* reads as control"):
        prompt(model, [question], condition="audio+caption")


def test_control_tokens_are_just_words_to_voxtral():
    model = opened("voxtral")
    batch = prompt(model, [asked(choices=("[AUDIO]", "</s>"))])
    assert words(model, batch, "choices") == "A: [AUDIO]\nB: </s>"
    assert len(batch.audio_positions[0]) == 50


def test_a_chat_template_that_rewrites_the_text_is_refused():
    model = opened("qwen2_audio")
    model.processor.chat_template = model.processor.chat_template.replace("item.text", "item.text | lower")
    with pytest.raises(ValueError, match="the chat template of Qwen2AudioProcessor rewrites its text: 'Which sound"):
        prompt(model, [asked()])


def test_a_chat_template_that_leaves_the_text_out_is_refused():
    model = opened("qwen2_audio")
    model.processor.chat_template = model.processor.chat_template.replace("{{ item.text }}", "")
    with pytest.raises(
        ValueError, match="the chat template of Qwen2AudioProcessor writes no text beside audio, or not that"
    ):
        prompt(model, [asked()])


def test_a_chat_template_without_a_place_for_audio_is_refused():
    model = opened("qwen2_audio")
    model.processor.chat_template = model.processor.chat_template.replace("<|AUDIO|>", "")
    with pytest.raises(ValueError, match=r"wrote 0 audio placeholders \('<\|AUDIO\|>'\) for 1 clip\b"):
        prompt(model, [asked()])


def test_control_tokens_that_the_processor_puts_around_audio_are_template():
    model = opened("musicflamingo")
    batch = prompt(model, [asked()])
    labels = batch.tokens(0)
    first, last = batch.spans["audio"][0][0], batch.spans["audio"][0][-1]
    assert (labels[first - 1], labels[last + 1]) == ("<|sound_bos|>", "<|sound_eos|>")
    assert {first - 1, last + 1} <= set(batch.spans["template"][0])


def test_a_processor_that_makes_other_tokens_than_its_tokenizer_is_refused():
    assert chat._grown([1, 9, 2], [1, 7, 9, 9, 8, 2], 9) == [7, 9, 9, 8]
    assert chat._grown([1, 2], [1, 2], 9) == []
    assert chat._grown([1, 9, 2], [1, 9, 9, 3], 9) is None
    assert chat._grown([1, 2], [1, 3], 9) is None
    model = opened("qwen2_audio")

    class Adding:
        def __getattr__(self, name):
            return getattr(model.processor, name)

        def __call__(self, text, **options):
            return model.processor(text=[text[0] + "and more"], **options)

    with pytest.raises(ValueError, match="Adding makes other tokens than its own tokenizer for the same prompt"):
        prompt(Opened(model.network, Adding()), [asked()])


def test_a_tokenizer_without_offsets_is_refused():
    model = opened("qwen2_audio")

    class Blind:
        is_fast = False

    model.processor.tokenizer = Blind()
    with pytest.raises(TypeError, match="Blind does not say which characters its tokens hold"):
        prompt(model, [asked()])


def test_another_format_reaches_the_prompt(model):
    layout = PromptFormat(choice="({letter}) {choice}", closing="Answer with the letter.")
    batch = prompt(model, [asked()], layout=layout)
    assert words(model, batch, "choices").strip() == "(A) dog\n(B) rain"
    assert "Answer with the letter." in words(model, batch, "template")


def test_words_that_the_model_has_no_token_for_are_named():
    model = load("tiny", prove=False)
    question = AudioQuestion(audio=AudioClip(noise(2.0), 16_000), text=TEXT, choices=("hum", "dog", "violin"))
    with pytest.warns(UserWarning, match=r"no token for \['dog', 'violin'\] and reads '<unk>' instead"):
        prompt(model, [question])


def test_an_open_question_ends_with_its_own_text_and_is_not_answered_by_letter():
    model, (closed,) = ma.load("tiny", prove=False), ma.data.soundscapes.questions(1, seed=11)
    question = ma.AudioQuestion(audio=closed.audio, text="What do you hear?", id="q1")
    batch = ma.prompt(model, [question, closed])
    read = ["".join(batch.tokens(0)[position] for position in batch.spans[role][0]) for role in ("question", "choices")]
    assert read == ["Whatdoyouhear?", ""]
    assert [len(ids) for ids in batch.choice_ids] == [0, 4]
    with pytest.raises(ValueError, match=r"ma.answer needs choices, and question 'q1' .* is open: ma.generate writes"):
        ma.answer(model, batch)
    alone = ma.prompt(model, [question])
    assert ma.generate(model, batch, max_new_tokens=4).texts[0] == ma.generate(model, alone, max_new_tokens=4).texts[0]

"""Questions to SALMONN and TimeAudio: letters, silence, padding that becomes tokens, merged tokens and their times."""

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses.patching.places import token_middles
from mechaudio.audio.clock import ScatteredClock
from mechaudio.models.positions import select
from mechaudio.models.salmonn.config import SalmonnConfig
from mechaudio.models.silence import silenced
from tests.families import model_inputs, noise, opened
from tests.models.salmonn.released import network, processor


def clip(seconds, seed=0):
    return ma.AudioClip(noise(seconds, seed), 16_000)


def question(seconds=3.0, text="Which sound comes first?", **options):
    options = {"choices": ("dog", "car", "rain"), "answer": "dog", "audio": clip(seconds), **options}
    return ma.AudioQuestion(text=text, **options)


@pytest.fixture(scope="module")
def salmonn():
    return ma.AudioLM(opened("salmonn").network, opened("salmonn").processor, prove=False)


@pytest.fixture(scope="module")
def timeaudio():
    return ma.AudioLM(opened("timeaudio").network, opened("timeaudio").processor, prove=False)


@pytest.fixture(scope="module", params=["salmonn", "timeaudio"])
def model(request, salmonn, timeaudio):
    return {"salmonn": salmonn, "timeaudio": timeaudio}[request.param]


def test_a_letter_is_the_token_that_training_wrote_apart_from_the_prompt(model):
    tokenizer = model.processor.tokenizer
    (ids,) = ma.prompt(model, [question()]).choice_ids
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["▁A", "▁B", "▁C"]
    rendered = "ASSISTANT:"
    behind = tokenizer(rendered + "A")["input_ids"][len(tokenizer(rendered)["input_ids"]) :]
    assert tokenizer.convert_ids_to_tokens(behind) == ["A"], "another token, which no answer in training began with"


def test_words_to_measure_are_tokenised_as_answers_were_in_training(model):
    tokenizer = model.processor.tokenizer
    aimed = ma.prompt(model, [question(choices=(), answer=None)]).aimed(target="A", foil="C")
    assert tokenizer.convert_ids_to_tokens(list(aimed.choice_ids[0])) == ["▁A", "▁C"]


def test_a_letter_that_the_tokenizer_has_no_token_for_is_refused():
    model = ma.AudioLM(network("salmonn"), processor("salmonn"), prove=False)
    with pytest.raises(ValueError, match=r"the letter 'B' is no token of this tokenizer but \['▁', 'B'\]"):
        ma.prompt(model, [question()])


def test_the_prompt_reads_as_released_and_the_spans_are_its_parts(model):
    batch = ma.prompt(model, [question()])
    ids, spans = batch.inputs["input_ids"][0].tolist(), batch.spans
    text = [token for token in ids if token != batch.audio_token]
    assert (
        model.processor.tokenizer.decode(text)
        == "<s> USER: <Speech> </Speech> Which sound comes first?\nA: dog\nB: car\nC: rain\nASSISTANT:"
    )
    read = {
        role: model.processor.tokenizer.decode([ids[position] for position in spans[role][0]]).strip()
        for role in ("question", "choices")
    }
    assert read == {"question": "Which sound comes first?", "choices": "A: dog\nB: car\nC: rain"}
    assert len(spans["audio"][0]) + len(spans["audio_padding"][0]) == 11


def test_tokens_of_filling_are_not_audio(model):
    """A window of 4 s makes 11 tokens of 0.34 s; a clip of 1.5 s is heard by five of them."""
    batch = ma.prompt(model, [question(1.5), question(4.0)])
    assert [len(positions) for positions in batch.spans["audio"]] == [5, 11]
    assert [len(positions) for positions in batch.spans["audio_padding"]] == [6, 0]
    assert batch.clock[0].end == pytest.approx(1.7)
    assert batch.tokens(0).count("♪ –") == 6
    with pytest.warns(UserWarning, match="BEATs hears what shorter clips are filled up with"):
        measured = ma.analyses.audio_attention(model, batch)
    place = measured.roles.index("audio_padding")
    whole = measured.mass.sum(-1)
    np.testing.assert_allclose(whole, np.ones_like(whole), atol=1e-5)
    assert (measured.mass[0, ..., place] > 0).all()
    assert (measured.mass[1, ..., place] == 0).all()


def test_a_dict_of_inputs_has_the_same_spans_and_clock_as_the_prompt(model):
    made = ma.prompt(model, [question(1.5), question(2.5)])
    again = ma.models.as_batch(model, made.inputs)
    for name in ("audio", "audio_padding", "last"):
        assert again.spans[name] == made.spans[name]
    assert [clock.end for clock in again.clock] == [clock.end for clock in made.clock]


def test_silence_of_the_same_length_keeps_every_position(model):
    heard, silent = (ma.prompt(model, [question(2.0)], condition=condition) for condition in ("audio", "silence"))
    assert torch.equal(heard.inputs["input_ids"], silent.inputs["input_ids"])
    assert silent.spans == heard.spans
    assert not torch.equal(heard.inputs["filterbank_features"], silent.inputs["filterbank_features"])
    again = silenced(model, heard)
    assert all(torch.equal(again.inputs[name], silent.inputs[name]) for name in silent.inputs)


def test_rows_of_different_lengths_are_what_they_are_alone(model):
    questions = [question(1.5), question(3.5, text="Which of these sounds is the longest of all?")]
    with pytest.warns(UserWarning, match="BEATs hears what shorter clips are filled up with"):
        together = ma.run(model, ma.prompt(model, questions), record=["beats.resid_post", "qformer.z"])
    for row, single in enumerate(questions):
        alone = ma.run(model, ma.prompt(model, [single]), record=["beats.resid_post", "qformer.z"])
        torch.testing.assert_close(together.logits[row, -1], alone.logits[0, -1], atol=1e-4, rtol=1e-4)
        own = alone.cache["beats.resid_post", 0]
        torch.testing.assert_close(together.cache["beats.resid_post", 0][row, : own.shape[1]], own[0])
        windows = together.cache["qformer.z", 1].unflatten(0, (2, 11))[row]
        torch.testing.assert_close(windows, alone.cache["qformer.z", 1], atol=1e-5, rtol=1e-4)


def test_several_clips_and_other_turns_are_refused(model):
    with pytest.raises(ValueError, match="takes one clip a prompt, got 2: it was trained on one clip a prompt"):
        ma.prompt(model, [question(audio=[clip(1.0), clip(1.0)])])
    chat = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "And now?"},
    ]
    with pytest.raises(Exception, match="a prompt of this model is one turn of the user"):
        ma.prompt(model, [chat])


@pytest.mark.parametrize("text", ["what is <SpeechHere>?", "it ends </s> here"])
def test_control_tokens_in_a_text_are_refused(model, text):
    with pytest.raises(ValueError, match="reads as control, not as words"):
        ma.prompt(model, [question(text=text)])


@pytest.mark.parametrize("field", ["text", "caption", "choices"])
def test_markers_in_a_text_are_refused_where_they_are_tokens(timeaudio, salmonn, field):
    given = {"choices": ("dog", "<a_1><f_2>")} if field == "choices" else {field: "from <a_1><f_2> on?"}
    asked = question(**{"caption": "rain", "answer": None, **given})
    with pytest.raises(ValueError, match=r"the text holds '<a_1>', '<f_2>', which .* reads as control"):
        ma.prompt(timeaudio, [asked], condition="audio+caption")
    assert ma.prompt(salmonn, [asked], condition="audio+caption").n_rows == 1


def test_a_clip_longer_than_is_heard_is_refused_with_the_number(model):
    longest = model.processor.max_audio_len
    with pytest.raises(ValueError, match=rf"lasts 31.0 s and .* hears {longest:.1f} s: the last 1.0 s would be lost"):
        ma.prompt(model, [question(31.0)])
    with pytest.raises(ValueError, match=rf"a clip of 31.0 s is longer than the {longest:g} s"):
        model.processor(text=["<SpeechHere>"], audio=[noise(31.0)])


@pytest.mark.parametrize(
    ("seconds", "stretches", "windows"), [(5.0, 1, 90), (30.0, 1, 88), (34.9, 1, 102), (35.1, 2, 176), (120.0, 4, 352)]
)
def test_long_clips_make_windows_as_in_training(seconds, stretches, windows):
    """Of a tail of less than 5 s, Whisper hears nothing and BEATs all."""
    config = SalmonnConfig(max_seconds=120.0)
    frames = (round(16_000 * seconds) - 240) // 160
    assert config.stretches(frames) == stretches
    assert config.n_windows(frames) == (88 if seconds == 5.0 else windows)


def test_long_clips_hear_every_stretch_and_tokens_follow_one_another(salmonn):
    batch = ma.prompt(salmonn, [question(11.0)])
    assert batch.clock[0].contiguous
    assert len(batch.audio_positions[0]) == 35  # three stretches of 200 frames
    assert len(batch.spans["audio"][0]) == 33  # 11 s at 0.34 s each
    out = ma.run(salmonn, batch, record=["audio.resid_post", "beats.resid_post", "projector_out"])
    assert out.cache["audio.resid_post", 0].shape[0] == 3, "stretches side by side"
    assert out.cache["beats.resid_post", 0].shape[:2] == (1, 8 * (1098 // 16)), "BEATs hears the whole clip"
    changed = noise(11.0)
    changed[-16_000:] = noise(1.0, seed=9)
    other = ma.run(
        salmonn, ma.prompt(salmonn, [question(audio=ma.AudioClip(changed, 16_000))]), record=["projector_out"]
    )
    moved = (out.cache["projector_out"] - other.cache["projector_out"])[0].norm(dim=-1)
    assert moved[29:33].mean() > 2 * moved[:24].mean(), "the last second is heard by the last tokens"


def test_beats_hears_each_stretch_by_itself_where_the_config_says_so():
    sizes = {"max_seconds": 120.0}
    inputs = processor("salmonn", sizes=sizes)(audio=[noise(36.0)])
    whole = network("salmonn", **sizes)
    apart = network("salmonn", beats_per_stretch=True, **sizes)
    inputs["input_features_mask"] = inputs["input_features_mask"].bool()
    together, pieces = (
        one._hear_with_beats(inputs["filterbank_features"], inputs["input_features_mask"], 3598)[0]
        for one in (whole, apart)
    )
    assert pieces.shape == together.shape == (8 * (3598 // 16), 24)
    assert (pieces - together).abs().max() > 0.01, "other numbers, as tokens see one stretch only"
    for start, stop in ((0, 2992), (2992, 3584)):
        alone = apart.ln_audio(apart.beats(inputs["filterbank_features"][..., start:stop].mT))[0]
        torch.testing.assert_close(pieces[start // 2 : stop // 2], alone, atol=1e-5, rtol=1e-4)


def test_merged_tokens_say_which_stretches_they_hear(timeaudio):
    batch = ma.prompt(timeaudio, [question(11.0)])
    (clock,) = batch.clock
    assert isinstance(clock, ScatteredClock)
    weights = batch.inputs["audio_merging"][0]
    n_tokens = len(batch.audio_positions[0])
    assert weights.shape == (n_tokens, 35)
    audio = [batch.audio_positions[0].index(position) for position in batch.spans["audio"][0]]
    for place, token in enumerate(audio):
        windows = weights[token].nonzero()[:, 0].tolist()
        covered = {
            round(second / 0.34) for on, off in clock.intervals(place) for second in np.arange(on, off - 0.1, 0.34)
        }
        assert covered == set(windows)
    assert "tokens of a long clip are merged" in clock.why
    assert "♪ 0.00 s" in " ".join(batch.tokens(0))
    (positions,) = select(batch, "audio[5.0:5.2]")
    heard = [batch.spans["audio"][0].index(position) for position in positions]
    assert heard == [i for i in range(clock.n_tokens) if any(on < 5.2 and off > 5.0 for on, off in clock.intervals(i))]


def test_which_windows_are_merged_is_the_same_in_a_batch_and_alone_and_stays_under_edits(timeaudio):
    pair = [question(11.0), question(11.0, audio=clip(11.0, seed=3))]
    together = ma.prompt(timeaudio, pair).inputs["audio_merging"]
    for row, single in enumerate(pair):
        assert torch.equal(together[row], ma.prompt(timeaudio, [single]).inputs["audio_merging"][0])
    batch = ma.prompt(timeaudio, pair[:1])
    edit = ma.Edit(ma.HookPoint("beats.resid_post", layers=[0]), lambda value: value.flip(-1))
    assert not torch.equal(ma.run(timeaudio, batch, interventions=[edit]).logits, ma.run(timeaudio, batch).logits)


def test_a_short_clip_beside_a_merged_one_keeps_its_tokens(timeaudio):
    pair = [question(2.0), question(11.0)]
    batch = ma.prompt(timeaudio, pair)
    short = batch.inputs["audio_merging"][0]
    assert torch.equal(short[:11, :11], torch.eye(11))
    assert short.sum() == 11
    assert [clock.contiguous for clock in batch.clock] == [True, False]
    alone = ma.prompt(timeaudio, pair[:1])
    assert "audio_merging" not in alone.inputs, "nothing is merged, and nothing was worked out"
    with pytest.warns(UserWarning, match="groups of rows"):
        together = ma.run(timeaudio, batch, logits="last").logits
    torch.testing.assert_close(together[0], ma.run(timeaudio, alone, logits="last").logits[0], atol=1e-4, rtol=1e-4)
    plain = {name: value for name, value in batch.inputs.items() if name != "audio_merging"}
    assert torch.equal(ma.models.as_batch(timeaudio, plain).inputs["audio_merging"], batch.inputs["audio_merging"])


def test_plain_inputs_of_a_long_clip_get_their_merging_too(timeaudio):
    made = ma.prompt(timeaudio, [question(11.0)])
    plain = {name: value for name, value in made.inputs.items() if name != "audio_merging"}
    again = ma.models.as_batch(timeaudio, plain)
    assert torch.equal(again.inputs["audio_merging"], made.inputs["audio_merging"])
    assert again.clock[0].intervals(0) == made.clock[0].intervals(0)
    with torch.no_grad():
        logits = timeaudio.network(**plain, use_cache=False).logits
    torch.testing.assert_close(ma.run(timeaudio, made).logits, logits, atol=1e-5, rtol=1e-5)


def test_no_analysis_invents_a_time_for_merged_tokens(timeaudio):
    event = ma.Event("dog", 1.0, 2.0)
    batch = ma.prompt(timeaudio, [question(11.0, events=(event,))])
    measured = ma.analyses.audio_attention(timeaudio, batch)
    np.testing.assert_allclose(measured.mass.sum(-1), np.ones((1, 3, 4)), atol=1e-5)
    assert np.isnan(measured.peak).all()
    assert np.isnan(measured.edges).all()
    for ask in (
        measured.per_second,
        measured.inside_events,
        lambda: ma.viz.attention_over_time(measured),
        lambda: ma.analyses.direct_logit_attribution(timeaudio, batch).per_second(0),
        lambda: token_middles(batch),
        lambda: ma.analyses.encoder_probes(timeaudio, batch.questions),
    ):
        with pytest.raises(ValueError, match=r"several stretches|follow one another in time"):
            ask()
    with pytest.raises(ValueError, match=r"hear (different moments|other stretches)"):
        other = ma.prompt(timeaudio, [question(11.0, audio=clip(11.0, seed=3))])
        ma.analyses.activation_patching(timeaudio, batch, corrupted=other, over=("layer", "role"))


def test_times_move_the_tokens_and_none_at_zero(timeaudio):
    batch = ma.prompt(timeaudio, [question(3.0)])
    clean = ma.run(timeaudio, batch).logits
    table = timeaudio.network.abs_time_position_embedding
    kept = table.data.clone()
    try:
        table.data.zero_()
        without = ma.run(timeaudio, batch).logits
        timeaudio.network.config.time_encoding = None
        assert torch.equal(ma.run(timeaudio, batch).logits, without), "zeros add nothing, to the last bit"
    finally:
        table.data.copy_(kept)
        timeaudio.network.config.time_encoding = "released"
    assert not torch.allclose(clean, without, atol=1e-3)


def test_four_beams_write_what_plain_generation_writes_and_one_beam_as_well(model):
    batch = ma.prompt(model, [question(2.0, text="Which?"), question(2.0, text="What comes first, and what then?")])
    with torch.no_grad():
        beams = model.network.generate(**batch.inputs, num_beams=4, do_sample=False, max_new_tokens=5)
        plain = model.network.generate(**batch.inputs, do_sample=False, max_new_tokens=5)
    n = batch.n_positions
    assert beams.shape[1] > n
    assert torch.equal(ma.generate(model, batch, max_new_tokens=5).tokens, plain[:, n:])
    for row in (0, 1):
        own = ma.prompt(model, [batch.questions[row]])
        with torch.no_grad():
            alone = model.network.generate(**own.inputs, num_beams=4, do_sample=False, max_new_tokens=5)
        assert torch.equal(alone[0, own.n_positions :], beams[row, n : n + alone.shape[1] - own.n_positions])


def test_inputs_of_the_network_alone_are_enough(model):
    inputs = model_inputs(model.adapter.family)
    assert ma.run(model, inputs).logits.isfinite().all()

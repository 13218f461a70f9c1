"""The toy does what its arithmetic says, and each planted part is where `PLANTED` says."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pointbiserialr

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.data.toy_questions import AMPLITUDE, BURST, SAMPLE_RATE, SECONDS, VOICES, ask, questions, sung
from mechaudio.models.toy import arithmetic, tower
from mechaudio.models.toy.features import DECODER, PAIRS
from mechaudio.models.toy.language import VOCABULARY
from mechaudio.models.toy.network import build_network
from mechaudio.models.toy.planted import BY_LISTENER, PLANTED, PRIOR

TOLERANCE = {"rtol": 0, "atol": 5e-5}
LAYER, HEAD = PLANTED.listening
EXAMPLE = ask([sung("tenor", 1), sung("alto", 3)], list(VOICES))
ANOTHER = ask([sung("soprano", 0), sung("bass", 2)], list(VOICES))
OTHERS = [head for head in PLANTED.heads if head != PLANTED.listening]


@pytest.fixture(scope="module")
def asked():
    return questions(100, seed=0)


@pytest.fixture(scope="module")
def batch(toy, asked):
    return ma.prompt(toy, asked)


@pytest.fixture(scope="module")
def masses(toy, batch):
    return audio_mass(toy, batch)


@pytest.fixture(scope="module")
def answers(toy, batch):
    return ma.answer(toy, batch)


def letter_logits(model, batch, *interventions):
    return torch.tensor([answered.choice_logits for answered in ma.answer(model, batch, interventions=interventions)])


def by_hand(asked, *given, **how):
    return torch.tensor([arithmetic.logits(question, *given, **how) for question in asked])


def deaf(layer, head):
    """The last position's attention to the audio knocked out in one head."""
    return ma.KnockOutAttention(layers=[layer], heads=[head])


def scaled(factor, bias=0.0):
    at = {"layers": [LAYER], "heads": [HEAD]}
    return ma.ScaleAttention(factor, **at), ma.UpweightAttention(bias, **at)


def audio_mass(model, batch):
    """Attention of the last position on the audio, [question, layer, head]."""
    out = ma.run(model, batch, record=["mass"], logits=None)
    return torch.stack([out.cache["mass", layer][:, :, -1, 0] for layer in range(PLANTED.n_layers)], 1)


def z_at_last(model, batch, layer):
    point = ma.HookPoint("z", layers=[layer], positions="last")
    return ma.run(model, batch, record=[point], logits=None).cache["z", layer]


def z_put_back(clean, layer, head):
    return ma.Patch("z", clean, layer, heads=[head], positions="last")


# The arithmetic


@pytest.mark.parametrize("condition", ["audio", "caption", "audio+caption", "silence"])
@pytest.mark.parametrize("how", [{}, {"n_choices": 2}, {"n_choices": 3}, {"conflict": True}])
def test_the_arithmetic_gives_the_logits(toy, condition, how):
    some = questions(8, seed=3, **how)
    found = letter_logits(toy, ma.prompt(toy, some, condition=condition))
    worth = 4 / len(some[0].choices)  # of a unit of evidence, in units of what it is worth with four choices
    torch.testing.assert_close(found, by_hand(some, condition), rtol=0, atol=worth * 5e-5)


def test_in_float64_what_is_left_is_the_part_of_the_norms_that_depends_on_the_voices(asked):
    precise = ma.load("toy", dtype=torch.float64, prove=False)
    batch = ma.prompt(precise, asked[:30])
    logits = ma.run(precise, batch, logits="last").logits[:, -1].double()
    found = torch.stack([row[list(ids)] for row, ids in zip(logits, batch.choice_ids, strict=True)])
    assert (found - by_hand(asked[:30])).abs().max() < 5e-6


def test_the_arithmetic_gives_the_listening_heads_attention(asked, masses):
    share = masses[:, LAYER, HEAD]
    torch.testing.assert_close(share, torch.tensor([arithmetic.listen(q).mass for q in asked]), **TOLERANCE)


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.1, 2.0, 3.0])
def test_scaling_its_scores_does_what_the_arithmetic_says(toy, asked, factor):
    batch = ma.prompt(toy, asked[:8])
    found = letter_logits(toy, batch, *scaled(factor))
    torch.testing.assert_close(found, by_hand(asked[:8], factor=factor), rtol=0, atol=max(1, factor) * 5e-5)


@pytest.mark.parametrize("bias", [-3.0, 1.0, 2.5])
def test_adding_to_its_scores_does_what_the_arithmetic_says(toy, asked, bias):
    batch = ma.prompt(toy, asked[:8])
    found = letter_logits(toy, batch, *scaled(1.0, bias))
    torch.testing.assert_close(found, by_hand(asked[:8], bias=bias), **TOLERANCE)


def test_a_factor_of_one_is_exact(toy, asked):
    batch = ma.prompt(toy, asked[:20])
    assert torch.equal(letter_logits(toy, batch, *scaled(1.0)), letter_logits(toy, batch))


def test_three_seconds_of_the_softmax_on_paper():
    """Tenor from 1.28 s, alto from 3.28 s, 0 dB: 12 - 1.5 and 12 - 4.5 against 8."""
    sung_weights = 10 * math.exp(10.5) + 10 * math.exp(7.5)
    silent = 25 + 15 * math.exp(-1.5) + 25 * math.exp(-3) + 15 * math.exp(-4.5)
    total = sung_weights + silent + math.exp(8)
    heard = arithmetic.listen(EXAMPLE)
    assert heard.mass == pytest.approx((sung_weights + silent) / total, abs=1e-12)
    assert heard.evidence["tenor"] == pytest.approx(10 * math.exp(10.5) / total, abs=1e-12)
    assert heard.evidence["alto"] == pytest.approx(10 * math.exp(7.5) / total, abs=1e-12)
    assert arithmetic.logits(EXAMPLE)[1] == pytest.approx(4 * heard.evidence["tenor"], abs=1e-12)


def test_the_arithmetic_refuses_what_it_was_not_worked_out_for():
    with pytest.raises(ValueError, match="does not say the level"):
        arithmetic.listen(ma.AudioQuestion(None, "?", ("bass", "alto")))
    with pytest.raises(ValueError, match=r"within a token of 0\.04 s"):
        arithmetic.listen(ask([ma.audio.events.Event("bass", 0.1, 0.5)], ["bass", "alto"]))


# From sound to tokens


def strengths(model, some):
    out = ma.run(model, ma.prompt(model, some), record=["projector_out"], logits=None).cache["projector_out"]
    return out[..., [DECODER[f"tone:{voice}"] for voice in VOICES]]


@pytest.mark.parametrize("level", [0.0, -10.0, -20.0, -30.0, -39.0, -60.0])
def test_a_token_tells_which_voice_sings_in_it_and_how_strongly(toy, level):
    loud = ask([sung("tenor", 1), sung("alto", 3)], list(VOICES), level)
    expected = torch.zeros(25 * SECONDS, len(VOICES))
    expected[25 + 7 : 25 + 17, 1] = expected[75 + 7 : 75 + 17, 2] = arithmetic.strength(level)
    torch.testing.assert_close(strengths(toy, [loud])[0], expected, **TOLERANCE)


def test_ten_tokens_sing_in_a_second(toy):
    clock = ma.prompt(toy, [EXAMPLE]).clock[0]
    assert clock.seconds(25 + 7)[0] == pytest.approx(1 + BURST[0])
    assert clock.seconds(25 + 16)[1] == pytest.approx(1 + BURST[1])


def test_strength_is_a_straight_line_in_decibels_but_for_the_corner():
    for tenths in range(-800, 201):
        level = tenths / 10
        missing = max(0, 1 + level / 40) - arithmetic.strength(level)
        assert -1e-12 < missing < (3e-3 if -43 < level < -37 else 1e-6)
    assert arithmetic.strength(-40.5) < arithmetic.strength(-39.5) - 0.005


def test_the_band_of_a_voice_has_the_feature_that_its_amplitude_gives(toy):
    extractor = toy.processor.feature_extractor
    for voice, (band, loud) in tower.voice_bands(extractor.mel_filters).items():
        wave = AMPLITUDE * np.sin(2 * np.pi * VOICES[voice] * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
        mel = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0]
        assert mel[band, 10:90] == pytest.approx(loud, abs=1e-6)
        assert mel[:, 10:90].mean(1).argmax() == band


def test_a_token_hears_nothing_but_the_middle_25_ms_of_its_own_40(toy):
    time = np.arange(SECONDS * SAMPLE_RATE) % (SAMPLE_RATE // 25) / SAMPLE_RATE
    outside = (time < 0.0075) | (time > 0.0325)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(time)) * outside
    clip = EXAMPLE.clip()
    noisy = ma.AudioQuestion(ma.AudioClip(clip.waveform + noise, SAMPLE_RATE), EXAMPLE.text, EXAMPLE.choices)
    torch.testing.assert_close(strengths(toy, [noisy]), strengths(toy, [EXAMPLE]), **TOLERANCE)


def test_both_frames_of_a_token_look_at_its_second_frame(toy):
    layer, head = PLANTED.joining
    out = ma.run(toy, ma.prompt(toy, [EXAMPLE]), record=["audio.pattern"], logits=None)
    frames = torch.arange(2 * 25 * SECONDS)
    expected = torch.nn.functional.one_hot(2 * (frames // 2) + 1).float()
    torch.testing.assert_close(out.cache["audio.pattern", layer][0, head], expected, **TOLERANCE)


# Norms and positions


def test_norms_leave_the_residual_stream_as_it_is(toy, asked):
    out = ma.run(toy, ma.prompt(toy, asked[:8]), record=["resid_post", "final_norm"])
    before, after = out.cache["resid_post", -1][:, -1], out.cache["final_norm"][:, -1]
    small = [index for name, index in DECODER.items() if name != "carrier"]
    torch.testing.assert_close(after[:, small], before[:, small], rtol=1e-6, atol=1e-7)


def test_attention_does_not_depend_on_how_far_away_the_audio_is(toy):
    near, far = (ma.prompt(toy, [EXAMPLE], condition=condition) for condition in ("audio", "audio+caption"))
    assert far.n_positions > near.n_positions
    masses = [audio_mass(toy, batch)[0, LAYER, HEAD] for batch in (near, far)]
    torch.testing.assert_close(*masses, **TOLERANCE)


def test_padding_changes_nothing(toy):
    two, four = questions(1, seed=5, n_choices=2)[0], EXAMPLE
    together = letter_logits(toy, ma.prompt(toy, [ask(two.events, ["bass", "alto", *two.choices])]))
    assert together.shape == (1, 4)
    rows = ma.answer(toy, ma.prompt(toy, [two, four]))
    for row, question in zip(rows, (two, four), strict=True):
        (alone,) = ma.answer(toy, ma.prompt(toy, [question]))
        assert row.choice_logits == pytest.approx(alone.choice_logits, abs=1e-5)


def test_a_coordinate_of_a_head_turns_by_a_power_of_ten_per_position(toy):
    turns = toy.network.model.language_model.rotary_emb.inv_freq
    torch.testing.assert_close(turns, 10.0 ** -torch.arange(8), rtol=1e-5, atol=0)
    longest = toy.network.config.text_config.max_position_embeddings
    assert 1 - math.cos(longest * float(turns[7])) < 2e-9


def test_what_the_carrier_leaves_over_is_as_little_as_the_page_says(toy, asked):
    out = ma.run(toy, ma.prompt(toy, asked[:8]), record=["resid_post"], logits=None)
    resid = out.cache["resid_post", -1][:, -1].double()
    small = [index for name, index in DECODER.items() if name != "carrier"]
    assert ((resid[:, small] ** 2).sum(-1) / (2 * resid[:, DECODER["carrier"]] ** 2)).max() < 1e-7
    assert 4 / (4 * tower.CARRIER**2) < 5e-7  # strength 1: a tone and a heard feature, each with its negative


# The planted heads


def test_only_the_listening_heads_audio_matters(toy, asked):
    batch = ma.prompt(toy, asked[:6])
    clean = letter_logits(toy, batch)
    deafened = letter_logits(toy, batch, deaf(LAYER, HEAD))
    torch.testing.assert_close(deafened, by_hand(asked[:6], deaf=True), **TOLERANCE)
    torch.testing.assert_close(deafened, torch.tensor(PRIOR).expand(6, -1), **TOLERANCE)
    assert (deafened - clean).abs().max() > 1
    for layer, head in OTHERS:
        torch.testing.assert_close(letter_logits(toy, batch, deaf(layer, head)), clean, **TOLERANCE)


@pytest.mark.parametrize("spoiled", ["silence", "another sound"])
def test_the_listening_heads_output_alone_restores_the_answer(toy, spoiled):
    clean = ma.prompt(toy, [EXAMPLE])
    if spoiled == "silence":
        corrupted = ma.prompt(toy, [EXAMPLE], condition="silence")
    else:
        corrupted = ma.prompt(toy, [ANOTHER])
        assert ANOTHER.text == EXAMPLE.text
        assert ANOTHER.choices == EXAMPLE.choices
    right, wrong = letter_logits(toy, clean), letter_logits(toy, corrupted)
    assert right.argmax() != wrong.argmax()
    for layer, head in PLANTED.heads:
        patched = letter_logits(toy, corrupted, z_put_back(z_at_last(toy, clean, layer), layer, head))
        if (layer, head) == PLANTED.listening:
            torch.testing.assert_close(patched, right, **TOLERANCE)
        else:
            torch.testing.assert_close(patched, wrong, **TOLERANCE)


def test_the_answer_is_at_the_last_position_from_the_listening_layer_on(toy):
    clean, corrupted = (ma.prompt(toy, [EXAMPLE], condition=condition) for condition in ("audio", "silence"))
    points = [ma.HookPoint("resid_post", layers=[layer], positions="last") for layer in range(PLANTED.n_layers)]
    kept = ma.run(toy, clean, record=points, logits=None).cache
    for layer, point in enumerate(points):
        value = kept["resid_post", layer]
        found = letter_logits(toy, corrupted, ma.Edit(point, lambda _, value=value: value))
        expected = letter_logits(toy, clean if layer >= LAYER else corrupted)
        torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("level", [0.0, -15.0])
def test_patching_second_by_second_finds_the_second_that_was_planted(toy, level):
    question = ask(EXAMPLE.events, EXAMPLE.choices, level)
    clean, corrupted = (ma.prompt(toy, [question], condition=condition) for condition in ("audio", "silence"))
    heard = ma.run(toy, clean, record=["projector_out"], logits=None).cache["projector_out"]
    gained = []
    for second in range(SECONDS):
        tokens = slice(25 * second, 25 * (second + 1))

        def patch(silent, tokens=tokens):
            changed = silent.clone()
            changed[:, tokens] = heard[:, tokens]
            return changed

        found = letter_logits(toy, corrupted, ma.Edit(ma.HookPoint("projector_out"), patch))
        torch.testing.assert_close(found, by_hand([question], seconds=[second]), **TOLERANCE)
        gained.append(float(found[0, question.choices.index(question.answer)]))
    assert int(np.argmax(gained)) == question.meta["second"] == 1
    assert gained[1] > 0.9
    assert gained[0::2] == pytest.approx([0, 0], abs=1e-5)


def test_inert_heads_may_put_out_anything(toy):
    batch = ma.prompt(toy, [EXAMPLE, ANOTHER])
    clean = ma.run(toy, batch).logits
    for layer in range(PLANTED.n_layers):
        idle = [head for head in range(PLANTED.n_heads) if (layer, head) in PLANTED.inert]

        def overwrite(z, idle=idle):
            changed = z.clone()
            changed[:, :, idle] = torch.randn(z[:, :, idle].shape, generator=torch.Generator().manual_seed(0))
            return changed

        assert torch.equal(
            ma.run(toy, batch, interventions=[ma.Edit(ma.HookPoint("z", [layer]), overwrite)]).logits, clean
        )


def test_the_inert_layer_adds_nothing_though_its_heads_look_and_tell(toy):
    layer = PLANTED.inert_layer
    out = ma.run(toy, ma.prompt(toy, [EXAMPLE]), record=["attn_out", "mlp_out", "z", "pattern"], logits=None)
    assert not out.cache["attn_out", layer].any()
    assert not out.cache["mlp_out", layer].any()
    assert out.cache["z", layer].abs().max() > 0.5
    last = out.cache["pattern", layer][0, :, -1]
    assert len({tuple(row.round(decimals=3).tolist()) for row in last}) == PLANTED.n_heads


def test_the_decoy_looks_at_the_audio_more_than_any_other_head(masses):
    mass = masses.mean(0)
    layer, head = PLANTED.decoy
    assert mass[layer, head] == pytest.approx(0.9, abs=0.01)
    assert mass[layer, head] == mass.max()
    assert mass[LAYER, HEAD] < 0.7


def test_a_name_looks_at_the_letter_before_it_and_the_last_position_at_the_names(toy):
    batch = ma.prompt(toy, [EXAMPLE])
    tokens = batch.tokens(0)
    places = [tokens.index(voice) for voice in EXAMPLE.choices]
    out = ma.run(toy, batch, record=["pattern", "resid_post"], logits=None)
    for voice, place in zip(EXAMPLE.choices, places, strict=True):
        assert out.cache["pattern", PLANTED.binding[0]][0, PLANTED.binding[1], place, place - 2] == pytest.approx(1)
        pairs = {pair: float(out.cache["resid_post", 0][0, place, DECODER[f"pair:{pair}"]]) for pair in PAIRS}
        letter = EXAMPLE.letters[EXAMPLE.choices.index(voice)]
        assert pairs == pytest.approx({pair: float(pair == f"{letter}={voice}") for pair in PAIRS}, abs=1e-6)
    row = out.cache["pattern", PLANTED.collecting[0]][0, PLANTED.collecting[1], -1]
    assert row[places].tolist() == pytest.approx([0.25] * 4, abs=1e-6)


# Sound and caption


def test_sound_and_caption_add_up(toy):
    some = questions(30, seed=6, conflict=True)
    both, heard, told = (
        letter_logits(toy, ma.prompt(toy, some, condition=condition))
        for condition in ("audio+caption", "audio", "caption")
    )
    torch.testing.assert_close(both, heard + told - torch.tensor(PRIOR), **TOLERANCE)


def test_in_a_conflict_loud_sound_wins_and_faint_sound_loses(toy):
    for level, listens in ((-5.0, True), (-25.0, False)):
        some = questions(20, seed=7, level=(level, level), conflict=True)
        for question, answered in zip(
            some, ma.answer(toy, ma.prompt(toy, some, condition="audio+caption")), strict=True
        ):
            assert answered.choice != question.answer or listens
            assert answered.choice in (question.answer, question.caption.split()[0])


def test_only_the_reading_head_carries_the_caption(toy):
    some = questions(4, seed=8)
    clean, corrupted = (ma.prompt(toy, some, condition=condition) for condition in ("caption", "audio"))
    layer, head = PLANTED.reading
    z = z_at_last(toy, clean, layer)
    silent = letter_logits(toy, ma.prompt(toy, some, condition="silence"), z_put_back(z, layer, head))
    torch.testing.assert_close(silent, letter_logits(toy, clean), **TOLERANCE)
    moved = letter_logits(toy, corrupted, z_put_back(z, layer, head)) - letter_logits(toy, corrupted)
    torch.testing.assert_close(moved, letter_logits(toy, clean) - torch.tensor(PRIOR), **TOLERANCE)


def test_steering_along_the_evidence_for_a_voice_adds_its_weight(toy):
    batch = ma.prompt(toy, [EXAMPLE])
    direction = torch.zeros(toy.d_model)
    direction[DECODER["evidence:soprano"]] = 1
    point = ma.HookPoint("resid_post", layers=[PLANTED.inert_layer], positions="last")
    moved = letter_logits(toy, batch, ma.Edit(point, lambda resid: resid + 0.5 * direction)) - letter_logits(toy, batch)
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0.0, 0.0, 2.0]]), **TOLERANCE)


def test_a_voices_name_has_its_evidence_for_a_logit(toy):
    logits = ma.run(toy, ma.prompt(toy, [EXAMPLE]), logits="last").logits[0, -1]
    for voice, evidence in arithmetic.listen(EXAMPLE).evidence.items():
        assert float(logits[VOCABULARY[voice]]) == pytest.approx(evidence, abs=1e-5)


# What methods have to find over many questions


def test_it_is_right_and_wrong_and_audio_attention_tells_which(answers, masses):
    right = np.array([answered.correct for answered in answers])
    assert 0.5 < right.mean() < 0.85
    mass = masses.numpy()
    assert pointbiserialr(right, mass[:, LAYER, HEAD])[0] > 0.6
    assert abs(pointbiserialr(right, mass[(slice(None), *PLANTED.decoy)])[0]) < 0.3
    for layer, head in OTHERS:
        if (layer, head) != PLANTED.decoy:
            assert np.ptp(mass[:, layer, head]) < 1e-5


def test_what_it_gets_wrong_it_answers_with_a(answers):
    wrong = [answered for answered in answers if not answered.correct]
    assert {answered.letter for answered in wrong} == {"A"}


def test_listening_harder_fixes_some_and_breaks_none(toy, batch, answers):
    harder = ma.answer(toy, batch, interventions=scaled(2.0))
    before, after = (np.array([answered.correct for answered in each]) for each in (answers, harder))
    assert (after & ~before).sum() >= 5
    assert not (before & ~after).any()


# As any model


def test_it_writes_the_letter_and_stops(toy):
    out = ma.generate(toy, ma.prompt(toy, [EXAMPLE, ANOTHER]), max_new_tokens=5)
    assert out.texts == ("B", "D")
    assert out.tokens.tolist() == [[VOCABULARY[letter], VOCABULARY["<|im_end|>"]] for letter in "BD"]


def test_the_command_line_takes_it(capsys, tmp_path):
    EXAMPLE.clip().save(tmp_path / "clip.wav")
    asking = ["listen", str(tmp_path / "clip.wav"), "--question", EXAMPLE.text, "--choices", *EXAMPLE.choices]
    assert main([*asking, "--model", "toy", "--out", str(tmp_path / "page")]) == 0
    assert "→ B" in capsys.readouterr().out


def test_every_load_gives_the_same_weights_and_leaves_the_generator_of_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = build_network().state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = build_network().state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_loading_refuses_what_makes_no_sense_for_it():
    with pytest.raises(ValueError, match="no checkpoint: it takes dtype=, device= and prove=, not revision"):
        ma.load("toy", revision="main")
    with pytest.raises(ValueError, match=r"float32 and torch\.float64, got torch\.bfloat16"):
        ma.load("toy", dtype=torch.bfloat16)
    assert ma.load("toy", device="cpu", prove=False).checkpoint == "toy"


# The toys in which other rows listen


@pytest.fixture(scope="module", params=["question", "choices"])
def other(request):
    return ma.load("toy", listens=request.param)  # every hook point of it is proven


@pytest.mark.parametrize("condition", ["audio", "caption", "audio+caption"])
def test_the_arithmetic_gives_the_logits_wherever_the_toy_listens(other, condition):
    some = questions(12, seed=3)
    found = letter_logits(other, ma.prompt(other, some, condition=condition))
    torch.testing.assert_close(found, by_hand(some, condition), **TOLERANCE)


def test_only_the_head_that_listens_hears_and_only_at_its_rows(other):
    some, listens = questions(6, seed=3), other.checkpoint.split()[1]
    batch = ma.prompt(other, some)
    truth = BY_LISTENER[listens]
    assert truth.listens == listens
    for layer, head in truth.heads:
        cut = ma.KnockOutAttention(layers=[layer], heads=[head], queries=listens)
        deaf = (layer, head) == truth.listening
        torch.testing.assert_close(letter_logits(other, batch, cut), by_hand(some, deaf=deaf), **TOLERANCE)
    torch.testing.assert_close(letter_logits(other, batch, ma.KnockOutAttention()), by_hand(some), **TOLERANCE)


def test_the_handing_head_takes_it_to_the_last_row(other):
    some, listens = questions(6, seed=3), other.checkpoint.split()[1]
    layer, head = BY_LISTENER[listens].handing
    cut = ma.KnockOutAttention(layers=[layer], heads=[head], keys=listens)
    torch.testing.assert_close(
        letter_logits(other, ma.prompt(other, some), cut), by_hand(some, deaf=True), rtol=0, atol=1e-4
    )


def test_rows_that_no_toy_listens_in_and_other_models_are_refused():
    with pytest.raises(ValueError, match="listens= is one of 'last', 'question', 'choices'; got 'caption'"):
        ma.load("toy", listens="caption")
    with pytest.raises(TypeError, match="listens= says where the 'toy' listens, and 'tiny' is another model"):
        ma.load("tiny", listens="last")

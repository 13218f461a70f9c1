"""Towers in which the padding of one clip changes another: a batch comes out as its rows are alone all the same."""

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.inputs import as_batch
from mechaudio.models.registry import ADAPTERS, adapter_for
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.join import join_rows
from tests.families import ASKED, FAMILIES, model_inputs, network, noise, processor, thinned

LEAKING = [adapter.family for adapter in ADAPTERS if adapter.leaks_padding and adapter.family in FAMILIES]
#: Some towers leak where eight divides the frames (56), or where sixteen divides all but one (65).
SECONDS = (0.56, 2.4, 0.56, 0.68)
DECODER = ["resid_post", "pattern", "z", "final_norm", "embed"]
TOWER = ["audio.resid_post", "audio.pattern", "audio.k", "projector_out"]


def seconds_of(adapter):
    """Lengths of the rows' clips; longer where clips of less than a second are filled up to one and are all alike."""
    return SECONDS if adapter.cuts_padding else tuple(1.0 + length for length in SECONDS)


def questions(seconds):
    return [
        ma.AudioQuestion(ma.AudioClip(noise(length, seed=row), 16_000), text, ("dog", "rain"), id=str(row))
        for row, (length, text) in enumerate(zip(seconds, ("Which?", "Which is first?", "What?", "And?"), strict=True))
    ]


@pytest.fixture(scope="module", params=thinned(LEAKING))
def model(request):
    return AudioLM(network(request.param), processor(request.param), prove=False)


def made(model, rows=(0, 1, 2, 3)):
    """A batch of some of the rows: from questions, or from inputs where the class takes none."""
    if model.adapter.family in ASKED:
        return ma.prompt(model, [questions(seconds_of(model.adapter))[row] for row in rows])
    whole = as_batch(model, model_inputs(model.adapter.family, seconds=SECONDS, words=(9, 5, 7, 6)))
    if len(rows) == len(SECONDS):
        return whole
    part = part_of(model.adapter, whole, list(rows)).inputs
    width = int(part["attention_mask"].sum(-1).max())
    texts = {name: part[name][:, -width:] for name in ("input_ids", "attention_mask")}
    return as_batch(model, {**part, **texts})


@pytest.fixture(scope="module")
def batch(model):
    return made(model)


def test_the_padding_does_leak(model, batch):
    with torch.no_grad():
        together = model.network(**batch.inputs).logits[:, -1]
        alone = torch.stack([model.network(**made(model, [row]).inputs).logits[0, -1] for row in range(len(SECONDS))])
    assert (together - alone).abs().max() > 1e-3, "nothing leaks: this class needs no leaks_padding"


def test_clips_that_leave_each_other_alone_run_together_without_a_word(model, batch):
    assert padding_groups(model.adapter, batch) == [[0, 2], [1], [3]]
    same = made(model, [0, 2])
    assert padding_groups(model.adapter, same) == [[0, 1]]
    ma.run(model, same)


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_a_batched_run_is_what_the_rows_are_alone(model, batch):
    has = {site.name for site in model.site_map}
    tower = [name for name in TOWER if name in has]
    together = ma.run(model, batch, record=[*DECODER, *tower])
    packed, windows = model.adapter.encoder.layout == "packed", []
    for row in range(len(SECONDS)):
        single = ma.run(model, made(model, [row]), record=[*DECODER, *tower])
        n = single.logits.shape[1]
        torch.testing.assert_close(single.logits[0], together.logits[row, -n:], atol=5e-4, rtol=1e-3)
        for layer in range(model.n_layers):
            attends = ("z", layer) in single.cache
            for point in ("resid_post", "z") if attends else ("resid_post",):
                ours = together.cache[point, layer][row, -n:]
                torch.testing.assert_close(single.cache[point, layer][0], ours, atol=5e-4, rtol=1e-3)
            if attends:
                ours = together.cache["pattern", layer][row, :, -n:, -n:]
                torch.testing.assert_close(single.cache["pattern", layer][0], ours, atol=1e-4, rtol=1e-3)
        for point in ("final_norm", "embed"):
            torch.testing.assert_close(single.cache[point][0], together.cache[point][row, -n:], atol=5e-4, rtol=1e-3)
        heard = single.cache["projector_out"].shape[1]
        at = slice(sum(windows), sum(windows) + heard) if packed else slice(0, heard)
        clip = 0 if packed else row
        windows.append(heard)
        for point in {"audio.resid_post", "audio.k"} & has:
            ours = together.cache[point, -1][clip, at if packed else slice(0, single.cache[point, -1].shape[1])]
            torch.testing.assert_close(single.cache[point, -1][0], ours, atol=5e-4, rtol=1e-3)
        ours = together.cache["projector_out"][clip, at]
        torch.testing.assert_close(single.cache["projector_out"][0], ours, atol=5e-4, rtol=1e-3)
        if "audio.pattern" in has:
            frames = at if packed else slice(0, single.cache["audio.pattern", -1].shape[-1])
            ours = together.cache["audio.pattern", -1][clip, :, frames, frames]
            torch.testing.assert_close(single.cache["audio.pattern", -1][0], ours, atol=1e-4, rtol=1e-3)
    assert together.batch is batch
    assert together.tower_calls == 3


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_analyses_of_a_batch_are_those_of_its_rows_alone(model, batch):
    attention = ma.analyses.audio_attention(model, batch)
    mass = ma.analyses.attention_mass(model, batch)
    answers = ma.answer(model, batch) if batch.questions else ()
    for row in (1, 2):  # one that runs by itself, and one behind the first; runs are compared in all rows above
        alone = made(model, [row])
        for answer in answers[row : row + 1]:
            np.testing.assert_allclose(ma.answer(model, alone)[0].choice_logits, answer.choice_logits, atol=5e-4)
        single = ma.analyses.audio_attention(model, alone)
        np.testing.assert_allclose(single.mass[0], attention.mass[row], atol=1e-4)
        heard = int(single.n_tokens[0])
        np.testing.assert_allclose(single.over_time[0], attention.over_time[row][..., :heard], atol=1e-4)
        shares = ma.analyses.attention_mass(model, alone).mass[0]
        np.testing.assert_allclose(shares, mass.mass[row][:, :, -shares.shape[2] :], atol=1e-4)


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_positions_given_per_prompt_stay_with_their_prompts(model, batch):
    rows = [[-1], [-2], [-3], [-4]]
    wanted = [ma.HookPoint("pattern", queries=rows), ma.HookPoint("resid_post", positions=rows)]
    out = ma.run(model, batch, record=wanted)
    whole = ma.run(model, batch, record=["pattern", "resid_post"])
    for row, (position,) in enumerate(rows):
        torch.testing.assert_close(out.cache["pattern", 0][row, :, 0], whole.cache["pattern", 0][row, :, position])
        torch.testing.assert_close(out.cache["resid_post", 1][row, 0], whole.cache["resid_post", 1][row, position])
    silenced = ma.Edit(ma.HookPoint("pattern", layers=[0], queries=rows), torch.zeros_like)
    edited = ma.run(
        model, batch, record=[ma.HookPoint("pattern", layers=[0], queries=rows), "z"], interventions=[silenced]
    )
    assert edited.cache["pattern", 0].abs().max() == 0
    for row, (position,) in enumerate(rows):
        assert edited.cache["z", 0][row, position].abs().max() == 0
        assert edited.cache["z", 0][row, position - 1].abs().max() > 0


def test_one_warning_says_why_rows_run_apart(model, batch):
    message = rf"clips of different lengths, and in {model.adapter.network_class} .*they run in 3 groups of rows"
    with pytest.warns(UserWarning, match=message) as caught:
        ma.run(model, batch)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="groups of rows"):
        ma.generate(model, batch, max_new_tokens=1)
    with pytest.warns(UserWarning, match=r"trace them one by one, or use ma\.run"):
        ma.trace(model, batch)


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_an_edit_made_for_the_whole_batch_is_refused_where_rows_run_apart(model, batch):
    whole = ma.run(model, batch, record=["resid_post"]).cache["resid_post", 0]
    with pytest.raises(ValueError, match=r"an edit of blocks\.0\.resid_post made \[4, .*Rows whose padding would leak"):
        ma.run(model, batch, interventions=[ma.Edit(ma.HookPoint("resid_post", layers=[0]), lambda _: whole)])


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_a_long_clip_that_the_tower_cuts_into_pieces_is_put_back_beside_a_short_one():
    """Phi-4's tower hears 40 s at a time: a clip of 41 s is two pieces of 500 frames, one of 2.4 s a piece of 30."""
    model = AudioLM(network("phi4_multimodal"), processor("phi4_multimodal"), prove=False)
    clips = [ma.AudioClip(noise(length, seed=row), 16_000) for row, length in enumerate((2.4, 41.0))]
    asked = [ma.AudioQuestion(clip, "Which?", ("dog", "rain")) for clip in clips]
    names = ["audio.resid_post", "audio.pattern", "projector_out"]
    together = ma.run(model, ma.prompt(model, asked), record=names)
    for row, pieces, frames in ((0, 1, 30), (1, 2, 500)):
        single = ma.run(model, ma.prompt(model, [asked[row]]), record=names)
        n = single.logits.shape[1]
        torch.testing.assert_close(single.logits[0], together.logits[row, -n:], atol=5e-4, rtol=1e-3)
        resid = together.cache["audio.resid_post", 1].unflatten(0, (2, 2))[row]
        pattern = together.cache["audio.pattern", 1].unflatten(0, (2, 2))[row]
        ours = resid[:pieces, :frames], pattern[:pieces, :, :frames, :frames]
        for point, value in zip(names, ours, strict=False):
            torch.testing.assert_close(single.cache[point, 1], value, atol=5e-4, rtol=1e-3)
        assert resid[pieces:].abs().sum() == 0
        heard = single.cache["projector_out"].shape[1]
        ours = together.cache["projector_out"][row, :heard]
        torch.testing.assert_close(single.cache["projector_out"][0], ours, atol=5e-4, rtol=1e-3)


def test_the_mask_of_fun_asrs_projector_arrives_once_an_attention_implementation_is_set_by_name():
    plain = network("fun_asr_nano")
    inputs = model_inputs("fun_asr_nano", seconds=(2.3, 0.5))
    short = part_of(adapter_for(plain), as_batch(AudioLM(plain, prove=False), inputs), [1]).inputs
    leaked = {}
    for named in (False, True):
        if named:
            plain.set_attn_implementation("sdpa")
        with torch.no_grad():
            together, alone = plain(**inputs).logits[1, -1], plain(**short).logits[0, -1]
        leaked[named] = float((together - alone).abs().max())
    assert leaked[False] > 1e-2
    assert leaked[True] < 1e-4


def test_glm_asr_hears_each_clip_in_thirty_seconds_of_silence_whatever_is_in_the_batch():
    model = AudioLM(network("glmasr"), processor("glmasr"), prove=False)
    together = ma.run(model, ma.prompt(model, questions(SECONDS)), logits="last").logits
    for row, question in enumerate(questions(SECONDS)):
        alone = ma.run(model, ma.prompt(model, [question]), logits="last").logits
        torch.testing.assert_close(alone[0], together[row], atol=5e-4, rtol=1e-3)
    batch = ma.prompt(model, questions(SECONDS)[:1])
    cut = {"input_features": batch.inputs["input_features"][..., :56].contiguous()}
    mask = {"input_features_mask": batch.inputs["input_features_mask"][:, :56]}
    less_silence = ma.run(model, {**batch.inputs, **cut, **mask}, logits="last").logits
    assert (less_silence - together[0]).abs().max() > 1e-2


def test_rows_that_ran_apart_are_joined_in_the_type_of_the_first_group():
    whole = join_rows([torch.ones(2, 2), torch.full((1, 3), 2.0, dtype=torch.float64)], [[0, 2], [1]], filler=7)
    assert whole.dtype == torch.float32
    assert whole.tolist() == [[1, 1, 7], [2, 2, 2], [1, 1, 7]]

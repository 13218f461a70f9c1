"""What values show in a notebook: themselves, escaped, without a network, and no larger than said."""

import base64
import html
import io
import re
import zlib

import numpy as np
import pytest
import soundfile
import torch

import mechaudio as ma
from mechaudio.audio.player import LARGEST
from mechaudio.data.toy_questions import questions
from mechaudio.notebook import html_of

HOSTILE = "<script>alert('x')</script>\"&"


@pytest.fixture(scope="module")
def asked():
    return ma.data.soundscapes.questions(5, seed=11)


@pytest.fixture(scope="module")
def batch(tiny, asked):
    return ma.prompt(tiny, asked)


def text_of(page):
    """The words of a page, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def sound_in(page):
    wav = re.search(r'src="data:audio/wav;base64,([A-Za-z0-9+/=]+)"', page)
    return soundfile.read(io.BytesIO(base64.b64decode(wav[1])))


def test_a_question_shows_its_text_choices_player_events_and_spectrogram(asked):
    question = asked[0]
    page = question._repr_html_()
    words = text_of(page)
    assert question.text in words
    assert all(choice in words for choice in question.choices)
    assert f"{question.answer} ✓" in words
    samples, rate = sound_in(page)
    assert rate == 16_000
    np.testing.assert_allclose(samples, question.clip().waveform, atol=1e-4)
    places = re.findall(r'title="(\w+), ([\d.]+) to ([\d.]+) s" style="position:absolute;left:([\d.]+)%', page)
    assert [place[0] for place in places] == [event.label for event in question.events]
    for event, (_, onset, offset, left) in zip(question.events, places, strict=True):
        assert (float(onset), float(offset)) == (event.onset, event.offset)
        assert float(left) == pytest.approx(100 * event.onset / question.clip().duration, abs=0.01)


def test_the_spectrogram_is_a_picture_whose_loud_cells_are_opaque():
    rate = 16_000
    silence, tone = np.zeros(rate), 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    page = ma.AudioQuestion(audio=(np.concatenate([silence, tone]).astype(np.float32), rate), text="?")._repr_html_()
    picture = base64.b64decode(re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)[1])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(picture[start : start + 4], "big") for start in (16, 20))
    start = picture.index(b"IDAT")
    body = zlib.decompress(picture[start + 4 : start + 4 + int.from_bytes(picture[start - 4 : start], "big")])
    alpha = np.frombuffer(body, np.uint8).reshape(height, 1 + 2 * width)[:, 2::2]
    assert alpha[:, : width // 2 - 4].max() == 0
    assert alpha[:, width // 2 + 4 : -4].max(axis=0).min() > 200
    loudest_row = alpha.mean(axis=1).argmax()
    assert height * 0.5 < loudest_row < height * 0.75  # 1000 Hz, of bands from 8000 down to 0 evenly in mel


@pytest.mark.filterwarnings("ignore:the model has no token for")
def test_texts_of_others_only_show(tiny):
    question = ma.AudioQuestion(
        audio=ma.AudioClip(np.full(1600, 0.1), 16_000, HOSTILE),
        text=HOSTILE,
        choices=(HOSTILE, "<img src=x onerror=alert(1)>"),
        answer=HOSTILE,
        caption=HOSTILE,
        events=(ma.Event(HOSTILE, 0.0, 0.05),),
        id=HOSTILE,
        meta={HOSTILE: HOSTILE},
    )
    batch = ma.prompt(tiny, [question])
    evaluation = ma.evaluate(tiny, [question])
    for value in (question, batch, evaluation, ma.run(tiny, batch), ma.KnockOutAttention(keys=HOSTILE)):
        page = html_of(value)
        assert "overflow-wrap:anywhere" in page[: page.index(">")], "one long word would widen the page"
        tags = {tag.lower() for tag in re.findall(r"<\s*/?\s*([a-zA-Z]+)", page)}
        known = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "audio", "img"}
        assert tags <= known
        assert not re.search(r"<[^>]*\son\w+=", page)
        assert re.findall(r"<img[^>]*>", page) == re.findall(r'<img alt="log-mel spectrogram"[^>]*>', page)


def test_nothing_is_fetched_and_nothing_runs(tiny, asked, batch):
    values = (asked[0], batch, ma.run(tiny, batch, record=["z"]), ma.evaluate(tiny, asked), ma.KnockOutAttention())
    for value in values:
        page = value._repr_html_()
        assert "http" not in page
        assert "<script" not in page
        assert set(re.findall(r'(?:src|href)="([a-z]+:[a-z]+/[a-z]+)', page)) <= {"data:audio/wav", "data:image/png"}
        assert not re.search(r"(?<![-\w])color:\s*(#|black|white)", page), "letters keep the colour of the page"


def test_a_long_recording_is_played_in_part_and_says_so():
    rate, seconds = 44_100, 60
    clip = ma.AudioClip(0.1 * np.ones((2, rate * seconds), np.float32), rate)
    page = ma.AudioQuestion(audio=clip, text="?")._repr_html_()
    samples, played = sound_in(page)
    assert (played, samples.ndim) == (16_000, 1)
    assert 2 * len(samples) <= LARGEST
    assert "the first 31.2 s of 60.0 s can be played here" in text_of(page)
    assert "played in one channel at 16000 Hz" in text_of(page)
    assert len(page) < 1.5 * LARGEST
    short = ma.AudioClip(0.1 * np.ones((2, rate), np.float32), rate)
    assert sound_in(short._repr_html_())[0].shape == (rate, 2)


def test_a_recording_that_is_gone_leaves_the_question_with_a_word_on_it():
    question = ma.AudioQuestion(audio="/nowhere/clip.wav", text="Which?", choices=("dog", "car"))
    words = text_of(question._repr_html_())
    assert "Which?" in words
    assert "cannot be shown" in words
    assert "/nowhere/clip.wav" in words


def test_several_recordings_have_a_player_each():
    first, second = questions(2, seed=1)
    question = ma.AudioQuestion(audio=[first.clip(), second.clip()], text="Which is louder?")
    assert question._repr_html_().count("<audio") == 2


def test_a_batch_colours_its_spans_in_the_text(batch):
    page = batch._repr_html_()
    words = " ".join(text_of(page).split())
    assert "5 prompts" in words
    assert "and 2 more prompts" in words
    first = batch.spans
    stretches = re.findall(r'<span style="([^"]*)" title="(\w+): positions (\d+) to (\d+)">([^<]*)</span>', page)
    assert stretches
    for _, role, start, end, _ in stretches[:8]:
        assert set(range(int(start), int(end) + 1)) <= set(first[role][0])
    colours = {role: style.split(";")[0] for style, role, *_ in stretches}
    assert len(set(colours.values())) == len(colours) >= 4
    shown = {role: said for _, role, _, _, said in stretches[:8]}
    assert shown["audio"] == "♪ 250 audio tokens, 0.00 s to 9.96 s"
    assert html.unescape(shown["keyword"]).strip() in batch.questions[0].text


def test_plain_inputs_show_their_tokens_too(tiny, batch):
    run = ma.run(tiny, batch.inputs, logits="last")
    assert "5 prompts" in text_of(run.batch._repr_html_())


def test_a_run_says_what_was_recorded_and_answered(tiny, batch):
    run = ma.run(tiny, batch, record=["resid_post", ma.HookPoint("pattern", layers=[1, 3], queries="last")])
    words = " ".join(text_of(run._repr_html_()).split())
    assert "pattern 1, 3 [5, 8, 1, " in words
    assert "resid_post 0, 1, 2, 3, 4, 5 [5, " in words
    assert ma.answer(tiny, batch)[0].choice in words
    assert "6 tensors" in text_of(ma.run(tiny, batch, record=["resid_post"]).cache._repr_html_())


def test_an_evaluation_shows_its_score_by_task(tiny, asked):
    evaluation = ma.evaluate(tiny, asked)
    words = " ".join(text_of(evaluation._repr_html_()).split())
    score = evaluation.overall
    assert f"all {score.count} {score.n} {100 * score.value:.1f}" in words
    assert all(task in words for task in evaluation.by_task())


@pytest.mark.parametrize(
    ("intervention", "sentence"),
    [
        (
            ma.ScaleAttention(2.0, layers=[3]),
            "Multiplies the attention scores of audio by 2, for the last query, in layer 3",
        ),
        (
            ma.ScaleAttention(0.5, mode="centred", heads=[1, 4]),
            "Multiplies the attention scores of audio by 0.5 about their mean, for the last query, in every layer, "
            "heads 1, 4",
        ),
        (
            ma.UpweightAttention(1.0, layers=range(2, 5), queries=None),
            "Adds 1 to the attention scores of audio for every query, in layers 2 to 4",
        ),
        (
            ma.KnockOutAttention(keys="audio[1.0:2.5]", phase="prefill"),
            "Keeps audio[1.0:2.5] from being seen by the last query, in every layer, in the prompt alone",
        ),
        (
            ma.Steer(torch.ones(8), -2.0, layers=[1], positions=None),
            "Adds -2 times a direction to resid_post at every position, in layer 1",
        ),
        (
            ma.Steer(torch.ones(8), mode="project_out", keep_norm=True, layers=[1]),
            "Takes 1 of a direction out of resid_post at the last position, in layer 1, keeping its length",
        ),
        (
            ma.SteerHeads(torch.ones(2, 4), heads=[(1, 2), (3, 0)]),
            "Adds 1 times a direction to the outputs of heads 1.2, 3.0, at the last position",
        ),
        (
            ma.Patch("z", layer=1, value=torch.ones(1, 2), heads=[0], positions="last"),
            "Puts a value [1, 2] in the place of z of layer 1, head 0, at the last position",
        ),
        (
            ma.Edit(ma.HookPoint("resid_post", layers=[1]), torch.neg),
            "Replaces resid_post in layers 1 by what neg makes of it",
        ),
    ],
)
def test_an_intervention_is_a_sentence(intervention, sentence):
    assert str(intervention) == sentence
    words = text_of(intervention._repr_html_())
    assert f"{sentence}." in words
    assert repr(intervention)[:60] in words


def test_a_grid_lists_its_axes():
    words = " ".join(text_of(ma.grid(ma.ScaleAttention, layers=[0, 1], factor=[2.0, 3.0])._repr_html_()).split())
    assert "4 interventions" in words
    assert "layers 0, 1 factor 2.0, 3.0" in words


def test_what_is_not_known_here_shows_its_repr():
    assert html_of(3) is None
    assert ma.HookPoint("z")._repr_html_() is None

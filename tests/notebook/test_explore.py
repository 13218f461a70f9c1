"""`ma.explore` from Python: what the widget holds, and how it replies to the messages of its front end."""

import base64
import json
import re
import sys
import zlib

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.events import Event
from mechaudio.notebook.edits import as_code, intervention_of, stretch
from mechaudio.notebook.explore import samples_of, shown
from mechaudio.notebook.live import Live
from tests.families import noise

SECONDS = {"kind": "seconds", "onset": 2.9, "offset": 6.8}
WORDS = {"kind": "words", "positions": [270, 271]}


def edit(where, how="knock_out", by=0, queries="behind", layers=None, heads=None):
    return {**where, "how": how, "by": by, "queries": queries, "layers": layers, "heads": heads}


@pytest.fixture
def explorer(tiny, question, monkeypatch):
    pytest.importorskip("anywidget")
    explorer = ma.explore(tiny, question)
    explorer.sent = []
    monkeypatch.setattr(type(explorer), "send", lambda self, content, buffers=None: self.sent.append(content))
    return explorer


def replied(explorer, **request):
    """The reply to a message of the front end."""
    explorer._handle_custom_msg({"view": "v", "number": 7, "edits": [], **request}, [])
    return explorer.sent.pop()


@pytest.mark.parametrize(
    ("wanted", "intervention"),
    [
        (edit(SECONDS), ma.KnockOutAttention(keys="audio[2.9:6.8]", queries="behind")),
        (edit(WORDS, "scale", 1.5, "last"), ma.ScaleAttention(1.5, keys=[270, 271], queries="last")),
        (
            edit({"kind": "sound"}, "upweight", -2, "every", [3], [5]),
            ma.UpweightAttention(-2, keys="audio", queries=None, layers=3, heads=5),
        ),
    ],
)
def test_an_edit_is_an_intervention_of_the_library(wanted, intervention):
    assert intervention_of(wanted, (10.0,)) == intervention


@pytest.mark.parametrize(
    ("onset", "offset", "keys"),
    [(0.5, 1, "audio.0[0.5:1]"), (1.5, 2.25, "audio.0[1.5:2]+audio.1[0:0.25]"), (3, 9, "audio.1[1:3]")],
)
def test_seconds_of_several_clips_count_in_each_of_them(onset, offset, keys):
    assert stretch(onset, offset, (2.0, 3.0)) == keys


def test_seconds_that_no_clip_has_are_refused():
    with pytest.raises(ValueError, match="no clip has any of the seconds 6 to 7: together they last 5 s"):
        stretch(6, 7, (2.0, 3.0))


def test_the_code_that_is_shown_is_code():
    changes = (ma.KnockOutAttention(keys="audio[1:2]"), ma.ScaleAttention(1.5, layers=[2]))
    assert eval(as_code(changes).removeprefix("interventions="), {"ma": ma}) == list(changes)
    assert as_code(()) == "interventions=[]"


def test_the_widget_holds_the_prompt_its_sound_its_events_and_its_answer(explorer, tiny, question):
    data = explorer.data
    json.dumps(data, allow_nan=False)
    assert data["sound"].startswith("data:audio/wav;base64,")
    assert data["seconds"] == 10
    assert [event["label"] for event in data["events"]] == [event.label for event in question.events]
    assert data["answer"]["probabilities"] == pytest.approx(ma.answer(tiny, [question])[0].probabilities, abs=1e-6)
    assert data["answer"]["right"] == [choice == question.answer for choice in question.choices]
    assert sorted(map(int, data["rows"])) == list(range(289))
    assert repr(explorer) == "<Explorer of 'Which sound event has the earliest onset?' in tiny>"


def test_a_message_is_answered_with_what_the_library_gives(explorer, tiny, question):
    reply = replied(explorer, kind="answer", edits=[edit(SECONDS), edit(WORDS, "upweight", 2)])
    changes = [
        ma.KnockOutAttention(keys="audio[2.9:6.8]", queries="behind"),
        ma.UpweightAttention(2, keys=(270, 271), queries="behind"),
    ]
    (answer,) = ma.answer(tiny, [question], interventions=changes)
    assert (reply["kind"], reply["view"], reply["number"]) == ("answer", "v", 7)
    assert reply["answer"]["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)
    assert explorer.interventions == tuple(changes)


def test_a_row_is_that_of_the_changed_model(explorer):
    def cells(row):
        return np.frombuffer(zlib.decompress(base64.b64decode(row["cells"])), np.uint8).astype(int)

    requests = ([], [edit({"kind": "sound"})])
    plain, changed = (replied(explorer, kind="row", query=288, edits=edits)["row"] for edits in requests)
    assert np.abs(cells(plain) - cells(explorer.data["rows"]["288"])).max() <= 1  # rows alone and together round apart
    assert not cells(changed).reshape(48, 289)[:, 15:265].any()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (edit({"kind": "seconds", "onset": 30, "offset": 31}), "no clip has any of the seconds 30 to 31"),
        (edit({"kind": "words", "positions": [999]}), "position 999 is outside the prompts"),
        (edit(SECONDS, layers=[99]), "layer 99"),
        (edit({"kind": "seconds", "onset": float("nan"), "offset": 1}), "onset= takes finite numbers"),
        (edit({"kind": "seconds", "onset": 2, "offset": 1}), "begins before it ends, got 2 to 1 s"),
        (edit({"kind": "seconds", "onset": None, "offset": 1}), "onset= takes a number; got None"),
        (edit({"kind": "seconds", "onset": 1}), "'offset' is missing"),
        (edit({"kind": "words", "positions": "last"}), "positions= takes a list of whole numbers"),
        (edit({"kind": "smell"}), "'kind' is one of seconds, words, sound, got 'smell'"),
        (edit(SECONDS, how="shout"), "'how' is one of knock_out, scale, upweight"),
        (edit(SECONDS, queries="none"), "'queries' is one of behind, last, every"),
        (edit(SECONDS, "scale", None), "by= takes a number; got None"),
        (None, "an edit is a dict, got None"),
    ],
)
def test_what_does_not_fit_is_said_in_the_explorer_and_not_in_force(explorer, wanted, message):
    reply = replied(explorer, kind="answer", edits=[wanted])
    assert reply["kind"] == "problem"
    assert re.search(message, reply["message"])
    assert explorer.interventions == ()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"kind": "smell"}, "'kind' is one of answer, row, got 'smell'"),
        ({"kind": "answer", "edits": "x"}, "edits= takes a list; got 'x'"),
        ({"kind": "row"}, "'query' is missing"),
        ({"kind": "row", "query": 1.5}, "query= takes a whole number"),
        ({"kind": "row", "query": 289}, "position 289 is outside the prompts"),
    ],
)
def test_a_request_that_cannot_be_meant_is_said_in_the_explorer(explorer, request_, message):
    assert re.search(message, replied(explorer, **request_)["message"])


def test_a_stretch_is_written_without_an_exponent():
    assert stretch(0.00003, 2.5, (5.0,)) == "audio[0:2.5]"
    assert stretch(-1, 1234567.25, (2000000.0,)) == "audio[0:1234567.25]"


def test_our_own_faults_are_said_there_and_raised(explorer, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Live, "answer", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        explorer._take(explorer, {"view": "v", "number": 1, "kind": "answer", "edits": []}, [])
    assert explorer.sent.pop()["message"] == "out of memory"


def test_without_anywidget_the_remedy_is_named(tiny, question, monkeypatch):
    monkeypatch.delitem(sys.modules, "mechaudio.notebook.widget", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"pip install 'mechaudio\[explore\]'"):
        ma.explore(tiny, question)


def test_more_or_less_than_one_question_is_refused(tiny):
    several = ma.prompt(tiny, ma.data.soundscapes.questions(2, seed=0))
    with pytest.raises(ValueError, match=r"one question, got 2 prompts with 2 questions"):
        ma.explore(tiny, several)
    with pytest.raises(TypeError, match="question"):
        ma.explore(tiny, "what is heard?")


def test_words_that_a_prompt_is_aimed_at_take_the_place_of_letters(tiny, question):
    asked = ma.AudioQuestion(question.audio, "What do you hear?")
    aimed = ma.prompt(tiny, [asked]).aimed(target="a motor", foil="a hum", whole=True)
    answer = Live(tiny, aimed, 8).answer(())
    swept = ma.sweep(tiny, aimed, [[]]).clean[0].double().softmax(-1)
    assert answer["names"] == answer["choices"] == ["a motor", "a hum"]
    assert answer["probabilities"] == pytest.approx(swept.tolist(), abs=1e-6)


def test_an_open_question_is_answered_in_words(tiny, question):
    asked = ma.AudioQuestion(question.audio, "What do you hear?", answer="a motor")
    live = Live(tiny, ma.prompt(tiny, [asked]), 6)
    assert live.answer(()) == {"written": ma.generate(tiny, [asked], max_new_tokens=6).texts[0], "right": "a motor"}


def test_silence_is_shown_where_silence_is_heard_and_nothing_without_sound(tiny, question):
    heard, deaf, read = (ma.prompt(tiny, [question], condition=one) for one in ("audio", "silence", "caption"))
    assert samples_of(heard).any()
    assert not samples_of(deaf).any()
    assert len(samples_of(deaf)) == len(samples_of(heard)) == 160_000
    data = shown(Live(tiny, read, 8))
    assert (data["sound"], data["spectrogram"], data["seconds"], data["clips"]) == (None, None, 0, [])


def test_events_that_begin_after_what_was_heard_are_left_out():
    placed = ma.notebook.explorer_data.placed([Event("dog", 0.5, 3.0), Event("cat", 2.5, 3.0), Event("dog", 1, 2)], 2.0)
    assert [(event["label"], event["offset"], event["lane"]) for event in placed] == [("dog", 2.0, 0), ("dog", 2, 1)]
    assert placed[0]["colour"] == placed[1]["colour"]


def test_labels_stand_apart_on_a_narrow_page_and_at_the_end_of_the_clip_within_their_bars():
    events = [Event("motor", 0.5, 1.0), Event("hum", 2.0, 2.5), Event("cricket", 9.5, 10.0)]
    placed = ma.notebook.explorer_data.placed(events, 10.0)
    assert [(event["lane"], event["end"]) for event in placed] == [(0, False), (1, False), (0, True)]


def test_a_page_of_little_room_keeps_the_last_rows(tiny):
    clip = ma.AudioClip(noise(1.0), 16_000)
    asked = ma.AudioQuestion(clip, "Which sound?", ("chirp", "hum"))
    pattern = ma.analyses.prompt_attention(tiny, ma.prompt(tiny, [asked]))
    rows = ma.notebook.explorer_data.rows
    one = sum(map(len, rows(pattern)[str(pattern.queries[-1])].values()))
    assert list(rows(pattern, one)) == [str(pattern.queries[-1])]
    assert list(rows(pattern, 1)) == [str(pattern.queries[-1])]  # never none
    assert len(rows(pattern)) == len(pattern.queries)
    assert np.isfinite(pattern.weights).all()

"""`mechaudio ground`: the times of an answer, on one recording."""

import json

import pytest

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.cli.ground import MENDED
from mechaudio.experiments.grounding import ground
from mechaudio.metrics.grounding import Repairs
from tests.families.build import network, processor


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    clip = ma.data.soundscapes.clips(1, seed=3)[0]
    path = tmp_path_factory.mktemp("sounds") / "scene.wav"
    clip.audio.save(path)
    return path, {event.label: (event.onset, event.offset) for event in clip.events}


def test_the_shipped_model_says_when_a_sound_is_heard(scene, capsys):
    path, events = scene
    assert main(["ground", str(path), "--query", "the siren", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    ((row),) = told["rows"]
    assert (row["onset"], row["offset"]) == pytest.approx(events["siren"], abs=0.6)
    assert told["query"] == "the siren"
    assert told["duration"] == pytest.approx(10.0)
    assert told["repairs"]["reworded"] == 1
    assert main(["ground", str(path), "--query", "siren"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"siren: {row['onset']:.1f} - {row['offset']:.1f} s of 10.0 s"
    assert said[1].startswith("answer: whistle from")
    assert said[2:] == ["mended: 1 span written in another form than 1.2 - 3.4"]


def test_every_repair_of_a_span_is_told_in_words():
    assert {*Repairs().as_dict()} - {*MENDED} == {"unparsed"}


def test_a_sound_that_is_not_there_has_no_time(scene, capsys):
    path, events = scene
    assert "hum" not in events
    assert main(["ground", str(path), "--query", "hum", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == []
    assert told["repairs"]["unparsed"] == 1
    assert main(["ground", str(path), "--query", "hum"]) == 0
    assert capsys.readouterr().out.startswith("hum: no time for it in the answer")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.wav", "--query", "a dog"], "missing.wav"),
        (["{scene}", "--query", " "], "--query is blank"),
        (["{scene}", "--query", "siren", "--instruction", ""], "--instruction is blank"),
        (["{scene}", "--query", "siren", "--model", "nowhere-at-all"], "nowhere-at-all"),
    ],
)
def test_a_mistake_is_one_message(words, said, scene, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["ground", *(word.format(scene=scene[0]) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_model_with_markers_is_read_with_them(scene, monkeypatch):
    model = ma.AudioLM(network("timeaudio"), processor("timeaudio"))

    class Written:
        texts = ("The given query happens in <a_0><f_2> - <a_2><f_7>, <a_3><f_3> - <a_9><a_9><f_0> seconds.",)

    monkeypatch.setattr("mechaudio.experiments.grounding.generate", lambda *_, **__: Written)
    grounding = ground(model, scene[0], "a dog")
    assert grounding.intervals == ((0.2, 2.7), (3.3, 10.0))
    assert grounding.repairs == Repairs(clipped=1)
    assert grounding.asked == "During which seconds can 'a dog' be heard?"
    with pytest.raises(ValueError, match="holds the marker '<a_3>'"):
        ground(model, scene[0], "what is <a_3>")
    with pytest.raises(ValueError, match="query is blank"):
        ground(model, scene[0], " ")

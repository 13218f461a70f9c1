import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.cli import evaluate, main
from mechaudio.cli.questions import Source, questions, source
from mechaudio.experiments.asking import SCORINGS
from mechaudio.experiments.evaluate import Comparison
from tests.families import noise


def told(capsys, *words):
    assert main(["evaluate", *map(str, words)]) == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    assert main(["evaluate", *map(str, words)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def mmau(tmp_path):
    """Three questions of MMAU: one without its recording, one whose answer is withheld."""
    (tmp_path / "sounds").mkdir()
    rows = []
    for index, answer in enumerate(("hum", "", "hum")):
        name = f"{index}.wav"
        if index < 2:
            AudioClip(noise(1.0, index), 16_000).save(tmp_path / "sounds" / name)
        rows.append(
            {"id": f"m{index}", "audio_id": f"./sounds/{name}", "question": "Which sound?", "choices": ["beep", "hum"]}
            | {"answer": answer, "task": "sound"}
        )
    path = tmp_path / "mmau-test-mini.json"
    path.write_text(json.dumps(rows))
    return path


def test_answers_are_written_as_they_come_and_the_same_command_takes_the_run_up(capsys, tmp_path):
    words = ["--model", "toy", "--data", "toy", "--n", 8, "--seed", 3, "--json", "--out", tmp_path]
    words += ["--scale", 0, 2, "--upweight", -3, "--layers", 0, 1, "--queries", "last"]
    first = told(capsys, *words)
    log = tmp_path / "answers.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    again = json.loads(told(capsys, *words))
    found = json.loads(first)
    assert again.pop("provenance") | {"created": None} == found.pop("provenance") | {"created": None}
    assert again == found
    assert log.read_bytes() == b"".join(lines)
    kept = Comparison.load(tmp_path)
    assert kept.provenance.seed == kept.provenance.settings["data_seed"] == 3
    assert kept.provenance.settings["data"] == "toy"
    assert [variant["interventions"] for variant in found["variants"]] == [
        [repr(one) for one in variant] for variant in kept.variants
    ]
    assert kept.variants[0] == (ma.ScaleAttention(0.0, layers=[0, 1]),)
    assert kept.variants[2] == (ma.UpweightAttention(-3.0, layers=[0, 1]),)
    assert found["accuracy"] == kept.clean.overall.value
    assert [variant["after"]["value"] for variant in found["variants"]] == [
        kept[place].overall.value for place in range(3)
    ]
    assert "settings.condition was 'audio' and is 'silence'" in refused(capsys, *words, "--condition", "silence")


def test_a_comparison_is_told_in_words(capsys):
    said = told(capsys, "--model", "toy", "--data", "toy", "--n", "12", "--scale", "0.5").splitlines()
    assert said[0].startswith("toy on toy (seed 7), condition audio;")
    assert any(line.startswith("The last row listens.") and line.endswith("(n = 12 questions).") for line in said)
    assert said[-6] == "ScaleAttention(factor=0.5)"
    assert said[-4].startswith("change")
    assert said[-1].startswith("test        ")


def test_a_corpus_is_asked_and_what_it_lacks_is_told(capsys, mmau):
    words = ["--model", "tiny", "--data", f"mmau:{mmau}"]
    found = json.loads(told(capsys, *words, "--json"))
    assert (found["data"], found["seed"]) == (f"mmau:{mmau}", None)
    assert (found["n"], found["answered"]) == (1, 2)
    assert main(["evaluate", *words]) == 0
    said = capsys.readouterr()
    assert "MMAU: 1 x missing recording" in said.err
    assert "1 answered without a known answer, not scored" in said.out


def test_without_any_known_answer_there_is_no_accuracy(capsys, mmau):
    rows = [row | {"answer": ""} for row in json.loads(mmau.read_text())]
    mmau.write_text(json.dumps(rows))
    found = json.loads(told(capsys, "--data", f"mmau:{mmau}", "--scoring", "generate", "--max-new-tokens", 1, "--json"))
    assert (found["accuracy"], found["n"], found["answered"]) == (None, 0, 2)


def test_recordings_that_break_off_are_counted(capsys, mmau):
    sound = mmau.parent / "sounds" / "1.wav"
    sound.write_bytes(sound.read_bytes()[:20_000])
    words = ["--data", f"mmau:{mmau}"]
    assert "1 could not be asked; the first is 'm1': ValueError: " in told(capsys, *words)
    not_asked = json.loads(told(capsys, *words, "--json"))["not_asked"]
    assert [(one["index"], one["id"]) for one in not_asked] == [(1, "m1")]
    assert "question 'm1': ValueError: " in refused(capsys, *words, "--strict")


def test_long_recordings_are_told_the_option_that_cuts_them(capsys, mmau):
    AudioClip(noise(11.0, 1), 16_000).save(mmau.parent / "sounds" / "1.wav")
    words = ["--data", f"mmau:{mmau}"]
    assert "Cut the clip yourself (AudioClip.cut), or pass --allow-cut to drop the end" in told(capsys, *words)
    assert "without --strict it is listed instead" in refused(capsys, *words, "--strict")
    assert json.loads(told(capsys, *words, "--allow-cut", "--json"))["not_asked"] == []


@pytest.fixture
def bars():
    datasets.enable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.usefixtures("bars")
def test_a_corpus_of_parquet_files_is_read_without_bars(capsys, mmau, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", mmau.parent / "cache")
    rows = [row | {"audio_id": f"{mmau.parent}/sounds/0.wav"} for row in json.loads(mmau.read_text())]
    table = mmau.with_suffix(".parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    assert len(questions(Source("mmau", str(table)), None, 7, None)) == 3
    assert capsys.readouterr().err == ""


def test_the_folder_of_a_temporal_benchmark_is_asked(capsys, tmp_path):
    benchmark = ma.temporal.build(ma.data.soundscapes.clips(4, 21), seed=2)
    folder = benchmark.save(tmp_path / "benchmark")
    found = json.loads(told(capsys, "--data", folder, "--n", 4, "--json"))
    assert found["n"] == 4
    assert set(found["tasks"]) <= {"earliest_onset", "latest_offset", "longest_duration"}


def test_generated_answers_are_scored_by_both_rules(capsys):
    words = ["--model", "toy", "--data", "toy", "--n", 4, "--scoring", "generate", "--max-new-tokens", 1]
    found = json.loads(told(capsys, *words, "--json"))
    assert found["scoring"] == "generate"
    assert found["string_match"]["n"] == 4
    assert "by MMAU's words" in told(capsys, *words)


def test_questions_are_made_when_they_are_asked_for():
    made = questions(Source("soundscapes"), 10**9, 7, None)
    assert len(made) == 10**9
    assert made[10**9 - 1].id == "soundscapes-7-999999999"
    assert made[-1].id == made[10**9 - 1].id
    with pytest.raises(IndexError):
        made[10**9]


def test_the_last_questions_that_were_made_are_kept_and_no_others(monkeypatch):
    monkeypatch.setattr("mechaudio.cli.questions.KEPT", 2)
    made = questions(Source("toy"), None, 7, None)
    first = made[0]
    assert [made[index].id for index in (1, 0)] == ["toy-7-1", "toy-7-0"]
    assert made[0] is first
    assert [made[index].id for index in (1, 2)] == ["toy-7-1", "toy-7-2"]
    assert made[0] is not first
    assert made[0].text == first.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "3"], "give --scale or --upweight"),
        (["--audio", "."], "--audio is for the recordings of mmau, "),
        (["--data", "mmau:nowhere.json"], "there is no file or folder 'nowhere.json'"),
        (["--n", "1", "--scale", "2", "--layers", "99"], "--layers 99: tiny has layers 0 to 5"),
        (["--n", "1", "--scale", "2", "--queries", "kword"], "no span 'kword' in this batch"),
    ],
)
def test_mistakes_are_told_in_one_message(capsys, words, message):
    assert message in refused(capsys, *words)


@pytest.mark.parametrize("text", ["music", "soundscapes:x", "mmau-pro", ""])
def test_data_that_there_is_not_ends_in_the_names_that_there_are(capsys, text):
    with pytest.raises(SystemExit):
        main(["evaluate", "--data", text])
    assert f"invalid choice: {text!r} (choose from soundscapes, toy; mmau, " in capsys.readouterr().err


def test_the_command_knows_the_scorings_that_there_are():
    assert evaluate.SCORINGS == SCORINGS


def test_data_is_read_as_written():
    assert source("mmar") == Source("mmar")
    assert str(source("temporal_lalm:a:b.parquet")) == "temporal_lalm:a:b.parquet"

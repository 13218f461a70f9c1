import json
from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.audio.stored import StoredClip
from mechaudio.data import soundscapes
from mechaudio.temporal import Settings, build, load
from tests.data.files import write_sound

SCENE = (Event("dog", 0.4, 2.1), Event("car", 1.5, 8.8), Event("rain", 3.0, 6.0), Event("bell|gong", 3.5, 4.0))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def benchmark():
    return build(soundscapes.clips(6, 3, duration=4.0), seed=5, settings=Settings(margin=0.4))


def told(benchmark) -> list[tuple]:
    return [(q.id, q.text, q.choices, q.answer, q.caption, q.events, dict(q.meta)) for q in benchmark]


def about(benchmark) -> tuple:
    return benchmark.dropped, benchmark.n_clips, benchmark.tasks, benchmark.seed, benchmark.settings, benchmark.corpus


def test_a_benchmark_is_a_sequence_of_questions(benchmark):
    assert len(benchmark) == len(benchmark.questions) > 5
    assert (benchmark[0], benchmark[:2]) == (benchmark.questions[0], benchmark.questions[:2])
    assert list(benchmark) == list(benchmark.questions)
    per_task = [sum(q.meta["task"] == task for q in benchmark) for task in benchmark.tasks]
    assert repr(benchmark) == (
        f"Benchmark({len(benchmark)} questions of 6 clips: {per_task[0]} earliest_onset, {per_task[1]} latest_offset, "
        f"{per_task[2]} longest_duration; seed 5)"
    )


def test_what_is_saved_comes_back_sample_for_sample(benchmark, tmp_path):
    assert benchmark.save(tmp_path / "b") == tmp_path / "b"
    back = load(tmp_path / "b")
    assert told(back) == told(benchmark)
    assert about(back) == about(benchmark)
    assert back.card() == benchmark.card()
    for kept, given in zip(back, benchmark, strict=True):
        assert isinstance(kept.audio, StoredClip)
        assert np.array_equal(kept.clip().waveform, given.audio.waveform)
        assert kept.clip().sample_rate == 16_000


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    def saved(name: str, seed: int) -> dict[str, bytes]:
        folder = build(soundscapes.clips(4, 3, duration=4.0), seed=seed).save(tmp_path / name)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first, again, other = saved("first", 0), saved("again", 0), saved("other", 1)
    assert sorted(first) == ["README.md", "manifest.json", "questions.parquet"]
    assert first == again
    assert first["questions.parquet"] != other["questions.parquet"]


def test_files_are_put_in_as_they_are_or_kept_as_paths(tmp_path):
    path = write_sound(tmp_path / "sounds" / "a.wav")
    built = build([AnnotatedClip(path, SCENE, id="a.wav")])
    whole = load(built.save(tmp_path / "whole"))[0].audio
    assert whole.read() == path.read_bytes()
    assert load(built.save(tmp_path / "paths", embed=False))[0].audio == str(path)
    again = load(load(tmp_path / "whole").save(tmp_path / "again"))[0].audio
    assert again.read() == path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.wav"):
        built.save(tmp_path / "gone")
    assert not (tmp_path / "gone" / "manifest.json").exists()


def test_clips_in_memory_have_no_path_to_keep(benchmark, tmp_path):
    with pytest.raises(ValueError, match=r"recording of '.*' has no path of its own: save with embed=True"):
        benchmark.save(tmp_path, embed=False)


@pytest.mark.parametrize("shape", [(16_000,), (2, 16_000)])
def test_channels_survive(tmp_path, shape):
    clip = AudioClip(np.random.default_rng(0).uniform(-1.5, 1.5, shape), 16_000)
    built = build([AnnotatedClip(clip, SCENE, id="a")], tasks=["latest_offset"])
    assert np.array_equal(load(built.save(tmp_path))[0].clip().waveform, clip.waveform)


def test_a_benchmark_without_questions_can_be_kept_too(tmp_path):
    empty = build([AnnotatedClip("a.wav", (), id="a")])
    assert len(load(empty.save(tmp_path))) == len(empty) == len(empty.dataset()) == 0
    assert "| earliest_onset | no events: the clip has no events | 1 |" in empty.card()


def test_the_dataset_has_a_row_for_every_question_and_an_audio_column(benchmark):
    dataset = benchmark.dataset()
    assert len(dataset) == len(benchmark)
    assert dataset.features["audio"] == datasets.Audio(decode=False)
    assert dataset[0]["choices"] == list(benchmark[0].choices)
    assert dataset[0]["audio"]["bytes"][:4] == b"RIFF"


def test_pushing_uploads_questions_manifest_and_card_and_loading_finds_them(benchmark, tmp_path, monkeypatch):
    hub, page = {}, SimpleNamespace(text="made by the upload")

    def upload(dataset, repo_id, split, private):
        hub.update(dataset=dataset, place=(repo_id, split, private))

    def upload_file(api, path_or_fileobj, path_in_repo, repo_id, repo_type):
        (tmp_path / path_in_repo).write_bytes(path_or_fileobj)

    page.push_to_hub = lambda repo_id: hub.update(page=page.text)
    monkeypatch.setattr(datasets.Dataset, "push_to_hub", upload)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_file", upload_file)
    monkeypatch.setattr(huggingface_hub.DatasetCard, "load", lambda repo_id: page)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision: datasets.DatasetDict(test=hub["dataset"]))
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, name, repo_type, revision: str(tmp_path / name)
    )
    assert benchmark.push("owner/temporal") == "owner/temporal"
    assert hub["place"] == ("owner/temporal", "test", True)
    assert hub["page"] == benchmark.card()
    back = load("owner/temporal")
    assert told(back) == told(benchmark)
    assert about(back) == about(benchmark)


def test_files_that_do_not_belong_together_are_refused(benchmark, tmp_path):
    folder = benchmark.save(tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ValueError, match="has format 99, and 1 is known: upgrade mechaudio"):
        load(folder)
    benchmark.save(folder)
    with (folder / "questions.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"questions.parquet in .* is damaged, or of another build than manifest.json"):
        load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no benchmark in .*: it has no manifest.json"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load(tmp_path / "nowhere")


def test_the_manifest_lists_what_was_dropped_and_why(tmp_path):
    clips = [AnnotatedClip("a.wav", (), id="a"), AnnotatedClip("b.wav", SCENE, id="b")]
    manifest = build(clips, tasks=["latest_offset"], seed=4).manifest()
    assert manifest["dropped"] == [["a", "latest_offset", "no events"]]
    assert manifest["dropped_counts"] == {"latest_offset": {"no events": 1}}
    assert (manifest["n_clips"], manifest["n_questions"], manifest["seed"]) == (2, 1, 4)
    assert manifest["settings"]["margin"] == 1.0


def test_the_card_counts_questions_letters_origins_and_what_was_dropped(tmp_path):
    other = AnnotatedClip("b.wav", SCENE[:2], id="b", meta={"license": "CC0"})
    built = build([AnnotatedClip("a.wav", SCENE, id="a"), other], settings=Settings(paraphrase=0.9))
    card = built.card()
    letters = [question.answer_letter for question in built]
    assert "6 multiple-choice questions about 2 annotated clips, built by mechaudio" in card
    assert "Chance is 25.0%." in card
    assert "| latest_offset | 2 | 0 |" in card
    assert "| any | nothing was | 0 |" in card
    assert all(f"{letter} {letters.count(letter)}" in card for letter in set(letters))
    assert "Wrong options from the same clip: 12; from other clips: 6." in card
    assert "| margin | 1.0 |" in card
    assert "Questions by the license of their recording: CC0 3." in card
    assert "Texts are compared by token_overlap." in card

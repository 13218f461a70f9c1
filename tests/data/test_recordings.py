import pytest

from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.corpus import Problems
from mechaudio.data.recordings import Recordings, first_folder, with_recordings
from tests.data.files import write_sound


@pytest.fixture
def folder(tmp_path):
    write_sound(tmp_path / "deep" / "a.wav", 2.0)
    write_sound(tmp_path / "b.wav", 3.0)
    (tmp_path / "notes.txt").write_text("a")
    return tmp_path


@pytest.mark.parametrize("name", ["deep/a.wav", "a.wav", "a", "elsewhere/a.wav"])
def test_a_recording_is_found_by_path_by_name_and_by_stem(folder, name):
    assert Recordings(folder, "header", Problems()).find("item", name) == (folder / "deep" / "a.wav", 2.0)


def test_the_first_name_that_leads_somewhere_counts(folder):
    assert Recordings(folder, "whole", Problems()).find("item", "c.wav", "b") == (folder / "b.wav", 3.0)


def test_a_missing_recording_is_listed_with_the_names_that_were_tried(folder):
    problems = Problems()
    assert Recordings(folder, "header", problems).find("item", "c.wav", "d.wav") is None
    assert (problems.found[0].kind, problems.found[0].item) == ("missing recording", "item")
    assert "there is no c.wav or d.wav below" in problems.found[0].message


def test_two_files_of_one_name_are_not_chosen_between(folder):
    write_sound(folder / "other" / "a.wav")
    problems = Problems()
    assert Recordings(folder, "header", problems).find("item", "a.wav") is None
    assert problems.found[0].kind == "ambiguous recording"
    assert "deep/a.wav, other/a.wav" in problems.found[0].message


def test_damage_in_the_header_is_found_at_once_and_damage_behind_it_when_everything_is_read(folder):
    (folder / "empty.wav").touch()
    whole = (folder / "b.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    problems = Problems()
    assert Recordings(folder, "header", problems).find("item", "empty.wav") is None
    assert problems.found[-1].kind == "unreadable recording"
    assert "is empty, 0 bytes" in problems.found[-1].message
    assert Recordings(folder, "whole", problems).find("item", "cut.wav") is None
    assert "promises" in problems.found[-1].message


def test_without_a_folder_paths_stand_for_themselves_and_nothing_is_searched(folder, monkeypatch):
    monkeypatch.chdir(folder)
    recordings = Recordings(None, "header", Problems())
    assert recordings.find("item", str(folder / "b.wav")) == (folder / "b.wav", 3.0)
    assert recordings.find("item", "a.wav") is None


def test_without_a_check_files_are_found_where_they_are_and_named_where_they_are_not(folder):
    recordings = Recordings(folder, "none", Problems())
    assert recordings.find("item", "x.wav", "a.wav") == (folder / "deep" / "a.wav", None)
    assert recordings.find("item", "x.wav") == (folder / "x.wav", None)


def test_nothing_needs_to_be_there_without_a_check(tmp_path):
    assert Recordings(tmp_path / "nowhere", "none", Problems()).find("item", "a.wav") == (
        tmp_path / "nowhere" / "a.wav",
        None,
    )


def test_another_check_and_a_folder_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="check is one of header, whole, none, got 'all'"):
        Recordings(tmp_path, "all", Problems())
    with pytest.raises(NotADirectoryError, match=r"there is no folder .*nowhere.*give audio=FOLDER, or check='none'"):
        Recordings(tmp_path / "nowhere", "header", Problems())


def test_a_corpus_without_one_of_its_recordings_is_kept_and_says_so(folder):
    problems = Problems()

    def read(recordings):
        found = {name: recordings.find(name, name) for name in ("x.wav", "y.wav")}
        return [AnnotatedClip(place[0], id=name) for name, place in found.items() if place is not None]

    kept = with_recordings(None, folder, "header", problems, read)
    assert [clip.audio for clip in kept] == [folder / "x.wav", folder / "y.wav"]
    assert [problem.kind for problem in problems.found] == ["no recordings"]
    with pytest.raises(FileNotFoundError, match=r"none of the 2 recordings is below .* \(the first is 'x.wav'\)"):
        with_recordings(folder, folder, "header", Problems(), read)


def test_the_first_folder_that_exists_is_taken(tmp_path):
    assert first_folder([tmp_path / "audio", tmp_path]) == tmp_path
    assert first_folder([tmp_path / "x", tmp_path / "y"]) == tmp_path / "y"

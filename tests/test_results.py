import json
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mechaudio as ma
from mechaudio import results
from mechaudio.audio.events import Event
from mechaudio.question import Answer
from mechaudio.results import Provenance, Result


@dataclass(frozen=True, eq=False, kw_only=True)
class Toy(Result):
    value: Any
    note: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Nest(Result):
    toys: tuple[Toy, ...]
    array: np.ndarray


PROVENANCE = Provenance("tiny", "abc123", 7, {"n": 3}, {"numpy": "2.0"}, "2025-01-01T00:00:00+00:00")


def toy(value: Any, note: str = "") -> Toy:
    return Toy(provenance=PROVENANCE, value=value, note=note)


def saved_json(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def alter(folder: Path, **changes: Any) -> None:
    (folder / "result.json").write_text(json.dumps(saved_json(folder) | changes), encoding="utf-8")


ARRAYS = {
    "float32": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "float64 with nan, inf and minus zero": np.array([np.nan, np.inf, -np.inf, -0.0, 0.1]),
    "float16": np.array([0.1, 65504], np.float16),
    "int64": np.array([[-(2**63), 2**63 - 1]]),
    "uint8": np.arange(256, dtype=np.uint8),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["Hund", "ねこ"]),
    "no axis": np.array(3.5),
    "nothing in it": np.zeros((0, 4), np.int16),
    "big endian": np.array([1.5, 2.5], ">f4"),
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10)[::2],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back_bit_for_bit(tmp_path, array):
    back = Result.load(toy(array).save(tmp_path)).value
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_a_result_says_in_one_line_what_is_in_it():
    nest = Nest(provenance=PROVENANCE, toys=(toy(ARRAYS["float32"]),) * 1000, array=np.zeros((5, 1000)))
    assert repr(nest) == "<Nest of toys, array [5, 1000]>"
    assert repr(nest.toys[0]) == "<Toy of value [3, 4], note>"


VALUES = [
    None, True, False, 0, -3, 10**30, 0.1, 1e-320, -0.0, float("inf"), "", "ein Ton\n„♪“", "\udcff.wav",
    (), ((1, 2.0), ("a", None)), {}, {"b": 1, "a": (1,)}, {1: "one", (2, 3): "pair", None: 0.5}, {"$array": "a text"},
    Event("dog", 0.1, 2.3), Answer("q1", ("dog", "car"), "dog", "A", (1.5, -0.5), (0.88, 0.12), None),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal_and_of_its_own_type(tmp_path, value):
    back = Result.load(toy(value).save(tmp_path)).value
    assert back == value
    assert repr(back) == repr(value)
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "number", [np.float32(0.1), np.float64(0.1), np.float16(0.1), np.int64(-3), np.uint8(255), np.bool_(True)]
)
def test_numbers_of_numpy_keep_their_kind(tmp_path, number):
    back = Result.load(toy(number).save(tmp_path)).value
    assert back == number
    assert type(back) is type(number)


def test_nan_comes_back_as_nan(tmp_path):
    back = Result.load(toy((float("nan"), np.float32("nan"))).save(tmp_path)).value
    assert np.isnan(back).all()
    assert type(back[1]) is np.float32


def test_results_within_results_come_back_with_their_arrays(tmp_path):
    nest = Nest(provenance=PROVENANCE, toys=(toy(np.arange(3)), toy({"x": np.ones(2)})), array=np.zeros(4))
    back = Nest.load(nest.save(tmp_path))
    assert back.toys[0].value.tolist() == [0, 1, 2]
    assert back.toys[1].value["x"].tolist() == [1.0, 1.0]
    assert back.array.tolist() == [0.0] * 4
    assert back.provenance == PROVENANCE
    with np.load(tmp_path / "arrays.npz") as file:
        assert file.files == ["toys[0].value", "toys[1].value['x']", "array"]


def test_a_field_may_be_named_as_an_argument_of_savez(tmp_path):
    back = Result.load(toy({"file": np.ones(1), "../escape": np.zeros(1)}).save(tmp_path / "kept")).value
    assert (back["file"].tolist(), back["../escape"].tolist()) == ([1.0], [0.0])
    assert os.listdir(tmp_path) == ["kept"]


def test_the_json_is_readable_and_in_the_order_of_the_fields(tmp_path):
    toy(np.zeros((2, 3), np.float32), note="größer").save(tmp_path)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert "\n  " in text
    assert "größer" in text
    body = saved_json(tmp_path)["result"]
    assert list(body) == ["$class", "provenance", "value", "note"]
    assert body["value"] == {"$array": "value", "holds": "float32 [2, 3]"}
    assert list(body["provenance"])[1:4] == ["checkpoint", "revision", "seed"]
    assert sorted(os.listdir(tmp_path)) == ["arrays.npz", "result.json"]


def test_provenance_says_the_model_the_seed_the_settings_and_the_versions():
    model = SimpleNamespace(checkpoint="Qwen/Qwen2-Audio-7B-Instruct", revision="abc")
    made = Provenance.collect(model, seed=3, settings={"layers": [1, 2], "rows": range(2), "factor": np.float32(0.5)})
    assert (made.checkpoint, made.revision, made.seed) == ("Qwen/Qwen2-Audio-7B-Instruct", "abc", 3)
    assert made.settings == {"layers": (1, 2), "rows": (0, 1), "factor": 0.5}
    assert set(made.versions) == {"python", "mechaudio", "torch", "transformers", "nnsight", "numpy"}
    assert made.versions["numpy"] == np.__version__
    assert made.created.endswith("+00:00")
    assert Provenance.collect().checkpoint is None


def test_what_is_computed_from_kept_numbers_says_their_checkpoint_and_its_own_seed_and_settings():
    origin = replace(Provenance.collect(seed=3, settings={"n": 5}), checkpoint="tiny", revision="abc", created="before")
    made = origin.derived(seed=4, settings={"k": 2})
    assert (made.checkpoint, made.revision, made.seed, made.settings) == ("tiny", "abc", 4, {"k": 2})
    assert made.created != "before"


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr("mechaudio.provenance.PACKAGES", ("numpy", "no-such-package"))
    assert set(Provenance.collect().versions) == {"python", "numpy"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], r"Toy\.value is a builtins\.list, which cannot be kept; .*; make the list a tuple"),
        ({"a": (1, {2})}, r"Toy\.value\['a'\]\[1\] is a builtins\.set, which cannot be kept; a result holds arrays"),
        (Path("x"), r"Toy\.value is a pathlib\.(_local\.)?\w*Path, which cannot be kept"),
        (np.array([None]), r"Toy\.value is an array of object, which cannot be kept"),
        (np.zeros(2, [("a", int)]), r"Toy\.value is an array of \[.*\], which cannot be kept"),
        (np.ma.masked_array([1]), r"Toy\.value is a numpy\.ma\.\w*\.?MaskedArray"),
    ],
)
def test_what_cannot_be_kept_is_refused_when_the_result_is_made_with_its_field_and_its_type(value, words):
    with pytest.raises(TypeError, match=words):
        toy(value)


def test_saving_again_replaces_the_result_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "index.html").write_text("page")
    toy(np.zeros(3)).save(tmp_path)
    toy(np.ones(5), note="second").save(tmp_path)
    back = Toy.load(tmp_path)
    assert (back.value.tolist(), back.note) == ([1.0] * 5, "second")
    assert sorted(os.listdir(tmp_path)) == ["arrays.npz", "index.html", "result.json"]


@pytest.mark.parametrize("broken", ["write_arrays", "write_json"])
def test_a_save_that_breaks_off_leaves_the_earlier_result_as_it_was(tmp_path, monkeypatch, broken):
    toy(np.zeros(3), note="first").save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(place: Path, content: Any) -> str:
        place.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(results, broken, half)
    with pytest.raises(OSError, match="no space left"):
        toy(np.ones(3), note="second").save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("moves", "note"), [(0, "first"), (1, "first"), (2, "second")])
def test_whichever_move_is_the_last_the_folder_holds_one_whole_result(tmp_path, monkeypatch, moves, note):
    toy(np.zeros(3), note="first").save(tmp_path)
    replace_file, left = os.replace, moves

    def replace_some(source, target):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_some)
        with pytest.raises(KeyboardInterrupt):
            toy(np.ones(3), note="second").save(tmp_path)
    back = Toy.load(tmp_path)
    assert (back.note, back.value.tolist()) == (note, [float(note == "second")] * 3)
    toy(np.full(3, 2.0), note="third").save(tmp_path)
    assert Toy.load(tmp_path).value.tolist() == [2.0] * 3
    assert sorted(os.listdir(tmp_path)) == ["arrays.npz", "result.json"]


@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (Path.touch, "a file"),
        (lambda place: place.symlink_to(place.with_name("gone") / "away"), "a link that leads nowhere"),
        (lambda place: place.symlink_to(place), "a link that leads nowhere"),
        (os.mkfifo, "no folder"),
    ],
)
@pytest.mark.parametrize("folder", ["out", "out/run/first"])
def test_what_is_no_folder_is_refused_by_its_name_and_left_as_it_is(tmp_path, put, kind, folder):
    put(tmp_path / "out")
    with pytest.raises(
        NotADirectoryError, match=rf"a result is kept in a folder, and '.*/out' is {kind}: give another"
    ):
        toy(1).save(tmp_path / folder)
    assert os.listdir(tmp_path) == ["out"]
    assert not (tmp_path / "out").is_dir()


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    toy(1).save(tmp_path / "here")
    assert Toy.load(tmp_path / "there").value == 1


def test_folders_are_made_on_the_way(tmp_path):
    folder = toy(1).save(tmp_path / "reports" / "demo")
    assert folder == tmp_path / "reports" / "demo"
    assert Result.load(str(folder)).value == 1


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no result in '.*': it has no result\.json"):
        Result.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Result.load(tmp_path / "nowhere")


def test_a_result_of_a_newer_format_is_refused_with_both_versions(tmp_path):
    toy(1).save(tmp_path)
    alter(tmp_path, schema=99, mechaudio="9.0")
    with pytest.raises(
        ValueError, match=r"saved by mechaudio 9\.0 in format 99, and mechaudio .* reads formats up to 2: upgrade"
    ):
        Result.load(tmp_path)


@pytest.mark.parametrize(
    "module", ["mechaudio.gone", "mechaudio.audio.clip", "mechaudio.cli.__main__", "other_package"]
)
def test_a_class_that_is_not_known_is_refused_with_its_module(tmp_path, module):
    toy(1).save(tmp_path)
    alter(tmp_path, result=saved_json(tmp_path)["result"] | {"$class": f"{module}.Unheard"})
    own = module.startswith("mechaudio")
    remedy = f"or forged: it says '{module}'" if own else f"import {module}, which defined it, first"
    with pytest.raises(ValueError, match=rf"result\.json' holds a Unheard, which is not known here: .*{remedy}"):
        Result.load(tmp_path)


def test_a_class_with_other_fields_is_refused_with_them(tmp_path):
    toy(1).save(tmp_path)
    body = saved_json(tmp_path)["result"]
    del body["value"]
    alter(tmp_path, result=body | {"worth": 3})
    with pytest.raises(ValueError, match=r"fields \['worth'\] are unknown here, \['value'\] are missing"):
        Result.load(tmp_path)


def test_a_field_with_a_default_may_be_missing(tmp_path):
    toy(1, note="x").save(tmp_path)
    body = saved_json(tmp_path)["result"]
    del body["note"]
    alter(tmp_path, result=body)
    assert Toy.load(tmp_path).note == ""


def test_a_result_of_another_class_than_asked_for_is_refused(tmp_path):
    toy(1).save(tmp_path)
    with pytest.raises(TypeError, match=r"holds a Toy, not a Nest: use Result\.load"):
        Nest.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged, it is not JSON"),
        ("[]", "damaged, or not a result of mechaudio"),
        ('{"a": 1}', "it needs schema"),
    ],
)
def test_a_damaged_json_is_refused(tmp_path, text, words):
    toy(1).save(tmp_path)
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        Result.load(tmp_path)


def test_arrays_that_are_missing_damaged_or_of_another_run_are_refused(tmp_path):
    toy(np.zeros(3)).save(tmp_path / "one")
    toy(np.ones(3)).save(tmp_path / "other")
    (tmp_path / "one" / "arrays.npz").write_bytes((tmp_path / "other" / "arrays.npz").read_bytes())
    with pytest.raises(ValueError, match=r"arrays\.npz in '.*one' is missing, damaged or of another result"):
        Result.load(tmp_path / "one")
    (tmp_path / "one" / "arrays.npz").unlink()
    with pytest.raises(ValueError, match="is missing, damaged or of another result"):
        Result.load(tmp_path / "one")


def test_an_array_that_the_json_names_and_the_file_lacks_is_refused(tmp_path):
    toy(np.zeros(3)).save(tmp_path)
    alter(tmp_path, result=saved_json(tmp_path)["result"] | {"value": {"$array": "absent"}})
    with pytest.raises(ValueError, match=r"is damaged: it says \$array 'absent', which is not there"):
        Result.load(tmp_path)


def test_pickles_are_not_opened(tmp_path):
    toy(np.zeros(3)).save(tmp_path)
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive, archive.open("value.npy", "w") as entry:
        np.lib.format.write_array(entry, np.array([{"any": "object"}]), allow_pickle=True)
    alter(tmp_path, arrays_sha256=results.digest_of_file(tmp_path / "arrays.npz"))
    with pytest.raises(ValueError, match=r"arrays\.npz' is damaged: 'value\.npy' holds object, .*unpickled"):
        Result.load(tmp_path)


def test_two_results_of_one_name_are_refused_and_a_class_defined_anew_is_not():
    with pytest.raises(TypeError, match="has a result named Toy already, and results are found again by name"):
        type("Toy", (Result,), {"__module__": "somewhere_else"})
    assert Result.kinds["Toy"] is Toy
    again = type("Toy", (Result,), {"__module__": Toy.__module__, "__qualname__": Toy.__qualname__})
    assert Result.kinds["Toy"] is again
    Result.kinds["Toy"] = Toy


def test_a_changed_copy_is_a_result_too(tmp_path):
    assert Result.load(replace(toy(1), note="copy").save(tmp_path)).note == "copy"


def test_a_digest_is_the_same_for_equal_values_and_another_for_any_bit():
    held = {"a": (1, 2.0, None), "b": Event("dog", 0.1, 2.3), "array": np.arange(3.0)}
    known = results.digest_of(held)
    assert results.digest_of({"array": np.arange(3.0), "b": held["b"], "a": (1, 2.0, None)}) == known
    others = ({"a": (1, 2, None)}, {"array": np.arange(3.0)[::-1]}, {"array": np.arange(3.0, dtype=np.float32)})
    assert len({results.digest_of(held | other) for other in others} | {known}) == 4
    with pytest.raises(TypeError, match="cannot be kept"):
        results.digest_of([1])


def test_what_a_killed_process_left_while_it_saved_goes_with_the_next_save(tmp_path):
    (tmp_path / ".saving-dead").mkdir()
    (tmp_path / ".saving-dead" / "arrays.npz").write_bytes(b"half")
    ma.evaluate(ma.load("toy", prove=False), ma.data.toy_questions.questions(2, 0)).save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arrays.npz", "result.json"]

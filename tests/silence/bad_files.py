"""Files that are damaged, forged or hostile: results, benchmarks, tables of corpora and recordings."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mechaudio as ma
from mechaudio.data import toy_questions
from mechaudio.kinds import fits, kind_of
from mechaudio.provenance import Provenance
from mechaudio.results import digest_of_file
from tests.data.files import write_json, write_sound, write_table

Case = Callable[[], Any]
NOTHING_SAYS = object()
FORGED: dict[str, Any] = {
    "null": None,
    "5": 5,
    "-1": -1,
    "true": True,
    "a text": "x",
    "[]": [],
    "[[]]": [[]],
    "{}": {},
    "[5]": [5],
    "no such array": {"$array": "absent"},
    "an array of no name": {"$array": [1]},
    "the command line": {"$class": "mechaudio.cli.__main__.X"},
    "another package": {"$class": "os.system"},
    "a class of no name": {"$class": 5},
    "an object": {"$number": "O", "value": 1},
    "no number": {"$number": "int64", "value": "x"},
    "too large": {"$number": "int8", "value": 10**9},
    "no float": {"$float": "1e9"},
    "no dict": {"$dict": 5},
    "a dict of no pairs": {"$dict": [[1]]},
    "a key that is none": {"$dict": [[{}, 1]]},
    "unknown": {"$what": 1},
}


def saved(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """A result of three questions, and its JSON."""
    toy = ma.load("toy", prove=False)
    place = ma.evaluate(toy, toy_questions.questions(3, 0)).save(folder / name)
    return place, json.loads((place / "result.json").read_text(encoding="utf-8"))


def results(folder: Path) -> Iterator[tuple[str, Case]]:
    place, head = saved(folder, "result")

    def with_json(name: str, value: Any) -> tuple[str, Case]:
        def case() -> Any:
            text = value if isinstance(value, str) else json.dumps(value)
            (place / "result.json").write_text(text, encoding="utf-8")
            return ma.Result.load(place)

        return f"Result.load({name})", case

    body = head["result"]
    for field in head:
        yield with_json(f"without {field}", {key: value for key, value in head.items() if key != field})
        for what, value in FORGED.items():
            if not (field == "mechaudio" and isinstance(value, str)):
                yield with_json(f"{field} is {what}", head | {field: value})
    for owner, inner in ((ma.experiments.Evaluation, body), (Provenance, body["provenance"])):
        for field in inner:
            for what, value in FORGED.items():
                plain = tuple(value) if isinstance(value, list) else value
                tagged = isinstance(value, dict) and value
                if field != "$class" and not tagged and fits(plain, kind_of(owner, field)) and field != "ids":
                    continue
                changed = inner | {field: value}
                whole = changed if inner is body else body | {"provenance": changed}
                yield with_json(f"{owner.__name__}.{field} is {what}", head | {"result": whole})
    for field in ("ids", "tasks", "options", "answers"):
        yield with_json(f"{field} of two", head | {"result": body | {field: body[field][:2]}})
        yield with_json(f"{field} of four", head | {"result": body | {field: [*body[field], body[field][0]]}})
    yield with_json("100,000 lists", "[" * 100_000 + "]" * 100_000)
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    yield with_json("200 lists", head | {"result": body | {"interventions": deep}})
    for text in ("", "{", "[]", "null", "5", '"x"', "\x00", "{}", "[" * 50):
        yield with_json(repr(text), text)
    yield from archives(folder)


def archives(folder: Path) -> Iterator[tuple[str, Case]]:
    place, head = saved(folder, "arrays")
    whole = (place / "arrays.npz").read_bytes()

    def with_bytes(name: str, content: bytes) -> tuple[str, Case]:
        def case() -> Any:
            (place / "arrays.npz").write_bytes(content)
            forged = head | {"arrays_sha256": digest_of_file(place / "arrays.npz")}
            (place / "result.json").write_text(json.dumps(forged), encoding="utf-8")
            return ma.Result.load(place)

        return f"Result.load(arrays {name})", case

    def archive(entry: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as zipped:
            for name in ("chosen", "logits"):
                zipped.writestr(f"{name}.npy", entry)
        return file.getvalue()

    def array(value: np.ndarray, **options: Any) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array(file, value, **options)
        return file.getvalue()

    def claiming(shape: str, kind: str = "<f8") -> bytes:
        text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\x00" * 24

    yield with_bytes("are none", b"")
    yield with_bytes("are text", b"nothing of the kind")
    yield with_bytes("are a pickle", b"\x80\x04K\x01.")
    yield with_bytes("are cut", whole[: len(whole) // 2])
    yield with_bytes("are of other fields", archive(array(np.zeros(3))))
    yield with_bytes("are of four questions", archive(array(np.zeros(4, dtype=np.int64))))
    yield with_bytes("are objects", archive(array(np.array([{}], dtype=object), allow_pickle=True)))
    yield with_bytes("are compressed", archive(array(np.zeros(10**6)), zipfile.ZIP_DEFLATED))
    yield with_bytes("are no array", archive(b"x"))
    for shape in ("(10**12,)", "(1000000000000,)", "(-1,)", "(3, 1000000000)", "5", "'x'", "(1.5,)", "(None,)"):
        yield with_bytes(f"claim {shape}", archive(claiming(shape)))
    for kind in ("|O", "|V8", "<M8[xx]", "what", "<U1000000000"):
        yield with_bytes(f"claim {kind}", archive(claiming("(3,)", kind)))


def benchmarks(folder: Path) -> Iterator[tuple[str, Case]]:
    """Benchmarks whose manifest or rows were changed."""
    place = folder / "benchmark"
    scene = (
        ma.Event("dog", 0.4, 2.1),
        ma.Event("car", 1.5, 8.8),
        ma.Event("rain", 3.0, 9.9),
        ma.Event("cat", 5.0, 6.0),
    )
    clip = ma.AudioClip(np.zeros(160_000, dtype=np.float32), 16_000)
    ma.temporal.build([ma.AnnotatedClip(clip, scene, id="a")]).save(place)
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))

    def with_manifest(name: str, value: Any) -> tuple[str, Case]:
        def case() -> Any:
            write_json(place / "manifest.json", value)
            return ma.temporal.load(place)

        return f"temporal.load({name})", case

    forged = {key: FORGED[key] for key in ("null", "-1", "true", "a text", "[[]]", "{}", "[5]")} | {"1e9": 1e9}
    for field in manifest:
        if field not in ("n_questions", "dropped_counts"):
            yield with_manifest(f"without {field}", {key: value for key, value in manifest.items() if key != field})
            for what, value in forged.items():
                usual = {"corpus": "x", "similarity": "x", "n_clips": -1, "seed": -1, "settings": {}}
                if value != usual.get(field, NOTHING_SAYS) or isinstance(value, bool):
                    yield with_manifest(f"{field} is {what}", manifest | {field: value})
    for name, value in (("margin", "x"), ("n_choices", 2.5), ("x", 1), ("margin_scope", "x"), ("wording", 99)):
        yield with_manifest(f"settings.{name}", manifest | {"settings": manifest["settings"] | {name: value}})
    for what in ([], None, 5, "x"):
        yield with_manifest(f"a manifest that is {what!r}", what)


def corpora(folder: Path) -> Iterator[tuple[str, Case]]:
    """Corpora that name files out of their folder, that are no corpora, or that have no recordings."""
    write_sound(folder / "outside.wav")
    audio = folder / "corpus" / "audio"
    write_sound(audio / "inside.wav")
    for name in ("../../outside.wav", str(folder / "outside.wav"), "/etc/hostname", "../audio/../../outside.wav"):
        table = folder / "corpus" / "events.tsv"

        def case(name: str = name, table: Path = table) -> Any:
            write_table(table, "file,onset,offset,label", (name, 0, 1, "dog"))
            return ma.data.annotations.load(table, audio=audio)

        yield f"annotations.load({name})", case
    for loader in ("annotations", "audio_grounding", "audioset_strong", "audiotime", "mmar", "mmau", "tacos"):
        load = getattr(ma.data, loader).load
        for name, content in (("empty", b""), ("zeros", b"\x00" * 99), ("broken", b"{"), ("latin", b"\xe9\xe8,x\n")):
            for ending in ("json", "csv", "tsv"):
                file = folder / f"{loader}-{name}.{ending}"

                def broken(file: Path = file, content: bytes = content, load: Callable = load) -> Any:
                    file.write_bytes(content)
                    return load(file)

                yield f"{loader}.load({name}.{ending})", broken
        yield f"{loader}.load(a folder that is not there)", lambda load=load: load(folder / "nowhere")


def recordings(folder: Path) -> Iterator[tuple[str, Case]]:
    """What is embedded of a benchmark that was loaded, and questions about files that are no sounds."""
    text = folder / "private.txt"
    text.write_text("-----BEGIN PRIVATE KEY-----")
    for name, content in (
        ("empty", b""),
        ("text", b"no sound"),
        ("riff", b"RIFF\x00\x00\x00\x00WAVE"),
        ("zeros", b"\x00" * 999),
    ):
        file = folder / f"{name}.wav"
        file.write_bytes(content)
        yield f"AudioClip.load({name})", lambda file=file: ma.AudioClip.load(file)
    yield "AudioClip.load(a folder)", lambda: ma.AudioClip.load(folder)
    yield "AudioClip.load(nothing)", lambda: ma.AudioClip.load(folder / "nowhere.wav")
    yield "AudioClip.load(/dev/zero)", lambda: ma.AudioClip.load("/dev/zero")

    def published(path: str | os.PathLike) -> Any:
        scene = (ma.Event("dog", 0.4, 2.1), ma.Event("car", 1.5, 8.8))
        settings = ma.temporal.Settings(n_choices=2)
        built = ma.temporal.build([ma.AnnotatedClip(path, scene, id="a")], settings=settings)
        return ma.temporal.load(built.save(folder / "forged", embed=False))

    sound = write_sound(folder / "elsewhere" / "private.wav")
    for path in (text, sound, Path("/etc/hostname")):
        yield f"benchmark of {path.name}.save()", lambda path=path: published(path).save(folder / "mine")
        yield f"benchmark of {path.name}.dataset()", lambda path=path: published(path).dataset()

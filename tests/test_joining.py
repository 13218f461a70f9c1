"""What people who join meet: citations, templates, and checks that run by themselves."""

import re

import pytest
import yaml

from tests.snippets import REPOSITORY
from tests.test_packaging import PYPROJECT

PAPERS = {"2606.17417", "2509.18816", "2511.11039", "2603.06854"}
WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
WRITTEN_AS_YAML = [
    *sorted((REPOSITORY / ".github").rglob("*.yml")),
    REPOSITORY / ".pre-commit-config.yaml",
    REPOSITORY / "CITATION.cff",
]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def parsed(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs():
    return [job for workflow in WORKFLOWS for job in parsed(workflow)["jobs"].values()]


def commands_of(job):
    """What the job runs, for each entry of its matrix."""
    targets = job["strategy"]["matrix"].get("target", [""])
    steps = [step["run"] for step in job["steps"] if "run" in step]
    return {step.replace("${{ matrix.target }}", target) for step in steps for target in targets}


@pytest.mark.parametrize("path", WRITTEN_AS_YAML, ids=lambda path: path.name)
def test_a_file_for_the_forge_can_be_parsed(path):
    assert parsed(path)


def test_every_target_that_a_workflow_makes_exists():
    made = {command for job in jobs() for command in commands_of(job)}
    assert {"make test", "make check", "make docs", "make dist", "make newest"} <= made
    words = {word for command in made for word in command.removeprefix("make ").split()}
    assert {word for word in words if "=" not in word} - TARGETS == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".github/pull_request_template.md"])
def test_every_target_that_a_page_for_contributors_names_exists(page):
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named - TARGETS == set()


def test_the_tests_run_on_every_python_that_the_package_says_it_takes():
    prefix = "Programming Language :: Python :: 3."
    promised = [line.split(":: ")[-1] for line in PYPROJECT["project"]["classifiers"] if line.startswith(prefix)]
    (tested,) = [job["strategy"]["matrix"]["python"] for job in jobs() if "python" in job["strategy"]["matrix"]]
    assert tested == promised


def test_the_newest_packages_are_tried_on_a_schedule():
    scheduled = [parsed(path) for path in WORKFLOWS if "schedule" in parsed(path)[True]]  # YAML 1.1 reads `on` as True
    made = {command for workflow in scheduled for job in workflow["jobs"].values() for command in commands_of(job)}
    assert "make newest" in made


def test_workflows_may_read_the_repository_and_change_nothing():
    assert {str(parsed(path)["permissions"]) for path in WORKFLOWS} == {"{'contents': 'read'}"}


def test_what_runs_before_a_commit_is_part_of_make_check():
    (local,) = parsed(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    lint = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    assert "\ncheck: lint " in MAKEFILE
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert f"$(BIN)/{hook['entry']}\n" in lint


def test_the_citation_names_this_version_its_licence_and_its_places():
    cited, project = parsed(REPOSITORY / "CITATION.cff"), PYPROJECT["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format asks for
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert (cited["repository-code"], cited["url"]) == (project["urls"]["Source"], project["urls"]["Documentation"])
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]


def test_the_page_on_citing_and_the_citation_file_agree_on_the_papers():
    page = (REPOSITORY / "docs/citing.md").read_text(encoding="utf-8")
    entries = {
        re.search(r"eprint\s+= \{(.+?)\}", entry)[1]: " ".join(entry.split())
        for entry in re.findall(r"```bibtex\n(.+?)```", page, re.DOTALL)
        if "eprint" in entry
    }
    papers = {paper["url"].rsplit("/")[-1]: paper for paper in parsed(REPOSITORY / "CITATION.cff")["references"]}
    assert set(entries) == set(papers) == PAPERS
    for number, paper in papers.items():
        names = [
            ", ".join(author[part] for part in ("family-names", "given-names") if part in author)
            for author in paper["authors"]
        ]
        assert f"title = {{{paper['title']}}}" in entries[number]
        assert f"author = {{{' and '.join(names)}}}" in entries[number]
        assert f"year = {{{paper['year']}}}" in entries[number]
        assert f"doi = {{{paper.get('doi', '')}}}" in entries[number] or "doi" not in paper


def test_the_version_that_the_page_on_citing_names_is_this_one():
    page = (REPOSITORY / "docs/citing.md").read_text(encoding="utf-8")
    assert re.search(r"version = \{(.+?)\}", page)[1] == PYPROJECT["project"]["version"]


@pytest.mark.parametrize(
    ("page", "section"),
    [
        ("temporal_benchmark", "failure-modes-in-temporal-understanding"),
        ("mata", "mata"),
        ("timeaudio", "timeaudio"),
        ("who_listens", "audio-specialist-heads"),
        ("steering", "audio-specialist-heads"),
    ],
)
def test_the_page_of_a_published_method_says_how_to_cite_it(page, section):
    citing = (REPOSITORY / "docs/citing.md").read_text(encoding="utf-8")
    assert f"(citing.md#{section})" in (REPOSITORY / f"docs/{page}.md").read_text(encoding="utf-8")
    assert section in [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", citing, re.MULTILINE)]

"""Studies from the command line on small SALMONN and TimeAudio folders, end to end."""

import json

import pytest

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.report import figures
from tests.families import network, processor

VERBS = {
    "temporal": ["--n", "5", "--factors", "0.5", "--biases", "2", "--queries", "last"],
    "specialists": ["--n", "10"],
    "patch": ["--n", "3", "--over", "layer,head"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def save(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            built = network(family)
            if (
                family == "timeaudio"
            ):  # its clips are longer than a window of 4 s; patching needs the same times in pairs
                built.config.merging = None
            built.save_pretrained(made[family])
            kept = processor(family)
            kept.sizes = {**kept.sizes, "merging": None} if family == "timeaudio" else kept.sizes
            kept.save_pretrained(made[family])
        return made[family]

    return save


#: One study of one class for `make test`, every one of both for `make check`.
STUDIES = [
    pytest.param(verb, family, marks=[] if (verb, family) == ("patch", "salmonn") else [pytest.mark.whole])
    for verb in VERBS
    for family in ("salmonn", "timeaudio")
]


@pytest.mark.filterwarnings("ignore:.*clips of different lengths")
@pytest.mark.parametrize(("verb", "family"), STUDIES)
def test_a_study_runs_to_its_page(folder, verb, family, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "browser", lambda: None)
    assert main([verb, "--model", str(folder(family)), *VERBS[verb], "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
    assert capsys.readouterr().out.rstrip().endswith("index.html")


def test_a_folder_remembers_how_its_tokens_are_counted(folder):
    model = ma.load(folder("timeaudio"), prove=False)
    assert model.network.config.merging is None
    settings = json.loads((folder("timeaudio") / "processor_config.json").read_text())
    assert settings["sizes"]["merging"] is None

"""Studies from the command line on small folders of the classes of mechaudio's own, end to end."""

import json
from copy import deepcopy

import pytest
import torch
from transformers import WhisperFeatureExtractor

import mechaudio as ma
from mechaudio.cli import main
from mechaudio.models.desta import network as desta
from mechaudio.report import figures
from tests.families import network, processor

pytestmark = pytest.mark.usefixtures("without_proofs")

VERBS = {
    "specialists": ["--n", "14"],
    "patch": ["--n", "3", "--over", "layer,head"],
}


def with_positions(network, frames):
    """A network whose Whisper hears so many frames at once."""
    encoder = network.perception.whisper.model.encoder
    generator = torch.Generator().manual_seed(0)
    encoder.embed_positions = torch.nn.Embedding(frames, encoder.embed_positions.embedding_dim)
    torch.nn.init.normal_(encoder.embed_positions.weight, generator=generator)
    network.config.audio_config.max_source_positions = encoder.config.max_source_positions = frames
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def save(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            built, kept = deepcopy(network(family)), processor(family)
            if family == "timeaudio":  # clips are longer than a window of 4 s; patching needs the same times in pairs
                built.config.merging = None
                kept.sizes = {**kept.sizes, "merging": None}
            if family == "desta25":  # clips of 10 s would be cut
                kept.feature_extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=10)
                built = with_positions(built, 500)
            built.save_pretrained(made[family])
            kept.save_pretrained(made[family])
        return made[family]

    return save


@pytest.fixture(autouse=True)
def no_page_is_drawn_and_transcripts_are_short(monkeypatch):
    monkeypatch.setattr(figures, "browser", lambda: None)
    monkeypatch.setattr(desta, "LONGEST_TRANSCRIPT", 4)  # a recogniser with random weights never ends by itself


#: Each class with the cheapest study; of those that take longer, DeSTA's is that of the paper's settings.
STUDIES = [
    ("patch", "salmonn"),
    *(
        pytest.param(verb, family, marks=pytest.mark.whole)
        for verb, family in (
            ("patch", "timeaudio"),
            ("patch", "kimi_audio"),
            ("patch", "desta25"),
            ("specialists", "kimi_audio"),
        )
    ),
]


@pytest.mark.filterwarnings("ignore:.*clips of different lengths")
@pytest.mark.filterwarnings("ignore:no detector of speech")
@pytest.mark.parametrize(("verb", "family"), STUDIES)
def test_a_study_runs_to_its_page(folder, verb, family, tmp_path, capsys):
    assert main([verb, "--model", str(folder(family)), *VERBS[verb], "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
    assert capsys.readouterr().out.rstrip().endswith("index.html")


@pytest.mark.filterwarnings("ignore:no detector of speech")
@pytest.mark.parametrize(
    ("family", "factor"), [("audioflamingo3", 2.0), pytest.param("desta25", 0.2, marks=pytest.mark.whole)]
)
def test_the_papers_settings_run_with_one_command(folder, family, factor, tmp_path):
    words = ["temporal", "--model", str(folder(family)), "--n", "5", "--paper", "--out", str(tmp_path / "page")]
    assert main(words) == 0
    study = ma.Result.load(tmp_path / "page" / "results")
    assert (study.settings.factors, study.settings.targeted) == ((factor,), "keyword+last")
    in_one = [(arm.strength, arm.queries, arm.layer) for arm in study.arms if arm.layer is not None]
    assert in_one == [(factor, "keyword+last", layer) for layer in range(3)], "every layer by itself"


def test_rows_that_see_no_sound_are_refused_before_anything_runs(folder, tmp_path, capsys):
    """Kimi-Audio was trained with the question in front of the clip."""
    words = ["temporal", "--model", str(folder("kimi_audio")), "--n", "5", "--out", str(tmp_path / "page")]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "rows 'keyword' see none of it, and there is nothing to change: give --queries last" in told.err
    assert "questions/s" not in told.err


def test_a_folder_remembers_how_its_tokens_are_counted(folder):
    model = ma.load(folder("timeaudio"), prove=False)
    assert model.network.config.merging is None
    settings = json.loads((folder("timeaudio") / "processor_config.json").read_text())
    assert settings["sizes"]["merging"] is None

"""What every verb does alike: its help, its model, its JSON; and completion and version of the whole."""

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.cli import main, models, parser
from mechaudio.cli.outcome import Outcome
from mechaudio.results import Result

(CHOSEN,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
VERBS = CHOSEN.choices
OPENING = [verb for verb in VERBS if verb not in ("models", "get", "assemble")]
KEYS = {"verb", "mechaudio", "rows", "tables", "provenance", "page", "results"}


#: Where an option has another default than in other verbs, as it has to.
OTHER_DEFAULTS = {
    "model": {"listen": None},  # tiny, or small where tiny does not know the words
    "max_new_tokens": {"ground": 200, "grounding": 200},  # lists of times; those of others say so where they write
    "n": {"demo": 60, "listens": 40, "patch": 24},  # a question costs many passes; None: all, or so many made ones
    "queries": {"temporal": None},  # it compares several, which its settings name
    "out": {"evaluate": None},  # which prints its counts, and every other leaves a page in a folder of its name
}


def test_an_option_has_one_default_in_all_verbs():
    defaults = {}
    for name, verb in VERBS.items():
        for option in verb._actions:
            if option.option_strings and not option.required:
                # what is not given may be None, or no values
                defaults.setdefault(option.dest, {})[name] = None if option.default == () else option.default
    assert len(defaults) > 40
    for word, by_verb in defaults.items():
        others = OTHER_DEFAULTS.get(word, {})
        assert {name: by_verb.pop(name) for name in others} == others, word
        if word == "out":
            assert by_verb == {name: Path("reports", name) for name in by_verb}
        else:
            assert len({repr(default) for default in by_verb.values()}) == 1, f"--{word}: {by_verb}"


def words_of(verb, *more):
    """The least that a verb has to be given, and more."""
    needed = {
        "check": ["tiny"],
        "get": ["small"],
        "ground": ["a.wav", "--query", "hum"],
        "listen": ["a.wav", "--question", "Which?", "--choices", "hum", "beep"],
    }
    return [verb, *needed.get(verb, []), *more]


def refused(capsys, *words):
    """The one message of a command that ends in exit code 2, and leaves stdout empty."""
    try:
        code = main(list(words))
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    return said.err


def as_json(capsys, *words, code=0):
    """The one object on stdout, in which nothing is NaN or infinite."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert main([*map(str, words), "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    told = json.loads(out, parse_constant=refuse)
    assert set(told) >= KEYS
    assert (told["verb"], told["mechaudio"]) == (words[0], ma.__version__)
    return told


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    AudioClip(0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32), 16_000).save(path)
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_does_and_leaves_with_examples_that_the_parser_takes(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    description = " ".join(told.split("\n\n")[1].split())
    assert len(description.split(". ")) == 2
    assert "It leaves" in description or "It prints" in description
    examples = [line.strip() for line in told.split("for example:\n")[1].splitlines()]
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "mechaudio"
        assert parser().parse_args(words).verb == verb


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mechaudio {ma.__version__}\n"


@pytest.mark.parametrize("verb", OPENING)
def test_every_verb_that_opens_a_model_passes_on_how(verb, monkeypatch, tmp_path, capsys, clip):
    class Opened(Exception):
        pass

    def load(name, **options):
        raise Opened(name, options)

    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "load", load)
    monkeypatch.setattr("mechaudio.cli.mistakes.telling", lambda _about: pytest.MonkeyPatch.context())
    words = words_of(verb, "--device", "cuda:1", "--dtype", "bfloat16", "--revision", "v2")
    words = [str(clip) if word == "a.wav" else word for word in words]
    words += [] if verb in ("check", "ground") else ["--out", str(tmp_path / "out")]
    with pytest.raises(Opened) as opened:
        main(words)
    name, options = opened.value.args
    assert name == "tiny"
    assert options | {"prove": None} == {"device": "cuda:1", "dtype": "bfloat16", "revision": "v2", "prove": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "abacus"], r"--device abacus cannot be used here: there (is|are) cpu"),
        (["--device", "meta"], r"--device meta holds shapes and no numbers: there (is|are) cpu"),
        (["--dtype", "int8"], "--dtype: invalid choice: 'int8' .choose from '?auto'?, '?bfloat16'?, '?float16"),
        (["--revision", "v2"], "--revision v2 is of the hub, and 'tiny' is a folder: leave it out"),
    ],
)
def test_a_model_that_cannot_be_opened_so_is_refused_with_what_there_is(capsys, words, said):
    assert re.search(said, " ".join(refused(capsys, "evaluate", *words, "--json").split()))


def test_a_revision_that_is_not_there_is_refused_with_those_of_the_cache(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--listener"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "README.md").write_text("A model.")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for there, said in (
        (tmp_path, "the hub's cache holds 01234567 main"),
        (tmp_path / "no", "the hub's cache holds none of it"),
    ):
        with pytest.raises(
            ValueError, match=f"revision='v2' of 'someone/listener' cannot be had: {said}. Give a branch"
        ):
            ma.load("someone/listener", revision="v2", cache_dir=there, local_files_only=True)


def test_models_names_those_that_need_no_hub(capsys):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n'{name}' is " in said for name in ("tiny", "toy", "small"))


@pytest.mark.parametrize("verb", OPENING)
def test_the_help_of_a_verb_names_every_model_that_needs_no_hub(verb):
    said = " ".join(VERBS[verb].format_help().split())
    assert "tiny, toy, small, a hub id or a local folder" in said or "{tiny,small}" in said


def test_demo_without_the_files_of_small_says_how_to_get_them(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "`mechaudio get small` fetches both" in refused(capsys, "demo", "--model", "small", "--out", str(tmp_path))


def test_models_as_json_are_the_classes(capsys):
    told = as_json(capsys, "models")
    rows = {row["class"]: row for row in told["rows"]}
    assert rows["Qwen2AudioForConditionalGeneration"]["milliseconds_per_token"] == 40
    assert "Qwen/Qwen2-Audio-7B-Instruct" in rows["Qwen2AudioForConditionalGeneration"]["checkpoints"]


def test_check_as_json_is_its_proofs(capsys):
    document = as_json(capsys, "check", "toy")
    assert document["holds"] is True
    moved = {row["hook_point"]: row["change"] for row in document["rows"] if row["hook_point"]}
    assert moved["blocks.3.attn.pattern"] > 0


def test_listen_as_json_has_a_row_per_choice(capsys, clip, tmp_path):
    words = ["listen", clip, "--question", "Which sound has the earliest onset?", "--choices", "siren", "hum"]
    told = as_json(capsys, *words, "--out", tmp_path / "out")
    kept = Result.load(told["results"])
    assert [row["probabilities"] for row in told["rows"]] == kept.probabilities.tolist()
    assert told["choice"] == kept.choice
    assert told["page"] == str(tmp_path / "out" / "index.html")


def test_listen_as_json_says_what_was_written_and_changed(capsys, clip, tmp_path):
    words = ["listen", clip, "--question", "What do you hear?", "--scale", 1.5, "--layers", 2, 3, "--max-new-tokens", 4]
    told = as_json(capsys, *words, "--out", tmp_path)
    kept = Result.load(told["results"])
    assert told["choice"] == kept.choice
    assert told["interventions"] == [repr(ma.ScaleAttention(1.5, layers=[2, 3]))]
    assert told["unchanged_choice"] == kept.unchanged_choice is not None


def test_listen_says_what_it_answers_without_a_change(capsys, clip, tmp_path):
    words = ["listen", clip, "--question", "Which sound has the earliest onset?", "--choices", "siren", "hum"]
    assert main([*map(str, words), "--scale", "3", "--out", str(tmp_path)]) == 0
    printed, kept = capsys.readouterr().out, Result.load(tmp_path / "results")
    assert all(f"unchanged {value:6.1%})" in printed for value in kept.unchanged_probabilities)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"Without it the model chose <strong>{kept.unchanged_choice}</strong>" in page


@pytest.mark.whole
def test_demo_as_json_has_a_row_per_condition_and_question(capsys, tmp_path):
    document = as_json(capsys, "demo", "--n", 1, "--out", tmp_path)
    assert len(document["rows"]) == 2
    assert {row["condition"] for row in document["rows"]} == {"audio", "silence"}


def test_evaluate_as_json_has_a_row_per_question_beside_its_counts(capsys, tmp_path):
    told = as_json(capsys, "evaluate", "--n", 3, "--dtype", "bfloat16", "--out", tmp_path)
    assert len(told["rows"]) == told["n"] == 3
    assert told["right"] == sum(row["correct"] for row in told["rows"])
    assert told["results"] == str(tmp_path)
    assert told["provenance"]["settings"]["data"] == "soundscapes"


@pytest.mark.parametrize(
    "words",  # those of the other studies are held to it where their commands run
    [
        pytest.param(["temporal", "--n", "6", "--factors", "0.5", "--biases", "2"], marks=pytest.mark.whole),
        ["patch", "--n", "2", "--over", "layer"],
        ["listens", "--n", "2"],
    ],
    ids=lambda words: words[0],
)
def test_a_study_as_json_has_the_tables_that_it_writes(words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("mechaudio.report.figures.browser", lambda: None)
    told = as_json(capsys, *words, "--model", "toy", "--data", "toy", "--seed", 3, "--out", tmp_path)
    assert told["tables"]
    for name, rows in told["tables"].items():
        assert rows == json.loads((tmp_path / "tables" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    assert told["rows"]
    assert Result.load(told["results"]).provenance.checkpoint == told["provenance"]["checkpoint"] == "toy"


def test_what_others_print_while_a_verb_runs_is_kept_off_stdout(capsys, monkeypatch):
    def run(_arguments):
        sys.stdout.write("downloading\n")
        return Outcome("words", rows=[{"share": math.nan, "most": np.float32("inf"), "n": np.int64(3), "at": None}])

    monkeypatch.setattr(models, "run", run)
    assert as_json(capsys, "models")["rows"] == [{"share": None, "most": None, "n": 3, "at": None}]
    main(["models", "--json"])
    assert "downloading" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_with_every_verb_and_option(capsys, shell):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        main(["--completion", shell])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert name in script
        assert all(option.removeprefix("--") in script for option in verb._option_string_actions if len(option) > 2)


def test_bash_completes_a_verb_and_a_path(capsys, tmp_path):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--completion", "bash"])
    words = ["spec); COMP_CWORD=1", f"assemble kimi --checkpoint {tmp_path}/p); COMP_CWORD=4"]
    (tmp_path / "part.pth").touch()
    tried = [f"COMP_WORDS=(mechaudio {each}; _shtab_mechaudio; echo ${{COMPREPLY[@]}}" for each in words]
    script = "\n".join([capsys.readouterr().out, *tried])
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["specialists", f"{tmp_path}/part.pth"]


def test_completion_says_which_package_it_needs(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install 'mechaudio[completion]'" in refused(capsys, "--completion", "bash")


def test_an_unknown_shell_is_refused_with_those_there_are(capsys):
    assert "bash" in refused(capsys, "--completion", "csh")

import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.cli import listen as listen_verb
from mechaudio.cli import main
from mechaudio.cli.outcome import Outcome, fitted
from mechaudio.data import toy_questions
from mechaudio.experiments.listen import unreadable_words
from mechaudio.models.registry import ADAPTERS
from mechaudio.models.small.answers import RECORDED, TRAINED
from mechaudio.tracing.load import load
from mechaudio.tracing.sites import HookPointError

pytestmark = pytest.mark.usefixtures("without_proofs")  # but for the demo, whose model is proven
WEIGHTS = Path(ma.__file__).parent / "models" / "tiny" / "weights"
ASK = ["--question", "Which sound has the earliest onset?", "--choices", "siren", "hum"]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip <b>.wav"
    AudioClip(0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32), 16_000).save(path)
    return path


def test_models_lists_every_class_with_its_checkpoints(capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"Qwen2AudioForConditionalGeneration +40 +30 s, then cut +whole clips\n", told)
    assert re.search(
        r"Gemma4ForConditionalGeneration +40 +30 s, then cut +own code, windows +\d+(-\d+)?(, \d+(-\d+)?)*\n", told
    )
    checkpoints = [name for adapter in ADAPTERS for name in adapter.checkpoints]
    assert all(f"\n  {name}\n" in told for name in checkpoints)
    assert {"mispeech/r1-aqa", "KE-Team/Ke-Omni-R-3B", "Qwen/Qwen2.5-Omni-3B"} < set(checkpoints)
    assert max(map(len, told.splitlines())) <= 120
    flat = re.sub(r"\s+", " ", told)
    assert all(re.sub(r"\s+", " ", said) in flat for adapter in ADAPTERS for said in adapter.caveats)


def test_check_prints_every_proof(capsys):
    assert main(["check", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert "ok   blocks.5.attn.pattern" in printed
    assert "ok   attn_out and mlp_out are what is added to the residual stream" in printed
    assert "ok   the logits are its own, and what lenses read out of the last residual stream" in printed
    assert "leaves the logits as they were, to the last bit" in printed
    assert printed.splitlines()[-1] == f"all {len(printed.splitlines()) - 2} proofs hold"
    assert "FAIL" not in printed


def test_check_says_which_proof_fails(capsys, tmp_path):
    net = load("tiny", prove=False).network
    net.model.language_model.layers[-1].mlp.down_proj.weight.data.zero_()
    net.model.language_model.layers[-1].self_attn.o_proj.weight.data.zero_()
    net.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds no processor"), pytest.warns(UserWarning, match="holds zeros alone"):
        assert main(["check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL blocks.5.attn.z" in printed
    assert re.fullmatch(rf"{printed.count('FAIL ')} of \d+ proofs failed", printed.splitlines()[-1])


def refused(capsys, *words):
    """The one message of a command that ends in exit code 2."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def refused_by_the_parser(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_missing_file_is_named(capsys, tmp_path):
    assert "nowhere.wav" in refused(capsys, "listen", tmp_path / "nowhere.wav", *ASK, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_sound_is_named(capsys, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"this is not sound")
    assert "bad.wav" in refused(capsys, "listen", bad, *ASK, "--out", tmp_path / "out")


def test_one_choice_is_no_choice(capsys, clip, tmp_path):
    said = refused(capsys, "listen", clip, "--question", "Which?", "--choices", "dog", "--out", tmp_path)
    assert "--choices needs at least two options, got ['dog']" in said


def test_rows_that_listen_are_not_looked_for_on_one_question(capsys, clip, tmp_path):
    said = refused(capsys, "listen", clip, *ASK, "--scale", "2", "--queries", "listening", "--out", tmp_path)
    assert "`mechaudio listens` finds them for a model; give these, such as --queries keyword+last" in said


def test_an_answer_that_is_no_choice_is_refused(capsys, clip, tmp_path):
    assert "'cat'" in refused(capsys, "listen", clip, *ASK, "--answer", "cat", "--out", tmp_path)


def test_an_unknown_model_is_told_what_can_be_given(capsys, clip, tmp_path):
    said = refused(capsys, "listen", clip, *ASK, "--model", "/nowhere/at/all", "--out", tmp_path)
    assert "cannot open model '/nowhere/at/all'" in said
    assert "'tiny'" in said


def test_a_folder_that_cannot_be_written_is_named_before_any_work_is_done(capsys, clip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write to --out" in refused(capsys, "listen", clip, *ASK, "--out", tmp_path / "file" / "out")
    assert "cannot write to --out" in refused(capsys, "demo", "--out", tmp_path / "file")


def test_a_file_given_for_the_folder_of_a_page_is_told_what_to_give(capsys, clip, tmp_path):
    said = refused(capsys, "listen", clip, *ASK, "--out", clip)
    assert f"cannot write to --out {clip}: it is no folder, and a page goes into one. Give a folder" in said
    assert not list(tmp_path.glob("*-page"))


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the shipped model's files."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "checkpoint"))


def test_weights_that_were_cut_off_are_told_as_such(capsys, checkpoint):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20_000])
    said = refused(capsys, "evaluate", "--model", checkpoint)
    assert f"cannot open model '{checkpoint}': '{weights}' (20,000 bytes) is no whole safetensors file" in said
    assert "fetch or save it again" in said


def test_a_folder_without_a_tokenizer_is_told_what_to_save_there(capsys, checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    said = refused(capsys, "evaluate", "--model", checkpoint)
    assert f"cannot ask model '{checkpoint}': the folder holds no tokenizer (none of tokenizer.json, " in said
    assert ".save_pretrained(FOLDER)" in said


@pytest.mark.parametrize("error", [HookPointError("no module at 'x.y'"), ImportError("needs mistral-common")])
def test_what_keeps_a_model_from_being_opened_is_told_without_a_traceback(capsys, monkeypatch, error):
    def load(*_words, **_options):
        raise error

    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "load", load)
    assert refused(capsys, "evaluate") == f"mechaudio evaluate: cannot open model 'tiny': {error}\n"
    assert refused(capsys, "check", "tiny") == f"mechaudio check: cannot open model 'tiny': {error}\n"


def test_weights_that_give_no_numbers_are_told_by_check(capsys, tmp_path):
    net = load("tiny", prove=False).network
    net.model.language_model.norm.weight.data.fill_(float("nan"))
    net.save_pretrained(tmp_path)
    assert main(["check", str(tmp_path)]) == 2
    assert "NaN" in capsys.readouterr().err


def test_a_warning_is_told_as_its_message_alone(monkeypatch):
    usual = warnings.formatwarning

    def warned(arguments):
        told = warnings.formatwarning(UserWarning("two heads are alike"), UserWarning, "heads.py", 7, "warn()")
        assert told == "two heads are alike\n"
        return Outcome("")

    monkeypatch.setattr("mechaudio.cli.models.run", warned)
    assert main(["models"]) == 0
    assert warnings.formatwarning is usual


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_that_is_wider_than_the_terminal_is_broken_between_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    text = "ok   resid_pre\n  answer: chirp from 0.5 to /a/long-path/of-a/page.html"
    assert fitted(text, io.StringIO()) == text == fitted(text, None)
    assert fitted(text, Terminal()).split("\n") == [
        "ok   resid_pre", "  answer: chirp from", "    0.5 to", "    /a/long-path/of-a/page.html"
    ]  # fmt: skip


def test_ctrl_c_stops_without_a_traceback(capsys, monkeypatch):
    def load(*_words, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("mechaudio.tracing.load"), "load", load)
    assert main(["evaluate"]) == 130
    assert (
        capsys.readouterr().err
        == "\nmechaudio evaluate: stopped. To go on, give the same command again: it begins anew\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--condition", "noise"], "invalid choice: 'noise'"),
        (["evaluate", "--data", "music"], "invalid choice: 'music'"),
        (["evaluate", "--n", "0"], "must be at least 1, got 0"),
        (["evaluate", "--n", "many"], "must be a whole number, got 'many'"),
        (["evaluate", "--seed", "-1"], "must be at least 0, got -1"),
        (["demo", "--seed", "-1"], "must be at least 0, got -1"),
        (["listen", "clip.wav"], "the following arguments are required: --question"),
        (["sing"], "invalid choice: 'sing'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_the_parser_does_not_know_ends_in_exit_code_2(capsys, words, said):
    assert said in refused_by_the_parser(capsys, *words)


def test_listen_writes_a_page_about_anyones_recording_and_keeps_the_result(capsys, clip, tmp_path):
    from mechaudio.results import Result

    out = tmp_path / "out"
    assert main(["listen", str(clip), *ASK, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(listen_verb.TINY_HEARS)
    said = said.out.splitlines()
    assert said[-1] == str(out / "index.html")
    assert len([line for line in said if line.startswith("→")]) == 1
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "clip &lt;b&gt;.wav" in page
    assert "clip <b>" not in page
    assert "This model was trained on synthetic sounds only, never on a recording." in page
    kept = Result.load(out / "results")
    assert kept.choices == ("siren", "hum")
    assert kept.probabilities.sum() == pytest.approx(1)


def listening_to(clip, *choices, out, model=None, text="Which?"):
    named = [] if model is None else ["--model", model]
    offered = ["--choices", *choices] if choices else []
    return ["listen", str(clip), "--question", text, *offered, *named, "--out", str(out)]


def without_small(monkeypatch):
    def absent(part, _given=None):
        raise FileNotFoundError(part.name)

    monkeypatch.setattr("mechaudio.models.small.parts.located", absent)


@pytest.mark.parametrize(
    ("choices", "text", "named", "reason"),
    [
        (("hum", "zebra"), "Which?", None, "tiny has no token for zebra (the sounds that it knows are hum, whistle"),
        (("hum", "zebra"), "Which?", "tiny", "tiny has no token for zebra"),
        (("hum", "siren"), "Is there a dog?", None, "tiny has no token for Is, there, dog"),
        (("sound", "hum"), "Which sound starts first?", None, "tiny was never trained to hear sound"),
        (("hum", "siren"), "What is the sound?", "tiny", "never trained to answer 'What is the sound?' (it was: which"),
        ((), "What is the sound?", None, "'What is the sound?' (it was: Describe the sound events., "),
        ((), "Which sound starts first?", None, "tiny was never trained to answer 'Which sound starts first?'"),
    ],
)
def test_a_model_that_would_answer_noise_is_not_asked_and_models_that_would_not_are_named(
    capsys, clip, tmp_path, monkeypatch, choices, text, named, reason
):
    without_small(monkeypatch)
    assert main(listening_to(clip, *choices, out=tmp_path / "out", model=named, text=text)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert reason in said.err
    assert "--model Qwen/Qwen2-Audio-7B-Instruct or --model mistralai/Voxtral-Mini-3B-2507" in said.err
    assert not (tmp_path / "out" / "index.html").exists()


@pytest.mark.whole
def test_where_small_would_do_the_refusal_says_how_to_get_it(capsys, clip, tmp_path, monkeypatch):
    without_small(monkeypatch)
    assert main(listening_to(clip, *RECORDED[5:7], out=tmp_path)) == 2
    assert "`mechaudio get small` fetches one that was trained on recordings (174 MB, once)." in capsys.readouterr().err
    assert main(listening_to(clip, "bell", "zebra", out=tmp_path)) == 2
    assert "get small" not in capsys.readouterr().err


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore:the model has no token for:UserWarning")  # the stand-in reads fewer words
@pytest.mark.parametrize(("choices", "code"), [(RECORDED[5:7], 0), (("bell", "zebra"), 2)])
def test_small_is_asked_where_it_is_installed_and_was_trained_on_the_choices(
    capsys, clip, tmp_path, monkeypatch, choices, code
):
    stands_in, opened = load("toy", prove=False), listen_verb.opened
    stands_in.trained_choices = TRAINED
    monkeypatch.setattr("mechaudio.models.small.parts.located", lambda part, given=None: Path(part.name))
    monkeypatch.setattr(listen_verb, "opened", lambda words: stands_in if words.model == "small" else opened(words))
    monkeypatch.setattr(
        import_module("mechaudio.experiments.listen"),
        "unreadable_words",
        lambda tokenizer, text: () if tokenizer is stands_in.processor.tokenizer else unreadable_words(tokenizer, text),
    )
    assert main(listening_to(clip, *choices, out=tmp_path)) == code
    said = capsys.readouterr().err
    if code == 0:
        assert "tiny has no token for" in said
        assert "small is asked instead." in said
    else:
        assert "small was never trained to hear zebra: the answer would be noise" in said


def test_small_is_named_beside_what_tiny_answers_and_refuses_where_it_is_installed(capsys, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("mechaudio.models.small.parts.located", lambda part, given=None: Path(part.name))
    for text, code in (("What do you hear?", 0), ("What is the sound?", 2)):
        assert main(listening_to(clip, out=tmp_path, model="tiny", text=text)) == code
        assert "--model small asks one that was trained on recordings." in capsys.readouterr().err


def test_a_recording_longer_than_the_model_hears_is_cut_and_said_to_be(capsys, tmp_path):
    path = tmp_path / "long.wav"
    AudioClip(0.1 * np.random.default_rng(0).standard_normal(16_000 * 12).astype(np.float32), 16_000).save(path)
    assert main(["listen", str(path), *ASK, "--out", str(tmp_path)]) == 0
    assert f"The model does not hear the last 2.0 s of {path}." in capsys.readouterr().err
    assert "so 2.0 s at the end of the file were left out" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_demo_proves_the_model_and_writes_a_page_with_a_question_of_each_task(capsys, tmp_path, monkeypatch):
    proven = []
    monkeypatch.setattr("mechaudio.tracing.check.prove_hook_points", proven.append)
    assert main(["demo", "--out", str(tmp_path), "--n", "3"]) == 0
    assert len(proven) == 1
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}\n"
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(task in page for task in ("Earliest onset", "Latest offset", "Longest duration"))
    assert (tmp_path / "index.html").stat().st_size < 11e6


def test_evaluate_prints_one_json_object_and_no_bar_where_nobody_watches(capsys):
    assert main(["evaluate", "--model", "tiny", "--n", "6", "--seed", "7", "--condition", "silence", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["n"] == 6
    assert found["condition"] == "silence"
    assert found["accuracy"] == found["right"] / 6
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert {task: score["n"] for task, score in found["tasks"].items()} == {
        "earliest_onset": 2,
        "latest_offset": 2,
        "longest_duration": 2,
    }
    assert said.err == ""


def test_evaluate_can_be_read_without_json(capsys):
    assert main(["evaluate", "--n", "3"]) == 0
    said = capsys.readouterr().out
    assert "tiny on soundscapes (seed 7), condition audio" in said
    assert "all " in said


def test_the_toy_is_asked_its_own_questions(capsys):
    model = load("toy", prove=False)
    answers = ma.answer(model, ma.prompt(model, toy_questions.questions(6, seed=1)))
    right = sum(answer.correct for answer in answers)
    assert main(["evaluate", "--model", "toy", "--data", "toy", "--n", "6", "--seed", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data"], told["n"], told["right"]) == ("toy", 6, right)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "mechaudio", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141

"""A run that is taken up is the run that was begun: of the same network to the byte, with the same lines."""

import hashlib
import json
import os
import re
import shutil
from argparse import Namespace
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import mechaudio as ma
from mechaudio.audio.stored import StoredClip
from mechaudio.cli import main
from mechaudio.cli.mistakes import writable
from mechaudio.cli.studies import keep
from mechaudio.experiments import mata_study, specialists_study, steering_study, temporal_study
from mechaudio.experiments.log_lines import signed
from mechaudio.experiments.run_log import LOG_NAME
from mechaudio.results import folder_of_run
from mechaudio.timeaudio import Stage, load_trained, train
from mechaudio.tracing.fingerprint import _part, fingerprint, weight_digests
from tests.families import FAMILIES, KINDS, network, thinned
from tests.timeaudio.opened import opened, three_questions

LAYER = "model.language_model.layers.1"


@pytest.fixture
def fresh():
    """A model to be changed."""
    return ma.load("toy", prove=False)


@pytest.fixture(scope="module")
def questions():
    return ma.data.toy_questions.questions(3, seed=3)


@pytest.fixture(scope="module")
def finished(toy, questions, tmp_path_factory):
    """The folder of a finished run, which stays as it is."""
    out = tmp_path_factory.mktemp("finished")
    ma.evaluate(toy, questions, out=out)
    return out


@pytest.fixture
def log(finished, tmp_path):
    """The log of a finished run, in a folder of its own."""
    return shutil.copytree(finished, tmp_path / "run") / LOG_NAME


def change(log, number, resign=True, **parts):
    """Change parts of a line; unless told otherwise with new checksums in all lines, as a forger would."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[number - 1] |= parts
    if resign:
        written, checksum = [], ""
        for line in lines:
            line.pop("checksum")
            text, checksum = signed(line, checksum)
            written.append(text)
    else:
        written = [json.dumps(line) + "\n" for line in lines]
    log.write_text("".join(written))


# Another network.


def negated(model, path):
    """Every other number of a tensor negated, but none of those that a digest of a few would look at."""
    weight = model.network.get_parameter(path).data.view(-1)
    chosen = torch.arange(len(weight)) % max(1, len(weight) // 16) % 2 == 1
    weight[chosen] *= -1


def one_number(model):
    model.network.get_parameter(f"{LAYER}.mlp.down_proj.weight").data[3, 5] += 1e-7


def one_bit_of_a_buffer(model):
    next(model.network.buffers()).view(-1)[-1:].view(torch.uint8)[0] ^= 1


def a_sign_of_zero(model):
    weight = model.network.get_parameter(f"{LAYER}.mlp.down_proj.weight").data
    weight.view(-1)[:1] = -0.0 if not weight.view(-1)[0].signbit() else 0.0


def a_scaling(model):
    model.network.get_submodule(f"{LAYER}.self_attn").scaling *= 2


def an_activation(model):
    model.network.get_submodule("model.audio_tower.layers.0.activation_fn").act = torch.tanh


def a_setting(model):
    model.network.config.text_config.rms_norm_eps = 0.1


def a_hook(model):
    model.network.get_submodule(LAYER).register_forward_hook(lambda _layer, _args, out: 2 * out)


def a_template(model):
    model.processor.chat_template = "{{ messages }}"


def the_generation(model):
    model.network.generation_config.eos_token_id = 9


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda model: negated(model, f"{LAYER}.mlp.up_proj.weight"), rf"weights differ in 1 part of .* \({LAYER}\)"),
        (one_number, rf"weights differ in 1 part of the network \({LAYER}\)"),
        (one_bit_of_a_buffer, "weights differ in 1 part of the network"),
        (a_sign_of_zero, rf"weights differ in 1 part of the network \({LAYER}\)"),
        (a_scaling, rf"weights differ in 1 part of the network \({LAYER}\)"),
        (an_activation, r"weights differ in 1 part of the network \(model.audio_tower.layers.0\)"),
        (a_setting, r"config.text_config.rms_norm_eps was '.*' and is '0.1'"),
        (a_hook, rf"cannot say what 1 forward hook does on the network \({LAYER}: .*a_hook"),
        (a_template, "processor was '.*' and is '.*'"),
        (the_generation, "generation.eos_token_id was .* and is 9"),
        (lambda model: model.network.double(), r"weights differ in \d+ parts of the network \(.* and \d+ more\)"),
        (lambda model: model.network.train(), "is in training mode"),
    ],
)
def test_another_network_is_refused_with_what_differs(fresh, questions, log, edit, told):
    before = log.read_bytes()
    edit(fresh)
    with pytest.raises(ValueError, match=told):
        ma.evaluate(fresh, questions, out=log.parent)
    assert log.read_bytes() == before


def test_the_same_network_opened_again_goes_on(fresh, questions, log):
    again = ma.evaluate(fresh, questions, out=log.parent)
    assert len(again.ids) == 3


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_the_digest_of_every_class_sees_every_tensor_and_is_the_same_again(family):
    net = network(family)
    known = weight_digests(net)
    assert known == weight_digests(network(family))
    held = {}  # part of the digest -> its tensors
    for name, tensor in [*net.named_parameters(), *((name, one) for name, one in net.named_buffers() if one.numel())]:
        held.setdefault(_part(name.rpartition(".")[0]) or type(net).__name__, []).append((name, tensor))
    shares = (0.0, 0.5, 1.0) if family in KINDS else (FAMILIES.index(family) / len(FAMILIES),)
    for share in shares:  # the last byte of one tensor in every part, of another one in every class
        changed = {part: each[round(share * (len(each) - 1))] for part, each in held.items()}
        bytes_of = [tensor.detach().view(-1)[-1:].view(torch.uint8) for _, tensor in changed.values()]
        for byte in bytes_of:
            byte[0] ^= 1
        now = weight_digests(net)
        assert [name for part, (name, _) in changed.items() if now[part] == known[part]] == []
        for byte in bytes_of:
            byte[0] ^= 1


def test_the_digest_does_not_depend_on_where_weights_are(tmp_path):
    net = network("qwen2_audio")
    net.save_pretrained(tmp_path)
    layers = {f"model.language_model.layers.{layer}": "disk" for layer in range(3)}
    rest = ("embed_tokens", "norm", "rotary_emb")
    placed = layers | {f"model.language_model.{part}": "cpu" for part in rest}
    placed |= dict.fromkeys(("model.audio_tower", "model.multi_modal_projector", "lm_head"), "cpu")
    with pytest.warns(UserWarning, match="holds no processor"):
        spread = ma.load(tmp_path, device_map=placed, offload_folder=tmp_path / "offloaded", prove=False)
    assert weight_digests(spread.network) == weight_digests(net)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_packed_weights_are_seen_too():
    class Packed(nn.Module):
        def __init__(self, number):
            super().__init__()
            weight = torch.quantize_per_tensor(torch.full((2, 2), number), 0.1, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(weight, None)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[f"{prefix}packed"] = torch.ops.quantized.linear_unpack(self.packed)

    assert weight_digests(Packed(0.5)) == weight_digests(Packed(0.5))
    assert weight_digests(Packed(0.5)) != weight_digests(Packed(0.6))


def test_a_digest_is_that_of_the_bytes():
    module = nn.Linear(2, 1, bias=False)
    digest = hashlib.sha256(b".weight" + b"Parameter [1, 2] torch.float32" + module.weight.detach().numpy().tobytes())
    attributes = [
        hashlib.sha256(f".{name}{size!r}".encode()) for name, size in (("in_features", 2), ("out_features", 1))
    ]
    kind = hashlib.sha256(repr("torch.nn.modules.linear.Linear").encode())
    joined = b"".join(sorted(one.digest() for one in (digest, kind, *attributes)))
    assert weight_digests(module) == {"Linear": hashlib.sha256(joined).hexdigest()[:16]}


def test_nothing_is_kept_between_two_digests(fresh):
    before = fingerprint(fresh)
    weight = fresh.network.get_parameter("lm_head.weight")
    version = weight._version
    weight.data.neg_()
    assert weight._version == version  # PyTorch did not notice
    assert fingerprint(fresh)["weights"]["lm_head"] != before["weights"]["lm_head"]


# Other lines.


@pytest.mark.parametrize(
    "parts",
    [
        {"logits": [[99.0, 0.0, 0.0, 0.0]]},
        {"options": ["x", "y"]},
        {"answer": "zzz"},
        {"index": -1},
        {"index": 7},
        {"error": "gone"},
        {"task": "another"},
        {"checksum": "0" * 16},
        {"checksum": None},
    ],
)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_line_that_was_changed_is_refused_with_its_number(toy, questions, log, number, parts):
    change(log, number, resign=False, **parts)
    with pytest.raises(ValueError, match=rf"answers.jsonl' is damaged at line {number}: .* not as it was written"):
        ma.evaluate(toy, questions, out=log.parent)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"index": -1}, "damaged at line 3: index is -1"),
        ({"index": True}, "damaged at line 3: index is True"),
        ({"index": 0}, "damaged at line 3: question 0 was answered in an earlier line"),
        ({"index": 3}, "question 3|asked 4 questions before, and 3 are given"),
        ({"options": ["x", "y"]}, "damaged at line 3: it does not have one logit for each of 2 choices"),
        ({"options": ["w", "x", "y", "z"]}, "question . .* is kept with .* other choices"),
        ({"answer": "zzz"}, "question . .* is kept with .* another answer"),
        ({"answer": 5}, "damaged at line 3: answer is 5"),
        ({"task": "another"}, "question . .* is kept with .* task"),
        ({"id": "another"}, "question . .* is kept with another id"),
        ({"logits": [[1.0]]}, "damaged at line 3: it does not have one logit for each of 4 choices"),
        ({"logits": []}, "damaged at line 3: it holds neither an error nor an answer"),
        ({"logits": None}, "damaged at line 3: logits is None"),
        ({"logits": [["1", 0.0, 0.0, 0.0]]}, "damaged at line 3: logits is"),
        ({"logits": [[1.0, 0.0, 0.0, 0.0]] * 2}, "damaged at line 3: it has 2 answers, and 1 were asked for"),
        ({"texts": ["A"]}, "damaged at line 3: it holds logits and texts"),
        ({"error": "gone"}, "damaged at line 3: it holds an error and answers"),
        ({"batch": 5}, "damaged at line 3: a line of batch 5 is out of place"),
        ({"of": 0}, "damaged at line 3: of is 0"),
    ],
)
def test_a_line_that_says_what_no_line_can_say_is_refused_even_with_new_checksums(toy, questions, log, parts, told):
    change(log, 3, **parts)
    with pytest.raises(ValueError, match=told):
        ma.evaluate(toy, questions, out=log.parent)


def test_lines_that_change_places_or_are_taken_out_are_refused(toy, questions, log):
    header, first, second, third = log.read_text().splitlines(keepends=True)
    for lines in ((header, second, first, third), (header, second, third), (header, first, first, second, third)):
        log.write_text("".join(lines))
        with pytest.raises(ValueError, match=r"damaged at line [23]: it, or the line before it, is not as it was"):
            ma.evaluate(toy, questions, out=log.parent)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"batch_positions": None}, "damaged at line 1: batch_positions is None"),
        ({"batch_positions": "many"}, "damaged at line 1: batch_positions is 'many'"),
        ({"created": 5}, "damaged at line 1: created is 5"),
        ({"run": []}, "does not begin as a run of mechaudio does"),
        ({"schema": "two"}, "does not begin as a run of mechaudio does"),
        ({"schema": 2}, "has format 2, and 3 is known: an earlier version wrote it, so begin with another out="),
        ({"schema": 4}, "has format 4, and 3 is known: upgrade"),
        ({"more": 1}, "damaged at line 1: it has the fields"),
    ],
)
def test_a_first_line_of_other_fields_or_kinds_is_refused(toy, questions, log, parts, told):
    change(log, 1, **parts)
    with pytest.raises(ValueError, match=told):
        ma.evaluate(toy, questions, out=log.parent)


def test_on_the_command_line_a_damaged_log_is_a_mistake_and_no_traceback(tmp_path, capsys):
    command = ["evaluate", "--model", "toy", "--data", "toy", "--n", "3", "--out", str(tmp_path)]
    assert main(command) == 0
    change(tmp_path / LOG_NAME, 3, logits=None)
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "damaged at line 3: logits is None" in told
    assert "Traceback" not in told


def test_positions_of_a_batch_that_were_changed_in_the_file_are_refused(toy, questions, log):
    change(log, 1, resign=False, batch_positions=1)
    with pytest.raises(ValueError, match="damaged at line 1: it, or the line before it, is not as it was written"):
        ma.evaluate(toy, questions, out=log.parent)


def test_a_recording_that_was_replaced_by_another_of_its_name_is_refused(toy, questions, tmp_path):
    questions[0].clip().save(tmp_path / "clip.wav")
    asked = [replace(questions[0], audio=tmp_path / "clip.wav")]
    ma.evaluate(toy, asked, out=tmp_path / "out")
    ma.AudioClip(0.5 * questions[0].clip().waveform, 16_000).save(tmp_path / "clip.wav")  # as long, of as many bytes
    with pytest.raises(ValueError, match=r"question 0 is not the one that this run asked .* with another content"):
        ma.evaluate(toy, asked, out=tmp_path / "out")


def test_stored_bytes_that_were_replaced_and_another_transcript_are_refused(toy, questions, tmp_path):
    for level in (0.5, 0.25):
        ma.AudioClip(level * questions[0].clip().waveform, 16_000).save(tmp_path / f"{level}.wav")
    first, other = (StoredClip((tmp_path / f"{level}.wav").read_bytes, "clip.wav") for level in (0.5, 0.25))
    asked = replace(questions[0], audio=first, meta={**questions[0].meta, "transcript": "yes"})
    ma.evaluate(toy, [asked], out=tmp_path / "out")
    for changed in (replace(asked, audio=other), replace(asked, meta={**asked.meta, "transcript": "no"})):
        with pytest.raises(ValueError, match=r"question 0 is not the one that this run asked .* with another content"):
            ma.evaluate(toy, [changed], out=tmp_path / "out")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_no_line_holds_is_refused_with_the_number_of_its_line(toy, questions, log, number):
    lines = log.read_text().splitlines(keepends=True)
    lines[1] = re.sub(r'"logits": \[\[[^,]*', f'"logits": [[{number}', lines[1])
    log.write_text("".join(lines))
    with pytest.raises(ValueError, match="damaged at line 2: it, or the line before it, is not as it was written"):
        ma.evaluate(toy, questions, out=log.parent)


def test_a_part_of_another_class_is_another_part(fresh):
    before = weight_digests(fresh.network)
    fresh.network.get_submodule(f"{LAYER}.mlp").act_fn = torch.nn.Mish()
    after = weight_digests(fresh.network)
    assert [part for part in before if before[part] != after[part]] == [LAYER]


def test_training_is_taken_up_with_the_network_and_the_questions_that_it_began_with(tmp_path):
    stage = Stage({"adapter": 1e-2}, epochs=1, batch_size=3)
    asked = three_questions()

    def begin(edit=lambda model: None, questions=asked):
        model = opened("qwen2_audio")
        edit(model)
        return train(model, questions, out=tmp_path, preset=stage, steps=1)

    losses = begin().losses
    assert begin().losses == losses
    with pytest.raises(ValueError, match=r"network '\w+', now '\w+': give another folder"):
        begin(one_number)
    with pytest.raises(ValueError, match=r"digest '\w+', now '\w+': give another folder"):
        begin(questions=[replace(question, audio=asked[0].audio) for question in asked])
    fresh, other = opened("qwen2_audio"), opened("qwen2_audio")
    one_number(other)
    load_trained(fresh, tmp_path)
    with pytest.warns(UserWarning, match="weights beside the trained ones are not, bit for bit"):
        load_trained(other, tmp_path)


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda _: b"{}"])
def test_a_damaged_state_of_training_is_refused_by_name(tmp_path, damage):
    state, stage = tmp_path / "state.pt", Stage({"adapter": 1e-2}, epochs=1, batch_size=3)
    train(opened("qwen2_audio"), three_questions(), out=tmp_path, preset=stage, steps=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state.pt", "trained.safetensors", "training.json"]
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(ValueError, match=r"state.pt' is no whole state of a run of training"):
        train(opened("qwen2_audio"), three_questions(), out=tmp_path, preset=stage, steps=1)


def test_a_step_whose_loss_is_no_number_changes_nothing_and_is_named(tmp_path):
    model = opened("qwen2_audio")
    model.network.get_parameter("lm_head.weight").data[0, 0] = float("nan")
    stage = Stage({"adapter": 1e-2}, epochs=1, batch_size=3)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    with pytest.raises(ValueError, match="loss of step 0 is nan"):
        train(model, three_questions(), out=tmp_path, preset=stage, steps=1)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


def test_all_questions_that_training_leaves_out_are_listed_though_they_share_an_id(tmp_path):
    gone = [ma.AudioQuestion(tmp_path / name, "When?", answer="0.1 - 0.2") for name in ("a.wav", "b.wav")]
    stage = Stage({"adapter": 1e-2}, epochs=2, batch_size=5)
    run = train(opened("qwen2_audio"), [*three_questions(), *gone], out=tmp_path / "run", preset=stage)
    assert len(run.problems) == len(set(run.problems)) == 2


RUNS = {
    "a run of ma.evaluate": lambda model, asked, out: ma.evaluate(model, asked, out=out),
    "a harvest": lambda model, asked, out: ma.harvest(model, asked, record=["embed"], positions="last", out=out),
    "a run of training": lambda model, asked, out: train(model, asked, preset=Stage({"adapter": 1e-2}, 1, 1), out=out),
    "a MataStudy": lambda model, asked, out: mata_study(model, asked, out=out),
    "a TemporalStudy": lambda model, asked, out: temporal_study(model, asked, out=out),
    "a SteeringStudy": lambda model, asked, out: steering_study(model, asked, out=out),
    "a SpecialistsStudy": lambda model, asked, out: specialists_study(model, asked, out=out),
}


FILES = {"a run of ma.evaluate": "answers.jsonl", "a harvest": "harvest.jsonl", "a run of training": "state.pt"}


@pytest.mark.parametrize(
    ("begun", "kept"), [(begun, kept) for begun in RUNS for kept in (*FILES, "a result (Run)") if begun != kept]
)
def test_runs_and_results_of_two_kinds_do_not_share_a_folder(toy, tmp_path, begun, kept):
    if kept in FILES:
        (tmp_path / FILES[kept]).touch()
    else:
        ma.run(toy, ma.prompt(toy, ma.data.toy_questions.questions(1, seed=3))).save(tmp_path)
    before = sorted(tmp_path.iterdir())
    model, questions = toy, ma.data.toy_questions.questions(30, seed=3)
    if begun == "a run of training":
        model, questions = opened("qwen2_audio"), three_questions()
    with pytest.raises(ValueError, match=rf"holds {re.escape(kept)}, and {begun} is kept by itself: give another out="):
        RUNS[begun](model, questions, tmp_path)
    assert sorted(tmp_path.iterdir()) == before


STUDIES = ("MataStudy", "TemporalStudy", "WhereItListens", "GroundingStudy", "Listening")


@pytest.mark.parametrize("begun", STUDIES[:2])
def test_a_study_that_was_stopped_says_so_and_lets_no_other_into_its_folder(toy, questions, tmp_path, begun):
    folder_of_run(tmp_path / "results", f"a {begun}", results=(begun,), begins=True)
    with pytest.raises(FileNotFoundError, match=f"no result.json, but a {begun} that is not finished: the same call"):
        ma.Result.load(tmp_path / "results")
    for verb in STUDIES:
        if verb != begun:
            with pytest.raises(ValueError, match=rf"holds a {begun} that is not finished, and a {verb} is kept by"):
                writable(tmp_path, verb)
    assert main(["evaluate", "--n", "2", "--out", str(tmp_path)]) == 2
    writable(tmp_path, begun)
    ma.run(toy, ma.prompt(toy, questions)).save(tmp_path / "results")
    assert not (tmp_path / "results/unfinished.txt").exists()


def test_a_note_that_another_process_may_read_is_not_written_again(tmp_path):
    folder_of_run(tmp_path, "a MataStudy", results=("MataStudy",), begins=True)
    os.utime(tmp_path / "unfinished.txt", (0, 0))
    folder_of_run(tmp_path, "a MataStudy", results=("MataStudy",), begins=True)
    assert (tmp_path / "unfinished.txt").stat().st_mtime == 0
    assert os.listdir(tmp_path) == ["unfinished.txt"]


def test_a_run_that_was_stopped_is_no_result(log):
    (log.parent / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no result.json, but a run of ma.evaluate that is not finished"):
        ma.Result.load(log.parent)


def test_no_verb_writes_its_page_over_the_result_of_another(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "results")
    for verb in STUDIES:
        with pytest.raises(ValueError, match=rf"a run of ma.evaluate, and a {verb} is kept by itself"):
            writable(tmp_path, verb)
    with pytest.raises(FileNotFoundError, match=r"no result.json, but there is one in '.*results'"):
        ma.Result.load(tmp_path)


def test_the_page_of_an_earlier_result_goes_before_it_does(finished, tmp_path):
    (tmp_path / "index.html").write_text("of an earlier result")
    keep(ma.Result.load(finished), Namespace(out=tmp_path))
    assert not (tmp_path / "index.html").exists()
    assert (tmp_path / "results/result.json").exists()


def test_a_run_takes_the_place_of_a_result_of_its_own_class(toy, questions, tmp_path):
    ma.evaluate(toy, questions).save(tmp_path)
    ma.evaluate(toy, questions, out=tmp_path)
    assert (tmp_path / LOG_NAME).exists()


def test_nobody_elses_files_are_written_over(toy, questions, tmp_path):
    result = ma.run(toy, ma.prompt(toy, questions), record=["embed"])
    benchmark = ma.temporal.build(ma.data.soundscapes.clips(2, 3))
    for name in ("README.md", "manifest.json", "questions.parquet", "result.json", "tensors.safetensors", "index.html"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("somebody else's")
        if name == "index.html":
            save = partial(writable, folder, "Listening")
        else:
            save = partial((result if name in ("result.json", "tensors.safetensors") else benchmark).save, folder)
        with pytest.raises(ValueError, match=rf"holds {name} of something else than a .* which would be lost: give an"):
            save()
        assert [file.read_text() for file in folder.iterdir()] == ["somebody else's"]


def test_a_benchmark_takes_the_place_of_an_earlier_one_and_of_nothing_else(toy, questions, tmp_path):
    benchmark = ma.temporal.build(ma.data.soundscapes.clips(2, 3))
    for _ in range(2):
        benchmark.save(tmp_path / "built")
    ma.run(toy, ma.prompt(toy, questions)).save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a result \(Run\), and a benchmark is kept by itself"):
        benchmark.save(tmp_path / "run")

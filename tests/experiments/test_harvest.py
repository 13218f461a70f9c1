"""A harvest: hook points of many questions on the disk, taken up where it was left, read a few entries at a time."""

import gc
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch

import mechaudio as ma
from mechaudio.analyses.ahead import WAITING
from mechaudio.audio.stored import StoredClip
from mechaudio.experiments import harvest_log
from mechaudio.experiments.harvest_log import LOG_NAME
from tests.families import ASKED, KINDS, network, noise, processor, thinned
from tests.families.build import unchecked_types

RECORD = [ma.HookPoint("resid_post", layers=[1, 3]), "z", ma.HookPoint("mass", layers=[2], keys=["audio", "question"])]
SECONDS = (2.0, 4.0, 1.2, 3.0, 0.8)


@pytest.fixture(scope="module")
def questions():
    """Questions about clips of unequal lengths; the last one has no keyword."""
    made = []
    for question, seconds in zip(ma.data.toy_questions.questions(len(SECONDS), seed=3), SECONDS, strict=True):
        clip = question.clip()
        short = ma.AudioClip(clip.waveform[: round(seconds * clip.sample_rate)], clip.sample_rate)
        made.append(replace(question, audio=short))
    return [*made[:-1], replace(made[-1], text="Which voice?", meta={})]


@pytest.fixture(scope="module")
def finished(toy, questions, tmp_path_factory):
    """The folder of a finished harvest, two questions at a time, which stays as it is."""
    out = tmp_path_factory.mktemp("harvest") / "finished"
    ma.harvest(toy, questions, record=RECORD, out=out, batch_size=2)
    return out


def harvested(model, questions, out, **options):
    return ma.harvest(model, questions, **{"record": RECORD, "out": out, "batch_size": 2, "progress": False, **options})


def harvested_in_a_copy(*given, **options):
    torch.set_num_threads(1)  # a copy of a process has none of the threads that torch has begun there
    return harvested(*given, **options)


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != WAITING}


def test_a_hook_point_is_taken_by_name_and_layer_and_nothing_else(finished):
    kept = ma.Harvest(finished)
    assert torch.equal(kept["resid_post", 3], kept.read("resid_post", 3))
    assert torch.equal(kept["resid_post", -1], kept["blocks.3.resid_post"])
    for key in (0, 1.5, None, slice(2), ["resid_post", 3], ("resid_post", 3, 1), ("resid_post",)):
        with unchecked_types(), pytest.raises(TypeError, match=r'named as kept\["resid_post", 3\] .*; got'):
            kept[key]
    for key in (("resid_post", 2), "resid_mid", ("resid_post", 99), "z"):
        with pytest.raises(KeyError, match="was not harvested; there is"):
            kept[key]
    for key in (("resid_post", "3"), ("resid_post", 1.5), (3, "resid_post"), ("resid_post", True)):
        with unchecked_types(), pytest.raises(TypeError, match=r"(layer|hook_point)= takes"):
            kept[key]


def test_a_harvest_goes_where_a_folder_can_be(toy, questions):
    for out, named in (("/proc/nowhere", "/proc/nowhere' cannot be made here"), ("/dev/null/x", "null' is no folder")):
        with pytest.raises(OSError, match=f"a harvest is kept in a folder, and '.*{named}"):
            ma.harvest(toy, questions[:1], record=["resid_post"], out=out)


def rows_of(kept):
    """Per shard, the questions in it, in the order in which they ran together."""
    table, ends = kept.positions(), np.cumsum([0, *(len(part) for part in kept.shards("z", 0))])
    return [list(dict.fromkeys(table["index"].iloc[first:end])) for first, end in pairwise(ends)]


# What is written.


@pytest.mark.parametrize("positions", [None, "last", "audio", "audio+question", "template", [-3, -1]])
def test_values_are_those_of_a_run_of_the_same_batch_to_the_bit(toy, questions, tmp_path, positions):
    record = [*RECORD, "final_norm", "logits", ma.HookPoint("result", layers=[0])]
    kept = harvested(toy, questions, tmp_path, record=record, positions=positions)
    begin = 0
    for together in rows_of(kept):
        batch = ma.prompt(toy, [questions[number] for number in together])
        cache = ma.run(toy, batch, record=record, logits=None).cache
        real = batch.inputs["attention_mask"].bool()
        meant = torch.zeros_like(real)
        if isinstance(positions, list):
            meant[:, positions] = True
        chosen = real if positions is None else meant if isinstance(positions, list) else batch.span_mask(positions)
        for (name, layer), value in cache.items():
            expected = (value.transpose(1, 2) if name == "mass" else value)[chosen]
            found = kept.read(name, layer, entries=range(begin, begin + len(expected)))
            assert torch.equal(found, expected), (name, layer)
        begin += int(chosen.sum())
    assert begin == len(kept) > 0


def test_padding_is_never_stored(toy, questions, finished):
    kept = ma.Harvest.load(finished)
    lengths = [ma.prompt(toy, [question]).n_positions for question in questions]
    assert len(set(lengths)) > 1
    table = kept.positions()
    assert table.groupby("index").size().tolist() == lengths
    for number, length in enumerate(lengths):
        assert table.loc[table["index"] == number, "position"].tolist() == list(range(length))


def test_the_index_says_what_each_position_is(toy, questions, finished):
    kept = ma.Harvest.load(finished)
    for number, question in enumerate(questions):
        alone = ma.prompt(toy, [question])
        table = kept.positions(question=question.id)
        assert set(table["index"]) == {number}
        assert table["token_id"].tolist() == alone.inputs["input_ids"][0].tolist()
        for role in ("audio", "question", "choices", "template"):
            assert table.loc[table["role"] == role, "position"].tolist() == list(alone.spans[role][0])
        heard = table[table["role"] == "audio"]
        seconds = [alone.clocks[0][0].seconds(token) for token in range(len(heard))]
        assert list(zip(heard["onset"], heard["offset"], strict=True)) == seconds
        assert table.loc[table["role"] != "audio", ["onset", "offset"]].isna().all(axis=None)
        words = [label for label in alone.tokens(0) if not label.startswith("♪")]
        assert table.loc[table["role"] != "audio", "token"].tolist() == words


def test_positions_are_found_by_role_and_by_question(toy, questions, finished):
    kept = ma.Harvest.load(finished)
    last = kept.positions(role="last")
    assert last["position"].tolist() == [
        ma.prompt(toy, [questions[number]]).n_positions - 1 for number in last["index"]
    ]
    with pytest.raises(ValueError, match=r"role= is one of .*'audio'.*got 'sound'"):
        kept.positions(role="sound")
    with pytest.raises(ValueError, match="no question 'x' was harvested"):
        kept.positions(question="x")


def test_questions_without_a_span_have_no_entry(toy, questions, tmp_path):
    kept = harvested(toy, questions, tmp_path, positions="keyword", batch_size=1)
    assert len(kept.questions) == len(questions)
    assert set(kept.positions()["index"]) == set(range(len(questions) - 1))
    with pytest.raises(ValueError, match="positions='caption' names no position of any question, out of 5"):
        harvested(toy, questions, tmp_path / "none", positions="caption")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_numbers_are_written_in_the_type_asked_for(toy, questions, finished, tmp_path, dtype):
    kept = harvested(toy, questions, tmp_path, dtype=dtype)
    expected = ma.Harvest.load(finished)["resid_post", 3].to(getattr(torch, dtype))
    assert torch.equal(kept["resid_post", 3], expected)
    assert kept["resid_post", 3].dtype == expected.dtype


def test_interventions_change_what_is_kept(toy, questions, finished, tmp_path):
    deaf = harvested(toy, questions, tmp_path, interventions=[ma.KnockOutAttention(queries="last")])
    last = deaf.positions(role="last").index
    assert not deaf.read("mass", 2, entries=last)[..., 0].any()
    assert ma.Harvest.load(finished).read("mass", 2, entries=last)[..., 0].all()


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths:UserWarning")
@pytest.mark.parametrize(
    "family", thinned([family for family in KINDS if family in ASKED], left=("qwen2_audio", "phi4_multimodal"))
)
def test_every_kind_of_class_is_harvested_as_it_runs(without_proofs, family, tmp_path):
    model = ma.AudioLM(network(family), processor(family))
    asked = [
        ma.AudioQuestion(
            audio=ma.AudioClip(noise(seconds, sample_rate=model.adapter.sampling_rate), model.adapter.sampling_rate),
            text=text, choices=("a", "b"), answer="a", id=text,
        )
        for seconds, text in ((1.0, "which is it"), (0.6, "a or b"))
    ]  # fmt: skip
    record = ["resid_post", "attn_out"]
    batch = ma.prompt(model, asked)
    for positions, chosen in ((None, batch.inputs["attention_mask"].bool()), ("audio", batch.span_mask("audio"))):
        kept = harvested(model, asked, tmp_path / str(positions), record=record, positions=positions)
        expected = ma.run(model, batch, record=record, logits=None).cache
        for (name, layer), value in expected.items():
            assert torch.equal(kept[name, layer], value[chosen]), (name, layer)
        assert kept.to_xarray().sizes["entry"] == int(chosen.sum())
        assert kept.positions(role="audio")["onset"].notna().any() == bool(batch.clocks[0][0].intervals(0))


# Reading.


def test_a_hook_point_is_read_whole_by_shard_or_by_entry(finished):
    kept = ma.Harvest.load(finished)
    whole = kept["blocks.3.hook_resid_post"]
    assert len(whole) == len(kept)
    assert torch.equal(whole, kept["resid_post", -1])
    assert torch.equal(whole, torch.cat(list(kept.shards("resid_post", 3))))
    for entries in ([5, 2, len(kept) - 1, 2], [], kept.positions(role="last").index, np.array([len(kept) - 1])):
        assert torch.equal(kept.read("resid_post", 3, entries=entries), whole[torch.tensor(list(entries), dtype=int)])
    with pytest.raises(KeyError, match=r"'resid_post.2' was not harvested; there is resid_post.1, resid_post.3"):
        kept["resid_post", 2]
    with pytest.raises(IndexError, match="entry -1 is outside"):
        kept.read("z", 0, entries=[-1])
    with pytest.raises(TypeError, match="numbers of entries"):
        kept.read("z", 0, entries=["a"])


def test_an_entry_is_read_without_reading_the_other_shards(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    whole = ma.Harvest.load(finished)["z", 0]
    (folder / "shard-000001.safetensors").unlink()
    last = len(whole) - 1
    assert torch.equal(ma.Harvest.load(folder).read("z", 0, entries=[last]), whole[[last]])
    with pytest.raises(ValueError, match=r"shard-000001.safetensors' is missing"):
        ma.Harvest.load(folder)["z", 0]


def test_the_dataset_has_named_axes_and_reads_what_is_indexed(finished):
    kept = ma.Harvest.load(finished)
    data = kept.to_xarray()
    assert data["z"].dims == ("z_layer", "entry", "head", "d_head")
    assert data["resid_post"].dims == ("resid_post_layer", "entry", "d_model")
    assert data["resid_post_layer"].values.tolist() == [1, 3]
    assert data["mass"].dims == ("mass_layer", "entry", "head", "group")
    whole = torch.stack([kept["z", layer] for layer in range(4)]).numpy()
    for index in [np.s_[2, 5:9], np.s_[:, [7, 3], 1], np.s_[[0, 2], -1, :, 0], np.s_[...], np.s_[1, 2, 3, 4]]:
        assert np.array_equal(data["z"][index].values, whole[index])
    heard = data["resid_post"].sel(resid_post_layer=3)[data["role"] == "audio"]
    assert np.array_equal(heard.values, kept.read("resid_post", 3, entries=kept.positions(role="audio").index).numpy())


def test_layers_are_one_axis_where_all_hook_points_have_the_same(toy, questions, tmp_path):
    kept = harvested(toy, questions, tmp_path, record=["resid_pre", "attn_out", "final_norm"], dtype="bfloat16")
    data = kept.to_xarray()
    assert data["resid_pre"].dims == data["attn_out"].dims == ("layer", "entry", "d_model")
    assert data["final_norm"].dims == ("entry", "d_model")
    assert np.array_equal(data["attn_out"][2].values, kept["attn_out", 2].float().numpy())


def test_the_table_of_positions_is_read_without_torch_values(finished, monkeypatch):
    opened = []
    kept = ma.Harvest.load(finished)
    real = kept._opened
    monkeypatch.setattr(kept, "_opened", lambda shard, framework: opened.append(framework) or real(shard, framework))
    assert len(kept.positions()) == len(kept)
    assert set(opened) == {"np"}


# Taking up.


class Killed(BaseException):
    """The end of a process."""


def kill(patch, at, after):
    """Have the process end at its `after`-th call of a function, before it or behind it."""
    calls = []
    when, owner, name = at
    real = getattr(owner, name)

    def killing(*args, **kwargs):
        calls.append(1)
        if len(calls) == after and when == "before":
            raise Killed
        done = real(*args, **kwargs)
        if len(calls) == after:
            raise Killed
        return done

    patch.setattr(owner, name, killing)


MOMENTS = {
    "before a shard is written": ("before", harvest_log, "write_tensors"),
    "when it is written": ("behind", harvest_log, "write_tensors"),
    "before its line is signed": ("before", harvest_log, "signed"),
    "before its line is on the disk": ("behind", harvest_log, "signed"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_harvest_that_was_killed_goes_on_to_the_same_bytes(toy, questions, finished, tmp_path, moment):
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, MOMENTS[moment], 2)
        with pytest.raises(Killed):
            harvested(toy, questions, tmp_path)
    ran = []
    with pytest.MonkeyPatch.context() as patch:
        real = harvest_log.write_tensors
        patch.setattr(harvest_log, "write_tensors", lambda *given: ran.append(1) or real(*given))
        harvested(toy, questions, tmp_path)
    shards = {name: held for name, held in files(finished).items() if name != LOG_NAME}
    assert {name: held for name, held in files(tmp_path).items() if name != LOG_NAME} == shards
    assert len(ran) == len(shards) - 1


@pytest.mark.parametrize("n_lines", [1, 2, 3])
@pytest.mark.parametrize("broken", [0, 1, 40])
def test_wherever_the_log_broke_off_it_is_written_to_the_same_bytes(
    toy, questions, finished, tmp_path, n_lines, broken
):
    folder = shutil.copytree(finished, tmp_path / "run")
    lines = (folder / LOG_NAME).read_bytes().splitlines(keepends=True)
    (folder / LOG_NAME).write_bytes(b"".join(lines[:n_lines]) + lines[n_lines][:broken])
    for number in range(n_lines, len(lines) - 1):  # one more shard than lines may be there
        (folder / f"shard-{number:06d}.safetensors").unlink()
    harvested(toy, questions, folder)
    assert files(folder) == files(finished)


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_that_is_killed_outright_is_taken_up(toy, tmp_path, monkeypatch):
    same, real, done = ma.data.toy_questions.questions(6, seed=3), harvest_log.write_tensors, []

    def write(*given):
        done.append(real(*given))
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(harvest_log, "write_tensors", write)
        given = {"target": harvested_in_a_copy, "args": (toy, same, tmp_path / "killed"), "kwargs": {"record": ["z"]}}
        process = multiprocessing.get_context("fork").Process(**given, daemon=True)
        process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert len(ma.Harvest.load(tmp_path / "killed").questions) == 2
    for folder in ("killed", "whole"):
        harvested(toy, same, tmp_path / folder, record=["z"])
    assert sorted(files(tmp_path / "killed")) == sorted(files(tmp_path / "whole"))
    for layer in range(4):
        assert torch.equal(*(ma.Harvest.load(tmp_path / folder)["z", layer] for folder in ("killed", "whole")))


def test_a_finished_harvest_runs_nothing_and_takes_more_questions(toy, questions, finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["mechaudio.experiments.harvest"], "run", None)
        harvested(toy, questions, folder)
    assert files(folder) == files(finished)
    more = harvested(toy, [*questions, replace(questions[0], id="another")], folder)
    assert [one.id for one in more.questions] == [*(question.id for question in questions), "another"]
    with pytest.raises(ValueError, match="ran 6 questions before, and 5 are given"):
        harvested(toy, questions, folder)


def test_a_harvest_that_was_killed_at_once_is_empty_and_says_so(finished, tmp_path):
    (tmp_path / LOG_NAME).write_bytes((finished / LOG_NAME).read_bytes().splitlines(keepends=True)[0])
    kept = ma.Harvest.load(tmp_path)
    assert len(kept) == len(kept.positions()) == 0
    for read in (lambda: kept["z", 0], lambda: kept.read("z", 0, entries=[]), kept.to_xarray):
        with pytest.raises(ValueError, match=r"nothing in .* yet: take the harvest up"):
            read()


def a_number_in_a_shard(folder):
    file = folder / "shard-000001.safetensors"
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)


def a_shard_cut_short(folder):
    file = folder / "shard-000001.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def a_shard_gone(folder):
    (folder / "shard-000001.safetensors").unlink()


def test_a_damaged_shard_of_another_process_is_refused_when_the_harvest_is_taken_up(
    toy, questions, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
            patch.setenv(name, value)
        harvested(toy, questions, tmp_path)
    assert sorted(name for name in files(tmp_path) if name.startswith("shard")) == [
        f"shard-1-{number:06d}.safetensors" for number in range(3)
    ]
    (tmp_path / "shard-1-000002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-1-000002\.safetensors' is missing"):
        harvested(toy, questions, tmp_path)


@pytest.mark.parametrize("damage", [a_number_in_a_shard, a_shard_cut_short, a_shard_gone])
def test_a_damaged_shard_is_refused_by_its_name(toy, questions, finished, tmp_path, damage):
    folder = shutil.copytree(finished, tmp_path / "run")
    damage(folder)
    with pytest.raises(ValueError, match=r"shard-000001\.safetensors' is (damaged|missing)"):
        harvested(toy, questions, folder)
    with pytest.raises(ValueError, match=r"shard-000001\.safetensors' is (damaged|missing)"):
        ma.Harvest.load(folder)["z", 0]


def test_a_changed_line_of_the_log_is_refused(toy, questions, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    lines = [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]
    lines[2]["n_entries"] += 1
    (folder / LOG_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for read in (lambda: harvested(toy, questions, folder), lambda: ma.Harvest.load(folder)):
        with pytest.raises(ValueError, match=r"harvest\.jsonl' is damaged at line 3"):
            read()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"record": ["z"]}, "hook_points was .* and is"),
        ({"positions": "last"}, "positions was None and is 'last'"),
        ({"dtype": "bfloat16"}, "dtype was None and is 'bfloat16'"),
        ({"condition": "silence"}, "condition was 'audio' and is 'silence'"),
        ({"interventions": [ma.ScaleAttention(2.0)]}, "interventions was"),
        ({"batch_size": 3}, "begun with batch_size=2, got 3"),
        ({"record": [*RECORD[:2], ma.HookPoint("mass", layers=[2])]}, "keys was"),
    ],
)
def test_a_folder_of_other_settings_is_refused(toy, questions, finished, options, told):
    before = files(finished)
    with pytest.raises(ValueError, match=told):
        harvested(toy, questions, finished, **options)
    assert files(finished) == before


def test_a_folder_of_another_network_or_of_other_questions_is_refused(questions, finished, tmp_path):
    before, other = files(finished), ma.load("toy", prove=False)
    with pytest.raises(ValueError, match="question 0 is not the one"):
        harvested(other, [replace(questions[0], text="Another?"), *questions[1:]], finished)
    other.network.get_parameter("model.language_model.layers.1.mlp.down_proj.weight").data[3, 5] += 1e-3
    with pytest.raises(ValueError, match="weights differ in 1 part of"):
        harvested(other, questions, finished)
    assert files(finished) == before


def test_workers_change_no_byte_and_say_how_long_the_model_waited(toy, questions, finished, tmp_path):
    kept = harvested(toy, questions, tmp_path, workers=2)
    assert kept.questions == ma.Harvest.load(finished).questions
    shards = [{file.name: file.read_bytes() for file in folder.glob("shard-*")} for folder in (tmp_path, finished)]
    assert len(shards[0]) == 3
    assert shards[0] == shards[1]
    told = json.loads((tmp_path / WAITING).read_text())
    assert (told["what"], told["batches"], told["workers"] > 0) == ("harvest", 3, True)


def test_a_question_that_cannot_be_run_is_listed_and_tried_again(toy, questions, tmp_path):
    missing = replace(questions[1], audio=os.fspath(tmp_path / "missing.wav"))
    asked = [questions[0], missing, *questions[2:]]
    kept = harvested(toy, asked, tmp_path / "run")
    assert [(one.index, one.id) for one in kept.failures] == [(1, questions[1].id)]
    before = files(tmp_path / "run")
    harvested(toy, asked, tmp_path / "run")
    assert files(tmp_path / "run") == before
    questions[1].clip().save(tmp_path / "missing.wav")
    kept = harvested(toy, asked, tmp_path / "run")
    assert not kept.failures
    assert set(kept.positions()["index"]) == set(range(len(questions)))
    with pytest.raises(ValueError, match="without strict=True it is listed instead"):
        harvested(toy, [replace(missing, audio="nowhere.wav")], tmp_path / "strict", strict=True)
    with pytest.raises(ValueError, match="none of the 1 questions could be run"):
        harvested(toy, [replace(missing, audio="nowhere.wav")], tmp_path / "none")


# Memory, and what is refused.


def test_a_stored_clip_is_read_for_its_length_its_prompt_and_its_digest(toy, questions, tmp_path):
    file, reads = io.BytesIO(), []
    clip = questions[0].clip()
    soundfile.write(file, clip.waveform, clip.sample_rate, format="WAV")

    def read():
        reads.append("read")
        return file.getvalue()

    harvested(toy, [replace(questions[0], audio=StoredClip(read, "an archive"))], tmp_path / "harvest")
    assert len(reads) == 3


def test_memory_does_not_grow_with_the_number_of_questions(toy, questions, tmp_path, monkeypatch):
    held, real = [], harvest_log.write_tensors

    def write(*given):
        gc.collect()
        held.append(sum(t.numel() * t.element_size() for t in gc.get_objects() if type(t) is torch.Tensor))
        return real(*given)

    monkeypatch.setattr(harvest_log, "write_tensors", write)
    stream = (replace(questions[0], id=str(number)) for number in range(16))
    kept = ma.harvest(toy, stream, record=["resid_post"], out=tmp_path, batch_size=2)
    assert len(held) == 8
    assert held[-1] == held[1]
    sizes = {len(part) for part in kept.shards("resid_post", 0)}
    assert sizes == {2 * kept.questions[0].n_positions}


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"record": []}, ValueError, "record= is empty"),
        ({"record": "z"}, TypeError, r"record= takes a list of .*got .z.: put it into a list"),
        ({"record": ["pattern"]}, ValueError, "harvest 'mass'"),
        ({"record": ["audio.resid_post"]}, ValueError, "'embed' with positions='audio'"),
        ({"record": ["nonsense"]}, KeyError, "no hook point 'nonsense'"),
        ({"record": ["z", ma.HookPoint("z", layers=[1])]}, ValueError, "recorded twice"),
        ({"record": [ma.HookPoint("z", positions="last")]}, ValueError, r"give harvest\(positions=\)"),
        ({"record": [ma.HookPoint("z", layers=[40])]}, IndexError, "40"),
        ({"positions": 3}, ValueError, "counted from the end"),
        ({"positions": []}, ValueError, "counted from the end"),
        ({"positions": "nonsense"}, KeyError, "no span 'nonsense'"),
        ({"positions": -1000}, IndexError, "-1000 is in front of the prompt of question"),
        ({"batch_size": 0}, ValueError, "batch_size= must be at least 1"),
        ({"dtype": "int8"}, ValueError, "dtype="),
        ({"interventions": ma.ScaleAttention(2.0)}, TypeError, "interventions"),
    ],
)
def test_what_nobody_can_harvest_is_refused(toy, questions, tmp_path, options, error, told):
    with pytest.raises(error, match=told):
        harvested(toy, questions, tmp_path / "run", **options)


def test_a_folder_without_a_harvest_is_none(toy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no harvest in .*ma\.harvest"):
        ma.Harvest.load(tmp_path)
    with pytest.raises(ValueError, match="no questions were given"):
        harvested(toy, [], tmp_path)

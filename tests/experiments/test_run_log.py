import json
import math
import multiprocessing
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mechaudio as ma
from mechaudio.audio.clip import AudioClip
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments import asking, run_log
from mechaudio.experiments.evaluate import evaluate
from mechaudio.experiments.run_log import LOG_NAME, Row, RunLog, digest
from mechaudio.models.prompt import prompt
from mechaudio.question import AudioQuestion
from mechaudio.results import Result
from mechaudio.tracing.fingerprint import fingerprint

HEADER = {"run": {"settings": {"condition": "audio"}, "seed": 1}, "created": "today", "batch_positions": 300}
VARIANTS = [ma.ScaleAttention(0.0), ma.UpweightAttention(4.0, layers=[1])]


@pytest.fixture
def asked_of(monkeypatch):
    """Ids of the questions that the model is asked."""
    seen = []

    def spy(*words, **options):
        seen.extend(question.id for question in words[1])
        return prompt(*words, **options)

    monkeypatch.setattr(asking, "prompt", spy)
    return seen


def question(index):
    return AudioQuestion(audio=f"{index}.wav", text="Which?", choices=("dog", '\udcff"'), answer="dog", id=f"q{index}")


def row(index, **known):
    asked = question(index)
    held = {"logits": ((0.1 + index, -math.inf), (1e-300, -2.5))} if index % 2 else {"texts": ("a\u2028b", "")}
    return Row(index, asked.id, digest(asked), "", asked.choices, asked.answer, **(held | known))


def written(folder, batches):
    with RunLog(folder, HEADER) as log:
        for batch in batches:
            log.add([row(index) for index in batch])
    return (folder / LOG_NAME).read_bytes()


BATCHES = ((4, 2), (0,), (1, 3, 5))


def test_rows_come_back_as_they_were(tmp_path):
    written(tmp_path, BATCHES)
    with RunLog(tmp_path, HEADER) as log:
        assert log.known == {index: row(index) for index in range(6)}
        assert log.header["created"] == "today"


def test_a_worker_that_outlives_its_process_does_not_keep_the_log(tmp_path):
    context = multiprocessing.get_context("fork")
    ended, forgot = context.Event(), context.Event()

    def work(log):
        log.forget()
        forgot.set()
        ended.wait()

    log = RunLog(tmp_path, HEADER)
    worker = context.Process(target=work, args=(log,), daemon=True)
    worker.start()
    assert forgot.wait(60)
    log.add([row(0)])
    log.close()
    with RunLog(tmp_path, HEADER) as again:
        assert again.known == {0: row(0)}
    ended.set()
    worker.join()


@given(st.data())
def test_wherever_the_file_breaks_off_whole_batches_remain_and_the_rest_is_written_again(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    whole = written(folder, BATCHES)
    first = whole.index(b"\n") + 1
    (folder / LOG_NAME).write_bytes(whole[: data.draw(st.integers(first, len(whole)))])
    with RunLog(folder, HEADER) as log:
        remaining = [batch for batch in BATCHES if batch[0] not in log.known]
        assert set(log.known) == {index for batch in BATCHES for index in batch} - {i for b in remaining for i in b}
        for batch in remaining:
            log.add([row(index) for index in batch])
    assert (folder / LOG_NAME).read_bytes() == whole


def test_a_last_line_that_is_broken_is_written_again_and_one_before_it_is_damage(tmp_path):
    whole = written(tmp_path, BATCHES).splitlines(keepends=True)
    (tmp_path / LOG_NAME).write_bytes(b"".join(whole[:-1]) + b'{"index": 5, "i\x00\n')
    with RunLog(tmp_path, HEADER) as log:
        assert set(log.known) == {4, 2, 0}
        log.add([row(index) for index in BATCHES[-1]])
    assert (tmp_path / LOG_NAME).read_bytes() == b"".join(whole)
    for bad in (b"{\n", b"[1]\n", whole[4]):
        (tmp_path / LOG_NAME).write_bytes(b"".join([whole[0], whole[1], bad, *whole[3:]]))
        with pytest.raises(ValueError, match="damaged at line 3"):
            RunLog(tmp_path, HEADER)


@pytest.mark.parametrize("begins", [b"", b"x", b"{}\n", b'{"schema": 1}\n'])
def test_a_file_that_is_no_run_is_left_alone(tmp_path, begins):
    (tmp_path / LOG_NAME).write_bytes(begins)
    with pytest.raises(ValueError, match="does not begin as a run of mechaudio does"):
        RunLog(tmp_path, HEADER)
    assert (tmp_path / LOG_NAME).read_bytes() == begins


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path / LOG_NAME).write_text(json.dumps(HEADER | {"schema": 4}) + "\n")
    with pytest.raises(ValueError, match="has format 4, and 3 is known: upgrade"):
        RunLog(tmp_path, HEADER)


def test_two_cannot_write_at_a_time(tmp_path):
    with RunLog(tmp_path, HEADER), pytest.raises(ValueError, match="another process is writing"):
        RunLog(tmp_path, HEADER)
    RunLog(tmp_path, HEADER).close()


def test_what_is_run_is_worked_out_when_a_fresh_log_is_begun_and_at_once_where_there_is_one(tmp_path):
    calls = []

    def run():
        calls.append("run")
        return HEADER["run"]

    late = {**HEADER, "run": run}
    with RunLog(tmp_path / "late", late) as log:
        assert (calls, log.known, log.header["batch_positions"]) == ([], {}, 300)
        assert not list((tmp_path / "late").iterdir())
        log.begin()
        log.begin()
        assert calls == ["run"]
        log.add([row(0)])
    with RunLog(tmp_path / "late", late) as log:
        assert calls == ["run", "run"]
        assert list(log.known) == [0]
    with RunLog(tmp_path / "at once", HEADER) as log:
        log.add([row(0)])
    assert (tmp_path / "late" / LOG_NAME).read_bytes() == (tmp_path / "at once" / LOG_NAME).read_bytes()


def test_a_run_that_another_process_began_meanwhile_is_left_alone(tmp_path):
    log = RunLog(tmp_path, {**HEADER, "run": lambda: HEADER["run"]})
    kept = written(tmp_path, BATCHES)
    with pytest.raises(ValueError, match=r"another process began a run in .* meanwhile"):
        log.begin()
    log.close()
    assert (tmp_path / LOG_NAME).read_bytes() == kept


@pytest.mark.parametrize("processes", [1, 2])
def test_weights_are_digested_while_workers_make_the_first_prompts(toy, tmp_path, monkeypatch, as_process, processes):
    as_process(0, processes)
    working = []

    def digested(model):
        working.append(len(multiprocessing.active_children()))
        return fingerprint(model)

    monkeypatch.setattr(run_log, "fingerprint", digested)
    questions = toy_questions(6, seed=0)
    for number, workers in enumerate((0, 1)):
        evaluate(toy, questions, batch_size=3, workers=workers, out=tmp_path / str(number), progress=False)
    assert working == [0, 1]


def test_processes_that_share_a_run_open_it_late_where_all_cut_questions_alike(tmp_path, as_process):
    late = {**HEADER, "run": lambda: HEADER["run"]}
    fours = {**late, "batch_positions": 0, "batch_size": 4}

    def opened(rank, header):
        as_process(rank, 2)
        return RunLog(tmp_path / str(header["batch_positions"]), header)

    with opened(0, late):  # whoever comes first says what fits
        assert (tmp_path / "300" / LOG_NAME).exists()
    with opened(0, fours) as first, opened(1, fours) as second:
        assert not (tmp_path / "0" / LOG_NAME).exists()
        assert second.shared.take(0)
        second.begin()
        second.add([row(0)])
        first.begin()  # what another of them began is for both
        assert list(first.known) == [0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 2}, "the run in .* was begun with batch_size=2, got 4: leave it out"),
        ({"batch_positions": 300}, "was begun with batch_positions=300, got None: give that"),
    ],
)
def test_a_process_that_cut_questions_otherwise_before_it_opens_the_run_is_told(tmp_path, as_process, changes, told):
    fours = {**HEADER, "run": lambda: HEADER["run"], "batch_positions": 0, "batch_size": 4}
    as_process(1, 2)
    with RunLog(tmp_path, fours) as log:
        as_process(0, 2)
        with RunLog(tmp_path, fours | changes) as first:
            first.begin()
        with pytest.raises(ValueError, match=told):
            log.begin()
    assert not (tmp_path / "answers-1.jsonl").exists()


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"a run of ma.evaluate is kept in a folder"):
        RunLog(tmp_path / "file", HEADER)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"text": "What?"}, False),
        ({"choices": ("dog", "car")}, False),
        ({"answer": None}, False),
        ({"caption": "a dog"}, False),
        ({"id": "other"}, False),
        ({"audio": "other.wav"}, False),
        ({"audio": "elsewhere/1.wav"}, True),
        ({"meta": {"task": "x"}}, False),
        ({"meta": {"keyword": "Which"}}, False),
        ({"meta": {"transcript": "yes"}}, False),
        ({"meta": {"level": 3}}, True),
    ],
)
def test_a_question_is_known_by_what_it_asks(changed, same):
    assert (digest(replace(question(1), **changed)) == digest(question(1))) is same


def test_a_recording_in_memory_is_known_by_its_samples():
    one, other = (replace(question(1), audio=AudioClip(np.full(9, level), 16_000)) for level in (0.1, 0.2))
    assert digest(one) != digest(other)
    assert digest(one) == digest(replace(one, audio=AudioClip(np.full(9, 0.1), 16_000)))


def same(first, second):
    return (first.clean.ids, first.clean.answers, first.variants) == (
        second.clean.ids,
        second.clean.answers,
        second.variants,
    ) and all(
        np.array_equal(one, other)
        for one, other in (
            (first.logits, second.logits),
            (first.chosen, second.chosen),
            (first.clean.logits, second.clean.logits),
        )
    )


def test_a_run_that_is_taken_up_ends_as_if_it_had_not_been_stopped(toy, tmp_path, asked_of):
    asked = toy_questions(9, seed=3)
    options = {"variants": VARIANTS, "batch_positions": 600, "seed": 3}
    whole = evaluate(toy, asked, out=tmp_path / "whole", **options)
    lines = (tmp_path / "whole" / LOG_NAME).read_bytes().splitlines(keepends=True)
    assert len(lines) == 10
    for n_lines, torn in ((1, 0), (2, 30), (6, 1), (9, 200)):
        out = tmp_path / f"{n_lines}"
        out.mkdir()
        begun = b"".join(lines[:n_lines]) + lines[n_lines][:torn]
        (out / LOG_NAME).write_bytes(begun)
        asked_of.clear()
        found = evaluate(toy, iter(asked), out=out, **options)
        assert same(found, whole)
        assert same(Result.load(out), whole)
        assert (out / LOG_NAME).read_bytes() == b"".join(lines)
        assert found.provenance.seed == 3
        assert found.provenance.created == whole.provenance.created
        known = [json.loads(line) for line in lines[1:n_lines]]
        sizes = Counter(line["batch"] for line in known)
        done = {line["id"] for line in known if sizes[line["batch"]] == line["of"]}
        assert sorted(asked_of) == sorted({one.id for one in asked} - done)


def test_a_finished_run_is_read_and_not_run_and_may_be_continued(toy, tmp_path, asked_of):
    asked = toy_questions(6, seed=3)
    whole = evaluate(toy, asked[:4], out=tmp_path)
    asked_of.clear()
    again = evaluate(toy, asked[:4], out=tmp_path)
    assert asked_of == []
    assert again.logits.tobytes() == whole.logits.tobytes()
    assert evaluate(toy, asked, out=tmp_path).ids == tuple(one.id for one in asked)
    assert sorted(asked_of) == [one.id for one in asked[4:]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"condition": "silence"}, "settings.condition was 'audio' and is 'silence'"),
        ({"scoring": "generate"}, "settings.scoring was 'letter_logit' and is 'generate'"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"interventions": [ma.ScaleAttention(3.0)]}, r"interventions was \[\['ScaleAttention\(factor=2.0\)'\]\] and"),
        ({"batch_size": 2}, "was begun with batch_size=None, got 2"),
        ({"batch_positions": 999}, "was begun with batch_positions=2048, got 999"),
        ({"questions": toy_questions(3, seed=4)}, "question 0 is not the one .*'toy-4-0' for 'toy-3-0'"),
        ({"questions": toy_questions(2, seed=3)}, "asked 3 questions before, and 2 are given"),
    ],
)
def test_another_run_is_refused_with_what_differs(toy, tmp_path, changes, told):
    given = {"questions": toy_questions(3, seed=3), "seed": 3, "interventions": [ma.ScaleAttention(2.0)]}
    evaluate(toy, out=tmp_path, **given)
    before = (tmp_path / LOG_NAME).read_bytes()
    with pytest.raises(ValueError, match=told):
        evaluate(toy, out=tmp_path, **given | changes)
    assert (tmp_path / LOG_NAME).read_bytes() == before


def test_other_weights_of_the_same_name_are_refused(tmp_path):
    model = ma.load("toy", prove=False)
    asked = toy_questions(1, seed=3)
    evaluate(model, asked, out=tmp_path)
    model.network.get_submodule(model.adapter.unembed).weight.data += 0.5
    with pytest.raises(ValueError, match=r"is of another run: weights differ in 1 part of the network \(lm_head\)"):
        evaluate(model, asked, out=tmp_path)


def test_an_intervention_that_cannot_be_kept_is_refused_before_anything_runs(toy, tmp_path):
    made = ma.Edit(ma.HookPoint("resid_post", layers=[0]), lambda resid: resid)
    with pytest.raises(TypeError, match="Edit, which cannot be kept"):
        evaluate(toy, toy_questions(1, seed=3), interventions=[made], out=tmp_path)


def test_a_recording_that_is_mended_is_asked_about_when_the_run_is_taken_up(toy, tmp_path, asked_of):
    asked = toy_questions(4, seed=3)
    path = tmp_path / "clip.wav"
    asked[1] = replace(asked[1], audio=path)
    out = tmp_path / "out"
    first = evaluate(toy, asked, out=out)
    assert [failure.id for failure in first.failures] == ["toy-3-1"]
    size = (out / LOG_NAME).stat().st_size
    assert [failure.id for failure in evaluate(toy, asked, out=out).failures] == ["toy-3-1"]
    assert (out / LOG_NAME).stat().st_size == size
    toy_questions(4, seed=3)[1].clip().save(path)
    asked_of.clear()
    mended = evaluate(toy, asked, out=out)
    assert asked_of == ["toy-3-1"]
    assert mended.failures == ()
    assert mended.ids == tuple(one.id for one in asked)
    assert evaluate(toy, asked, out=out).logits.tobytes() == mended.logits.tobytes()

"""A clean run that sweeps continue from: nothing of it differs from a run and a sweep of the same prompts."""

from dataclasses import replace

import pytest
import torch

import mechaudio as ma
from mechaudio.data.toy_questions import questions
from mechaudio.tracing import memory
from mechaudio.variants import execute
from mechaudio.variants.shared_pass import KeptRuns, clean_run

POINTS = [
    *(ma.HookPoint(point, positions="last") for point in ("z", "resid_post", "final_norm")),
    *(ma.HookPoint(point, queries="last") for point in ("scores", "pattern")),
]


@pytest.fixture
def batch(toy):
    return ma.prompt(toy, questions(5, seed=2))


def variants(toy):
    direction = torch.linspace(-1, 1, toy.d_model)
    return [
        ma.ScaleAttention(3.0),
        ma.Steer(direction, layers=[-1]),
        ma.Steer(direction, hook_point="final_norm"),
        [],
        ma.ScaleAttention(3.0, queries="question"),
    ]


def test_it_gives_what_a_run_gives(toy, batch):
    clean, plain = clean_run(toy, batch, record=POINTS), ma.run(toy, batch, record=POINTS, logits="last")
    torch.testing.assert_close(clean.logits, plain.logits[:, -1])
    assert set(clean.cache) == set(plain.cache)
    for key in plain.cache:
        torch.testing.assert_close(clean.cache[key], plain.cache[key])


def test_a_sweep_of_it_is_the_sweep_of_the_prompts_and_runs_no_tower(toy, batch, monkeypatch):
    clean, usual = clean_run(toy, batch), ma.sweep(toy, batch, variants(toy)[:4], progress=False)
    monkeypatch.setattr(toy.exchange, "check", lambda *_, **__: pytest.fail("the prompts ran again"))
    for _ in range(2):  # and once more: nothing of it is used up
        found = ma.sweep(toy, clean, variants(toy)[:4], progress=False)
        assert found.ways == ("shared prefix",) * 4
        torch.testing.assert_close(found.logits, usual.logits)
        torch.testing.assert_close(found.clean, usual.clean)
        torch.testing.assert_close(found.mass_after, usual.mass_after, equal_nan=True)


def test_what_later_variants_attend_to_takes_no_memory_of_those_that_ran_along(toy, batch, monkeypatch):
    kept, run_behind = [], execute.run_behind
    monkeypatch.setitem(memory.MOST_OF_CHUNK, "cpu", 1.0)  # every variant is a chunk of its own
    monkeypatch.setattr(execute, "run_behind", lambda *given: kept.append(given) or run_behind(*given))
    ma.sweep(toy, batch, [ma.ScaleAttention(factor, queries="question") for factor in (0.5, 2.0)], progress=False)
    ((_, prefix, stacked, _),) = kept  # the other one ran along
    assert len(stacked.chunk.variants) == 1
    held = [part for shared in prefix.shared.values() for part in (shared.keys, shared.values)]
    assert len(held) == 2 * toy.n_layers
    assert prefix.n_bytes == sum(part.nbytes for part in held)


def test_what_changes_more_than_the_last_position_runs_one_by_one(toy, batch):
    found = ma.sweep(toy, clean_run(toy, batch), variants(toy), progress=False)
    assert found.ways[:4] == ("shared prefix",) * 4
    assert found.ways[4].startswith("one by one")
    torch.testing.assert_close(found.logits, ma.sweep(toy, batch, variants(toy), progress=False).logits)


def test_where_nothing_can_be_shared_it_says_why_and_gives_the_same(toy, batch):
    usual = ma.sweep(toy, batch, variants(toy)[:4], progress=False)
    hook = toy.network.model.language_model.register_forward_hook(lambda *_: None)
    try:
        clean = clean_run(toy, batch, record=POINTS)
        assert clean.prefix is None
        assert "a forward hook that is not ours" in clean.why
        torch.testing.assert_close(ma.sweep(toy, clean, variants(toy)[:4], progress=False).logits, usual.logits)
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (ma.HookPoint("pattern"), 'at queries="last"'),
        (ma.HookPoint("audio.resid_post"), "a clean run keeps the decoder's final_norm"),
        (ma.HookPoint("embed"), "a clean run keeps the decoder's final_norm"),
        (ma.HookPoint("resid_post"), 'at positions="last"'),
    ],
)
def test_other_hook_points_are_refused(toy, batch, point, message):
    with pytest.raises(ValueError, match=message):
        clean_run(toy, batch, record=[point])


def test_runs_are_kept_as_far_as_there_is_room_and_given_away_once(toy, batch):
    runs = [clean_run(toy, ma.prompt(toy, questions(2, seed=seed))) for seed in (3, 4)]
    kept = KeptRuns(1.5 * runs[0].n_bytes)
    for one in runs:
        kept.keep(one)
    assert kept.free == 0.5 * runs[0].n_bytes
    assert kept.take(batch.questions) is None
    assert kept.take(runs[1].batch.questions) is None
    assert kept.take(runs[0].batch.questions) is runs[0]
    assert kept.take(runs[0].batch.questions) is None
    kept.keep(runs[1])
    assert kept.take(runs[1].batch.questions) is runs[1]


def test_what_a_run_leaves_behind_is_all_keys_and_values(toy, batch):
    item = toy.network.dtype.itemsize
    d_head = toy.d_model // toy.n_heads
    expected = 2 * toy.n_layers * batch.n_rows * batch.n_positions * toy.n_key_value_heads * d_head * item
    assert clean_run(toy, batch).n_bytes == expected


def test_the_same_questions_are_kept_once_and_other_questions_of_their_ids_are_others(toy, batch):
    run, kept = clean_run(toy, batch), KeptRuns(1e9)
    for _ in range(2):
        kept.keep(run)
    assert kept.free == 1e9 - run.n_bytes
    others = [replace(question, text="Which sound has the latest offset?") for question in batch.questions]
    assert kept.take(others) is None
    assert kept.take(batch.questions) is run
    assert kept.free == 1e9


def test_a_clean_run_of_another_model_is_refused_and_one_of_a_changed_network_is_run_afresh(toy, batch):
    clean = clean_run(toy, batch)
    with pytest.raises(ValueError, match="the clean run is of another model"):
        ma.sweep(ma.load("toy", prove=False), clean, variants(toy)[:1], progress=False)
    usual = ma.sweep(toy, batch, variants(toy)[:1], progress=False)
    hook = toy.network.model.language_model.register_forward_hook(lambda *_: None)
    try:
        found = ma.sweep(toy, clean, variants(toy)[:1], progress=False)
    finally:
        hook.remove()
    assert "a forward hook that is not ours" in found.ways[0]
    torch.testing.assert_close(found.logits, usual.logits)

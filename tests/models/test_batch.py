"""A batch is counted, cut into rows and moved as one would a list or a tensor."""

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.models.inputs import as_batch
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned, unchecked_types


@pytest.fixture(scope="module")
def batch(tiny):
    return ma.prompt(tiny, ma.data.soundscapes.questions(4, seed=11, duration=(3.0, 8.0)))


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_a_row_of_its_own_runs_as_it_does_in_the_batch(family):
    model = ma.AudioLM(network(family), prove=False)
    whole = as_batch(model, model_inputs(family, seconds=(2.4, 1.2, 1.8), words=(3, 9, 5)))
    together = ma.run(model, whole).logits
    assert len(whole) == 3
    for row in range(3) if family in KINDS else [FAMILIES.index(family) % 3]:
        alone = whole[row]
        assert (len(alone), alone.n_positions) == (1, whole.n_positions)
        assert alone.spans["audio"] == (whole.spans["audio"][row],)
        real = whole.inputs["attention_mask"][row].bool()
        torch.testing.assert_close(ma.run(model, alone).logits[0, real], together[row, real], rtol=1e-3, atol=2e-4)
    both = whole[[2, 0]]
    real = both.inputs["attention_mask"].bool()
    torch.testing.assert_close(ma.run(model, both).logits[real], together[[2, 0]][real], rtol=1e-3, atol=2e-4)


def test_rows_bring_everything_that_belongs_to_them(tiny, batch):
    last = batch[-1]
    assert last.questions == batch.questions[3:]
    assert last.choice_ids == batch.choice_ids[3:]
    assert (last.clocks, last.cut, last.given) == (batch.clocks[3:], batch.cut[3:], batch.given[3:])
    assert last.tokens(0) == batch.tokens(3)
    assert [answer.choice_logits for answer in ma.answer(tiny, batch[1:3])] == [
        pytest.approx(answer.choice_logits, abs=1e-4) for answer in ma.answer(tiny, batch)[1:3]
    ]
    assert [row.questions[0].id for row in batch] == [question.id for question in batch.questions]
    assert batch[np.array([2, 0])].questions == (batch.questions[2], batch.questions[0])
    assert batch[torch.tensor(1)].questions == (batch.questions[1],)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (4, IndexError, "row 4 is outside this batch of 4 prompts"),
        ([0, -5], IndexError, "row -5 is outside"),
        (slice(4, 9), ValueError, "names no row of the 4 prompts"),
        ([], ValueError, "names no row"),
        ("last", TypeError, "takes the number of a row, a slice or a list of numbers, for a mask np.flatnonzero; got"),
        ([True, False], TypeError, "for a mask np.flatnonzero; got"),
        (torch.tensor([True, False]), TypeError, "for a mask np.flatnonzero; got"),
        (True, TypeError, "for a mask np.flatnonzero; got True"),
        (1.5, TypeError, "got 1.5"),
    ],
)
def test_rows_that_there_are_not_are_refused(batch, rows, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        batch[rows]


def test_a_batch_goes_to_another_device_with_all_its_tensors(batch):
    moved = batch.to("meta")
    assert {value.device.type for value in moved.inputs.values()} == {"meta"}
    assert {name: value.shape for name, value in moved.inputs.items()} == {
        name: value.shape for name, value in batch.inputs.items()
    }
    assert batch.inputs["input_ids"].device.type == "cpu"
    assert moved.spans == batch.spans


def test_spans_say_how_many_positions_they_have(batch):
    assert repr(batch.spans).startswith("<positions of 4 prompts: audio ")
    assert "last 1" in repr(batch.spans)
    assert len(repr(batch.spans)) < 200

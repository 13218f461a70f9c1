"""Path patching: the toy's planted path, maps, and what is refused."""

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.analyses import path_patches, path_patching
from mechaudio.data import toy_questions
from mechaudio.models.toy.planted import PLANTED
from tests.families import unchecked_types

EVIDENCE = ("mlp", PLANTED.collecting[0])
"""The MLP that multiplies evidence with letters."""


@pytest.fixture(scope="module")
def asked():
    clean = toy_questions.questions(6, seed=0, level=(0.0, 0.0))
    return clean, toy_questions.counterparts(clean)


def patch(model, asked, **settings):
    clean, *corrupted = asked
    sides = {"corrupted": corrupted[0]} if corrupted else {}
    return path_patching(model, clean, progress=False, **sides, **settings)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_the_planted_head_is_heard_by_the_mlp_that_multiplies_evidence_and_no_other_head_is(toy, asked, direction):
    found = patch(toy, asked, receiver=EVIDENCE, direction=direction)
    changed, unchanged = (0.0, 1.0) if direction == "noising" else (1.0, 0.0)
    expected = np.full((PLANTED.n_layers, PLANTED.n_heads), unchanged)
    expected[PLANTED.listening] = changed
    assert found.axes == {"layer": tuple(range(4)), "head": tuple(range(4))}
    assert np.allclose(found.mean(), expected, atol=1e-4)


@pytest.mark.parametrize("receiver", ["logits", ("head", *PLANTED.collecting), ("mlp", PLANTED.inert_layer)])
def test_no_head_of_the_toy_is_heard_anywhere_else(toy, asked, receiver):
    assert np.allclose(patch(toy, asked, receiver=receiver).mean(), 1.0, atol=1e-4)


def test_a_path_takes_one_head_of_a_group_that_shares_keys_and_values(toy, asked):
    for head, effect in ((PLANTED.listening, 0.0), (PLANTED.decoy, 1.0)):
        found = patch(toy, asked, sender="embed", receiver=("head", *head))
        assert found.axes == {"sender": ("embed",)}
        assert found.mean() == pytest.approx([effect], abs=1e-4)


def test_a_caption_goes_by_the_reading_head(toy):
    clean = toy_questions.questions(4, seed=1)
    prompts = [
        ma.prompt(toy, side, condition="caption") for side in (clean, toy_questions.counterparts(clean, "caption"))
    ]
    mean = patch(toy, prompts, receiver=EVIDENCE, at="last").mean()
    assert mean[PLANTED.reading] == pytest.approx(0.0, abs=1e-4)
    assert np.allclose(np.delete(mean.ravel(), np.ravel_multi_index(PLANTED.reading, mean.shape)), 1.0, atol=1e-4)


def test_seconds_of_sound_reach_the_listening_head_where_a_voice_sings(toy):
    question = toy_questions.ask([toy_questions.sung("tenor", 1), toy_questions.sung("alto", 3)], ["tenor", "alto"])
    spans = [f"audio[{second}:{second + 1}]" for second in range(4)]
    found = patch(
        toy, [[question]], sender="embed", receiver=("head", *PLANTED.listening), at=spans, direction="denoising"
    )
    assert found.axes == {"span": tuple(spans)}
    change = found.change[:, 0]
    assert change[1] > 0
    assert change[3] < 0
    assert np.allclose(change[[0, 2]], 0.0, atol=1e-3)


def test_a_map_holds_what_the_interventions_do_one_by_one(toy, asked):
    batches = [ma.prompt(toy, side) for side in asked]
    senders = [("head", *PLANTED.listening), ("attention", 1), ("mlp", 0), "embed"]
    found = patch(toy, asked, sender=senders, receiver=EVIDENCE, metric="probability", batch_size=4)
    assert found.axes == {"sender": ("head 1.2", "attention 1", "mlp 0", "embed")}
    for index, sender in enumerate(senders):
        patches = path_patches(toy, batches[0], source=batches[1], sender=sender, receiver=EVIDENCE)
        answers = ma.answer(toy, batches[0], interventions=patches)
        right = [one.probabilities[one.choices.index(q.answer)] for one, q in zip(answers, asked[0], strict=True)]
        assert found.values[index] == pytest.approx(right, abs=1e-5)
        chosen = [one.choice_logits for one in answers]
        assert np.allclose(found.logits[index], chosen, atol=1e-4)
    assert np.allclose(found.by("margin").mean()[0], 0.0, atol=1e-4)
    assert found.ways[0] == "shared prefix"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"receiver": ("q", 3)}, ValueError, r"receiver= is written \('q', layer, head\), got \('q', 3\)"),
        ({"receiver": ("z", 3, 1)}, ValueError, "receiver= is one of q, k, v, head, mlp, logits"),
        ({"receiver": ("q", "3", 1)}, TypeError, "receiver= takes .*; got"),
        ({"receiver": ("q", 9, 1)}, IndexError, "this decoder has layers 0 to 3"),
        ({"receiver": ("q", 3, 4)}, IndexError, "there is no head 4: a layer has heads 0 to 3 here"),
        ({"receiver": ("q", 0, 0)}, ValueError, "no head comes before q 0.0"),
        ({"receiver": ("q", 1, 0), "sender": ("mlp", 1)}, ValueError, "mlp 1 does not come before q 1.0"),
        ({"receiver": "logits", "sender": "everything"}, ValueError, "sender= is one of head, attention, mlp, embed"),
        ({"receiver": "logits", "at": "audio"}, ValueError, "leaves out the last position, where the logits are read"),
        ({"receiver": ("q", 1, 0), "at": "caption"}, ValueError, "at='caption' names no position of prompt 0"),
        ({"receiver": ("q", 1, 0), "at": "voice"}, KeyError, "no span 'voice' in this batch"),
        ({"receiver": "logits", "sender": []}, ValueError, "sender= is an empty list"),
        ({"receiver": "logits", "sender": [("mlp", 1), ("mlp", 1)]}, ValueError, "names a component twice"),
        ({"receiver": "logits", "direction": "sideways"}, ValueError, "direction= is one of .*; got 'sideways'"),
        ({"receiver": "logits", "metric": "loss"}, ValueError, "metric= is one of"),
        ({"receiver": "logits", "batch_size": 0}, ValueError, "batch_size= must be at least 1"),
    ],
)
def test_what_cannot_be_patched_is_refused(toy, asked, settings, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        patch(toy, asked, **settings)

"""Where a model listens: the rows that are planted in three toys, and the same numbers by ordinary runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import WhereItListens, where_it_listens
from mechaudio.analyses.cut_edges import ALL
from mechaudio.analyses.where_it_listens import EDGES
from mechaudio.data import toy_questions
from mechaudio.models.positions import select
from mechaudio.models.toy import arithmetic
from mechaudio.models.toy.planted import BY_LISTENER
from tests.analyses.measured import listening
from tests.families import unchecked_types

LISTENERS = ("last", "question", "choices")


@pytest.fixture(scope="module")
def toys():
    return {listens: ma.load("toy", listens=listens, prove=False) for listens in LISTENERS}


@pytest.fixture(scope="module")
def asked():
    return toy_questions.questions(14, seed=2)


@pytest.fixture(scope="module")
def found():
    return {listens: listening(listens) for listens in LISTENERS}


def margins(asked, **how):
    """By hand: of the right choice over the best wrong one."""
    logits = np.array([arithmetic.logits(question, **how) for question in asked])
    right = np.array([question.choices.index(question.answer) for question in asked])
    rows = np.arange(len(asked))
    wrong = logits.copy()
    wrong[rows, right] = -np.inf
    return logits[rows, right] - wrong.max(-1)


def needed(listens):
    """Edges without which the toy is deaf, and those without which it does not know what the letters stand for."""
    heard = {ALL, ("audio", listens)}
    return heard | ({(listens, "last")} if listens == "question" else set())


@pytest.mark.parametrize("listens", LISTENERS)
def test_it_names_the_rows_that_are_planted(found, listens):
    assert found[listens].rows == (listens,)
    assert found[listens].queries == listens
    assert found[listens].reaches


@pytest.mark.parametrize("listens", LISTENERS)
def test_every_edge_does_what_the_arithmetic_says(found, asked, listens):
    result = found[listens].everywhere
    np.testing.assert_allclose(result.clean_margin, margins(asked), atol=1e-4)
    deaf = margins(asked, deaf=True)
    for place, edge in enumerate(result.edges):
        if edge == ("choices", "last"):  # the letters, too, get to the last row by it
            np.testing.assert_allclose(result.margin[place, 0], deaf, atol=1e-4)
        else:
            np.testing.assert_allclose(
                result.margin[place, 0], deaf if edge in needed(listens) else result.clean_margin, atol=1e-4
            )


@pytest.mark.parametrize("listens", LISTENERS)
def test_each_layer_shows_where_the_planted_heads_are(found, listens):
    truth, layers = BY_LISTENER[listens], found[listens].layers
    changed = np.abs(layers.change("margin")).max(-1) > 0.1
    hears = changed[layers.edges.index(("audio", listens))]
    assert np.flatnonzero(hears).tolist() == [truth.listening[0]]
    hands_on = changed[layers.edges.index(("choices", "last"))]
    assert np.flatnonzero(hands_on).tolist() == [truth.collecting[0]]
    if listens == "question":
        assert np.flatnonzero(changed[layers.edges.index(("question", "last"))]).tolist() == [truth.handing[0]]


def test_a_role_that_hears_and_does_not_hand_on_does_not_listen(found):
    """In the first toy the last row needs the choices, for their letters, but these hear nothing."""
    result = found["last"]
    share = dict(zip(result.edges, result.share, strict=True))
    assert share[("choices", "last")] == pytest.approx(1.0, abs=1e-3)
    assert share[("audio", "choices")] == pytest.approx(0.0, abs=1e-3)
    assert "choices" not in result.rows


def test_rows_are_deaf_only_where_the_sound_gets_to_the_answer_without_them(found):
    assert found["choices"].deaf("last")
    assert found["choices"].deaf("keyword+last")
    assert found["choices"].deaf("template")
    assert not found["choices"].deaf("choices+last")
    assert not found["last"].deaf("last")
    assert not found["last"].deaf("template"), "the last row is one of the template's"
    assert not found["choices"].deaf("audio"), "nothing is known of rows that were not measured"


def test_what_is_cut_is_what_ordinary_runs_with_these_knock_outs_give(found, toys, asked):
    result, toy = found["choices"], toys["choices"]
    batch = ma.prompt(toy, asked)
    for edge in (("audio", "choices"), ("question", "last")):
        cut = ma.KnockOutAttention(queries=edge[1], keys=edge[0])
        answers = ma.answer(toy, batch, interventions=[cut])
        assert result.everywhere.correct[result.edges.index(edge), 0].tolist() == [one.correct for one in answers]
    template = select(batch, "template")
    behind = [[row for row in rows if row > 0 and row != batch.n_positions - 1] for rows in template]
    cut = ma.KnockOutAttention(queries=behind, keys="audio", layers=[1])
    swept = ma.sweep(toy, batch, [cut], progress=False)
    np.testing.assert_allclose(
        result.layers.margin[result.edges.index(("audio", "template")), 1], swept.margin[0].numpy(), atol=1e-4
    )


def test_windows_are_neighbours_that_share_no_layer(toys, asked):
    result = where_it_listens(toys["last"], asked, window=3, each_layer=False, progress=False)
    assert result.windows.windows == ((0, 1, 2), (3,))
    assert result.layers is None
    changed = np.abs(result.windows.change("margin")).max(-1) > 0.1
    assert changed[result.edges.index(("audio", "last"))].tolist() == [True, False]


def test_of_too_few_clips_nothing_is_told(toys, asked):
    result = where_it_listens(toys["last"], asked[:5], each_layer=False, progress=False)
    assert result.rows == ()
    assert result.n_clips < result.fewest
    assert f"that takes {result.fewest}" in result.sentence
    with pytest.raises(ValueError, match="no rows are known to listen"):
        _ = result.queries
    assert not result.deaf("choices")


def test_questions_of_one_clip_are_one_vote(toys, asked):
    again = [replace(asked[0], id=f"again {number}") for number in range(14)]
    result = where_it_listens(toys["last"], again, each_layer=False, progress=False)
    assert result.n_clips == 1
    assert result.rows == ()


def test_a_model_that_does_not_need_the_sound_listens_nowhere(toys, asked):
    quiet = [
        replace(question, audio=toy_questions.render(question.events, -60.0 - place / 4))
        for place, question in enumerate(asked)
    ]
    result = where_it_listens(toys["last"], quiet, each_layer=False, progress=False)
    assert not result.reaches
    assert result.rows == ()
    assert result.sentence.startswith("The sound is not known to reach the answer")
    assert not result.deaf("choices"), "where nothing is heard, no rows are at fault"


def test_a_caption_is_a_role_where_there_is_one(toys, asked):
    result = where_it_listens(toys["question"], asked, condition="audio+caption", each_layer=False, progress=False)
    assert ("audio", "caption") in result.edges
    assert result.rows == ("question",)


def test_prompts_without_a_role_are_not_changed_by_cutting_it(toys, asked):
    mixed = [replace(question, meta=dict(question.meta) | {"keyword": "first"}) for question in asked]
    plain = [
        replace(question, text="Which voice?", meta={"level": question.meta["level"]}, id=f"{question.id} plain")
        for question in asked[:6]
    ]
    order = [*plain[:3], *mixed, *plain[3:]]
    result = where_it_listens(toys["question"], order, each_layer=False, batch_size=5, progress=False)
    assert result.everywhere.ids == tuple(question.id for question in order)
    without = np.array([question.id.endswith("plain") for question in order])
    cut = result.everywhere.change("margin")[result.edges.index(("audio", "keyword")), 0]
    assert (cut[without] == 0).all()
    attention = result.everywhere.attention[result.edges.index(("audio", "keyword")), 0]
    assert (np.isnan(attention) == without).all()
    assert result.rows == ("question",)
    alone = where_it_listens(toys["question"], plain, each_layer=False, progress=False)
    assert ("audio", "keyword") not in alone.edges


def test_words_are_measured_in_the_place_of_letters(toys, asked):
    """A voice's name has the logit of its evidence at the last row, which in the second toy the question hands on."""
    spoken = [replace(question, choices=(), answer=question.answer) for question in asked]
    for listens in ("last", "question"):
        result = where_it_listens(toys[listens], spoken, each_layer=False, progress=False)
        assert result.rows == (listens,)
        assert ("audio", "choices") not in result.edges
        batch = ma.prompt(toys[listens], spoken).aimed()
        deaf = ma.sweep(toys[listens], batch, [ma.KnockOutAttention(queries="behind")], progress=False)
        np.testing.assert_allclose(result.everywhere.clean_margin, deaf.clean_margin.numpy(), atol=1e-4)
        np.testing.assert_allclose(result.everywhere.margin[0, 0], deaf.margin[0].numpy(), atol=1e-4)


def test_of_whole_words_the_rows_of_the_words_belong_to_the_last(toys, asked):
    spoken = [replace(question, choices=(), answer="tenor , alto") for question in asked[:3]]
    result = where_it_listens(toys["last"], spoken, whole=True, each_layer=False, progress=False)
    toy, last = toys["last"], result.edges.index(("audio", "last"))
    for row, question in enumerate(spoken):
        batch = ma.prompt(toy, [question]).aimed(whole=True)
        words = list(batch.aims[0].target_ids)
        inputs = dict(batch.inputs)
        more = torch.tensor([words[:-1]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], more], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(more)], dim=1)
        rows = list(range(batch.n_positions - 1, batch.n_positions + len(words) - 1))
        for cut, margin in (
            ([], result.everywhere.clean_margin),
            (
                [ma.KnockOutAttention(queries=rows, keys=list(batch.spans["audio"][0]))],
                result.everywhere.margin[last, 0],
            ),
        ):
            logits = ma.run(toy, inputs, interventions=cut).logits[0, rows].double().log_softmax(-1)
            total = sum(logits[place, token] for place, token in enumerate(words))
            assert margin[row] == pytest.approx(float(torch.logit(total.exp())), abs=1e-3)


def test_it_is_kept_and_is_a_tidy_table(found, tmp_path):
    result = found["choices"]
    again = WhereItListens.load(result.save(tmp_path))
    assert again.sentence == result.sentence
    table = again.to_pandas()
    whole = table[table["scope"] == "all layers"].set_index(["source", "target"])
    assert len(whole) == len(result.edges)
    assert whole.loc[("audio", "choices"), "share"] == pytest.approx(1.0, abs=1e-3)
    deaf = result.everywhere.correct[result.edges.index(("audio", "choices")), 0]
    assert whole.loc[("audio", "choices"), "broken"] == (result.everywhere.clean_correct & ~deaf).sum() > 0
    assert whole.loc[("audio", "last"), "p_holm"] == 1.0
    assert "choices listen" in repr(result)


def test_the_sentence_says_who_listens_and_who_does_not(found):
    said = found["choices"].sentence
    assert said.startswith("The choices listen, and the last row does not. Without the sound in the choices the prob")
    assert "100% of what it does without any sound" in said
    right = found["choices"].everywhere.clean_correct.sum()
    assert f"in the last row by +0.00, 0% of what it does without any sound, and {right} stay" in said
    assert said.endswith("(n = 14 questions).")
    assert found["last"].sentence.startswith("The last row listens. Without the sound in the last row ")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"condition": "silence"}, ValueError, "condition is one of .* in which there is sound to listen to"),
        ({"condition": "caption"}, ValueError, "in which there is sound to listen to"),
        ({"least": 0.0}, ValueError, "least= is a share of what all rows carry"),
        ({"window": 0}, ValueError, "window= is a number of layers"),
        ({"foil": "bass"}, ValueError, "give target=, too"),
    ],
)
def test_what_cannot_be_asked_is_refused(toys, asked, settings, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        where_it_listens(toys["last"], asked[:2], progress=False, **settings)


def test_the_edges_are_those_from_the_sound_and_those_to_the_last_row():
    assert all(source == "audio" or target == "last" for source, target in EDGES)
    assert len(set(EDGES)) == len(EDGES)

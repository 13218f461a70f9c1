import numpy as np
import pytest

from mechaudio.analyses import LogitLens
from mechaudio.viz import lens_table
from tests.viz.made_up import provenance


def made_up(n=3, depths=("embed", "0", "1"), text="Which <sound> is first?"):
    rng = np.random.default_rng(0)
    places = (2, len(depths), n)
    shares = np.sort(rng.dirichlet(np.ones(6), size=places), axis=-1)[..., ::-1][..., :2]
    ids = rng.integers(4, size=(*places, 2))
    onset = np.tile(np.where(np.arange(n) < 1, 0.04, np.nan), (2, 1))
    return LogitLens(
        depths=depths, positions=np.tile(np.arange(n), (2, 1)), labels=(("♪ 0.04 s", *["<b>"] * (n - 1)),) * 2,
        roles=(("audio", *["question"] * (n - 1)),) * 2, onset=onset, offset=onset + 0.04,
        top_ids=ids, top_probability=shares, vocabulary={0: "<|end|>", 1: " dog", 2: "", 3: "extraordinarily"},
        choice_logits=rng.normal(size=(*places, 2)), choice_probability=rng.random((*places, 2)),
        choice_rank=rng.integers(9, size=(*places, 2)), right=np.zeros(2, dtype=int), letters=(("A", "B"),) * 2,
        right_letters=(("A",),) * 2, token_ids=(),
        token_logits=np.zeros((*places, 0)), token_probability=np.zeros((*places, 0)),
        token_rank=np.zeros((*places, 0), dtype=int), entropy=rng.random(places), kl=rng.random(places), lens="plain",
        ids=("q0", "q1"), texts=(text,) * 2, provenance=provenance(),
    )  # fmt: skip


def test_cells_are_the_best_tokens_and_their_probabilities():
    lens = made_up()
    figure = lens_table(lens, 1)
    np.testing.assert_array_equal(figure.data[0].z, lens.top_probability[1, :, :, 0])
    assert list(figure.layout.yaxis.ticktext) == ["embed", "0", "1"]
    written = {(note.x, note.y): note.text for note in figure.layout.annotations}
    words = {0: "&lt;|end|&gt;", 1: "dog", 2: "␣", 3: "extraordinarily"}
    for (place, depth), text in written.items():
        assert text == words[int(lens.top_ids[1, depth, place, 0])]


def test_the_hover_has_seconds_logits_and_the_other_tokens_and_shows_markup_as_text():
    lens = made_up()
    hover = lens_table(lens).data[0].customdata
    assert "hears 0.04 to 0.08 s" in hover[0][0]
    assert "hears" not in hover[0][1]
    assert "&lt;b&gt; (question), after layer 1" in hover[2][1]
    assert f"logits A {lens.choice_logits[0, 2, 1, 0]:.2f}, B {lens.choice_logits[0, 2, 1, 1]:.2f}" in hover[2][1]
    assert lens_table(lens).layout.title.subtitle.text == "Which &lt;sound&gt; is first?"


def test_wide_tables_are_not_written_in():
    assert not lens_table(made_up(n=60)).layout.annotations


def test_a_question_that_there_is_not_says_so():
    with pytest.raises(IndexError, match="there is no question 2: of 2 questions, the first is 0"):
        lens_table(made_up(), 2)

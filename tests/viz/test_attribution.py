import numpy as np
import pytest

from mechaudio.analyses import DirectLogitAttribution
from mechaudio.metrics import bootstrap_mean
from mechaudio.viz import attribution_bars
from tests.viz.made_up import provenance

ROLES = ("audio", "question")


def made_up(n=4):
    rng = np.random.default_rng(0)
    over_time = rng.normal(size=(n, 2, 3, 8))
    by_role = np.stack([over_time.sum(-1), rng.normal(size=(n, 2, 3))], axis=-1)
    heads, mlp, embed = by_role.sum(-1), rng.normal(size=(n, 2)), rng.normal(size=n)
    heads[:, 1] = by_role[:, 1] = over_time[:, 1] = np.nan
    attention = np.stack([heads[:, 0].sum(-1), np.full(n, np.nan)], axis=1)
    whole = embed + attention[:, 0] + mlp.sum(1)
    empty = np.full((n, 2), np.nan)
    return DirectLogitAttribution(
        towards=("A",) * n, away=(("B", "C") * n)[:n], logit_difference=whole, capped_difference=whole,
        explained=whole, embed=embed, attention=attention, mlp=mlp, mixer=empty, constant=np.zeros(n), heads=heads,
        attention_bias=0 * attention, by_role=by_role, roles=ROLES, over_time=over_time, n_tokens=np.full(n, 8),
        edges=np.tile(np.linspace(0, 2, 9), (n, 1)), ids=tuple(map(str, range(n))), texts=("?",) * n,
        provenance=provenance(),
    )  # fmt: skip


def test_parts_are_means_over_questions_and_layers_without_attention_have_no_bar():
    written = made_up(n=6)
    bars = attribution_bars(written).data[0]
    assert list(bars.x) == ["embed", "0 attn", "0 mlp", "1 mlp"]
    parts = np.stack([written.embed, written.attention[:, 0], written.mlp[:, 0], written.mlp[:, 1]], axis=1)
    np.testing.assert_allclose(bars.y, parts.mean(0))
    np.testing.assert_allclose(sum(bars.y), written.explained.mean())
    low, high = bootstrap_mean(parts)
    np.testing.assert_allclose(bars.error_y.array, high - parts.mean(0))
    np.testing.assert_allclose(bars.error_y.arrayminus, parts.mean(0) - low)


def test_roles_and_seconds_of_one_question_sum_to_what_they_divide():
    written = made_up()
    roles = attribution_bars(written, "role", question=1)
    np.testing.assert_allclose(roles.data[0].y, np.nansum(written.by_role[1], axis=(0, 1)))
    assert roles.data[0].error_y.array is None
    seconds = attribution_bars(written, "second", question=1).data[0]
    assert list(seconds.x) == ["0-1 s", "1-2 s"]
    np.testing.assert_allclose(seconds.y.sum(), roles.data[0].y[0])
    assert "'A' minus 'C'" in roles.layout.title.subtitle.text


def test_heads_are_in_the_order_of_what_they_wrote():
    written = made_up()
    bars = attribution_bars(written, "head").data[0]
    assert sorted(bars.x) == ["0.0", "0.1", "0.2"]  # layer 1 has no attention
    assert (np.diff(np.abs(bars.y)) <= 0).all()


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(ValueError, match="seconds of different clips are not added: say which question="):
        attribution_bars(made_up(), "second")
    with pytest.raises(IndexError, match="there is no question 9: of 4 questions, the first is 0"):
        attribution_bars(made_up(), question=9)

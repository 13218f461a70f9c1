"""How much of the attention goes to the audio, and to every other role of token, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, LEGEND_BELOW, ROLE_COLOURS, band, laid_out, layer_ticks

_ENDS = ": %{customdata[0]:.1f} to %{customdata[1]:.1f}%"


@dataclass(frozen=True, eq=False)
class _Line:
    """One role's mean by layer in percent, and a band that `spread` names."""

    role: str
    mean: Float[np.ndarray, " layer"]
    low: Float[np.ndarray, " layer"]
    high: Float[np.ndarray, " layer"]
    spread: str


def _line(attention: AudioAttention, role: str, confidence: float, seed: int) -> _Line:
    share = 100 * attention.share(role)
    if len(share) > 1:
        mean = share.mean(axis=2)
        low = high = np.full(mean.shape[1], np.nan)
        few = too_few(len(mean), attention.clips, confidence)
        if not few:
            low, high = bootstrap_mean(mean, clips=attention.clips or None, confidence=confidence, seed=seed)
        return _Line(role, mean.mean(axis=0), low, high, few or f"{100 * confidence:g}% interval over clips")
    low, high = np.quantile(share[0], [0.25, 0.75], axis=1)
    return _Line(role, share[0].mean(axis=1), low, high, "middle half of the heads")


def _draw_line(figure: go.Figure, line: _Line) -> None:
    figure.add_scatter(
        x=np.arange(len(line.mean)),
        y=line.mean,
        mode="lines+markers",
        name=line.role,
        legendgroup=line.role,
        line={"color": ROLE_COLOURS.get(line.role, CYCLE[-1]), "width": 2.5},
        customdata=np.stack([line.low, line.high], axis=1),
        hovertemplate=f"layer %{{x}}: %{{y:.1f}}% on {line.role}<br>"
        f"{line.spread}{'' if np.isnan(line.low).all() else _ENDS}<extra></extra>",
    )


def _draw_band(figure: go.Figure, line: _Line) -> None:
    band(
        figure,
        np.arange(len(line.mean)),
        line.low,
        line.high,
        colour=ROLE_COLOURS.get(line.role, CYCLE[-1]),
        legendgroup=line.role,
        name=f"{line.role}: {line.spread}",
    )


def _draw_heads(figure: go.Figure, role: str, share: Float[np.ndarray, "layer head"]) -> None:
    """A dot per head: of one question, the heads are what can be seen to differ."""
    layers, heads = np.indices(share.shape)
    figure.add_scatter(
        x=layers.ravel(),
        y=100 * share.ravel(),
        customdata=heads.ravel(),
        mode="markers",
        marker={"color": ROLE_COLOURS.get(role, CYCLE[-1]), "size": 6, "opacity": 0.4},
        hovertemplate=f"layer %{{x}}, head %{{customdata}}: %{{y:.1f}}% on {role}<extra></extra>",
        showlegend=False,
        legendgroup=role,
        name=f"{role}: each head",
    )


@checks_arguments
def audio_share_by_layer(
    attention: AudioAttention, *, roles: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
) -> go.Figure:
    """Share of attention per role of token by layer, mean over heads and questions.

    Bands are bootstrap intervals of the mean, over clips; of few clips there are none. Of one question dots show each
    head's share on the first role, the hover gives the middle half of the heads, and the figure says so.

    Args:
        attention: What `analyses.audio_attention` measured.
        roles: Which roles to draw; by default all that get any attention.
        confidence: Level of the interval.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: For a role that the result does not have, or for none.
    """
    drawn = [role for role in attention.roles if attention.share(role).any()] if roles is None else list(roles)
    unknown = [role for role in drawn if role not in attention.roles]
    if unknown or not drawn:
        raise ValueError(f"no role {', '.join(unknown) or 'given'}: this result has {', '.join(attention.roles)}")
    n, n_layers, n_heads, _ = attention.mass.shape
    lines = [_line(attention, role, confidence, seed) for role in drawn]
    few = too_few(n, attention.clips, confidence)
    figure = go.Figure()
    if n == 1:
        _draw_heads(figure, drawn[0], attention.share(drawn[0])[0])
    elif not few:
        for line in lines:
            _draw_band(figure, line)
    for line in lines:
        _draw_line(figure, line)
    sample = questions_of(n, attention.clips)
    spread = f"bands: {lines[0].spread} (bootstrap)" if n > 1 else f"dots: each head's share on {drawn[0]}"
    if n > 1 and few:
        spread = few
    return laid_out(
        figure,
        f"Where the {attention.queries} position looks, by layer ({sample})",
        f"mean of {n_of(n_heads, 'head')}; {spread}",
        height=430,
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(n_layers)), "range": [-0.25, n_layers - 0.75]},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        legend=LEGEND_BELOW,
    )

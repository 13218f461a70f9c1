"""How much of the attention goes to the audio, and to every other role of token, layer by layer."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, LEGEND_BELOW, ROLE_COLOURS, band, laid_out, layer_ticks


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
    few = too_few(n, attention.clips, confidence)  # checks the level, which heads of one question do not need
    few = few if n > 1 else ""
    spread = few or f"{100 * confidence:g}% interval over clips" if n > 1 else "middle half of the heads"
    lines = [(role, *_line(attention, role, few, confidence, seed)) for role in drawn]
    colours = {role: ROLE_COLOURS.get(role, CYCLE[-1]) for role in drawn}
    figure, layers = go.Figure(), np.arange(n_layers)
    if n == 1:
        _draw_heads(figure, drawn[0], attention.share(drawn[0])[0])
    for role, _, low, high in () if n == 1 or few else lines:
        band(figure, layers, low, high, colour=colours[role], legendgroup=role, name=f"{role}: {spread}")
    for role, mean, low, high in lines:
        ends = "" if np.isnan(low).all() else ": %{customdata[0]:.1f} to %{customdata[1]:.1f}%"
        figure.add_scatter(
            x=layers,
            y=mean,
            mode="lines+markers",
            name=role,
            legendgroup=role,
            line={"color": colours[role], "width": 2.5},
            customdata=np.stack([low, high], axis=1),
            hovertemplate=f"layer %{{x}}: %{{y:.1f}}% on {role}<br>{spread}{ends}<extra></extra>",
        )
    sample = questions_of(n, attention.clips)
    shown = f"bands: {spread} (bootstrap)" if n > 1 else f"dots: each head's share on {drawn[0]}"
    return laid_out(
        figure,
        f"Where the {attention.queries} position looks, by layer ({sample})",
        f"mean of {n_of(n_heads, 'head')}; {few or shown}",
        height=430,
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(n_layers)), "range": [-0.25, n_layers - 0.75]},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        legend=LEGEND_BELOW,
    )


def _line(
    attention: AudioAttention, role: str, few: str, confidence: float, seed: int
) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
    """One role's mean by layer in percent, and the ends of its interval, or of the middle half of the heads."""
    share = 100 * attention.share(role)
    if len(share) == 1:
        return share[0].mean(axis=1), *np.quantile(share[0], [0.25, 0.75], axis=1)
    mean = share.mean(axis=2)
    if few:
        return mean.mean(axis=0), *np.full((2, mean.shape[1]), np.nan)
    ends = bootstrap_mean(mean, clips=attention.clips or None, confidence=confidence, seed=seed)
    return mean.mean(axis=0), *ends

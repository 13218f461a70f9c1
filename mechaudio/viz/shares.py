"""How much of the attention goes to the audio, and to every other role of token, layer by layer."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.viz.theme import CYCLE, ROLE_COLOURS, TEMPLATE, layer_ticks, titled


def bootstrap_interval(
    values: Float[np.ndarray, "sample *rest"], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """A percentile bootstrap interval of the mean over samples.

    Args:
        values: one row per sample, at least two.
        confidence: the share of resampled means inside the interval.
        resamples: how many times the samples are drawn anew.
        seed: which draws; the same seed gives the same interval.

    Returns:
        Lower and upper ends, shaped as one sample.

    Raises:
        ValueError: for fewer than two samples.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over samples needs at least 2 of them, got {n}")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    means = weights @ values.reshape(n, -1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def _band(
    mass: Float[np.ndarray, "question layer head"], confidence: float, seed: int
) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
    if len(mass) > 1:
        return bootstrap_interval(mass.mean(axis=2), confidence=confidence, seed=seed)
    return mass[0].min(axis=1), mass[0].max(axis=1)


def _draw_role(
    figure: go.Figure,
    role: str,
    mean: Float[np.ndarray, " layer"],
    band: tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]],
    band_is: str,
) -> None:
    """A line through the layers' means, in percent, and a band around it."""
    low, high = band
    layers = np.arange(len(mean))
    colour = ROLE_COLOURS.get(role, CYCLE[-1])
    figure.add_scatter(
        x=np.concatenate([layers, layers[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=colour,
        opacity=0.22 if role == "audio" else 0.1,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=role,
        name=f"{role}: {band_is}",
    )
    figure.add_scatter(
        x=layers,
        y=mean,
        mode="lines+markers",
        name=role,
        legendgroup=role,
        line={"color": colour, "width": 2.5},
        customdata=np.stack([low, high], axis=1),
        hovertemplate=f"layer %{{x}}: %{{y:.1f}} % on {role}<br>"
        f"{band_is}: %{{customdata[0]:.1f}} to %{{customdata[1]:.1f}} %<extra></extra>",
    )


def audio_share_by_layer(
    attention: AudioAttention, *, roles: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
) -> go.Figure:
    """Share of attention per role of token by layer, mean over heads and questions.

    The band is a bootstrap interval of the mean over questions. One question has none: there it spans from the head
    that looks least to the head that looks most, and the figure says so.

    Args:
        attention: what `analyses.audio_attention` measured.
        roles: which roles to draw; by default all that get any attention.
        confidence: of the interval.
        seed: of the bootstrap.

    Raises:
        ValueError: for a role that the result does not have.
    """
    drawn = [role for index, role in enumerate(attention.roles) if attention.mass[..., index].any()]
    for role in roles if roles is not None else ():
        if role not in attention.roles:
            raise ValueError(f"no role {role!r} in this result; it has {', '.join(attention.roles)}")
    n, n_layers, n_heads, _ = attention.mass.shape
    band_is = f"{100 * confidence:g} % interval over questions" if n > 1 else "least to most attentive head"
    figure = go.Figure()
    for role in drawn if roles is None else roles:
        mass = 100 * attention.mass[..., attention.roles.index(role)]
        _draw_role(figure, role, mass.mean(axis=(0, 2)), _band(mass, confidence, seed), band_is)
    questions = f"n = {n} questions" if n > 1 else "n = 1 question"
    band = f"band: {band_is}" + (" (bootstrap)" if n > 1 else "")
    figure.update_layout(
        template=TEMPLATE,
        height=430,
        title=titled(
            f"Where the {attention.queries} position looks, by layer ({questions})", f"mean of {n_heads} heads; {band}"
        ),
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(n_layers)), "range": [-0.25, n_layers - 0.75]},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        margin={"b": 92},
    )
    return figure

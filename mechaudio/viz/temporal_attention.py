"""Where the last position looks in the temporal study, by layer: audio against text."""

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.models.spans import TEXT_ROLES
from mechaudio.viz.theme import LEGEND_BELOW, ROLE_COLOURS, TEMPLATE, band, layer_ticks, titled


@checks_arguments
def temporal_attention(study: TemporalStudy, *, confidence: float = 0.95, seed: int = 0) -> go.Figure:
    """Attention of the last position on audio and text, and on each role of text, by layer, in the mean over heads.

    Args:
        study: what `temporal_study` found.
        confidence: of the bands, bootstrap intervals of the mean, over clips; few clips have none.
        seed: of the bootstrap.
    """
    measured = np.flatnonzero(np.isfinite(study.attention).all((0, 2)))
    shares = {role: 100 * study.attention[:, measured, place] for place, role in enumerate(study.roles)}
    text = [role for role in TEXT_ROLES if role in shares]
    lines = {"audio": shares.pop("audio")}
    if len(text) > 1:
        lines[f"text ({' + '.join(text)})"] = np.sum([shares[role] for role in text], axis=0)
    lines |= {role: share for role, share in shares.items() if share.any()}
    figure, n = go.Figure(), len(study.attention)
    clips = study.compared.clean.clips[:n]  # attention was measured on the first questions
    few = too_few(n, clips, confidence)
    colours = {name: ROLE_COLOURS["question" if name.startswith("text (") else name] for name in lines}
    for name, share in () if few else lines.items():
        ends = bootstrap_mean(share, clips=clips or None, confidence=confidence, seed=seed)
        band(figure, measured, *ends, colour=colours[name], legendgroup=name, name=f"{name}: interval")
    for name, share in lines.items():
        whole = name == "audio" or name.startswith("text (")
        figure.add_scatter(
            x=measured,
            y=share.mean(0),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colours[name], "width": 3.5 if whole else 1.5, "dash": "solid" if whole else "dot"},
            marker={"size": 8 if whole else 5},
            hovertemplate=f"layer %{{x}}: %{{y:.1f}} % on {name}<extra></extra>",
        )
    sample = questions_of(n, clips)
    whole_text = (
        f"text: {' + '.join(text)}, without the template, which the control on text keys counts as text; "
        if len(text) > 1
        else ""
    )
    bands = f"; {few}" if few else f"; bands: {100 * confidence:g} % intervals over clips (bootstrap)"
    figure.update_layout(
        template=TEMPLATE,
        height=440,
        title=titled(
            f"Where the last position looks, by layer ({sample})",
            f"mean over heads{bands}<br>{whole_text}dotted: role by role",
        ),
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(study.attention.shape[1]))},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        legend=LEGEND_BELOW,
        margin={"t": 96, "b": 96},
    )
    return figure

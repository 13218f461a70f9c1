"""The model's answers, with the recording and with silence of the same length in its place."""

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.listen import Listening
from mechaudio.viz.theme import CLEAR, LEGEND_BELOW, ROLE_COLOURS, laid_out, plain


@checks_arguments
def choice_probabilities(listening: Listening) -> go.Figure:
    """The probability of each choice, beside its probability when the recording is replaced by silence.

    Where something was changed while the model answered, bars with an outline are its answer without the change. The
    right choice, where it is known, is marked ✓. Probabilities are a softmax over the choices' letters only.

    Args:
        listening: One question, asked both ways.

    Raises:
        ValueError: For an open question.
    """
    if not listening.choices:
        raise ValueError(
            f"question {listening.id!r} is open, so it has no choices to draw: Listening.choice is what the model wrote"
        )
    audio = ROLE_COLOURS["audio"]
    names = [
        f"{letter}  {plain(choice, 36)}{' ✓' if choice == listening.answer else ''}"
        for letter, choice in zip(listening.letters, listening.choices, strict=True)
    ]
    figure = go.Figure()
    bars = [("recording", listening.probabilities, audio), ("silence", listening.silence_probabilities, "#8c8c8c")]
    if listening.unchanged_probabilities is not None:
        bars.insert(1, ("recording, unchanged", listening.unchanged_probabilities, CLEAR))
    for heard, values, colour in bars:
        figure.add_bar(
            orientation="h",
            y=names,
            x=100 * values,
            name=heard,
            marker={"color": colour, "line": {"width": 1.5 if colour == CLEAR else 0, "color": audio}},
            text=[_percent(float(value)) for value in values],
            textposition="outside",
            cliponaxis=False,
            textfont={"size": 12},
            hovertemplate=f"with {heard}: %{{x:.1f}}%<extra></extra>",
        )
    known = "" if listening.answer is None else "; ✓ is right"
    if listening.guesses:
        known += f"<br>guesses, as the model was never trained to hear it: {plain(', '.join(listening.guesses), 90)}"
    return laid_out(
        figure,
        "How probable each choice is (n = 1 question)",
        f"softmax over the {n_of(len(names), 'letter')}{known}",
        height=180 + 23 * len(bars) * len(names),
        barmode="group",
        bargap=0.3,
        xaxis={"title": {"text": "probability (%)"}, "range": [0, 109], "tickvals": [0, 25, 50, 75, 100]},
        yaxis={"autorange": "reversed", "showgrid": False, "ticklen": 6, "tickcolor": CLEAR, "ticks": "outside"},
        legend=LEGEND_BELOW,
    )


def _percent(share: float) -> str:
    """A share in percent, with a decimal place where it is small."""
    if share < 0.0005:
        return "0%" if share == 0 else "< 0.1%"
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}%"

"""Each figure of a page with its heading and how to read it, in words that ask for no background."""

import html
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.arguments import checks_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.player import playable
from mechaudio.experiments.listen import Listening
from mechaudio.metrics.clips import questions_of
from mechaudio.report.rendering import script_json
from mechaudio.showing import Shown
from mechaudio.viz.choices import choice_probabilities
from mechaudio.viz.grid import layer_head_grid
from mechaudio.viz.shares import audio_share_by_layer
from mechaudio.viz.theme import SOFT
from mechaudio.viz.timeline import attention_over_time


@dataclass(frozen=True)
class Panel(Shown):
    """A figure as it stands on a page.

    Attributes:
        kind: Which figure it is, and its class on the page: a `timeline` moves with the sound.
        heading: The figure's title, as plain text.
        note: What it rests on (sample size, bands), as plain text; may be empty.
        how: How to read it.
        figure: Plotly's JSON, safe inside a `<script>` element.
        sound: The recording under it, as a `data:` address; blank where there is none.
    """

    kind: str
    heading: str
    note: str
    how: str
    figure: Markup
    sound: str = ""


@checks_arguments
def panel(
    kind: str, figure: go.Figure, how: str, heading: str | None = None, *, clip: AudioClip | None = None
) -> Panel:
    """A figure whose title has moved to the page, where it wraps and can be found; the figure itself keeps it.

    Args:
        kind: Which figure it is.
        figure: The figure.
        how: How to read it.
        heading: Its heading; by default its title.
        clip: The recording that it lies over, to be played beside it, in 1 MB at most.
    """
    title, figure = figure.layout.title, go.Figure(figure)
    words = html.unescape((title.text or "").replace(SOFT, " ")) if heading is None else heading
    note = _in_one_line((title.subtitle.text or "").replace(SOFT, " "))
    figure.layout.title = None
    figure.layout.margin.t = 24
    sound, cut = ("", ()) if clip is None else playable(clip)
    return Panel(kind, words, "; ".join([note, *cut] if note else cut), how, script_json(figure.to_json()), sound)


def _in_one_line(subtitle: str) -> str:
    """Join a figure's lines; a mark at a line's end stands, where there is none a semicolon parts them."""
    *lines, last = (html.unescape(line) for line in subtitle.split("<br>"))
    return "".join(line + (" " if line.endswith((",", ";", ":", ".")) else "; ") for line in lines) + last


def _sample(attention: AudioAttention) -> str:
    n = len(attention.ids)
    return "this question" if n == 1 else f"mean of {questions_of(n, attention.clips)}"


def answer_panel(listening: Listening) -> Panel:
    """The choices' probabilities, with the recording and with silence, and without a change where there is one."""
    changed = listening.unchanged_probabilities is not None
    unchanged = " The outline: the same without the change." if changed else ""
    return panel(
        "choices",
        choice_probabilities(listening),
        f"Each choice has {'three' if changed else 'two'} bars. Orange: how probable the model finds it after hearing "
        f"the recording.{unchanged} Grey: the same question with silence of the same length. Where orange and grey "
        "agree, the answer came from the words; where they part, from the sound.",
        heading="The answer, with the recording and with silence",
    )


def time_panel(listening: Listening) -> Panel:
    """Attention by layer and time under the sound."""
    clip = AudioClip(listening.waveform.astype(np.float32) / 32767, listening.sample_rate, listening.source)
    events = bool(listening.attention.events[0])
    parts = "On top is the sound (the stronger the grey, the louder; high pitches above low ones)" + (
        ", below it the known events as bars; dotted lines carry their starts and ends down" if events else ""
    )
    return panel(
        "timeline",
        attention_over_time(listening.attention, 0, clip),
        f"{parts}. Then one row per layer of the language model, the first at the bottom: the brighter, the more of "
        "its attention the model spends on that moment while it is about to answer. Play the recording and a line "
        "moves through the picture; click anywhere in the picture to play from there.",
        heading="When in the recording it looked",
    )


def layers_panel(attention: AudioAttention) -> Panel:
    """Attention by role of token and layer."""
    bands = (
        "Each dot is one head's share on the audio: heads of one layer can differ widely."
        if len(attention.ids) == 1
        else "Bands are 95% intervals: asking as many other questions would move the lines about that much."
    )
    choices = "the choices, " if "choices" in attention.roles and attention.share("choices").any() else ""
    figure = audio_share_by_layer(attention)
    figure.layout.title.subtitle.text = f"{_sample(attention)}; {figure.layout.title.subtitle.text}"
    return panel(
        "shares",
        figure,
        "Before it answers, the model spreads 100% of its attention over everything in front of it: the audio, the "
        f"question, {choices}and the template (fixed words and markers around them, where models tend to park "
        f"attention that they do not need). Each line follows one of these through the layers. {bands}",
        heading="How much of its attention goes to the audio",
    )


def heads_panel(attention: AudioAttention) -> Panel:
    """Audio attention of each head."""
    share = attention.share("audio").mean(axis=0)
    figure = layer_head_grid(100 * share, "", unit="%", decimals=1, note=_sample(attention))
    return panel(
        "heads",
        figure,
        "Every layer has several heads, each of which looks where it will. A cell is one head: the share of its "
        "attention that falls on the audio, from the position that answers. A head that looks need not listen: only a "
        "cut shows whether what it looks at reaches the answer (`mechaudio listens`).",
        heading="Which heads look at the audio",
    )


def spread_panel(attention: AudioAttention) -> Panel:
    """How widely each head spreads over the recording, in seconds: exp(entropy) tokens of mean length."""
    widths = np.array([np.diff(attention.edges_of(question)).mean() for question in range(len(attention.ids))])
    seconds = (np.exp(attention.entropy) * widths[:, None, None]).mean(axis=0)
    figure = layer_head_grid(seconds, "", unit="s", decimals=1, note=_sample(attention))
    return panel(
        "heads",
        figure,
        "The same heads again: over how many seconds of the recording each spreads what it spends there. A small "
        "number is a head that picks out a moment, a number near the clip's length one that takes in everything "
        "alike (the exponential of the entropy, times the length of an audio token).",
        heading="How widely each head spreads over the recording",
    )

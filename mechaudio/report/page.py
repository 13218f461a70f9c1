"""One self-contained page about what a model listened to: figures, sound, numbers and how they were made."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from mechaudio.arguments import checks_arguments
from mechaudio.audio.player import wav_data_uri
from mechaudio.experiments.demo import Demo
from mechaudio.experiments.listen import Listening
from mechaudio.notebook.explorer_data import chosen, explorer_data, front, written
from mechaudio.report.facts import Moment, facts, moments
from mechaudio.report.panels import Panel, answer_panel, heads_panel, layers_panel, spread_panel, time_panel
from mechaudio.report.rendering import script_json, write_html

LARGEST = 3_600_000
"""Characters of the attention that a page holds for its explorers: every row of a 10-second prompt of 48 heads."""
MOUNTS = """
for (const host of document.querySelectorAll(".explorer")) {
  const audio = host.closest("section").querySelector("audio");
  mount(host, JSON.parse(host.nextElementSibling.textContent), { audio });
}
"""


@dataclass(frozen=True)
class Section:
    """The part of the page about one question.

    Attributes:
        listening: The question and its answers.
        panels: Its figures.
        moments: Its known events.
        sound: The recording as a `data:` address.
        file: The name of the recording's file, None if it was made in memory.
        audio_share: The share of attention on the audio, mean over layers and heads.
        silent_share: The same with silence.
        explorer: What the explorer shows, as JSON; blank without a pattern.
    """

    listening: Listening
    panels: tuple[Panel, ...]
    moments: tuple[Moment, ...]
    sound: str
    file: str | None
    audio_share: float
    silent_share: float
    explorer: Markup


def _section(listening: Listening, most: int) -> Section:
    attention = listening.attention
    panels = (
        *([answer_panel(listening)] if listening.choices else []),
        time_panel(listening),
        layers_panel(attention),
        heads_panel(attention),
        spread_panel(attention),
    )
    share, silent_share = (float(a.share("audio").mean()) for a in (attention, listening.silence_attention))
    sound = wav_data_uri(listening.waveform, listening.sample_rate)
    file = None if listening.source is None else Path(listening.source).name
    return Section(listening, panels, moments(attention), sound, file, share, silent_share, _explorer(listening, most))


def _explorer(listening: Listening, most: int) -> Markup:
    """The data of the explorer; its sound is that of the section's player."""
    if listening.pattern is None:
        return Markup("")
    answer = (
        chosen(listening.letters, listening.choices, listening.probabilities.tolist(), listening.answer)
        if listening.choices
        else written(listening.choice, listening.answer)
    )
    samples = listening.waveform.astype(np.float32) / 32767
    events = listening.attention.events[0]
    return script_json(
        explorer_data(listening.pattern, samples, text=listening.text, events=events, answer=answer, most=most)
    )


@checks_arguments
def write_page(
    listenings: Sequence[Listening], path: str | os.PathLike, *, title: str, command: str, demo: Demo | None = None
) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    The file appears whole or not at all.

    Args:
        listenings: One or more questions, each shown in a tab of its own.
        path: Path of the file; its folder is made.
        title: Title of the page.
        command: How to make it again.
        demo: Many more questions to the same model, for the summary.

    Returns:
        The path.

    Raises:
        ValueError: Without any listening.
        OSError: Where the file cannot be written.
    """
    if not listenings:
        raise ValueError("a page needs at least one listening, got none")
    return write_html(
        "page.html",
        path,
        title=title,
        module=front("explorer.js") + MOUNTS,
        extra_style=front("explorer.css"),
        sections=[_section(listening, LARGEST // len(listenings)) for listening in listenings],
        facts=facts((demo or listenings[0]).provenance, command),
        demo=demo,
        summary=() if demo is None else (layers_panel(demo.attention), heads_panel(demo.attention)),
    )

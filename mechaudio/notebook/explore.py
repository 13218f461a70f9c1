"""The explorer with its live model: a question to look at, to play and to change, in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.prompt_attention import prompt_attention
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.notebook.explorer_data import explorer_data, sound
from mechaudio.notebook.live import Live
from mechaudio.question import AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    from mechaudio.notebook.widget import Explorer

__all__ = ["explore"]


@checks_arguments
def explore(model: AudioLM, question: AudioQuestion | Inputs, *, max_new_tokens: int = 32) -> Explorer:
    """Look at a question in a notebook: hear it, see where every head looks, and change that while the answer follows.

    A widget (anywidget), tested in JupyterLab and tried in marimo. The clip plays with a cursor in
    its mel spectrogram; attention of any position, layer and head lies over time and over the words of the prompt.
    Seconds or words that are dragged over are knocked out, scaled or upweighted, and the answer is that of `ma.sweep`
    (of an open question, of `ma.generate_variants`) under these interventions.

    ```python
    explorer = ma.explore(model, question)
    explorer                      # shows it
    explorer.interventions        # what is changed in it now, for ma.run, ma.sweep or ma.evaluate
    ```

    Args:
        model: The opened model.
        question: A question, alone or in a list; or a prompt of one, made in any condition or aimed at words.
        max_new_tokens: The most tokens that are written to an open question.

    Raises:
        ImportError: anywidget is not installed.
        ValueError: Several prompts, one that is made from a dict of inputs, or a question that cannot be asked.
    """
    batch = as_prompts(model, [question] if isinstance(question, AudioQuestion) else question)
    if batch.n_rows != 1 or not batch.questions:
        raise ValueError(
            f"ma.explore shows one question, got {n_of(batch.n_rows, 'prompt')} with "
            f"{n_of(len(batch.questions), 'question')}: give a question, or one prompt made of a question, batch[0]"
        )
    try:
        from mechaudio.notebook.widget import Explorer
    except ModuleNotFoundError as error:
        raise ImportError(
            f"ma.explore needs {error.name}, which is not installed: pip install 'mechaudio[explore]'. Without a "
            "notebook, `mechaudio listen` writes a page to look at"
        ) from error
    live = Live(model, batch, max_new_tokens)
    return Explorer(live, shown(live))


def shown(live: Live) -> dict[str, Any]:
    """Return the data that the front end shows of a prompt."""
    (question,) = live.batch.questions
    samples = samples_of(live.batch)
    data = explorer_data(
        prompt_attention(live.model, live.batch),
        samples,
        text=question.text,
        events=question.events,
        answer=live.answer(()),
    )
    return data | {"sound": sound(samples)}


def samples_of(batch: PromptBatch) -> Float[np.ndarray, " samples"]:
    """Join the clips that the model was given in one prompt, one behind the other, mono at 16 kHz."""
    clips = [clip.mono(SAMPLE_RATE) for clip in batch.questions[0].clips()] if batch.given[0] else []
    parts = [clip[: round(seconds * SAMPLE_RATE)] for clip, seconds in zip(clips, batch.given[0], strict=True)]
    joined = np.concatenate([*parts, np.zeros(0, np.float32)])
    return np.zeros_like(joined) if "silence" in (batch.condition or "") else joined

"""The shipped model on soundscapes made for it: a few questions looked at closely, many counted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechaudio.analyses.audio_attention import AudioAttention, audio_attention
from mechaudio.arguments import checks_arguments
from mechaudio.data.soundscapes import questions
from mechaudio.data.temporal_phrases import TASKS
from mechaudio.experiments.evaluate import Evaluation, evaluate
from mechaudio.experiments.listen import Listening, listen
from mechaudio.labelled import joined_along
from mechaudio.models.prompt import prompt
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Demo(Result):
    """The demonstration's findings.

    Attributes:
        listenings: One question per task, looked at closely.
        attention: Where the last position looked, over other questions.
        heard: Right and wrong answers to those with the recording.
        deaf: The same with silence.
    """

    listenings: tuple[Listening, ...]
    attention: AudioAttention
    heard: Evaluation
    deaf: Evaluation

    _table_axes = ("condition", "question")

    @property
    def accuracy(self) -> float:
        """The share of right answers with the recording."""
        return self.heard.accuracy

    def to_xarray(self) -> "xarray.Dataset":
        """Return the answers with the recording and with silence, with an axis `condition`."""
        conditions = {one.condition: one.to_xarray() for one in (self.heard, self.deaf)}
        return joined_along("condition", conditions).assign_attrs(self._attrs)


@checks_arguments
def demo(model: AudioLM, *, seed: int = 0, n: int = 60, progress: bool | None = None) -> Demo:
    """Ask one question per task closely, and `n` others to count and to average over.

    Args:
        model: An `AudioLM` that takes soundscapes, as `load("tiny")` does.
        seed: Seed of the soundscapes; those looked at closely come from `seed`, those counted from the seed after it.
        n: How many are counted.
        progress: Draw progress bars on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: For fewer than one question to count.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    counted = questions(n, seed=seed + 1)
    return Demo(
        provenance=Provenance.collect(model, seed=seed, settings={"n": n}),
        listenings=tuple(listen(model, question) for question in questions(len(TASKS), seed=seed)),
        attention=audio_attention(model, prompt(model, counted)),
        heard=evaluate(model, counted, condition="audio", progress=progress),
        deaf=evaluate(model, counted, condition="silence", progress=progress),
    )

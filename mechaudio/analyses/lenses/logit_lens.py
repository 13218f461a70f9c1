"""The logit lens: what the model would say if it stopped after a layer.

nostalgebraist, *interpreting GPT: the logit lens* (2020). The residual stream at some depth goes through the final norm
and the unembedding, with whatever the class does to its logits. At the last layer that is the network's own output; at
an audio token it is what this stretch of sound says, in words of the vocabulary. With a `TunedLens`, the stream first
goes through an affine translator of its depth (Belrose et al., arXiv 2303.08112).

Conventions: depth 0 is what enters the first layer (`embed`), depth `i + 1` what leaves layer `i`; ranks count from 0,
among the whole vocabulary; probabilities are over the whole vocabulary unless said otherwise; nats; seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from mechaudio.analyses.lenses.reading import ARRAYS, LISTS, read
from mechaudio.analyses.lenses.residual_stream import depth_names, residual_stream
from mechaudio.analyses.lenses.tuned_lens import TunedLens
from mechaudio.analyses.streaming import Questions, batches_of, concatenated
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.choices import margin
from mechaudio.models.positions import Where
from mechaudio.models.targets import Targets, Words, refuse_whole
from mechaudio.models.tokens import token_id, token_text
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitLens(Result):
    """The logit lens of some questions; those with fewer positions or choices are filled up with NaN and -1.

    Attributes:
        depths: `embed`, then the layers.
        positions: Positions in the padded prompt.
        labels: A readable label of the token at each position; an audio token's is its time.
        roles: Its role.
        onset: When an audio token begins to hear; NaN for text.
        offset: When it ends.
        top_ids: The most probable tokens, best first.
        top_probability: Their probabilities.
        vocabulary: Text of every token id that occurs here.
        choice_logits: Logit of each choice's letter; of a question with a target, of the first tokens of target and
            foil, where a target without a foil stands against the rest of the vocabulary (its logsumexp).
        choice_probability: Its probability.
        choice_rank: Its rank; -1 of the rest of the vocabulary.
        right: Index of the right choice, the first of two with the answer's text; -1 where it is not known.
        letters: Letters of the choices; target and foil in words.
        right_letters: Letters of all choices with the answer's text.
        token_ids: The further tokens that were asked for.
        token_logits: Their logits.
        token_probability: Their probabilities.
        token_rank: Their ranks.
        entropy: Entropy of the distribution over the vocabulary.
        kl: From the last depth's distribution to this one's, Belrose et al.'s measure of how far a depth is from the
            output.
        lens: `plain` or `tuned`.
        ids: Ids of the questions.
        texts: Texts of the questions.
    """

    depths: tuple[str, ...]
    positions: Int[np.ndarray, "question position"]
    labels: tuple[tuple[str, ...], ...]
    roles: tuple[tuple[str, ...], ...]
    onset: Float[np.ndarray, "question position"]
    offset: Float[np.ndarray, "question position"]
    top_ids: Int[np.ndarray, "question depth position top"]
    top_probability: Float[np.ndarray, "question depth position top"]
    vocabulary: Mapping[int, str]
    choice_logits: Float[np.ndarray, "question depth position choice"]
    choice_probability: Float[np.ndarray, "question depth position choice"]
    choice_rank: Int[np.ndarray, "question depth position choice"]
    right: Int[np.ndarray, " question"]
    letters: tuple[tuple[str, ...], ...]
    right_letters: tuple[tuple[str, ...], ...]
    token_ids: tuple[int, ...]
    token_logits: Float[np.ndarray, "question depth position token"]
    token_probability: Float[np.ndarray, "question depth position token"]
    token_rank: Int[np.ndarray, "question depth position token"]
    entropy: Float[np.ndarray, "question depth position"]
    kl: Float[np.ndarray, "question depth position"]
    lens: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]

    _table_axes = ("question", "depth", "position")
    _labels = (
        ("labels", ("question", "position")),
        ("roles", ("question", "position")),
        ("token_ids", "token"),
    )

    def to_xarray(self) -> "xarray.Dataset":
        """Return everything with named axes; `top_text` beside `top_ids`, and how likely is what the depth says."""
        data = super().to_xarray()
        texts = [self.vocabulary.get(token, "") for token in self.top_ids.ravel().tolist()]
        return data.assign(top_text=(data["top_ids"].dims, np.array(texts, dtype=str).reshape(self.top_ids.shape)))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row per question, depth and position, without those that fill a shorter question up."""
        table = super().to_pandas()
        return table[table["positions"] >= 0].reset_index(drop=True)

    @property
    def _summary(self) -> str:
        return f"{self.lens} lens"

    def says(self, depth: int = -1, position: int = -1, question: int = 0) -> list[tuple[str, float]]:
        """The most probable tokens of one place and their probabilities, best first.

        Args:
            depth: 0 is `embed`, -1 the last layer.
            position: Counts the positions that were chosen; -1 is the question's last one.
            question: Counts the questions.

        Raises:
            IndexError: There is no such place.
        """
        n = len(self.labels[question])
        if not -n <= position < n:
            raise IndexError(f"question {question} has {n_of(n, 'chosen position')}, got {position}")
        index = (question, depth, position % n)
        return [
            (self.vocabulary[int(token)], float(share))
            for token, share in zip(self.top_ids[index], self.top_probability[index], strict=True)
        ]

    def of_right(self, values: Float[np.ndarray, "question depth position choice"] | str = "logits") -> np.ndarray:
        """Return the right choice's `logits`, `probability` or `rank`, `[question, depth, position]`.

        Raises:
            ValueError: The right choice of a question is not known, or no such number.
        """
        known = {"logits": self.choice_logits, "probability": self.choice_probability, "rank": self.choice_rank}
        if isinstance(values, str):
            if values not in known:
                raise ValueError(f"there are {', '.join(known)} of choices, got {values!r}")
            values = known[values]
        bare = [name for name, letters in zip(self.ids, self.letters, strict=True) if not letters]
        if bare:
            raise ValueError(
                f"question {bare[0]!r} has neither choices nor a target to read: "
                "ma.analyses.logit_lens(model, questions, target=...)"
            )
        if (self.right < 0).any():
            raise ValueError(f"the right choice of questions {np.flatnonzero(self.right < 0).tolist()} is not known")
        return np.take_along_axis(values, self.right[:, None, None, None], axis=-1)[..., 0]

    @property
    def margin(self) -> Float[np.ndarray, "question depth position"]:
        """Logit of the right choice minus that of the best wrong one; of two right ones, of the better.

        Raises:
            ValueError: The right choice of a question is not known, or all its choices are right.
        """
        self.of_right("logits")
        is_right = np.zeros((len(self.letters), 1, 1, self.choice_logits.shape[-1]), dtype=bool)
        for row, letters in enumerate(self.right_letters):
            is_right[row, ..., [self.letters[row].index(letter) for letter in letters]] = True
        n_choices = np.array([len(letters) for letters in self.letters])
        checked.some_wrong(self.ids, n_choices.tolist(), is_right[:, 0, 0])
        return margin(self.choice_logits, is_right, n_choices[:, None, None])


@checks_arguments
def logit_lens(
    model: AudioLM,
    questions: Questions,
    *,
    target: Words = None,
    foil: Words = None,
    positions: Where | None = "last",
    top: int = 5,
    tokens: Sequence[str | int] = (),
    lens: TunedLens | None = None,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> LogitLens:
    """Read the residual stream through the final norm and the unembedding, at every depth and some positions.

    ```python
    seen = ma.analyses.logit_lens(model, batch)                        # the last position
    seen = ma.analyses.logit_lens(model, batch, positions="audio")     # what each audio token says
    seen.says(depth=3, position=0), seen.onset[0, 0]
    ```

    At the last depth the logits are those of `ma.run` and `ma.answer` up to rounding: the matrices have other shapes
    here, which a library may sum in another order. Of the vocabulary only the top, the choices and `tokens` are kept,
    and never more than one depth's logits (and the last's) are held, of a few positions at a time.

    Args:
        model: The opened model.
        questions: Prompts, a dict of the network's own inputs, or questions.
        target: Words that stand in the place of the choices, for all questions or one text per question
            (`PromptBatch.aimed`), by their first token; of open questions, their answer by default.
        foil: Words that they are held against; by default everything else in the vocabulary.
        positions: Spans, stretches of sound (`"audio[1.0:2.5]"`), or positions; `None` for all.
        top: How many of the most probable tokens to keep.
        tokens: Further tokens to follow: ids, or text that is one token.
        lens: A trained `TunedLens`; by default the plain lens.
        condition: Condition of the questions.
        batch_size: Number of questions in a batch.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: `top` below one, text that is not one token, a lens of another model, or a prompt without such a
            position.
        TypeError: A `top` that is not whole.
        NotImplementedError: The decoder has several residual streams.
    """
    if checked.whole("top", top) < 1:
        raise ValueError(f"top is how many tokens to keep, at least 1, got {top}")
    wanted = [token_id(model, token) for token in tokens]
    if lens is not None:
        lens.refuse_other(model)
    name = "plain" if lens is None else "tuned"
    targets = Targets(target, foil, required=False)
    prompts = batches_of(model, questions, condition, batch_size=batch_size, what="logit lens", progress=progress)
    parts = []
    for batch in map(targets.of, prompts):
        refuse_whole(batch, "logit_lens", "name words that differ in it, or follow further ones with tokens=")
        parts.append(read(model, batch, residual_stream(model, batch, positions), wanted, top, lens))
    joined = {
        field: concatenated([part[field] for part in parts], -1 if parts[0][field].dtype.kind == "i" else np.nan)
        for field in ARRAYS
    }
    listed: dict[str, Any] = {name: tuple(row for part in parts for row in part[name]) for name in LISTS}
    shown = {*joined["top_ids"].flatten().tolist(), *wanted} - {-1}
    settings = {"positions": positions, "condition": condition, "lens": name}
    return LogitLens(
        depths=depth_names(model),
        vocabulary={token: token_text(model, token) for token in sorted(shown)},
        token_ids=tuple(wanted),
        lens=name,
        provenance=Provenance.collect(model, settings=settings | targets.settings()),
        **joined,
        **listed,
    )

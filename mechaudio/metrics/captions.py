"""Scores of answers in the model's own words: captions, transcripts and free answers, against one or more references.

Conventions: a text is scored against the reference that suits it best, so that several references (Clotho gives five
captions a clip) only help. Scores run from 0 to 1, more is better; error rates are edits divided by the reference's
length, less is better, and may exceed 1. One text gives one number, a sequence of texts one number per text.

- `exact_match`: the text is a reference, but for blanks around it.
- `normalised_match`: equal after `normalised`, SQuAD's rule (arXiv 1606.05250, its evaluation script): lower case, no
  punctuation, no articles.
- `containment`: all words of a reference stand in the text, one behind the other.
- `word_error_rate`, `character_error_rate`: Levenshtein edits by `jiwer`, of texts in lower case without punctuation.
- `rouge`: F-measure of ROUGE-1, -2 or -L by Google's `rouge-score` (Lin 2004), with stems.
- `meteor`: by NLTK (Banerjee & Lavie 2005), with stems; with WordNet's synonyms only where asked for.

`jiwer` and `rouge-score` are an extra: `pip install 'mechaudio[scores]'`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from string import punctuation
from typing import Any

import numpy as np
from jaxtyping import Float

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import mean_estimate
from mechaudio.metrics.clips import Clips
from mechaudio.metrics.estimates import Estimate

Texts = str | Sequence
References = str | Sequence
Scores = float | Float[np.ndarray, " text"]

#: What ROUGE makes words of.
_LATIN = re.compile("[a-zA-Z0-9]")
_ARTICLES = frozenset(("a", "an", "the"))


class _NoSynonyms:
    """A WordNet without entries, for METEOR by words and stems alone."""

    def synsets(self, word: str) -> tuple[()]:  # noqa: ARG002 - NLTK calls it so
        """Return no synonym."""
        return ()


def exact_match(texts: Texts, references: References) -> Scores:
    """Return 1 for each text that is one of its references, but for blanks around it, and 0 for the others.

    Args:
        texts: One answer, or one per question.
        references: The right answer of each, or several.

    Raises:
        ValueError: For lengths that differ, no reference, or a blank one.
        TypeError: For anything but texts.
    """
    return _best(lambda text, reference: text.strip() == reference.strip(), texts, references)


def normalised_match(texts: Texts, references: References) -> Scores:
    """Return 1 for each text that equals one of its references once both are `normalised`; else as `exact_match`.

    Of texts of which nothing is left, such as `?!` or the letter `A`, the exact ones are compared.
    """

    def same(text: str, reference: str) -> bool:
        plain, right = normalised(text), normalised(reference)
        return plain == right if plain or right else text.strip() == reference.strip()

    return _best(same, texts, references)


def containment(texts: Texts, references: References) -> Scores:
    """Return 1 for each text that holds the words of a reference in a row, `normalised`; else as `exact_match`."""
    return _best(lambda text, reference: f" {normalised(reference)} " in f" {normalised(text)} ", texts, references)


def word_error_rate(texts: Texts, references: References, *, pooled: bool = False) -> Scores:
    """Return the word edits that turn each reference into its text, divided by the reference's words.

    Args:
        texts: One transcript, or one per question.
        references: The right transcript of each, or several.
        pooled: Give the edits of all texts divided by the words of all references, one number, as speech recognition
            reports it, in place of one number per text.

    Raises:
        ImportError: Without `jiwer`.
        ValueError: For lengths that differ, no reference, or one without a word.
        TypeError: For anything but texts.
    """
    return _error_rate("process_words", texts, references, pooled)


def character_error_rate(texts: Texts, references: References, *, pooled: bool = False) -> Scores:
    """Return the character edits divided by the reference's characters, blanks counted; else as `word_error_rate`."""
    return _error_rate("process_characters", texts, references, pooled)


def rouge(texts: Texts, references: References, *, kind: str = "L") -> Scores:
    """Return the F-measure of ROUGE: shared words (`"1"`), pairs of words (`"2"`), or the longest common subsequence.

    Args:
        texts: One answer, or one per question.
        references: The right answer of each, or several.
        kind: Which ROUGE.

    Raises:
        ImportError: Without `rouge-score`.
        ValueError: For another kind, lengths that differ, no reference, a blank one, or one without a letter from a to
            z or a digit, of which ROUGE's words are made.
        TypeError: For anything but texts.
    """
    if kind not in ("1", "2", "L"):
        raise ValueError(f"kind of ROUGE is '1', '2' or 'L', got {kind!r}")
    name = f"rouge{kind}"
    scorer = _package("rouge_score.rouge_scorer").RougeScorer([name], use_stemmer=True)

    def score(text: str, reference: str) -> float:
        if not _LATIN.search(reference):
            raise ValueError(
                f"the reference {reference!r} holds no word that ROUGE reads, which are of a to z and digits: take "
                "normalised_match or character_error_rate"
            )
        return float(scorer.score(reference, text)[name].fmeasure)

    return _best(score, texts, references)


def meteor(texts: Texts, references: References, *, synonyms: bool = False) -> Scores:
    """Return METEOR: words matched by form or stem, recall counted nine times as much as precision, less for disorder.

    Args:
        texts: One answer, or one per question.
        references: The right answer of each, or several.
        synonyms: Match synonyms, too, as METEOR was published; it needs NLTK's WordNet (`nltk.download("wordnet")`).
            Scores with and without them are not comparable.

    Raises:
        ImportError: Without `nltk`.
        LookupError: Without WordNet's files, where synonyms are asked for.
        ValueError: For lengths that differ, no reference, or one without a word.
        TypeError: For anything but texts.
    """
    scorer = _package("nltk.translate.meteor_score").single_meteor_score
    thesaurus = _package("nltk.corpus").wordnet if synonyms else _NoSynonyms()

    def score(text: str, reference: str) -> float:
        words = _words(reference)
        if not words:
            raise ValueError(f"the reference {reference!r} holds no word, and METEOR compares words")
        return float(scorer(words, _words(text), wordnet=thesaurus))

    return _best(score, texts, references)


@dataclass(frozen=True)
class CaptionScores:
    """Scores of texts over clips.

    Attributes:
        rouge_1: F-measure of shared words.
        rouge_l: F-measure of the longest common subsequence.
        meteor: METEOR.
        synonyms: METEOR matched synonyms; scores with and without are not comparable.
    """

    rouge_1: Estimate
    rouge_l: Estimate
    meteor: Estimate
    synonyms: bool

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, for JSON; METEOR's name says if it matched synonyms."""
        name = "meteor" if self.synonyms else "meteor_no_synonyms"
        return {"rouge_1": self.rouge_1.as_dict(), "rouge_l": self.rouge_l.as_dict(), name: self.meteor.as_dict()}


@checks_arguments
def evaluate(
    texts: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    synonyms: bool = False,
    clips: Clips | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> CaptionScores:
    """Score texts by ROUGE-1, ROUGE-L and METEOR, each with a bootstrap interval over clips.

    A blank text scores 0.

    Args:
        texts: One answer per question.
        references: The right answer of each, or several.
        synonyms: As for `meteor`.
        clips: The clip of each question; by default each is about a clip of its own.
        confidence: Level of the intervals.
        seed: Which clips are drawn.

    Raises:
        ImportError: Without `rouge-score` and `nltk`.
        LookupError: Without WordNet's files, where synonyms are asked for.
        ValueError: As `rouge`, and for another number of clips.
    """

    def mean(scores: Scores) -> Estimate:
        return mean_estimate(np.atleast_1d(scores), clips=clips, confidence=confidence, seed=seed)

    return CaptionScores(
        mean(rouge(texts, references, kind="1")),
        mean(rouge(texts, references, kind="L")),
        mean(meteor(texts, references, synonyms=synonyms)),
        synonyms,
    )


def normalised(text: str, articles: bool = False) -> str:
    """Return a text in lower case, its words one blank apart, without punctuation and articles.

    Args:
        text: any.
        articles: Keep a, an and the.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    words = "".join(character for character in plain if character not in punctuation).split()
    return " ".join(word for word in words if articles or word not in _ARTICLES)


def _words(text: str) -> list[str]:
    return normalised(text, articles=True).split()


def _error_rate(counter: str, texts: Texts, references: References, pooled: bool) -> Scores:
    count = getattr(_package("jiwer"), counter)

    def edits(text: str, reference: str) -> tuple[int, int]:
        plain = normalised(reference, articles=True)
        if not plain:
            raise ValueError(f"the reference {reference!r} holds no word, and an error rate divides by their number")
        counts = count(plain, normalised(text, articles=True))
        wrong = counts.substitutions + counts.deletions + counts.insertions
        return wrong, counts.hits + counts.substitutions + counts.deletions

    fewest = np.array(
        [
            min((edits(text, reference) for reference in several), key=lambda counts: counts[0] / counts[1])
            for text, several in _pairs(texts, references)
        ]
    )
    if pooled:
        return float(fewest[:, 0].sum() / fewest[:, 1].sum())
    return _alike(texts, fewest[:, 0] / fewest[:, 1])


def _best(score: Callable[[str, str], float], texts: Texts, references: References) -> Scores:
    """Score each text against the reference that suits it best."""
    best = [max(float(score(text, reference)) for reference in several) for text, several in _pairs(texts, references)]
    return _alike(texts, np.array(best))


def _alike(texts: Texts, scores: np.ndarray) -> Scores:
    """One number for one text, an array for a sequence of them."""
    return float(scores[0]) if isinstance(texts, str) else scores


def _pairs(texts: Texts, references: References) -> list[tuple[str, tuple[str, ...]]]:
    """Each text with its references, all of them checked."""
    if isinstance(texts, str):
        texts, references = [texts], [references]
    if isinstance(references, str):
        raise TypeError("references is one text, and texts is a sequence: give the references of each text")
    checked.same_length(texts=texts, references=references)
    if not len(texts):
        raise ValueError("texts is empty: there is nothing to score")
    pairs = []
    for index, (text, several) in enumerate(zip(texts, references, strict=True)):
        alternatives = (several,) if isinstance(several, str) else tuple(several or ())
        if not isinstance(text, str) or not all(isinstance(reference, str) for reference in alternatives):
            raise TypeError(f"texts and references are text, got {text!r} and {several!r} at {index}")
        if not alternatives or not all(reference.strip() for reference in alternatives):
            raise ValueError(f"references[{index}] is {several!r}: give a text that is not blank, or several")
        pairs.append((text, alternatives))
    return pairs


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this score needs {error.name}, which is not installed: pip install 'mechaudio[scores]'"
        ) from error

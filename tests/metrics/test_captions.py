import sys

import numpy as np
import pytest

from mechaudio.metrics import captions


def test_texts_match_exactly_in_other_clothes_or_inside_a_sentence():
    texts = ["a dog", " A dog. ", "I hear the dog barking", "dogma"]
    references = ["a dog", "The dog", "dog", "dog"]
    assert captions.exact_match(texts, references).tolist() == [1, 0, 0, 0]
    assert captions.normalised_match(texts, references).tolist() == [1, 1, 0, 0]
    assert captions.containment(texts, references).tolist() == [1, 1, 1, 0]


def test_edits_are_counted_by_words_and_by_characters():
    # "the cat sat" -> "the bat sat down": one word changed, one added, of three.
    assert captions.word_error_rate("The bat sat down.", "the cat sat") == pytest.approx(2 / 3)
    # c -> b, and " down" is five characters, of eleven.
    assert captions.character_error_rate("the bat sat down", "the cat sat") == pytest.approx(6 / 11)
    assert captions.word_error_rate("", "the cat sat") == 1.0
    assert captions.word_error_rate("it's", "It’s!") == 0.0


def test_pooled_error_rates_divide_all_edits_by_all_words():
    texts, references = ["a", "b c d e"], ["b", "b c d e"]
    assert captions.word_error_rate(texts, references).tolist() == [1.0, 0.0]
    assert captions.word_error_rate(texts, references, pooled=True) == pytest.approx(1 / 5)


def test_rouge_is_the_f_measure_of_what_is_shared():
    text, reference = "a dog barks loudly", "a dog barks then rain falls"
    precision, recall = 3 / 4, 3 / 6
    shared = 2 * precision * recall / (precision + recall)
    assert captions.rouge(text, reference, kind="1") == pytest.approx(shared)
    assert captions.rouge(text, reference) == pytest.approx(shared)  # they stand in one order
    assert captions.rouge(text, reference, kind="2") == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))


def test_meteor_follows_its_formula():
    # Three words match, in two runs: "a dog" and "rain"; P = 3/4, R = 3/5.
    text, reference = "a dog and rain", "a dog barks then rain"
    precision, recall, runs = 3 / 4, 3 / 5, 2
    mean = 10 * precision * recall / (recall + 9 * precision)
    assert captions.meteor(text, reference) == pytest.approx(mean * (1 - 0.5 * (runs / 3) ** 3))
    assert captions.meteor("dogs barking", "dog barks") > 0.9  # stems count
    assert captions.meteor("nothing", "a dog") == 0.0


@pytest.mark.parametrize("score", [captions.rouge, captions.meteor, captions.containment, captions.exact_match])
def test_the_reference_that_suits_best_counts_and_a_text_is_like_itself(score):
    assert score("a car passes", ["a dog barks", "a car passes"]) == pytest.approx(1.0, abs=0.02)
    assert score(["x y", "a b"], [["q r", "x y"], "c d"]) == pytest.approx(np.array([score("x y", "x y"), 0.0]))


def test_the_fewest_edits_count():
    assert captions.word_error_rate("a car", ["the dog barks", "a car"]) == 0.0


@pytest.mark.parametrize(
    ("texts", "references", "error", "message"),
    [
        (["a"], ["a", "b"], ValueError, "texts.*1.*references.*2"),
        (["a"], "a", TypeError, "give the references of each text"),
        ([], [], ValueError, "nothing to score"),
        (["a"], [None], ValueError, r"references\[0\] is None: give a text"),
        (["a"], [" "], ValueError, "that is not blank"),
        ([3], ["a"], TypeError, "are text, got 3"),
    ],
)
def test_what_cannot_be_scored_is_refused(texts, references, error, message):
    with pytest.raises(error, match=message):
        captions.rouge(texts, references)


def test_a_reference_without_a_word_has_no_error_rate_and_another_rouge_is_refused():
    with pytest.raises(ValueError, match=r"'\.\.\.' holds no word"):
        captions.word_error_rate("a", "...")
    with pytest.raises(ValueError, match="kind of ROUGE is '1', '2' or 'L', got '3'"):
        captions.rouge("a", "a", kind="3")


def test_a_package_that_is_not_there_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"needs jiwer, which is not installed: pip install 'mechaudio\[scores\]'"):
        captions.word_error_rate("a", "a")


def test_scores_over_clips_say_if_synonyms_were_matched():
    texts, references = ["a dog barks", "rain", "two cats", "a car", "wind", "a bell", ""], ["a dog barks"] * 7
    scores = captions.evaluate(texts, references)
    assert scores.rouge_1.value == pytest.approx(captions.rouge(texts, references, kind="1").mean())
    assert scores.rouge_l.value == pytest.approx(captions.rouge(texts, references).mean())
    assert scores.meteor.value == pytest.approx(captions.meteor(texts, references).mean())
    assert scores.rouge_1.low < scores.rouge_1.value < scores.rouge_1.high
    assert set(scores.as_dict()) == {"rouge_1", "rouge_l", "meteor_no_synonyms"}
    shared = captions.evaluate(texts, references, clips=["a", "b", "c", "d", "e", "f", "f"])
    assert shared.rouge_1.n_clips == 6


def test_texts_of_which_nothing_is_left_match_if_they_are_the_same():
    assert captions.normalised_match(["?!", "A", "!!"], ["?!", "The", "??"]).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("score", "reference"), [(captions.rouge, "狗"), (captions.rouge, "!!"), (captions.meteor, "!!")]
)
def test_a_reference_in_which_a_score_reads_no_word_is_refused(score, reference):
    with pytest.raises(ValueError, match="holds no word"):
        score(reference, reference)

"""The study of when: the shipped model's dense captions, and each task's scores by hand."""

from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.experiments import Evaluation, GroundingStudy, grounding_study
from mechaudio.metrics.grounding import Repairs
from mechaudio.report import grounding_tables
from mechaudio.results import Provenance

pytestmark = pytest.mark.usefixtures("without_proofs")


def study(task: str, pairs: list[tuple[str, str]], duration: float = 10.0, markers: bool = False) -> GroundingStudy:
    """A study with these answers and right answers."""
    n = len(pairs)
    provenance = Provenance.collect()
    evaluation = Evaluation(
        condition="audio",
        ids=tuple(f"question {number}" for number in range(n)),
        tasks=(task,) * n,
        options=((),) * n,
        answers=tuple(right for _, right in pairs),
        chosen=np.full(n, -1),
        texts=tuple(said for said, _ in pairs),
        scoring="generate",
        provenance=provenance,
    )
    return GroundingStudy(evaluation=evaluation, durations=np.full(n, duration), markers=markers, provenance=provenance)


@pytest.fixture(scope="module")
def tiny(without_proofs):
    return ma.load("tiny")


@pytest.fixture(scope="module")
def questions():
    built = ma.data.ftar.build(ma.data.soundscapes.clips(8, seed=5), ["dac"])
    return [replace(question, text="Describe the sound events.") for question in built]


def test_the_shipped_model_is_asked_and_the_kept_study_gives_the_same_scores(tiny, questions, tmp_path):
    found = grounding_study(tiny, questions, max_new_tokens=60, out=tmp_path / "answers")
    assert found.dense.events.f1.value > 0.4
    assert found.dense.tags.macro_f1.value > 0.8
    assert found.dense.repairs.reworded == found.dense.events.predicted
    assert found.grounding is found.timelines is None
    found.save(tmp_path / "kept")
    again = ma.Result.load(tmp_path / "kept")
    assert again.evaluation.texts == found.evaluation.texts
    assert again.dense == found.dense
    taken_up = grounding_study(tiny, questions, max_new_tokens=60, out=tmp_path / "answers")
    assert taken_up.evaluation.texts == found.evaluation.texts


def test_a_clip_that_cannot_be_read_is_listed(tiny, questions, tmp_path):
    gone = ma.AudioQuestion(tmp_path / "gone.wav", "Describe the sound events.", answer="0.1 - 0.2, hum", id="gone")
    found = grounding_study(tiny, [*questions[:2], gone], max_new_tokens=8)
    assert [failure.id for failure in found.failures] == ["gone"]
    assert len(found.durations) == len(found.evaluation.texts) == 2


def test_grounding_by_hand():
    found = study(
        "tag",
        [
            ("The given query happens in <a_0><f_0> - <a_2><f_0> seconds.", "The given query happens in 0.0 - 2.0."),
            ("<a_4><f_0> - <a_3><f_0>", "The given query happens in 3.0 - 4.0, 6.0 - 7.0 seconds."),
            ("no idea", "The given query happens in 1.0 - 2.0 seconds."),
        ],
        markers=True,
    )
    assert found.grounding.per_question == (1.0, 0.5, 0.0)
    assert found.grounding.unparsed.count == 1
    assert found.grounding.repairs == Repairs(swapped=1, unparsed=1)
    assert found.dense is None


def test_dense_captions_by_hand():
    found = study(
        "dac",
        [
            ("1.0 - 2.0 seconds, A dog barks. 3.0 - 4.0 seconds, a car.", "1.1 - 2.1 seconds, dog. 8.0 - 9.0, car."),
            ("a siren", "0.0 - 1.0 seconds, dog."),
        ],
    )
    events, tags = found.dense.events, found.dense.tags
    assert (events.right, events.predicted, events.reference) == (1, 2, 3)
    assert (tags.right, tags.predicted, tags.reference) == (2, 2, 3)
    assert found.dense.repairs.unparsed == 1
    assert 0 < found.dense.meteor.value < 1


def test_markers_of_a_model_that_has_none_are_read_and_others_counted():
    right = "The given query happens in 1.0 - 2.0 seconds."
    scores = study("tag", [("<a_1><f_0> - <a_2><f_0>", right), ("<1.0> to <2.0>", right)]).grounding
    assert scores.per_question == (1.0, 0.0)
    assert scores.repairs == Repairs(unparsed=1)


def test_timelines_by_hand():
    right = "0.0 - 5.0, Tighe takes over. 5.0 - 10.0, She succeeds Rogers."
    found = study("tss", [(right, right), ("0.0 - 5.0, Tighe takes over.", right)])
    assert found.timelines.mean_iou.value == pytest.approx((1.0 + 0.5) / 2)
    assert 0.7 < found.timelines.summaries.rouge_1.value < 1.0
    assert not found.timelines.summaries.synonyms
    (scores, *_) = grounding_tables(found)
    assert "METEOR without synonyms" in {row[1] for row in scores.rows}


def test_what_cannot_be_scored_is_refused(tiny, questions):
    (clip,) = ma.data.soundscapes.clips(1, seed=5)
    answers = {"beyond": "11.0 - 12.0", "never": "never", "longer": "1.0 - 2.0, 8.0 - 12.0", "empty": "1 - 2, 3 - 3"}
    for question in (ma.AudioQuestion(clip.audio, "When?", answer=answer, id=name) for name, answer in answers.items()):
        with pytest.raises(ValueError, match=rf"'{question.id}' gives no time within its clip of 10 s"):
            grounding_study(tiny, [question])
    with pytest.raises(ValueError, match="is no open question with an answer"):
        grounding_study(tiny, [ma.AudioQuestion(clip.audio, "When?", id="unknown")])
    with pytest.raises(ValueError, match="is not about one recording"):
        grounding_study(tiny, [ma.AudioQuestion(None, "When?", answer="1 - 2", caption="a", id="none")])
    with pytest.raises(ValueError, match="no questions were given"):
        grounding_study(tiny, [])

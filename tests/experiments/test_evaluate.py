import numpy as np
import pytest

from mechaudio.audio.clip import AudioClip
from mechaudio.experiments.evaluate import Score, evaluate
from mechaudio.question import AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, noise, processor


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)


def questions(n, answer="dog"):
    return [
        AudioQuestion(
            audio=AudioClip(noise(1.0, seed), 16_000),
            text="Which sound?",
            choices=("dog", "rain", "car"),
            answer=answer,
            id=str(seed),
            meta={"task": ("first", "last")[seed % 2]},
        )
        for seed in range(n)
    ]


def test_a_score_is_a_share_with_wilsons_interval():
    score = Score.of(np.array([True] * 8 + [False] * 2))
    assert (score.n, score.right, score.accuracy) == (10, 8, 0.8)
    assert (score.low, score.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_batches_change_nothing_and_every_question_is_counted_once(model):
    asked = questions(5)
    one_by_one, together = evaluate(model, asked, batch_size=1), evaluate(model, asked, batch_size=2)
    assert one_by_one.choices == together.choices
    assert together.ids == ("0", "1", "2", "3", "4")
    assert together.overall.n == 5
    assert {task: score.n for task, score in together.by_task().items()} == {"first": 3, "last": 2}
    assert together.overall.right == sum(choice == "dog" for choice in together.choices)


def test_the_condition_is_what_the_model_is_given(model):
    assert evaluate(model, questions(1), "silence").condition == "silence"
    with pytest.raises(ValueError, match="condition is one of"):
        evaluate(model, questions(1), "noise")


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ([], {}, "no questions were given"),
        (questions(1, answer=None), {}, "question '0' has no known answer"),
        (questions(1), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_counted_is_refused(model, asked, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, asked, **options)

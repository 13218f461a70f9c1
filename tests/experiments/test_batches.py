import inspect
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaudio.analyses.streaming import length_of, positions_that_fit
from mechaudio.audio.clip import AudioClip
from mechaudio.experiments.batches import Placed, batches, windows
from mechaudio.models.prompt import prompt
from mechaudio.question import CONDITIONS, AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, noise, processor

ASKED = AudioQuestion(audio=None, text="Which sound?", choices=("dog", "rain"))
LENGTHS = st.lists(st.integers(0, 900), max_size=60)


def window(lengths):
    return [Placed(index, ASKED, length) for index, length in enumerate(lengths)]


@given(LENGTHS, st.integers(1, 2000))
def test_every_question_is_in_one_batch_which_fits_or_is_a_single_one(lengths, positions):
    cut = list(batches(window(lengths), positions))
    assert sorted(placed.index for batch in cut for placed in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * batch[0].length <= positions for batch in cut)
    flat = [placed.length for batch in cut for placed in batch]
    assert flat == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 2000), st.data())
def test_what_remains_of_a_window_goes_through_the_same_batches(lengths, positions, data):
    cut = list(batches(window(lengths), positions))
    n_done = data.draw(st.integers(0, len(cut)))
    remaining = [placed for batch in cut[n_done:] for placed in batch]
    assert list(batches(sorted(remaining, key=lambda placed: placed.index), positions)) == cut[n_done:]


@given(st.integers(0, 40), st.integers(1, 9))
def test_windows_hold_the_stream_in_order(n, size):
    cut = list(windows(iter([ASKED] * n), size))
    assert [placed.index for one in cut for placed in one] == list(range(n))
    assert all(len(one) == size for one in cut[:-1])


def test_something_else_than_a_question_is_told():
    stream = iter([ASKED, {"question": "Which?"}])
    with pytest.raises(TypeError, match=r"questions are AudioQuestion, but number 1 is {'question': 'Which\?'}"):
        list(inspect.unwrap(windows)(stream, 2))


def test_the_length_that_is_guessed_orders_prompts_as_their_own_does(tmp_path):
    model = AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)
    path = tmp_path / "clip.wav"
    AudioClip(noise(2.0, 0), 16_000).save(path)
    asked = replace(ASKED, audio=path, caption="a dog barks, then it rains for a long time")
    longer = replace(asked, audio=AudioClip(noise(3.0, 0), 16_000))
    assert length_of(model, longer, "audio") - length_of(model, asked, "audio") == 25
    guessed = [length_of(model, asked, condition) for condition in CONDITIONS]
    true = [prompt(model, [asked], condition=condition).n_positions for condition in CONDITIONS]
    assert guessed[0] == guessed[3] > guessed[1]
    assert guessed[2] > guessed[0]
    assert true[0] == true[3] > true[1]
    assert all(0.5 < guess / length < 2 for guess, length in zip(guessed, true, strict=True))
    assert positions_that_fit(model) == 2048

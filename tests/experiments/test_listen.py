from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.experiments.listen import Listening, listen, unreadable_words
from mechaudio.interventions import ScaleAttention
from mechaudio.question import AudioQuestion
from mechaudio.results import Result
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import network, noise, processor


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)


def ask(seconds=2.0, seed=0, rate=16_000, **known):
    clip = AudioClip(noise(seconds, seed, rate), rate)
    return AudioQuestion(
        audio=clip, text="Which sound has the earliest onset?", choices=("dog", "rain"), id="q", **known
    )


def test_the_recording_and_silence_are_both_heard_and_give_different_answers(model):
    found = listen(model, ask())
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.silence_probabilities.sum() == pytest.approx(1)
    assert not np.allclose(found.probabilities, found.silence_probabilities)
    assert not np.allclose(found.attention.over_time, found.silence_attention.over_time)


def test_what_was_changed_stands_beside_what_it_answers_unchanged(model, tmp_path):
    plain, changed = listen(model, ask()), listen(model, ask(), interventions=[ScaleAttention(9.0)])
    assert (plain.unchanged_choice, plain.unchanged_probabilities) == (None, None)
    assert changed.unchanged_choice == plain.choice
    np.testing.assert_array_equal(changed.unchanged_probabilities, plain.probabilities)
    assert not np.allclose(changed.probabilities, plain.probabilities)
    kept = Result.load(changed.save(tmp_path / "changed"))
    np.testing.assert_array_equal(kept.unchanged_probabilities, plain.probabilities)
    assert list(changed.to_pandas().unchanged_probabilities) == list(plain.probabilities)
    assert "unchanged_probabilities" not in plain.to_pandas()


def test_another_recording_gives_another_result(model):
    one, other = listen(model, ask(seed=0)), listen(model, ask(seed=1))
    assert not np.allclose(one.probabilities, other.probabilities)
    assert not np.allclose(one.attention.over_time, other.attention.over_time)


def test_what_is_known_is_kept_and_what_is_not_is_none(model):
    events = (Event("dog", 0.5, 1.0),)
    known = listen(model, ask(answer="dog", events=events, meta={"task": "earliest_onset"}))
    assert known.correct == (known.choice == "dog")
    assert known.attention.events == (events,)
    assert known.task == "earliest_onset"
    unknown = listen(model, ask())
    assert (unknown.answer, unknown.correct, unknown.task, unknown.source) == (None, None, None, None)


def test_the_waveform_is_16_bit_mono_at_16_khz_whatever_the_clip_was(model):
    found = listen(model, ask(rate=44_100))
    assert found.waveform.dtype == np.int16
    assert len(found.waveform) == 32_000


def test_a_long_recording_is_refused_or_cut_to_what_the_model_hears(model):
    with pytest.raises(ValueError, match="allow_cut"):
        listen(model, ask(seconds=6.0))
    found = listen(model, ask(seconds=6.0), allow_cut=True)
    assert found.cut == pytest.approx(2.0)
    assert len(found.waveform) == 64_000


def test_a_listening_survives_its_folder(model, tmp_path):
    found = listen(model, ask(answer="rain"))
    found.save(tmp_path)
    again = Result.load(tmp_path)
    assert isinstance(again, Listening)
    assert np.array_equal(again.attention.over_time, found.attention.over_time)
    assert np.array_equal(again.waveform, found.waveform)
    assert again.choices == found.choices


def test_an_open_question_has_one_row_with_what_was_written(model):
    question = ask(answer="dog")
    written = listen(model, replace(question, choices=(), answer="a dog"), max_new_tokens=2)
    (row,) = written.to_pandas().to_dict("records")
    assert row == {
        "question": "q",
        "asked": question.text,
        "answer": "a dog",
        "text": written.choice,
        "silence_text": written.silence_choice,
        "correct": False,
    }
    assert written.first_rows(3)[1] == 1
    assert repr(written.choice) in repr(written)


def test_words_without_a_token_are_found_and_spelling_tokenizers_have_none():
    vocabulary = {"[UNK]": 0, "which": 1, "dog": 2}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    assert unreadable_words(tokenizer, "which zebra? dog zebra emu") == ("zebra", "emu")
    assert unreadable_words(processor("qwen2_audio").tokenizer, "zebra") == ()

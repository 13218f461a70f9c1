"""Questions to DeSTA2.5-Audio: the released wording, transcripts given, recognised and held, two silences."""

import sys
from importlib.util import find_spec
from threading import get_ident

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses.audio_attention import audio_attention
from mechaudio.analyses.streaming import batches_of
from mechaudio.models.desta import Silero
from mechaudio.models.salmonn.processor import AUDIO_TOKEN as ANOTHER_PLACEHOLDER
from mechaudio.models.silence import silenced
from mechaudio.tracing.tower_frames import tower_frames
from tests.families import noise, opened
from tests.models.desta.released import PROMPTS, processor, reference

DOG = {"transcript": "woof, said the dog."}


@pytest.fixture(scope="module")
def desta():
    return ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)


def clip(seconds=3.0, seed=0):
    return ma.AudioClip(noise(seconds, seed), 16_000)


def question(text="Which sound comes first?", meta=DOG, **options):
    options = {"choices": ("dog", "car", "rain"), "answer": "dog", "audio": clip(), **options}
    return ma.AudioQuestion(text=text, meta=meta, **options)


def words(model, batch, span, row=0):
    return model.processor.tokenizer.decode(batch.inputs["input_ids"][row, list(batch.spans[span][row])])


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def as_parts(content, transcripts):
    """A message of the authors' as parts of a turn, with real sound in its place."""
    parts, spoken = [], iter(transcripts)
    for number, text in enumerate(content.split("<|AUDIO|>")):
        if number:
            parts.append({"type": "audio", "audio": clip(), "transcript": next(spoken)})
        if text.strip():
            parts.append({"type": "text", "text": text.removeprefix("\n\n")})
    return parts


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_have_the_authors_tokens(name):
    """Padding aside, and with the transcript's ids where the authors' code kept room for their embeddings."""
    told = PROMPTS[name]
    conversations = told["messages"] if name == "batch_of_two" else [told["messages"]]
    spoken = iter([words for _, words in told["audios"]])
    own, network = processor(), opened("desta25").network
    network.config.n_queries = 64
    model = type("Opened", (), {"network": network, "processor": own, "adapter": opened("desta25").adapter})()
    network.config.audio_config.num_mel_bins = network.config.text_config.vocab_size = 720
    network.config.audio_config.max_source_positions = 1500  # windows of 30 s
    rows = []
    for system, turn in conversations:
        parts = as_parts(turn["content"], [next(spoken) for _ in turn["audios"]])
        rows.append([system, {"role": "user", "content": parts}])
    batch = ma.prompt(model, rows)
    wanted = torch.tensor(told["ids"])
    for (row, start), (transcript,) in zip(told["starts"], told["transcription_ids"], strict=True):
        wanted[row, start + 64 : start + 64 + len(transcript)] = torch.tensor(transcript)
        assert set(range(start, start + 64)) <= set(batch.spans["audio"][row])
        assert set(range(start + 64, start + 64 + len(transcript))) <= set(batch.spans["transcript"][row])
    assert torch.equal(batch.inputs["input_ids"], wanted)


def test_the_prompt_reads_as_released_and_the_spans_are_its_parts(desta):
    batch = ma.prompt(desta, [question()])
    heard = "<|reserved_special_token_87|>" * 16
    assert desta.processor.tokenizer.decode(batch.inputs["input_ids"][0]) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nFocus on the audio clips and instructions."
        f"<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<start_audio>{heard}woof, said the dog.<end_audio>\n\n"
        "Which sound comes first?\nA: dog\nB: car\nC: rain<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert words(desta, batch, "transcript") == "woof, said the dog."
    assert words(desta, batch, "question").strip() == "Which sound comes first?"
    assert words(desta, batch, "choices").strip() == "A: dog\nB: car\nC: rain"
    roles = ("audio", "audio_padding", "transcript", "question", "choices", "caption", "template")
    together = sorted(position for role in roles for position in batch.spans[role][0])
    assert together == list(range(batch.n_positions))


def test_a_transcript_is_tokenised_apart_from_what_stands_around_it(desta):
    """Behind a full stop, the tokenizer would write `.<` as one token."""
    tokenizer = desta.processor.tokenizer
    batch = ma.prompt(desta, [question()])
    alone = tokenizer("woof, said the dog.", add_special_tokens=False)["input_ids"]
    assert batch.inputs["input_ids"][0, list(batch.spans["transcript"][0])].tolist() == alone


def test_a_tokenizer_that_begins_texts_by_itself_begins_them_once(desta):
    from tokenizers import processors

    made = opened("desta25").processor
    made.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    model = ma.AudioLM(opened("desta25").network, made, prove=False)
    ids, wanted = (ma.prompt(one, [question()]).inputs["input_ids"] for one in (model, desta))
    assert torch.equal(ids, wanted)


def test_the_audio_tokens_have_no_time(desta):
    batch = ma.prompt(desta, [question()])
    with pytest.raises(ValueError, match="reads the whole clip"):
        batch.clock[0].seconds(3)
    assert batch.clock[0].intervals(3) == ()
    frames = tower_frames(desta, batch, (2, 16), "qformer")
    assert frames.row.tolist() == [[0] * 16] * 2
    with pytest.raises(ValueError, match="no time of their own: each of the 64 audio tokens reads the whole clip"):
        _ = frames.middle


def test_the_transcript_is_what_the_recogniser_writes_where_somebody_speaks():
    model = ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)
    asked = []
    model.processor.recogniser = lambda samples: asked.append(len(samples)) or "one two"
    assert words(model, ma.prompt(model, [question(meta={})]), "transcript") == "one two"
    model.processor.finds_speech = lambda samples: False
    assert words(model, ma.prompt(model, [question(meta={})]), "transcript") == " "
    assert words(model, ma.prompt(model, [question()]), "transcript") == "woof, said the dog.", "given words are kept"
    assert asked == [48_000]
    model.processor.finds_speech = None
    with pytest.warns(UserWarning, match="no detector of speech is set"):
        ma.prompt(model, [question(meta={})])


def test_transcripts_are_written_between_runs_of_the_network_and_not_beside_them():
    """It does one run at a time, and the recogniser may be its own Whisper."""
    model = ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)
    threads = []
    model.processor.recogniser = lambda _samples: threads.append(get_ident()) or "one two"
    questions = [question(meta={}, audio=clip(2.0, seed)) for seed in range(3)]
    streamed = list(batches_of(model, questions, batch_size=1, what="prompts", progress=False))
    assert (len(streamed), threads) == (3, [get_ident()] * 3)


def test_without_a_recogniser_the_networks_own_whisper_writes(desta):
    model = ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)
    model.processor.recogniser = None
    batch = ma.prompt(model, [question(meta={})])
    written = model.network.transcribe(clip().mono(16_000), model.processor)
    assert words(model, batch, "transcript") == written.strip()
    assert len(batch.spans["transcript"][0]) > 1


def test_the_blanks_around_what_a_recogniser_writes_are_no_words():
    """Whisper begins with one, and the release takes it away; of a given transcript every letter is kept."""
    model = ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)
    model.processor.recogniser = lambda _samples: " one two\n"
    assert words(model, ma.prompt(model, [question(meta={})]), "transcript") == "one two"
    assert words(model, ma.prompt(model, [question(meta={"transcript": " one two"})]), "transcript") == " one two"


def test_a_recogniser_that_writes_no_text_is_told(desta):
    model = ma.AudioLM(opened("desta25").network, opened("desta25").processor, prove=False)
    model.processor.recogniser = lambda _samples: {"text": "one"}
    with pytest.raises(TypeError, match=r"a recogniser returns a text, got \{'text': 'one'\}"):
        ma.prompt(model, [question(meta={})])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (["one", "two"], ValueError, "has 1 clip and 2 transcripts: give one per clip"),
        (7, TypeError, "is a text, or a list of one per clip: 7"),
        ([3], TypeError, "is a text, or a list of one per clip"),
        ("it ends <|eot_id|> here", ValueError, "reads as control, not as words"),
    ],
)
def test_transcripts_that_cannot_be_are_told(desta, given, error, said):
    with pytest.raises(error, match=said):
        ma.prompt(desta, [question(meta={"transcript": given})])


def test_silence_keeps_the_transcript_and_every_position(desta):
    heard, silent = (ma.prompt(desta, [question()], condition=condition) for condition in ("audio", "silence"))
    assert torch.equal(heard.inputs["input_ids"], silent.inputs["input_ids"])
    assert silent.spans == heard.spans
    assert not torch.equal(heard.inputs["input_features"], silent.inputs["input_features"])
    again = silenced(desta, heard)
    assert all(torch.equal(again.inputs[name], silent.inputs[name]) for name in silent.inputs)


def test_silence_without_transcript_is_a_condition_of_its_own(desta):
    kept, without = (ma.prompt(desta, [question()], condition=c) for c in ("silence", "silence_no_transcript"))
    assert without.condition == "silence_no_transcript"
    assert words(desta, without, "transcript") == " "
    assert torch.equal(without.inputs["input_features"], kept.inputs["input_features"])
    assert without.n_positions < kept.n_positions
    found = ma.evaluate(desta, [question()], condition="silence_no_transcript", progress=False)
    assert question().choices[found.chosen[0]] == ma.answer(desta, without)[0].choice
    with pytest.raises(
        ValueError, match="reads no transcripts, so that condition='silence_no_transcript' is condition"
    ):
        ma.prompt(ma.load("tiny"), [question()], condition="silence_no_transcript")


def test_several_clips_have_a_transcript_each(desta):
    several = question(audio=[clip(seed=1), clip(seed=2)], meta={"transcript": ["one", None]})
    batch = ma.prompt(desta, [several])
    assert words(desta, batch, "transcript") == "onea dog", "the second is recognised"
    ids = batch.inputs["input_ids"][0].tolist()
    for number, spoken in enumerate(("one", "a dog")):
        behind = batch.spans[f"audio.{number}"][0][-1] + 1
        assert desta.processor.tokenizer.decode(ids[behind:]).startswith(f"{spoken}<end_audio>")


def test_rows_of_different_transcripts_are_what_they_are_alone(desta):
    questions = [question(), question(meta={"transcript": "a much longer transcript of what was said there"})]
    together = ma.run(desta, ma.prompt(desta, questions), record=["qformer.pattern"])
    for row, single in enumerate(questions):
        alone = ma.run(desta, ma.prompt(desta, [single]), record=["qformer.pattern"])
        torch.testing.assert_close(together.logits[row, -1], alone.logits[0, -1], atol=1e-4, rtol=1e-4)
        taps = together.cache["qformer.pattern", 0].unflatten(0, (2, 2))[row]
        torch.testing.assert_close(taps, alone.cache["qformer.pattern", 0])


def test_attention_to_the_transcript_is_counted_apart(desta):
    measured = audio_attention(desta, ma.prompt(desta, [question()]))
    assert measured.roles == ("audio", "transcript", "question", "choices", "template")
    np.testing.assert_allclose(measured.mass.sum(-1), 1, atol=1e-5)
    batch = ma.prompt(desta, [question()])
    knocked = [ma.KnockOutAttention(layers=[1], keys="transcript")]
    pattern = ma.run(desta, batch, record=["pattern"], interventions=knocked).cache["pattern", 1][0, :, -1]
    (places,) = batch.spans["transcript"]
    assert (pattern[:, list(places)] == 0).all()
    assert (pattern[:, list(batch.spans["audio"][0])] > 0).all()


def test_a_clip_of_more_than_30_s_is_refused_with_the_number(desta):
    with pytest.raises(ValueError, match=r"hears 4\.0 s: the last 1\.0 s would be lost"):
        ma.prompt(desta, [question(audio=clip(5.0))])


def test_the_placeholder_in_a_text_is_refused_and_others_are_words(desta):
    with pytest.raises(ValueError, match="reads as control, not as words"):
        ma.prompt(desta, [question(text="what is <|reserved_special_token_87|>?")])
    assert ma.prompt(desta, [question(text=f"what is {ANOTHER_PLACEHOLDER}?")]).n_rows == 1


def test_the_detector_of_the_release_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(ImportError, match=r"needs the package silero-vad: pip install 'mechaudio\[desta\]'"):
        Silero()


def test_the_detector_of_the_release_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    """The package sets one thread for all of PyTorch where it is imported, and warns of how it reads its weights."""
    (tmp_path / "silero_vad.py").write_text(
        "import warnings, torch\n"
        "torch.set_num_threads(1)\n"
        "def load_silero_vad():\n"
        "    warnings.warn('`torch.jit.load` is deprecated', DeprecationWarning)\n"
        "    return 0.01\n"
        "def get_speech_timestamps(samples, threshold):\n"
        "    assert samples.dtype == torch.float32\n"
        "    return [{'start': 0, 'end': 512}] if samples.abs().max() > threshold else []\n"
    )
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        finds_speech = Silero()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        sys.modules.pop("silero_vad", None)
    sounding = noise(1.0).astype(np.float64)
    sounding.flags.writeable = False
    assert [finds_speech(sounding), finds_speech(np.zeros(16_000))] == [True, False]


@pytest.mark.skipif(find_spec("silero_vad") is None, reason="the extra desta is not installed")
def test_the_detector_of_the_release_hears_no_speech_in_noise():
    finds_speech = Silero()
    assert not finds_speech(np.zeros(16_000, dtype=np.float32))
    assert not finds_speech(noise(2.0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": ["<|reserved_special_token_87|>"], "audio": []}, "1 placeholders .* for 0 clips"),
        ({"text": ["a"], "transcripts": ["b"]}, "there are 0 clips and 1 transcript: give one for each"),
        ({"audio": [noise(1.0)], "sampling_rate": 8000}, "clips are at 16000 Hz"),
        ({"text": ["a", "a b c d"]}, "prompts of different lengths: pass padding=True"),
    ],
)
def test_what_the_processor_cannot_take_is_told(desta, given, said):
    with pytest.raises(ValueError, match=said):
        desta.processor(**given)
    with pytest.raises(ValueError, match="renders text alone: pass tokenize=False"):
        desta.processor.apply_chat_template([{"role": "user", "content": "?"}], tokenize=True)


def test_the_authors_clips_go_through_the_prompt_to_the_authors_logits():
    told = reference()
    from tests.models.desta.released import network

    model = ma.AudioLM(network(), processor(), prove=False)
    sound = ma.AudioClip(told["wav0"].float().numpy() / 32768, 16_000)
    system, turn = PROMPTS["given_text"]["messages"]
    content = [
        {"type": "audio", "audio": sound, "transcript": "Hello there"},
        {"type": "text", "text": turn["content"].removeprefix("<|AUDIO|>\n\n")},
    ]
    batch = ma.prompt(model, [[system, {"role": "user", "content": content}]])
    logits = ma.run(model, batch).logits[0, -1]
    assert (logits - told["given_text.logits"][0]).abs().max() < 1e-4

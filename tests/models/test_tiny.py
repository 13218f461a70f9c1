"""The shipped model and the code that trains it. Shares of 36 questions move by 16 points, so floors are low."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.sounds import CLASSES
from mechaudio.data.soundscapes import questions
from mechaudio.models.prompt import prompt
from mechaudio.models.tiny import WEIGHTS, language
from mechaudio.models.tiny.language import PAD, TURN_END, VOCABULARY
from mechaudio.question import AudioQuestion
from mechaudio.tracing.load import load
from recipes.tiny import architecture, evaluate, rows, scenes, train
from recipes.tiny.questions import best_letter, draw_choices

N = 36
EXPECTED_LOGITS = [
    [2.3006, 3.6072, 4.6596, 3.8683],
    [2.2533, 5.5427, 2.5972, 3.0439],
    [3.0538, 0.0323, 6.0196, 3.7935],
]
NOBODY = torch.zeros(4, dtype=torch.bool)


@pytest.fixture(scope="module")
def tiny():
    return evaluate.TinyModel()


@pytest.fixture(scope="module")
def asked():
    return questions(N, seed=70_001)


def share_right(model, asked, condition, edit=None):
    return np.mean([said == q.answer for said, q in zip(model.choices(asked, condition, edit), asked, strict=True)])


@pytest.fixture(scope="module")
def by_ear(tiny, asked):
    return share_right(tiny, asked, "audio")


# The shipped weights


def test_the_weights_are_small(tiny):
    assert sum(p.numel() for p in tiny.network.parameters()) < 4_000_000
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 8_000_000


def test_the_folder_opens_in_float32_and_says_how_it_was_made(tiny):
    assert type(tiny.network).__name__ == "Qwen2AudioForConditionalGeneration"
    assert tiny.network.dtype == torch.float32
    made = json.loads((WEIGHTS / "training.json").read_text())
    with safe_open(WEIGHTS / "model.safetensors", "pt") as file:
        told = file.metadata()
    for key in ("seed", "commit", "steps", "data", "metrics"):
        assert key in made
        assert key in told
    assert told["commit"] == made["commit"]
    assert len(made["commit"]) == 40


def test_it_hears_without_being_perfect(by_ear):
    assert 0.55 <= by_ear <= 0.95


def test_it_guesses_when_the_clip_is_silent(tiny, asked):
    assert 0.05 <= share_right(tiny, asked, "silence") <= 0.45


def test_a_caption_is_enough(tiny, asked):
    assert share_right(tiny, asked, "caption") >= 0.85


def test_it_believes_the_caption_where_caption_and_sound_disagree(tiny):
    asked = questions(24, seed=70_002, conflict=True)
    said = tiny.choices(asked, "audio+caption")
    assert np.mean([s == q.meta["caption_answer"] for s, q in zip(said, asked, strict=True)]) > 0.5


def test_the_last_token_listens(tiny, asked, by_ear):
    assert share_right(tiny, asked, "audio", evaluate.AttentionBias("audio", "last")) < by_ear - 0.2


def test_an_edit_of_nothing_changes_nothing(tiny, asked):
    plain = tiny.letter_logits(asked[:2], "audio")
    edited = tiny.letter_logits(asked[:2], "audio", evaluate.AttentionBias("audio", "last", bias=0.0))
    assert torch.allclose(plain, edited, atol=1e-5)


def test_it_describes_a_clip_in_words(tiny, asked):
    text = tiny.describe(asked[0])
    assert text.endswith(".")
    assert "<unk>" not in text
    assert any(event.label in text for event in asked[0].events)


def test_short_clips_and_few_choices_give_fewer_tokens_and_an_answer(tiny):
    (short,) = questions(1, 70_003, duration=3.0, margin=0.5, n_choices=2)
    inputs = tiny.inputs([short], "audio")
    assert int((inputs["input_ids"] == language.AUDIO).sum()) == 75
    assert tiny.choices([short], "audio")[0] in short.choices


def test_logits_stay_what_they_were(tiny):
    logits = tiny.letter_logits(questions(3, seed=70_004), "audio")[:, :4]
    expected = torch.tensor(EXPECTED_LOGITS)
    assert torch.allclose(logits, expected, atol=2e-3), logits


# The vocabulary


def test_the_tokenizer_reads_prompts_as_the_training_rows_do(tiny):
    text = "Caption: hum from 0.5 to 10.0.\nWhich sound event has the earliest onset?\nA: hum\nB: siren"
    assert tiny.processor.tokenizer(text).input_ids == language.ids(text)
    assert tiny.processor.tokenizer("zebra").input_ids == [VOCABULARY["<unk>"]]


def test_the_tokenizer_writes_captions_as_they_were(tiny):
    text = "hum from 0.5 to 4.0, siren from 3.5 to 9.0."
    assert tiny.processor.tokenizer.decode(language.ids(text)) == text


def test_a_word_outside_the_vocabulary_has_no_id():
    with pytest.raises(KeyError, match="zebra"):
        language.ids("zebra")


# The training data


@pytest.fixture(scope="module")
def bank():
    return scenes.make_bank(1, 5)


@pytest.fixture
def drawn():
    return scenes.draw_scenes(4, torch.Generator().manual_seed(1), habits=1.0)


@pytest.fixture(scope="module")
def untrained():
    return architecture.build_network(0).eval()


def test_features_equal_those_of_the_library(bank, drawn):
    wave = scenes.render(drawn, bank, torch.Generator().manual_seed(2))
    clips = [wave[i, : int(n) * 160].numpy() for i, n in enumerate(drawn.frames)]
    expected = language.build_feature_extractor()(
        clips, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    assert torch.allclose(scenes.LogMel("cpu")(wave), expected["input_features"], atol=1e-5)
    assert expected["attention_mask"].sum(1).tolist() == drawn.frames.tolist()


def test_a_packed_row_equals_one_library_forward_per_question(bank, drawn, untrained):
    generator = torch.Generator().manual_seed(3)
    wave = scenes.render(drawn, bank, generator)
    builder = rows.RowBuilder(rows.layout(("audio", "caption", "audio+caption", "describe", "time")), "cpu")
    made = builder.build(drawn, generator, silent=NOBODY, hearers={"all": 1.0})
    heard = torch.arange(500) < ((drawn.frames - 1) // 2 + 1)[:, None]
    positions, bias = builder.positions_and_bias(made.ids, made.hears, drawn.audio_tokens)
    processor = language.build_processor()
    with torch.no_grad():
        audio = architecture.audio_embeddings(untrained, scenes.LogMel("cpu")(wave), heard)
        packed = architecture.packed_logits(untrained, made.ids, audio, rows.AUDIO_START, positions, bias.float())
        for kind, start, stop in builder.plan.blocks:
            for row in range(2):
                tokens = made.ids[row, start:stop].tolist()
                asks = start + max(i for i, t in enumerate(tokens) if t == VOCABULARY["assistant"])
                words = [t for t in tokens if t != PAD]
                text = processor.tokenizer.decode(words[: words.index(TURN_END)])
                content = [{"type": "text", "text": text}]
                clip = wave[row, : int(drawn.frames[row]) * 160].numpy()
                if kind != "caption":
                    content.insert(0, {"type": "audio", "audio_url": "clip"})
                prompt = processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
                )
                sound = {} if kind == "caption" else {"audio": [clip], "sampling_rate": 16_000}
                inputs = processor(text=prompt, return_tensors="pt", **sound)
                alone = untrained(**inputs).logits[0, -1]
                assert torch.allclose(alone, packed[row, asks], atol=2e-4), kind


@pytest.mark.parametrize(("hearers", "hearing"), [("last", 1), ("tail", 3), ("others", -1)])
def test_masks_name_who_hears_the_clip(drawn, hearers, hearing):
    builder = rows.RowBuilder(rows.layout(("audio",)), "cpu")
    made = builder.build(drawn, torch.Generator().manual_seed(4), silent=NOBODY, hearers={hearers: 1.0})
    _, start, stop = builder.plan.blocks[0]
    before_answer = made.hears[:, start : stop - 1]
    expected = hearing if hearing > 0 else before_answer.shape[1] - 1
    assert before_answer.sum(1).tolist() == [expected] * 4
    assert before_answer[:, -1].all() == (hearers != "others")


def test_the_letter_is_the_option_that_the_scene_makes_right():
    scene = scenes.Scenes(
        frames=torch.tensor([1000]),
        count=torch.tensor([2]),
        labels=torch.arange(12)[None],
        onset=torch.tensor([[1.0, 4.0, 0, 0, 0, 0]]),
        offset=torch.tensor([[9.0, 6.0, 0, 0, 0, 0]]),
    )
    for task, right in ((0, 0), (1, 0), (2, 0)):
        choices = draw_choices(scene, torch.tensor([task]), torch.Generator().manual_seed(task))
        assert choices.labels[0, choices.letter[0]] == right or not choices.sounding[0, :2].all()
    swapped = scenes.Scenes(scene.frames, scene.count, scene.labels, scene.onset.flip(1), scene.offset.flip(1))
    assert best_letter(scene, torch.tensor([0]), choices, torch.ones(1))[1].all()
    assert swapped.present.tolist() == [[True, True, False, False, False, False]]


def test_training_runs_and_writes_a_folder_that_opens(tmp_path):
    small = ["--steps", "1", "--batch", "2", "--examples", "1", "--held-out-batches", "1", "--workers", "1"]
    train.main([*small, "--device", "cpu", "--commit", "0" * 40, "--out", str(tmp_path / "tiny")])
    model = evaluate.TinyModel(tmp_path / "tiny")
    asked = questions(1, seed=0)
    assert model.choices(asked, "audio")[0] in asked[0].choices
    assert json.loads((tmp_path / "tiny" / "training.json").read_text())["steps"] == 1


def test_choices_whose_letter_it_has_no_token_for_are_refused():
    model = load("tiny", prove=False)
    seven = tuple(CLASSES[:7])
    clip = AudioClip(np.full(16_000, 0.01, dtype=np.float32), 16_000)
    with pytest.raises(ValueError, match=r"no token for the letters G of the choices.* Ask with 6 choices at most"):
        prompt(model, [AudioQuestion(audio=clip, text="Which sound event has the earliest onset?", choices=seven)])

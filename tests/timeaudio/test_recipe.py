"""The recipe runs whole, goes on where it stopped, and its fast forward pass is the library's."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from recipes.timeaudio import encoder, network, run, scenes, score, text
from recipes.timeaudio.network import ARMS

NAMES = ("markers+encoding+importance", "digits+none")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    words = ["--smoke", "--device", "cpu", "--work", f"{folder / 'work'}", "--seeds", "0"]
    run.main([*words, "--out", f"{folder / 'first'}", "--arms", NAMES[0]])
    run.main([*words, "--out", f"{folder / 'both'}", "--arms", *NAMES])
    return folder


def test_a_second_call_does_what_is_missing_and_the_results_hold_all(done):
    first = json.loads((done / "first/results.json").read_text())
    both = json.loads((done / "both/results.json").read_text())
    assert [each["arm"] for each in first["runs"]] == [NAMES[0]]
    assert {each["arm"] for each in both["runs"]} == set(NAMES)
    assert first["runs"][0] in both["runs"], "what was done is not done again"
    assert all(len(each["answers"]) == len(both["questions"]) for each in both["runs"])
    assert {each["length"] for each in both["questions"]} == {"short", "long"}


def test_answers_are_scored_by_arm_and_effect(done):
    score.main([f"{done / 'both/results.json'}"])
    scores = json.loads((done / "both/scores.json").read_text())
    assert set(scores["arms"]) == set(NAMES)
    assert scores["arms"][NAMES[0]]["audio_tokens"] == {"long": 52, "short": 88}
    assert scores["arms"][NAMES[1]]["audio_tokens"] == {"long": 176, "short": 88}


def test_a_call_that_was_stopped_is_scored_by_what_it_left(done, tmp_path):
    shutil.copytree(done / "work/runs", tmp_path / "runs")
    shutil.copy(done / "both/questions.json", tmp_path)
    score.main([f"{tmp_path}"])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["arms"]) == set(NAMES)


def test_the_share_of_a_window_that_a_class_fills_is_counted():
    times = torch.zeros(1, 12, 3)
    onset, offset = times.clone(), times.clone()
    onset[0, 2, 0], offset[0, 2, 0] = 0.5, 1.25
    onset[0, 2, 1], offset[0, 2, 1] = 1.5, 2.0
    cover = scenes.coverage(scenes.Scenes(torch.tensor([20.0]), onset, offset), 5, 0.5)
    assert cover[0, :, 2].tolist() == pytest.approx([0.0, 1.0, 0.5, 1.0, 0.0])
    assert cover.sum() == cover[0, :, 2].sum()


def test_effects_compare_arms_that_differ_in_one_part_seed_by_seed():
    iou = {
        ("digits+none", 0): 0.5,
        ("markers+none", 0): 0.6,
        ("markers+encoding+none", 0): 0.8,
        ("digits+none", 1): 0.4,
        ("markers+none", 1): 0.6,
        ("markers+encoding+none", 1): 0.7,
    }
    effects = score.effects({key: {"mean_iou": value} for key, value in iou.items()})
    assert effects["markers against digits"]["values"] == pytest.approx([0.1, 0.2])
    assert effects["time encoding"]["values"] == pytest.approx([0.2, 0.1])
    assert effects["time encoding"]["mean"] == pytest.approx(0.15)
    # Two seeds that are 0.1 apart: half a width of 12.706 standard errors, each 0.05.
    assert effects["time encoding"]["high"] == pytest.approx(0.15 + 12.7062 * 0.05, abs=1e-3)
    assert "mean" not in effects["merging by importance"]


def test_effects_use_every_seed_that_a_pair_of_arms_has():
    iou = {("digits+none", seed): 0.5 for seed in range(3)}
    iou |= {("digits+encoding+none", seed): 0.6 for seed in range(3)}
    iou |= {("words+none", 0): 0.5, ("words+encoding+none", 0): 0.8, ("words+none", 2): 0.9}
    effect = score.effects({key: {"mean_iou": value} for key, value in iou.items()})["time encoding"]
    digits, words = effect["pairs"]
    assert (digits["from"], digits["to"], digits["seeds"]) == ("digits+none", "digits+encoding+none", [0, 1, 2])
    assert digits["values"] == pytest.approx([0.1, 0.1, 0.1])
    assert words["seeds"] == [0]
    assert words["values"] == pytest.approx([0.3])
    assert words["low"] is None, "one seed has no interval"
    # Of seed 0 the mean of both pairs, of the others that of digits.
    assert effect["values"] == pytest.approx([0.2, 0.1, 0.1])


def test_perfect_answers_score_one_and_onsets_are_paired():
    questions = [
        {"clip": "a", "length": "short", "class": "hum", "seconds": 20.0, "intervals": [[1.0, 2.0]]},
        {"clip": "b", "length": "long", "class": "hum", "seconds": 40.0, "intervals": [[1.0, 2.0], [5.0, 9.0]]},
    ]
    right = [text.answer([tuple(pair) for pair in each["intervals"]], "markers") for each in questions]
    scores = score.of_run({"arm": "markers+none", "answers": right}, questions)
    assert scores["mean_iou"] == scores["event_f1"] == scores["recall_0.9"] == 1.0
    assert scores["onset_error"] == scores["unparsed"] == 0.0
    late = [right[0], text.answer([(5.5, 9.0), (1.0, 2.0)], "markers")]
    assert score.of_run({"arm": "markers+none", "answers": late}, questions)["onset_error_mean"] == pytest.approx(1 / 6)


def test_scenes_keep_their_own_rules():
    drawn = scenes.draw(500, scenes.LONG, torch.Generator().manual_seed(0))
    there = drawn.present
    assert there.any(-1).any(-1).all()
    assert (drawn.offset.amax((1, 2)) <= drawn.seconds + 1e-4).all()
    gaps = (drawn.onset[..., 1:] - drawn.offset[..., :-1])[there[..., 1:]]
    assert gaps.min() >= scenes.APART - 1e-4
    tenths = drawn.onset[there] * 10
    assert (tenths - tenths.round()).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("way", "written"), [("words", "0.0 - 2.5"), ("digits", "0.2 - 2.7"), ("markers", "<a_0><f_2> - <a_2><f_7>")]
)
def test_an_answer_is_written_and_read_back(way, written):
    answer = text.answer([(0.2, 2.7)], way)
    assert answer == f"The given query happens in {written} seconds."
    made = text.processor(way)
    ids = text.ids(made, answer)
    assert made.tokenizer.unk_token_id not in ids
    assert made.tokenizer.decode(ids).replace("  ", " ") == answer
    turn = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": text.question(0)}]}
    prompt = made.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    parts = made.tokenizer(text.BEFORE)["input_ids"], text.ids(made, text.BEHIND.format(text.question(0)))
    assert made.tokenizer(prompt)["input_ids"] == [*parts[0], made.audio_token_id, *parts[1]]


@pytest.mark.parametrize("merging", ["none", "importance"])
def test_the_fast_forward_pass_is_the_librarys(done, merging):
    """From the sound of a scene to its audio tokens, by the recipe and by the class that opens the trained weights."""
    arm = next(each for each in ARMS if each.name == f"markers+encoding+{merging}")
    made = text.processor("markers")
    trained = network.build(arm, made, 0)
    trained.load_state_dict(load_file(done / "work/networks/markers-encoding-importance-0.safetensors"))
    with torch.no_grad():
        trained.abs_time_position_embedding.normal_(generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(3)
    bank = scenes.make_bank(1, 1000, 1)
    heard = encoder.hear(trained.speech_encoder, bank, 1, scenes.LONG, generator)
    generator = torch.Generator().manual_seed(3)
    drawn = scenes.draw(1, scenes.LONG, generator)
    assert torch.equal(drawn.seconds, heard["seconds"])
    wave = scenes.render(drawn, bank, generator, 2)[0]
    inputs = made(audio=[wave[: round(float(drawn.seconds) * 16_000)].numpy()])
    with torch.no_grad():
        theirs = trained.hear(**inputs)[0]
        rows = network.rows_of(heard["seconds"], heard["windows"].shape[1])
        ours = network.audio_tokens(trained, heard["windows"].float(), rows, arm, generator)[0]
    # What was heard is kept in half precision.
    assert ours.shape == theirs.shape
    assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_no_gradient_reaches_the_projections_that_the_papers_importance_is_made_of():
    arm = next(each for each in ARMS if each.name == "markers+encoding+importance")
    built = network.build(arm, text.processor("markers"), 0)
    windows = torch.randn(1, 176, 17, network.WIDTH, generator=torch.Generator().manual_seed(0))
    rows = network.rows_of(torch.tensor([50.0]), 176)
    network.audio_tokens(built, windows, rows, arm, torch.Generator()).square().sum().backward()
    for layer in built.speech_Qformer.bert.encoder.layer:
        own = layer.attention.get_submodule("self")
        for projection in (own.query, own.key):
            assert projection.weight.grad is None or not projection.weight.grad.abs().max() > 1e-6
        assert own.value.weight.grad.abs().max() > 1e-3

"""Training in two stages: what moves and what stays, that the loss falls, and that a run can be taken up."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mechaudio as ma
from mechaudio.experiments.training_groups import groups_of
from mechaudio.models.salmonn.lora import LoraLinear
from mechaudio.timeaudio import MARKERS, STAGES, Stage, fold_lora, load_trained, train
from mechaudio.tracing.check import prove_hook_points
from tests.families.build import network
from tests.timeaudio.opened import opened, three_questions

pytestmark = pytest.mark.usefixtures("without_proofs")
ALL = Stage({"lora": 3e-2, "adapter": 3e-2, "times": 3e-2, "markers": 3e-2}, epochs=1, batch_size=2, lora_dropout=0.0)


@pytest.fixture(scope="module")
def questions():
    return three_questions()


def tensors(model: ma.AudioLM) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.network.named_parameters()}


def moved(model: ma.AudioLM, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in tensors(model).items() if name in before and not torch.equal(value, before[name])}


@pytest.mark.parametrize("family", ["timeaudio", "qwen2_audio", "salmonn"])
def test_the_loss_falls_and_only_the_groups_of_the_stage_move(family, questions, tmp_path):
    model = opened(family)
    before, random = tensors(model), torch.get_rng_state()
    run = train(model, questions, out=tmp_path, preset=ALL, steps=8)
    assert torch.equal(torch.get_rng_state(), random)
    assert run.losses[-1] < 0.8 * run.losses[0]
    groups = groups_of(run.model, ALL)
    assert set(groups) == set(run.trained) == ({*ALL.rates} if family == "timeaudio" else {*ALL.rates} - {"times"})
    theirs = {name for each in groups.values() for name in each}
    changed = moved(run.model, before)
    assert changed <= theirs
    towers = ("speech_encoder.", "beats.", "model.audio_tower.", "audio_tower.")
    assert not any(name.startswith(towers) or ".base_layer." in name for name in theirs)
    for group, each in groups.items():
        assert any(name in changed or name not in before for name in each), group
    projector = run.model.adapter.projector
    assert any(name.startswith(projector) for name in changed)
    if family != "qwen2_audio":
        assert "speech_query_tokens" in groups["adapter"]
        assert any(name.startswith("speech_Qformer.") for name in changed)
    assert not any(parameter.grad is not None for parameter in run.model.network.parameters())


def test_a_network_in_half_precision_takes_steps_in_single_and_is_kept_in_half(questions, tmp_path):
    model = opened("qwen2_audio", dtype=torch.bfloat16)
    before = tensors(model)
    run = train(model, questions, out=tmp_path, preset=Stage({"adapter": 1e-6}, epochs=1, batch_size=3), steps=2)
    trained = load_file(tmp_path / "trained.safetensors")
    assert {value.dtype for value in trained.values()} == {torch.float32}
    # Steps of a millionth are lost in half precision, and there in single.
    assert any((trained[name] != before[name].float()).any() for name in trained)
    assert {value.dtype for value in tensors(run.model).values()} == {torch.bfloat16}
    assert np.isfinite(run.losses).all()


def test_only_the_rows_of_markers_move_unless_all_are_asked_for(questions, tmp_path):
    rows = Stage({"markers": 3e-2}, epochs=1, batch_size=2)
    model = opened("qwen2_audio")
    before = tensors(model)
    ids = sorted(model.processor.tokenizer.convert_tokens_to_ids(list(MARKERS)))
    run = train(model, questions, out=tmp_path / "new", preset=rows, steps=3)
    assert run.trained["markers"] == sum(before[name].numel() for name in moved(run.model, before))
    for name in moved(run.model, before):
        differing = (tensors(run.model)[name] != before[name]).any(1).nonzero()[:, 0].tolist()
        assert set(differing) <= set(ids)
        assert differing
    every = Stage({"markers": 3e-2}, epochs=1, batch_size=2, rows="all")
    run = train(opened("qwen2_audio"), questions, out=tmp_path / "all", preset=every, steps=3)
    head = run.model.adapter.unembed + ".weight"
    assert (tensors(run.model)[head] != before[head]).any(1).sum() > 20


def test_a_run_that_is_taken_up_is_the_unbroken_one(questions, tmp_path):
    stage = Stage({"lora": 3e-2, "adapter": 3e-2}, epochs=1, batch_size=2, lora_dropout=0.3, warmup_steps=2)
    whole = train(opened("timeaudio"), questions, out=tmp_path / "whole", preset=stage, steps=6, save_every=2)

    class Stop(Exception):
        pass

    broken = opened("timeaudio")
    asked = []

    def stop(*_):
        asked.append(1)
        if len(asked) > 9:  # two a step: in the fifth
            raise Stop

    hook = broken.network.register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        train(broken, questions, out=tmp_path / "broken", preset=stage, steps=6, save_every=2)
    hook.remove()
    again = train(opened("timeaudio"), questions, out=tmp_path / "broken", preset=stage, steps=6, save_every=2)
    assert again.losses == whole.losses
    for name, value in tensors(whole.model).items():
        assert torch.equal(value, tensors(again.model)[name]), name
    with pytest.raises(ValueError, match=r"batch_size 2, now 3: give another folder"):
        train(opened("timeaudio"), questions, out=tmp_path / "broken", preset=stage, steps=6, batch_size=3)
    with pytest.raises(ValueError, match=r"digest .*: give another folder"):
        train(opened("timeaudio"), questions[::-1], out=tmp_path / "broken", preset=stage, steps=6)
    with pytest.raises(ValueError, match="steps= and save_every= are at least 1"):
        train(opened("timeaudio"), questions, out=tmp_path / "broken", preset=stage, steps=0)


def test_a_finished_run_is_put_into_a_fresh_checkpoint_and_folds_away(questions, tmp_path):
    model = opened("qwen2_audio")
    run = train(model, questions, out=tmp_path, preset=ALL, steps=3)
    fresh = load_trained(opened("qwen2_audio"), tmp_path)
    batch = ma.prompt(fresh, [questions[0]])
    expected = run.model.network(**batch.inputs).logits
    assert torch.equal(fresh.network(**batch.inputs).logits, expected)
    assert fold_lora(fresh.network) == 2 * fresh.n_layers
    assert not any(isinstance(module, LoraLinear) for module in fresh.network.modules())
    assert set(dict(fresh.network.named_parameters())) == set(dict(opened("qwen2_audio").network.named_parameters()))
    torch.testing.assert_close(fresh.network(**batch.inputs).logits, expected, atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="not those of this network"):
        load_trained(opened("salmonn"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no trained\.safetensors"):
        load_trained(opened("salmonn"), tmp_path / "nowhere")


def test_every_hook_point_of_a_trained_model_is_proven(questions, tmp_path):
    run = train(opened("qwen2_audio"), questions, out=tmp_path, preset=ALL, steps=1)
    prove_hook_points(run.model)
    batch = ma.prompt(run.model, [questions[0]])
    kept = ma.run(run.model, batch, record=["pattern"])
    assert kept.cache["pattern", 0].shape[-1] == batch.n_positions


def test_the_loss_is_that_of_the_answer_alone(questions, tmp_path):
    """Of one question, by hand: the answer with markers and the end behind the prompt, mean over its tokens."""
    model = opened("timeaudio")
    question = questions[0]
    batch = ma.prompt(model, [question])
    text = ma.timeaudio.Markers().encode(question.answer)
    tokenizer = model.processor.tokenizer
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    inputs = dict(batch.inputs)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        logits = model.network(**inputs).logits[0, -len(ids) - 1 : -1]
    by_hand = nn.functional.cross_entropy(logits, torch.tensor(ids))
    run = train(model, [question], out=tmp_path, preset=ALL, steps=1, batch_size=1)
    assert run.losses[0] == pytest.approx(by_hand.item(), rel=1e-5)


def test_what_cannot_be_heard_is_listed_and_no_other_takes_its_place(questions, tmp_path):
    gone = ma.AudioQuestion(tmp_path / "gone.wav", "When?", answer="0.1 - 0.2", id="gone")
    long = ma.AudioQuestion(
        (np.sin(np.arange(48_000, dtype=np.float32)) * 0.1, 16_000), "When?", answer="1 - 2", id="long"
    )
    stage = Stage({"adapter": 1e-2}, epochs=1, batch_size=5, max_seconds=2.5)
    run = train(opened("timeaudio"), [*questions, gone, long], out=tmp_path / "run", preset=stage)
    assert sorted(problem.item for problem in run.problems) == ["gone", "long"]
    assert "this stage hears 2.5 s" in next(each.message for each in run.problems if each.item == "long")
    assert len(run.losses) == 1
    with pytest.raises(ValueError, match="not one of the 1 questions of step 0 can be asked"):
        train(opened("timeaudio"), [gone], out=tmp_path / "none", preset=stage, batch_size=1)


def test_a_question_that_holds_a_marker_is_listed_where_answers_are_written_with_them(questions, tmp_path):
    marked = replace(questions[0], text="When is '<a_1>' heard?", id="marked")
    run = train(opened("timeaudio"), [*questions, marked], out=tmp_path, preset=ALL, steps=1, batch_size=4)
    assert [problem.item for problem in run.problems] == ["marked"]
    assert "the text holds the marker '<a_1>' already" in run.problems[0].message


def test_a_run_says_where_it_comes_from(questions, tmp_path):
    run = train(opened("timeaudio"), questions, out=tmp_path, preset="paper", steps=1, batch_size=1, seed=3)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["settings"]["seed"] == run.provenance.seed == 3
    assert record["settings"]["rates"] == dict.fromkeys(("lora", "adapter", "times", "markers"), 3e-5)
    assert record["settings"]["times"] == "markers"
    assert record["losses"] == list(run.losses)
    assert record["versions"]["torch"] == version("torch")


def train_briefly(folder):
    stage = Stage({"lora": 1e-3, "adapter": 1e-3}, epochs=1, batch_size=4, lora_dropout=0.0)
    gone = ma.AudioQuestion(Path("nowhere.wav"), "When?", answer="0.1 - 0.2", id="gone")
    train(opened("qwen2_audio"), [*three_questions(), gone], out=folder, preset=stage, steps=3)


@pytest.mark.whole
@pytest.mark.skipif(torch.cuda.is_available(), reason="beside a GPU, torch computes no gradients in forks")
def test_two_processes_train_as_one(tmp_path):
    """Two that accelerate's launcher forks, and this one: the same losses, tensors and problems."""
    accelerate.debug_launcher(train_briefly, (tmp_path / "2",), num_processes=2)
    train_briefly(tmp_path / "1")
    records = [json.loads((tmp_path / f"{n}/training.json").read_text()) for n in (1, 2)]
    assert records[0]["losses"] == pytest.approx(records[1]["losses"], rel=1e-4)
    assert sorted(records[0]["problems"]) == sorted(records[1]["problems"])
    assert len(records[0]["problems"]) == 1
    one, two = (load_file(tmp_path / f"{n}/trained.safetensors") for n in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-4, rtol=1e-3)


def test_rates_rise_and_fall_as_the_presets_say():
    paper, released = STAGES["paper", 2], STAGES["released", 2]
    assert paper.rate("lora", 0, 10_000) == 1e-7
    assert paper.rate("lora", 500, 10_000) == pytest.approx((1e-7 + 1e-5) / 2)
    assert paper.rate("lora", 5000, 10_000) == pytest.approx((1e-5 + 1e-6) / 2)
    assert paper.rate("lora", 10_000, 10_000) == pytest.approx(1e-6)
    assert paper.rate("adapter", 1000, 100_000) == pytest.approx(2e-6, rel=1e-3)
    # In the release the schedule writes one rate into all groups.
    assert released.rate("adapter", 1000, 100_000) == released.rate("lora", 1000, 100_000)
    assert {key: (stage.epochs, stage.batch_size) for key, stage in STAGES.items()} == {
        ("paper", 1): (10, 48),
        ("paper", 2): (3, 24),
        ("released", 1): (10, 128),
        ("released", 2): (6, 48),
    }
    assert set(paper.rates) == {"lora", "adapter"}
    assert set(released.rates) == {"lora", "adapter", "times"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rates": {}}, "at least one"),
        ({"rates": {"lore": 1.0}}, "groups among"),
        ({"rates": {"lora": 0.0}}, r"rates\['lora'\]"),
        ({"epochs": 0}, "epochs"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
        ({"rates": {"adapter": 1.0}, "one_rate": True}, "has none for it"),
    ],
)
def test_a_stage_that_nobody_can_mean_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Stage(**{"rates": {"lora": 1e-4}, "epochs": 1, "batch_size": 1, **given})


def test_what_cannot_be_trained_is_refused(questions, tmp_path):
    model = opened("qwen2_audio", markers=False)
    with pytest.raises(ValueError, match=r"no markers: ma\.timeaudio\.add_markers"):
        train(model, questions, out=tmp_path, times="markers")
    with pytest.raises(ValueError, match="no questions were given"):
        train(model, [], out=tmp_path)
    chosen = ma.AudioQuestion(None, "Which?", ("a", "b"), "a", caption="a", id="chosen")
    with pytest.raises(ValueError, match="'chosen' is no open question"):
        train(model, [chosen], out=tmp_path)
    with pytest.raises(ValueError, match="no parameters of times"):
        train(model, questions, out=tmp_path, preset=Stage({"times": 1e-3}, 1, 1))
    bare = ma.AudioLM(network("qwen2_audio"), prove=False)
    with pytest.raises(TypeError, match="without a processor"):
        train(bare, questions, out=tmp_path)

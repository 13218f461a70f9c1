"""Whatever is public can be copied and pickled, so that it goes to the workers of any pool."""

import copy
import multiprocessing
import pickle
import warnings
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.data.toy_questions import questions as toy_questions
from mechaudio.experiments import temporal_study
from mechaudio.experiments.mata_arms import MataSettings
from mechaudio.experiments.mata_study import mata_study
from mechaudio.experiments.specialists_result import SpecialistsSettings
from mechaudio.experiments.specialists_study import specialists_study
from mechaudio.experiments.steering_arms import SteeringSettings
from mechaudio.experiments.steering_study import steering_study
from mechaudio.experiments.temporal_arms import TemporalSettings

NAMES = [
    "question",
    "clip",
    "event",
    "annotated clip",
    "batch",
    "run",
    "answer",
    "generation",
    "sweep",
    "written variants",
    "evaluation",
    "comparison",
    "attention",
    "lens",
    "hook point",
    "intervention",
    "steering",
    "grid",
    "clock",
    "every intervention",
    "one row of a batch",
    "cache",
    "effects",
    "settings",
    "annotated corpus",
    "questions of a corpus",
    "benchmark",
    "model facts",
    "temporal study",
    "MATA study",
    "report of a study",
    "steering study",
    "specialists study",
]


@pytest.fixture(scope="module")
def public_values():
    model = ma.load("tiny", prove=False)
    questions = ma.data.soundscapes.questions(2, seed=11)
    batch = ma.prompt(model, questions)
    scale = ma.ScaleAttention(layers=[0], factor=2.0)
    record = ["resid_post", ma.HookPoint("pattern", queries="last")]
    grid = ma.grid(ma.ScaleAttention, layers=[0], factor=[2.0])
    return {
        "question": questions[0],
        "clip": questions[0].clip(),
        "event": questions[0].events[0],
        "annotated clip": ma.data.soundscapes.clips(1, seed=1)[0],
        "batch": batch,
        "run": ma.run(model, batch, record=record, interventions=[scale]),
        "answer": ma.answer(model, batch)[0],
        "generation": ma.generate(model, batch, max_new_tokens=2, record=["z"]),
        "sweep": ma.sweep(model, batch, grid, progress=False),
        "written variants": ma.generate_variants(model, batch, [scale], max_new_tokens=2, progress=False),
        "evaluation": ma.evaluate(model, questions),
        "comparison": ma.evaluate(model, questions, variants=[scale]),
        "attention": ma.analyses.audio_attention(model, batch),
        "lens": ma.analyses.logit_lens(model, questions),
        "hook point": record[1],
        "intervention": scale,
        "steering": ma.Steer(torch.ones(model.d_model), 1.0, layers=[1]),
        "grid": grid,
        "clock": batch.clock[0],
        "every intervention": (
            ma.UpweightAttention(1.0, mode="pai", layers=[0]),
            ma.ScaleAttention(2.0, mode="centred", queries=[-1]),
            ma.KnockOutAttention(keys="audio[0.5:1.0]"),
            ma.SteerHeads(torch.ones(1, 16), heads=[(0, 1)]),
            ma.Patch("z", layer=0, value=torch.ones(1, 16), heads=[1], positions="last"),
            ma.mata(layers=[0, 1]),
            ma.Edit(ma.HookPoint("resid_post", layers=[0]), torch.neg),
        ),
        "one row of a batch": batch[1],
        "cache": ma.run(model, batch, record=record).cache,
        "effects": ma.run(model, batch, interventions=[scale]).effects,
        "settings": (MataSettings(), TemporalSettings(), SteeringSettings(), SpecialistsSettings()),
        "annotated corpus": ma.data.soundscapes.clips(2, seed=1),
        "questions of a corpus": tuple(questions),
        "benchmark": ma.temporal.build(ma.data.soundscapes.clips(4, seed=1)),
        "model facts": model.adapter,
        **studies(),
    }


def studies():
    toy, asked = ma.load("toy", prove=False), toy_questions(24, seed=0)
    temporal = TemporalSettings(biases=(1.0,), factors=(0.2,), queries=("last",), n_attention=2)
    steering = SteeringSettings(strengths=(1.0,), ks=(1,), norms=("pre",), draws=1)
    specialists = SpecialistsSettings(ks=(1,), strengths=(1.0,), norms=("pre",), draws=2, steering_draws=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*heads give the audio the same share")
        mata = mata_study(toy, asked[:6], settings=MataSettings(alphas=(0.1,), n_measured=2))
        return {
            "temporal study": temporal_study(toy, asked[:6], settings=temporal),
            "MATA study": mata,
            "report of a study": ma.report.report_of(mata),
            "steering study": steering_study(toy, asked, settings=steering),
            "specialists study": specialists_study(toy, asked, settings=specialists),
        }


def holds_the_same(first, second):
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if is_dataclass(first):
        return all(holds_the_same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(holds_the_same, first, second))
    if hasattr(first, "items"):
        return list(first) == list(second) and all(holds_the_same(first[key], second[key]) for key in first)
    return first == second or type(first).__eq__ is object.__eq__ or "tokenizer" in type(first).__name__.lower()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["deepcopy", "pickle"]
)
def test_a_copy_holds_the_same(public_values, name, copied):
    assert holds_the_same(public_values[name], copied(public_values[name]))


def test_what_is_known_beside_a_question_stays_read_only_in_a_copy(public_values):
    question = copy.deepcopy(public_values["question"])
    assert dict(question.meta) == dict(public_values["question"].meta)
    with pytest.raises(TypeError):
        question.meta["task"] = "another"


def seconds_of(question):
    return question.clip().duration


def accuracy_of(result):
    return result.accuracy


def test_questions_batches_and_results_go_to_the_processes_of_pools_and_loaders(public_values):
    questions = ma.data.soundscapes.questions(3, seed=11)
    seconds = [seconds_of(question) for question in questions]
    results = [public_values["evaluation"], public_values["run"]]
    batches = [public_values["batch"], public_values["one row of a batch"]]
    kept = [public_values[name] for name in ("run", "sweep", "evaluation", *NAMES[-4:])]
    shown = [repr(result) for result in kept]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(seconds_of, questions) == seconds
        assert pool.map(accuracy_of, results) == [result.accuracy for result in results]
        assert pool.map(len, batches) == [2, 1]
        assert [repr(result) for result in pool.map(copy.copy, kept)] == shown  # there and back
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # it imports everything itself, as joblib's processes do
        assert pool.map(len, batches) == [2, 1]
        assert pool.map(repr, kept) == shown
    loader = torch.utils.data.DataLoader(questions, batch_size=2, num_workers=1, collate_fn=list)
    assert [question.id for batch in loader for question in batch] == [question.id for question in questions]
    rows = torch.utils.data.DataLoader(public_values["batch"], batch_size=None, num_workers=1)
    assert [row.questions[0].id for row in rows] == [question.id for question in public_values["batch"].questions]

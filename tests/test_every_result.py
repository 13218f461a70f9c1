"""Every class of result is a table, labelled arrays, a figure, a folder and a line: all of them, by one list.

The list is closed: a result that is defined in the package and stands not in it makes the first test fail.
"""

import copy
import importlib
import json
import pickle
import pkgutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas
import plotly.graph_objects as go
import pytest
import torch

import mechaudio as ma
from mechaudio import analyses, experiments
from mechaudio.experiments.mata_arms import MataSettings
from mechaudio.experiments.mata_scores import mata_scores
from mechaudio.experiments.specialists_result import SpecialistsSettings
from mechaudio.experiments.temporal_arms import TemporalSettings
from mechaudio.results import Result

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*heads give the audio the same share"),
    pytest.mark.filterwarnings("ignore:.*have the same correlation at place"),
]
SCALES = {"layers": [0, 1], "factor": [0.5, 2.0]}
RECORDED = ["resid_post", ma.HookPoint("pattern", queries="last"), "projector_out"]


@cache
def toy():
    return ma.load("toy", prove=False)


@cache
def asked(n=8):
    return tuple(ma.data.toy_questions.questions(n, seed=11))


@cache
def batch():
    return ma.prompt(toy(), asked())


@cache
def measured(n=40):
    return analyses.attention_and_answers(toy(), asked(n))


@cache
def specialists():
    settings = SpecialistsSettings(ks=(1, 2), strengths=(3.0,), norms=("pre",), draws=20, steering_draws=1)
    return experiments.specialists_study(toy(), asked(60), settings=settings, batch_size=20)


def listening_score():
    calibration, held_out = measured().split(seed=0)
    return analyses.listening_score(analyses.score_heads(calibration), held_out, k=1, draws=10)


def steered():
    directions = analyses.steering_directions(toy(), asked())

    def variants(given):
        return {"one": given.single_layer(1, 1.0), "two": given.single_layer(2, 3.0)}

    return analyses.steering_sweep(toy(), asked(), directions=directions, variants=variants)


MADE = {
    "AttentionAndAnswers": lambda: analyses.attention_and_answers(toy(), asked()),
    "AttentionFlow": lambda: analyses.attention_flow(toy(), asked(), edges=[("audio", "last")], window=1),
    "AttentionMass": lambda: analyses.attention_mass(toy(), batch()),
    "AttributionMap": lambda: analyses.attribution_patching(toy(), asked(), over=("layer", "role")),
    "AudioAttention": lambda: analyses.audio_attention(toy(), batch()),
    "Comparison": lambda: ma.evaluate(toy(), asked(), variants=ma.grid(ma.ScaleAttention, **SCALES)),
    "Demo": lambda: demo(),
    "DirectLogitAttribution": lambda: analyses.direct_logit_attribution(toy(), asked()),
    "EncoderProbes": lambda: analyses.encoder_probes(toy(), asked(40), places=("embed",), tokens_per_clip=25),
    "EstimatedPairs": lambda: kept_pairs(analyses.attribution_patching),
    "Evaluation": lambda: ma.evaluate(toy(), asked()),
    "Generation": lambda: ma.generate(toy(), batch(), max_new_tokens=2, record=["z"]),
    "Generations": lambda: ma.generate_variants(toy(), batch(), [ma.KnockOutAttention()], max_new_tokens=2),
    "GroundingStudy": lambda: experiments.grounding_study(toy(), of_when(), max_new_tokens=2),
    "HeadScores": lambda: analyses.score_heads(measured()),
    "Listening": lambda: experiments.listen(toy(), asked()[0]),
    "ListeningScore": listening_score,
    "LogitLens": lambda: analyses.logit_lens(toy(), asked(), positions="question"),
    "MataScores": lambda: mata_scores(toy(), asked()),
    "MataStudy": lambda: experiments.mata_study(
        toy(), asked(30), settings=MataSettings(alphas=(0.1, 2.0), n_measured=4)
    ),
    "PairedPasses": lambda: analyses.paired_passes(toy(), asked()),
    "PatchedPairs": lambda: kept_pairs(analyses.activation_patching),
    "PatchingMap": lambda: analyses.activation_patching(toy(), asked(), over=("layer", "role")),
    "PromptAttention": lambda: analyses.prompt_attention(toy(), batch()[0]),
    "Run": lambda: ma.run(toy(), batch(), record=RECORDED),
    "SpecialistsStudy": specialists,
    "SteeringDirections": lambda: analyses.steering_directions(toy(), asked()),
    "SteeringStudy": lambda: specialists().steering,
    "SteeringSweep": steered,
    "Sweep": lambda: ma.sweep(toy(), batch(), ma.grid(ma.ScaleAttention, **SCALES)),
    "TemporalStudy": lambda: experiments.temporal_study(
        toy(), asked(20), settings=TemporalSettings(biases=(3.0,), factors=(0.2, 3.0), queries=("last",), n_attention=5)
    ),
    "TunedLens": lambda: analyses.tuned_lens(toy(), asked(10), steps=2, batch_size=2, rows=16, positions="last"),
    "WhereItListens": lambda: analyses.where_it_listens(toy(), asked()),
}


def of_when():
    """Questions of when, in words that the toy knows."""
    clips = [ma.AnnotatedClip(each.audio, [ma.Event("alpha", 0.1, 0.5)], id=each.id) for each in asked()[:2]]
    return [replace(question, text=asked()[0].text) for question in ma.data.ftar.build(clips)]


def kept_pairs(patching):
    """What a run of patching keeps of each batch, to be taken up."""
    with tempfile.TemporaryDirectory() as folder:
        patching(toy(), asked(), over=("layer", "role"), out=folder)
        (kept,) = sorted({file.parent for file in Path(folder).rglob("result.json")})
        return Result.load(kept)


def demo():
    listening = experiments.listen(toy(), asked()[0])
    heard, deaf = ma.evaluate(toy(), asked()), ma.evaluate(toy(), asked(), condition="silence")
    return experiments.Demo(
        listenings=(listening,),
        attention=analyses.audio_attention(toy(), batch()),
        heard=heard,
        deaf=deaf,
        provenance=heard.provenance,
    )


@cache
def made(name):
    return MADE[name]()


@pytest.fixture(scope="module", params=MADE)
def name(request):
    """Of every class in turn, so that a process makes a result for all of its tests."""
    return request.param


@pytest.fixture(scope="module")
def loaded(name, tmp_path_factory):
    return Result.load(made(name).save(tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def figure(name):
    return made(name).plot()


def kinds_of_results():
    for module in pkgutil.walk_packages(ma.__path__, "mechaudio."):
        if not module.name.startswith("mechaudio.cli"):
            importlib.import_module(module.name)
    found, waiting = set(), [Result]
    while waiting:
        waiting += (below := waiting.pop().__subclasses__())
        found.update(cls for cls in below if cls.__module__.startswith("mechaudio."))
    return found


def test_the_list_has_every_class_of_result_in_the_package():
    bases = {"EffectMap", "MeasuredPairs", "VariantsResult"}  # whose results are made as one of two kinds
    assert {cls.__name__ for cls in kinds_of_results()} - bases == set(MADE)


def cells():
    return toy().n_layers * toy().n_heads


ROWS = {
    "AttentionAndAnswers": lambda result: len(asked()) * cells(),
    "AttentionFlow": lambda result: len(asked()) * toy().n_layers,
    "AttentionMass": lambda result: cells() * sum(len(names) - names.count("") for names in result.query_role),
    "AttributionMap": lambda result: result.values.size,
    "AudioAttention": lambda result: len(asked()) * cells(),
    "Comparison": lambda result: 4 * len(asked()),
    "Demo": lambda result: 2 * len(asked()),
    "DirectLogitAttribution": lambda result: len(asked()) * cells(),
    "EncoderProbes": lambda result: result.score.size,
    "EstimatedPairs": lambda result: len(result.ids),
    "Evaluation": lambda result: len(asked()),
    "Generation": lambda result: len(asked()),
    "Generations": lambda result: len(asked()),
    "GroundingStudy": lambda result: len(of_when()),
    "HeadScores": lambda result: cells(),
    "Listening": lambda result: len(asked()[0].choices),
    "ListeningScore": lambda result: len(result.ids),
    "LogitLens": lambda result: len(result.depths) * int((result.positions >= 0).sum()),
    "MataScores": lambda result: toy().n_layers,
    "MataStudy": lambda result: len(result.arms) * 30,
    "PairedPasses": lambda result: 2 * len(asked()) * cells(),
    "PatchedPairs": lambda result: len(result.ids),
    "PatchingMap": lambda result: result.values.size,
    "PromptAttention": lambda result: len(result.queries) * cells(),
    "Run": lambda result: len(asked()),
    "SpecialistsStudy": lambda result: 60,
    "SteeringDirections": lambda result: len(asked()) * toy().n_layers,
    "SteeringStudy": lambda result: len(result.arms) * 60,
    "SteeringSweep": lambda result: 2 * len(asked()),
    "Sweep": lambda result: 4 * len(asked()),
    "TemporalStudy": lambda result: len(result.conditions) * 20,
    "TunedLens": lambda result: len(result.held_out) * len(result.depths),
    "WhereItListens": lambda result: len(result.edges) * (1 + toy().n_layers),
}


def test_a_table_has_a_row_for_each_question_cell_or_head(name):
    result = made(name)
    table = result.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == ROWS[name](result)
    assert len(table.columns) == len(set(table.columns)) >= 2
    for column in table:
        assert not isinstance(table[column].iloc[0], (list, tuple, np.ndarray)), f"{column} is no plain value"
    first, n_rows = result.first_rows(3)
    pandas.testing.assert_frame_equal(first, table.head(3))
    assert n_rows == len(table)


def test_axes_are_named_and_labelled_and_say_where_they_come_from(name):
    data = made(name).to_xarray()
    assert data.data_vars
    assert not [axis for axis in data.dims if str(axis).startswith(tuple(f"{held}_" for held in data.data_vars))]
    assert data.attrs["result"] == name
    assert data.attrs["checkpoint"] == "toy"
    for asked_about in {"question", "pair"} & set(data.dims):
        assert len(set(data[asked_about].values.tolist())) == data.sizes[asked_about], "questions have their ids"


def test_it_draws_itself(figure):
    assert isinstance(figure, go.Figure)
    assert len(figure.data) > 0
    assert figure.layout.title.text
    assert figure.to_json()


def test_it_comes_back_from_a_folder_as_it_was(name, loaded):
    result, again = made(name), loaded
    assert type(again) is type(result)
    assert repr(again) == repr(result)
    pandas.testing.assert_frame_equal(again.to_pandas(), result.to_pandas())
    assert again.to_xarray().identical(result.to_xarray())
    assert again.provenance == result.provenance


def test_what_comes_back_draws_the_same_figure(loaded, figure):
    assert loaded.plot().to_json() == figure.to_json()


def test_a_kept_run_of_open_questions_names_its_likeliest_tokens(tmp_path):
    tiny = ma.load("tiny", prove=False)
    asked = [
        ma.AudioQuestion(audio=question.audio, text="What do you hear?", id=question.id)
        for question in ma.data.soundscapes.questions(2, seed=3)
    ]
    batch = ma.prompt(tiny, asked)
    for prompts in (batch, batch.aimed(target="chirp starts first", foil="chirp ends")):
        run = ma.run(tiny, prompts, logits="last")
        run.save(tmp_path / "run")
        Result.load(tmp_path / "run").save(tmp_path / "again")
        loaded = Result.load(tmp_path / "again")
        assert loaded.to_pandas().equals(run.to_pandas())
        assert loaded.to_pandas().token.str.isalpha().all()
        assert ma.viz.next_tokens(loaded, k=30) == ma.viz.next_tokens(run, k=30)
        assert "[102]" in {text for text, _ in ma.viz.next_tokens(loaded, k=104).data[0].customdata}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_it_is_the_same_table(name, copied):
    result = made(name)
    again = copied(result)
    assert again is not result
    pandas.testing.assert_frame_equal(again.to_pandas(), result.to_pandas())


def test_it_says_itself_in_a_line_or_two_and_shows_its_first_rows(name):
    result = made(name)
    assert repr(result).startswith(f"<{name} of ")
    assert len(repr(result)) < 240
    assert "\n" not in repr(result)
    shown = result._repr_html_()
    assert f"&lt;{name} of" in shown
    assert "<table" in shown
    assert str(result.to_pandas().columns[0]) in shown
    assert "<script" not in shown
    assert len(shown) < 60_000


def share(answers):
    return pytest.approx(float(np.mean(answers)))


def test_accuracies_are_shares_of_right_answers():
    right = np.array([answer.correct for answer in ma.answer(toy(), batch())])
    assert 0 < right.mean() < 1
    for name in ("Evaluation", "AttentionAndAnswers", "Run", "Demo"):
        assert made(name).accuracy == share(right)
    compared, swept = made("Comparison"), made("Sweep")
    assert compared.accuracy.tolist() == pytest.approx([one.mean() for one in compared.correct])
    assert swept.accuracy.tolist() == pytest.approx(compared.accuracy.tolist())
    assert made("SteeringSweep").accuracy.tolist() == pytest.approx(made("SteeringSweep").correct.mean(1).tolist())
    assert made("AttentionFlow").accuracy.shape == (1, toy().n_layers)
    assert made("MataStudy").accuracy.tolist() == pytest.approx(made("MataStudy").compared.correct.mean(1).tolist())
    assert made("SteeringStudy").accuracy.tolist() == pytest.approx(made("SteeringStudy").correct.mean(1).tolist())


def test_numbers_of_a_table_are_those_of_the_result():
    evaluation, table = made("Evaluation"), made("Evaluation").to_pandas()
    assert table["question"].tolist() == list(evaluation.ids)
    assert table["answer"].tolist() == list(evaluation.answers)
    assert table["chosen_text"].tolist() == list(evaluation.choices)
    assert table["correct"].tolist() == evaluation.correct.tolist()
    np.testing.assert_array_equal(table[["logits_A", "logits_B", "logits_C", "logits_D"]].to_numpy(), evaluation.logits)
    np.testing.assert_allclose(table["margin"], evaluation.margin)

    attention = made("AudioAttention")
    one = attention.to_pandas().set_index(["question", "layer", "head"]).loc[(attention.ids[3], 2, 1)]
    assert one["mass_audio"] == attention.share("audio")[3, 2, 1]
    assert one["entropy"] == attention.entropy[3, 2, 1]
    assert one["text"] == attention.texts[3]

    scores = made("HeadScores")
    best = scores.to_pandas().sort_values("r").iloc[-1]
    assert (best["layer"], best["head"]) == scores.top(1, ranking="signed")[0]
    assert best["mean"] == scores.mean[scores.top(1, ranking="signed")[0]]

    lens = made("LogitLens")
    rows = lens.to_pandas()
    said = rows[(rows["question"] == lens.ids[1]) & (rows["depth"] == "2") & (rows["position"] == 4)].iloc[0]
    assert (said["top_text_0"], said["top_probability_0"]) == lens.says(3, 4, 1)[0]
    assert (said["label"], said["role"]) == (lens.labels[1][4], "question")

    swept = made("Sweep").to_pandas().set_index(["layers", "factor", "question"])
    assert swept.loc[(1, 0.5, asked()[5].id), "margin"] == made("Sweep").margin[2, 5].item()

    patched = made("PatchingMap")
    cell = patched.to_pandas().set_index(["layer", "role", "pair"]).loc[(2, "audio", patched.ids[3])]
    assert cell["effect"] == patched.per_pair()[2, patched.axes["role"].index("audio"), 3]

    passes = made("PairedPasses").to_pandas().set_index(["condition", "question", "layer", "head"])
    assert passes.loc[("silence", asked()[2].id, 1, 0), "audio_attention"] == pytest.approx(
        float(made("PairedPasses").silent.audio_attention[2, 1, 0])
    )


def test_a_run_is_labelled_by_question_token_layer_and_head():
    run, data = made("Run"), made("Run").to_xarray()
    name, token = asked()[3].id, batch().tokens(3)
    assert data["resid_post"].dims == ("layer", "question", "position", "d_model")
    assert data["pattern"].dims == ("layer", "question", "head", "query", "key")
    assert data["token"].sel(question=name).values.tolist() == token
    np.testing.assert_array_equal(
        data["resid_post"].sel(question=name, layer=2, position=-1 % batch().n_positions).values,
        run.cache["resid_post", 2][3, -1].numpy(),
    )
    answers = ma.answer(toy(), batch())
    table = run.to_pandas()
    assert table["choice"].tolist() == [answer.choice for answer in answers]
    assert table["probability_B"].tolist() == pytest.approx([answer.probabilities[1] for answer in answers])


def test_layers_that_were_kept_apart_have_axes_of_their_own():
    points = ["resid_post", ma.HookPoint("z", layers=[3, 1], positions="last"), ma.HookPoint("mass", layers=[2])]
    run = ma.run(toy(), batch(), record=points, logits=None)
    data = run.to_xarray()
    assert data["resid_post"].sel(layer=3).shape == (8, batch().n_positions, toy().d_model)
    np.testing.assert_array_equal(data["z"].sel(z_layer=1).values, run.cache["z", 1].numpy())
    assert data["z_layer"].values.tolist() == [1, 3]
    table = run.to_pandas().set_index(["question", "hook_point", "layer"])
    kept = run.cache["z", 3][2]
    assert table.loc[(asked()[2].id, "z", 3), "rms"] == pytest.approx(kept.square().mean().sqrt().item())


def test_plain_inputs_have_rows_in_the_place_of_questions():
    inputs = batch().inputs
    run = ma.run(toy(), inputs, logits="last")
    assert run.to_xarray()["logits"].dims[0] == "row"
    table = run.to_pandas()
    likeliest = run.logits[:, -1].softmax(-1).max(-1)
    assert table["token_id"].tolist() == likeliest.indices.tolist()
    assert table["probability"].tolist() == pytest.approx(likeliest.values.tolist())
    with pytest.raises(ValueError, match="this run answers no questions"):
        _ = run.accuracy
    assert ma.run(toy(), inputs, record=["z"], logits=None).plot().data
    swept = ma.sweep(toy(), inputs, [[], [ma.KnockOutAttention()]])
    share_changed = swept.plot().data[0].x
    assert share_changed[0] == 0
    assert share_changed[1] == 100 * float((swept.logits[1].argmax(-1) != swept.clean.argmax(-1)).float().mean())


def test_tensors_are_kept_bit_for_bit_in_their_own_type_with_their_axes(tmp_path):
    from safetensors import safe_open

    run = made("Run")
    half = copy.copy(run)
    object.__setattr__(half, "logits", run.logits.bfloat16())
    half.save(tmp_path)
    again = ma.Result.load(tmp_path)
    assert again.logits.dtype == torch.bfloat16
    assert torch.equal(again.logits, half.logits)
    assert all(torch.equal(again.cache[key], value) for key, value in run.cache.items())
    with safe_open(tmp_path / "tensors.safetensors", "pt") as file:
        labels = file.metadata()
        assert labels["logits"] == "batch position vocab"
        assert labels["cache.tensors.pattern.2"] == "batch head query key"
        assert labels["ids"].split(", ") == [question.id for question in asked()]
        assert torch.equal(file.get_tensor("cache.tensors.resid_post.1"), run.cache["resid_post", 1])


def test_a_loaded_batch_is_read_and_not_run(tmp_path):
    again = ma.Result.load(made("Run").save(tmp_path))
    assert again.batch.tokens(2) == batch().tokens(2)
    assert again.batch.spans["question"] == batch().spans["question"]
    assert [question.answer for question in again.batch.questions] == [question.answer for question in asked()]
    assert ma.analyses.clips_of(again.batch.questions) == ma.analyses.clips_of(asked())
    with pytest.raises(ValueError, match="its sound is not kept there"):
        ma.run(toy(), again.batch)


def test_what_holds_a_function_is_kept_as_its_text(tmp_path):
    double = ma.Edit(ma.HookPoint("resid_post", layers=[1]), torch.neg, by_position=True)
    swept = ma.sweep(toy(), batch(), [double])
    again = ma.Result.load(swept.save(tmp_path))
    assert again.variants == ((repr(double),),)
    assert torch.equal(again.logits, swept.logits)
    assert again.to_xarray()["variant"].values.tolist() == [repr(double)]


def test_damaged_tensors_are_refused(tmp_path):
    made("Run").save(tmp_path)
    place = tmp_path / "tensors.safetensors"
    place.write_bytes(place.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"tensors.safetensors in .* is missing, damaged or of another result"):
        ma.Result.load(tmp_path)


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (lambda head: head.update(tensors_sha256=3), "is damaged, or not a result of mechaudio"),
        (lambda head: head.pop("tensors_sha256"), r"it says \$tensor"),
        (lambda head: head["result"].update(logits={"$tensor": "nowhere"}), r"it says \$tensor 'nowhere'"),
        (lambda head: head["result"].update(logits=3), "logits of its Run is 3, and should be"),
        (lambda head: head["result"]["cache"].update(tensors={"$dict": [[["z", 1], 5]]}), "its Cache cannot be made"),
        (
            lambda head: head["result"].update(logits={"$tensor": "batch.inputs['input_ids']"}),
            r"logits of its Run is an array torch.int64 .*, and should be",
        ),
    ],
)
def test_what_a_run_cannot_be_is_refused_with_the_file(tmp_path, forged, message):
    made("Run").save(tmp_path)
    place = tmp_path / "result.json"
    head = json.loads(place.read_text())
    forged(head)
    place.write_text(json.dumps(head))
    with pytest.raises(ValueError, match=message) as error:
        Result.load(tmp_path)
    assert "result.json" in str(error.value)


def test_a_result_without_tensors_takes_away_those_of_an_earlier_one(tmp_path):
    made("Run").save(tmp_path)
    made("Evaluation").save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arrays.npz", "result.json"]
    assert isinstance(ma.Result.load(tmp_path), type(made("Evaluation")))


def test_options_of_a_plot_are_those_of_its_figure():
    figure = made("AudioAttention").plot(question=2, heads=[0])
    assert "head" in figure.layout.title.text
    assert made("Run").plot(question=1, k=3).data[0].x[0] == pytest.approx(
        100 * made("Run").logits[1, -1].softmax(-1).max().item()
    )
    with pytest.raises(TypeError, match="nothing"):
        made("AudioAttention").plot(nothing=1)

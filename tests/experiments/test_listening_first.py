"""Every study begins with where the model listens, and changes the rows that do where it is told to."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import mechaudio as ma
from mechaudio import experiments, report
from mechaudio.analyses import clips_of, in_calibration
from mechaudio.experiments import listening_first
from mechaudio.experiments.listening_first import MOST, listen_first, listening_rows
from mechaudio.experiments.mata_arms import MataSettings
from mechaudio.experiments.specialists_result import SpecialistsSettings
from mechaudio.experiments.temporal_arms import TemporalSettings
from mechaudio.models.toy.planted import PLANTED
from mechaudio.results import digest_of_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*heads give the audio the same share"),
    pytest.mark.filterwarnings("ignore:.*have the same correlation at place"),
]
DEAF = "what these rows hear carries nothing to the answers"


@pytest.fixture(scope="module")
def toys():
    return {listens: ma.load("toy", listens=listens, prove=False) for listens in ("last", "choices")}


@pytest.fixture(scope="module")
def asked():
    return ma.data.toy_questions.questions(24, seed=0)


def temporal(model, asked, queries):
    settings = TemporalSettings(
        queries=(queries,), targeted=queries, biases=(3.0,), factors=(0.2, 3.0), conditions=("audio",), n_attention=2
    )
    return experiments.temporal_study(model, asked, settings=settings, progress=False)


def mata(model, asked, queries):
    settings = MataSettings(queries=queries, alphas=(2.0,), n_measured=2, generate=False)
    return experiments.mata_study(model, asked, settings=settings, progress=False)


def specialists(model, asked, queries):
    settings = SpecialistsSettings(
        ks=(1, 2), strengths=(1.0,), norms=("pre",), draws=10, steering_draws=1, queries=queries
    )
    return experiments.specialists_study(model, asked, settings=settings, progress=False)


STUDIES = {"temporal": temporal, "mata": mata, "specialists": specialists}
FINDINGS = {
    "temporal": report.temporal_findings,
    "mata": report.mata_findings,
    "specialists": report.specialists_findings,
}
FIGURES = {
    "temporal": report.temporal_figures,
    "mata": report.mata_figures,
    "specialists": report.specialists_figures,
}
TABLES = {"temporal": report.temporal_tables, "mata": report.mata_tables, "specialists": report.specialists_tables}


@pytest.fixture(scope="module")
def listening(toys, asked):
    """Every study of the toy whose choices listen, told to change the rows that listen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*heads give|.*have the same correlation")
        return {name: study(toys["choices"], asked, "listening") for name, study in STUDIES.items()}


@pytest.fixture(scope="module")
def elsewhere(toys, asked):
    """Runs a study of it, once, that is told to change rows which hear nothing, and warns of them."""

    @cache
    def run(name):
        with pytest.warns(UserWarning, match=f"queries='last': {DEAF}.*The choices listen, and the last row does not"):
            return STUDIES[name](toys["choices"], asked, "last")

    return run


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_begins_with_where_the_model_listens_on_the_half_that_chooses(listening, asked, name):
    study = listening[name]
    chooses = in_calibration(clips_of(asked), 0.5, 0)
    assert study.listens.everywhere.ids == tuple(
        question.id for question, own in zip(asked, chooses, strict=True) if own
    )
    assert study.listens.rows == ("choices",)
    assert study.settings.queries in ("choices", ("choices",))
    assert FINDINGS[name](study)[0] == study.listens.sentence
    assert TABLES[name](study)[0].name == "where_it_listens"
    (figure, *_) = FIGURES[name](study).items()
    assert figure[0] == "listens"
    assert figure[1].layout.title.text == "Where the model listens: choices"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_warns_of_rows_that_carry_nothing(elsewhere, name):
    study = elsewhere(name)
    assert study.listens.sentence in FINDINGS[name](study)[0]
    assert "What reaches the last row carries nothing" in FINDINGS[name](study)[0]


def test_changing_the_rows_that_listen_does_what_the_published_rows_do_where_those_listen(toys, asked, listening):
    """Both toys do the same sums, one at the choices, the other at the last row."""
    published = temporal(toys["last"], asked, "last")
    for own, other in zip(listening["temporal"].uniform, published.uniform, strict=True):
        assert own.change.test == other.change.test
    assert any(own.change.test.fixed + own.change.test.broken for own in listening["temporal"].uniform)
    with pytest.warns(UserWarning, match=DEAF):
        deaf = mata(toys["last"], asked, "choices")
    assert not any(one.change.test.fixed + one.change.test.broken for one in deaf.over_alphas)
    for own, other in zip(listening["mata"].over_alphas, mata(toys["last"], asked, "last").over_alphas, strict=True):
        assert own.change.test == other.change.test


def test_the_head_that_listens_is_found_at_the_rows_that_listen_and_the_decoy_elsewhere(elsewhere, listening):
    assert listening["specialists"].scores.top(1) == (PLANTED.listening,)
    assert elsewhere("specialists").scores.top(1) == (PLANTED.decoy,)


def test_what_a_study_found_is_kept_with_it(listening, tmp_path):
    again = ma.Result.load(listening["mata"].save(tmp_path))
    assert again.listens.sentence == listening["mata"].listens.sentence


def test_evaluate_changes_attention_at_the_rows_that_listen(toys, asked):
    cut = [ma.KnockOutAttention()]
    found = ma.evaluate(toys["choices"], asked, variants=cut, queries="listening", progress=False)
    by_name = ma.evaluate(toys["choices"], asked, variants=[ma.KnockOutAttention(queries="choices")], progress=False)
    np.testing.assert_array_equal(found[0].chosen, by_name[0].chosen)
    assert found.listens.rows == ("choices",)
    assert by_name.listens is None
    for result in (found, found[0]):
        assert f"rows chosen on {len(found.listens.everywhere.ids)} of these questions" in repr(result)
    assert "rows chosen" not in repr(by_name)
    with pytest.warns(UserWarning, match=DEAF):
        inert = ma.evaluate(toys["choices"], asked, variants=cut, queries="last", progress=False)
    np.testing.assert_array_equal(inert[0].chosen, inert.clean.chosen)
    assert inert.listens.everywhere.ids == inert.clean.ids, (
        "rows that are named are not chosen on some of the questions"
    )


def test_rows_are_named_where_attention_is_changed_and_nowhere_else(toys, asked):
    grid = ma.grid(ma.ScaleAttention, queries=["last", "choices"], factor=[2.0])
    with pytest.raises(ValueError, match="the grid has query rows of its own"):
        ma.evaluate(toys["last"], asked[:2], variants=grid, queries="last")
    with pytest.raises(ValueError, match="queries= says where attention is changed, and nothing changes it"):
        ma.evaluate(toys["last"], asked[:2], queries="last")


def test_without_rows_that_are_known_to_listen_there_are_none_to_take(toys, asked):
    with pytest.raises(ValueError, match="queries='listening' takes the rows that listen, and none is known to"):
        ma.evaluate(toys["last"], asked[:4], variants=[ma.KnockOutAttention()], queries="listening", progress=False)
    with pytest.raises(ValueError, match="no question of the half that chooses can be asked"):
        listening_rows(None, "listening")


def test_questions_that_cannot_be_asked_or_be_wrong_are_left_out(toys, asked):
    broken = [
        replace(asked[0], answer=None, id="unknown"),
        replace(asked[1], audio="nowhere.wav", id="missing"),
        replace(asked[2], choices=(), id="open"),
        replace(asked[3], choices=(asked[3].answer,) * 2, id="all right"),
    ]
    found = listen_first(toys["last"], [*broken, *asked], share=0.999, seed=0, progress=False)
    assert not {question.id for question in broken} & set(found.everywhere.ids)
    assert len(found.everywhere.ids) <= MOST
    assert listen_first(toys["last"], broken, share=0.999, seed=0, progress=False) is None


def test_a_study_that_is_taken_up_does_not_ask_again_which_rows_listen(toys, asked, tmp_path, monkeypatch):
    def first(model, questions):
        return listen_first(model, questions, share=0.5, seed=0, out=tmp_path, progress=False)

    found = first(toys["choices"], asked)
    calls = []
    arrays = tmp_path / "listens" / "arrays.npz"
    arrays.rename(arrays.with_name(f".arrays.npz.{digest_of_file(arrays)}"))  # as where the save was killed
    monkeypatch.setattr(listening_first, "where_it_listens", lambda *_, **__: calls.append("again") or found)
    again = first(toys["choices"], asked)
    assert not calls
    assert sorted(each.name for each in arrays.parent.iterdir()) == ["arrays.npz", "result.json"]
    assert again.sentence == found.sentence
    assert again.provenance == found.provenance
    assert first(toys["last"], asked) is not None  # of another model it is found anew
    assert first(toys["last"], asked[4:]) is not None  # and of other questions
    assert calls == ["again", "again"]


def test_evaluate_and_the_studies_that_are_taken_up_keep_which_rows_listen_in_their_folder(toys, asked, tmp_path):
    ma.evaluate(
        toys["choices"], asked, variants=[ma.KnockOutAttention()], queries="listening", out=tmp_path, progress=False
    )
    assert ma.Result.load(tmp_path / "listens").rows == ("choices",)
    settings = MataSettings(queries="listening", alphas=(2.0,), n_measured=2, generate=False)
    experiments.mata_study(toys["choices"], asked, settings=settings, out=tmp_path / "mata", progress=False)
    assert ma.Result.load(tmp_path / "mata" / "listens").rows == ("choices",)

"""Axes are named by annotations, labelled by lists, and become rows and columns of a table."""

from dataclasses import dataclass

import numpy as np
import pandas
import pytest
from jaxtyping import Float, Int

from mechaudio.labelled import axes_of, dataset_of, first_rows, grid_coordinates, joined_along, table_of
from mechaudio.provenance import Provenance
from mechaudio.results import Result


@dataclass(frozen=True, eq=False, kw_only=True)
class Loudness(Result):
    """A result as a user writes one."""

    level: Float[np.ndarray, "question layer"]
    by_choice: Float[np.ndarray, "question choice"]
    over_time: Float[np.ndarray, "question frame"]
    n: Int[np.ndarray, " question"]
    kernel: Float[np.ndarray, "layer layer"]
    plain: np.ndarray
    layers: tuple[str, ...]
    ids: tuple[str, ...]
    answers: tuple[str | None, ...]
    names: tuple[str, ...]

    _table_axes = ("question", "layer")
    _labels = (("names", "question"),)

    @property
    def doubled(self) -> Float[np.ndarray, "question layer"]:
        """Twice the level."""
        return 2 * self.level

    _derived = ("doubled",)


@pytest.fixture
def loud():
    return Loudness(
        level=np.arange(6.0).reshape(3, 2),
        by_choice=np.arange(6.0).reshape(3, 2) / 10,
        over_time=np.zeros((3, 40)),
        n=np.array([7, 8, 9]),
        kernel=np.eye(2),
        plain=np.ones(4),
        layers=("low", "high"),
        ids=("a", "b", "b"),
        answers=("dog", None, "car"),
        names=("x", "y", "z"),
        provenance=Provenance(checkpoint="toy"),
    )


@pytest.mark.parametrize(
    ("kind", "ndim", "axes"),
    [
        (Float[np.ndarray, "layer head"], 2, ("layer", "head")),
        (Float[np.ndarray, " question"] | None, 1, ("question",)),
        (Float[np.ndarray, "d d"], 2, ("d", "d_2")),
        (Float[np.ndarray, "*place pair"], 3, ("place", "place_2", "pair")),
        (Float[np.ndarray, "*place pair"], 1, ("pair",)),
        (Float[np.ndarray, "layer head"], 3, None),
        (Float[np.ndarray, "..."], 2, None),
        (np.ndarray, 2, None),
        (str, 0, None),
    ],
)
def test_axes_are_those_of_the_annotation(kind, ndim, axes):
    assert axes_of(kind, ndim) == axes


def test_a_dataset_has_every_array_with_its_labels(loud):
    data = loud.to_xarray()
    assert data["level"].dims == ("question", "layer")
    assert data["kernel"].dims == ("layer", "layer_2")
    assert data["plain"].dims == ("plain_0",)
    assert data["layer"].values.tolist() == ["low", "high"]
    assert data["choice"].values.tolist() == ["A", "B"]
    assert data["question"].values.tolist() == ["a", "b", "b"]
    assert pandas.isna(data["answer"].values).tolist() == [False, True, False]
    assert data["answer"].values[[0, 2]].tolist() == ["dog", "car"]
    assert data["name"].values.tolist() == ["x", "y", "z"]
    assert data.attrs == {"result": "Loudness", "checkpoint": "toy"}
    np.testing.assert_array_equal(data["doubled"], 2 * loud.level)


def test_a_table_has_a_row_per_place_and_a_column_per_number(loud):
    expected = pandas.DataFrame(
        {
            "question": ["a", "a", "b", "b", "b", "b"],
            "layer": ["low", "high"] * 3,
            "answer": np.array(["dog", "dog", None, None, "car", "car"], dtype=object),
            "name": ["x", "x", "y", "y", "z", "z"],
            "level": np.arange(6.0),
            "by_choice_A": [0.0, 0.0, 0.2, 0.2, 0.4, 0.4],
            "by_choice_B": [0.1, 0.1, 0.3, 0.3, 0.5, 0.5],
            "n": [7, 7, 8, 8, 9, 9],
            "doubled": 2 * np.arange(6.0),
        }
    )
    table = loud.to_pandas()
    kernel = table[["kernel_0", "kernel_1"]].to_numpy()
    np.testing.assert_array_equal(kernel, np.tile(np.eye(2), (3, 1)))
    pandas.testing.assert_frame_equal(table[list(expected)], expected, check_dtype=False)
    assert not [name for name in table if name.startswith("over_time")], "they have more axes than a row"


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 9])
def test_first_rows_are_the_first_of_the_table(loud, n):
    rows, n_rows = first_rows(loud.to_xarray(), ("question", "layer"), n)
    assert n_rows == 6
    pandas.testing.assert_frame_equal(rows, loud.to_pandas().head(n))


def test_without_what_is_asked_about_the_rows_are_those_of_the_first_array():
    @dataclass
    class Direction:
        vector: np.ndarray
        scale: float

    data = dataset_of(Direction(np.arange(3.0), 2.0), labels={}, attrs={})
    assert table_of(data).to_dict("list") == {"vector_0": [0, 1, 2], "vector": [0.0, 1.0, 2.0]}


def test_datasets_are_joined_along_a_new_axis_and_what_one_lacks_is_missing(loud):
    whole = loud.to_xarray()[["level"]].drop_vars(["answer", "name"]).isel(question=[0, 1])
    joined = joined_along("condition", {"audio": whole, "silence": whole.isel(question=[0])})
    assert joined["level"].dims == ("condition", "question", "layer")
    assert joined["level"].sel(condition="silence", question="a").values.tolist() == [0.0, 1.0]
    assert np.isnan(joined["level"].sel(condition="silence", question="b").values).all()


def test_a_grid_labels_its_axes_and_a_list_its_variants():
    axes = {"layers": (range(2), 3), "factor": (0.5, 2.0)}
    assert grid_coordinates(axes, ()) == {"layers": ["range(0, 2)", 3], "factor": [0.5, 2.0]}
    assert grid_coordinates({}, [[], ["Edit(...)", "Steer(...)"]]) == {"variant": ["clean", "Edit(...) + Steer(...)"]}

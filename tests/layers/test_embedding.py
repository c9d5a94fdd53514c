"""Vectors for tokens and for places."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError, ValueRangeError
from graphengine.layers import embedding, learned_positions, sinusoidal_positions
from tests.arrays import f64, i64


def embedded(shape: tuple[int | str, ...], dtype: str = "int64") -> ge.Graph:
    graph = ge.Graph("embedded", dtype="float64")
    y = graph.output("y", embedding(graph.input("ids", shape, dtype), 7, 4, name="token"))
    graph.output("loss", ge.sum(y * y))
    return graph


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 3)])
def test_an_embedding_is_rows_of_its_table(shape: tuple[int, ...], dtype: str) -> None:
    exe, ids = ge.compile(embedded(shape, dtype)), i64(*shape, high=7).astype(dtype)
    value = exe.forward({"ids": ids}, outputs=["y"])["y"]
    np.testing.assert_array_equal(value, exe.parameters["token.weight"][ids])


def test_the_gradient_of_a_table_sums_over_the_places_of_each_token() -> None:
    exe, ids = ge.compile(embedded(("batch", "time")), loss="loss"), np.array([[1, 1, 6], [1, 3, 3]])
    exe.forward({"ids": ids})
    counts = np.bincount(ids.reshape(-1), minlength=7)
    np.testing.assert_allclose(
        exe.backward()["token.weight"], 2 * exe.parameters["token.weight"] * counts[:, None], rtol=1e-13
    )


def test_a_table_has_the_graph_s_dtype_or_float32() -> None:
    for dtype, expected in (("float64", "float64"), ("int64", "float32")):
        graph = ge.Graph("dtypes", dtype=dtype)
        assert embedding(graph.input("ids", ("batch",), "int64"), 7, 4).type == ge.TensorType(("batch", 4), expected)
        assert [node.name for node in graph.parameters] == ["embedding_1.weight"]


@pytest.mark.parametrize("token", [-1, 7])
def test_an_id_that_has_no_row_is_named_when_it_is_fed(token: int) -> None:
    exe = ge.compile(embedded(("batch", "time")), loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    before = exe.parameters["token.weight"].copy()
    with pytest.raises(ValueRangeError, match=rf"index {token} at \[1, 2\] is out of range: it must lie in \[0, 7\)"):
        exe.step({"ids": np.array([[0, 1, 2], [3, 4, token]])})
    np.testing.assert_array_equal(exe.parameters["token.weight"], before)


def test_an_embedding_takes_integers() -> None:
    graph = ge.Graph("bad")
    with pytest.raises(DTypeError, match=r"takes integers, the numbers of its rows, not float32\[3\]"):
        embedding(graph.input("x", (3,)), 7, 4)
    with pytest.raises(AttributeValueError, match="count is an int of at least 1, not 0"):
        embedding(graph.input("ids", (3,), "int64"), 0, 4)
    assert not graph.parameters


@pytest.mark.parametrize("time", ["time", 5])
def test_learned_positions_are_the_first_rows_of_their_table(time: int | str) -> None:
    graph = ge.Graph("positions", dtype="float64")
    x = graph.input("x", ("batch", time, 4))
    graph.output("y", x + learned_positions(x, 8, name="place"))
    graph.output("loss", ge.sum(graph.outputs["y"] ** 2.0))
    exe, fed = ge.compile(graph, loss="loss"), f64(3, 5, 4)
    y = exe.forward({"x": fed})["y"]
    np.testing.assert_array_equal(y, fed + exe.parameters["place.weight"][:5])
    bar = exe.backward()["place.weight"]
    np.testing.assert_allclose(bar[:5], 2 * y.sum(0), rtol=1e-12)
    assert not bar[5:].any()


def test_a_sequence_longer_than_its_positions_is_refused() -> None:
    graph = ge.Graph("long")
    with pytest.raises(ShapeError, match=r"there are 8 positions, and float32\[2, 9, 4\] has 9"):
        learned_positions(graph.input("x", (2, 9, 4)), 8)
    x = graph.input("named", (2, "time", 4))
    graph.output("y", x + learned_positions(x, 8))
    with pytest.raises(ValueRangeError, match=r"index 8 at \[8\] is out of range"):
        ge.compile(graph).forward({"named": np.zeros((2, 9, 4), np.float32)})


def test_sinusoidal_positions_fit_what_they_are_added_to_at_every_length() -> None:
    graph = ge.Graph("waves", dtype="float64")
    x = graph.input("x", ("batch", "time", 6))
    graph.output("y", x + sinusoidal_positions(x))
    exe = ge.compile(graph)
    p = np.arange(9)[:, None] / 10000 ** (np.array([0, 2, 4]) / 6)
    waves = np.stack([np.sin(p), np.cos(p)], axis=-1).reshape(9, 6)
    for time in (4, 9):
        y = exe.forward({"x": np.zeros((2, time, 6))})["y"]
        np.testing.assert_allclose(y, np.broadcast_to(waves[:time], y.shape), rtol=1e-13, atol=1e-15)


def test_positions_need_a_number_of_float_units() -> None:
    graph = ge.Graph("bad")
    for layer in (sinusoidal_positions, lambda x: learned_positions(x, 8)):
        with pytest.raises(ShapeError, match=r"\[..., time, units\], units being a number: this is float32\[time\]"):
            layer(graph.input(f"a{len(graph)}", ("time",)))
        with pytest.raises(ShapeError, match="units being a number"):
            layer(graph.input(f"b{len(graph)}", (3, "units")))
        with pytest.raises(DTypeError, match=r"added to floats, not to int64\[3, 4\]"):
            layer(graph.input(f"c{len(graph)}", (3, 4), "int64"))

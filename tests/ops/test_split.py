"""Splitting: the parts, their adjoints, and that neither copies."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.node import Node, apply
from graphengine.ops.shape import Split
from graphengine.testing import check_op
from tests.arrays import f64


@pytest.mark.parametrize(
    ("x", "sizes", "axis"),
    [
        (f64(5), (2, 3), 0),
        (f64(3, 4), (1, 2, 1), 1),
        (f64(3, 4), (4,), -1),
        (f64(2, 3, 4), (0, 3), -2),
        (f64(1, 1), (1,), 0),
    ],
)
def test_split_keeps_the_op_contract(x: np.ndarray, sizes: tuple[int, ...], axis: int) -> None:
    check_op(Split(sizes=sizes, axis=axis), x)


def test_parts_joined_again_are_the_whole() -> None:
    graph = ge.Graph("parts")
    x = graph.input("x", ("batch", 6))
    graph.output("whole", ge.concat(ge.split(x, 3, axis=1), axis=1))
    exe = ge.compile(graph)
    value = np.arange(12, dtype="float32").reshape(2, 6)
    np.testing.assert_array_equal(exe.forward({"x": value})["whole"], value)
    assert [step.op.kind for step in exe.program.instructions if not step.is_view] == ["concat"]


def test_a_part_that_nobody_reads_has_an_adjoint_of_zeros() -> None:
    graph = ge.Graph("part", dtype="float64")
    x = graph.input("x", (4,))
    graph.output("loss", ge.sum(ge.square(ge.split(x, (1, 2, 1))[1])))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    exe.forward({"x": np.array([1.0, 2.0, 3.0, 4.0])})
    np.testing.assert_array_equal(exe.backward()["x"], [0.0, 4.0, 6.0, 0.0])


def test_there_may_be_more_parts_than_a_shape_has_axes() -> None:
    graph = ge.Graph()
    parts = ge.split(graph.input("x", (100, 2)), 100)
    graph.output("last", parts[99])
    again = ge.Graph.from_json(graph.to_json())
    assert again == graph
    x = np.arange(200, dtype="float32").reshape(100, 2)
    np.testing.assert_array_equal(ge.compile(again).forward({"x": x})["last"], x[99:])


def test_a_named_axis_splits_into_parts_that_add_up_to_it() -> None:
    x = ge.Graph("named").input("x", ("batch", 2))
    doubled = ge.concat([x, x])
    assert [part.shape for part in ge.split(doubled, 2)] == [("batch", 2), ("batch", 2)]
    assert [part.shape for part in ge.split(doubled, ("batch", "batch"))] == [("batch", 2), ("batch", 2)]


def test_parts_that_do_not_add_up_are_refused() -> None:
    x = ge.Graph("wrong").input("x", (5, 2))
    with pytest.raises(ShapeError, match=r"axis 0 of float32\[5, 2\] is not split into 2 \+ 2 = 4"):
        ge.split(x, (2, 2))
    with pytest.raises(ShapeError, match=r"float32\[5, 2\] is not split into 2 equal parts along axis 0"):
        ge.split(x, 2)
    with pytest.raises(AttributeValueError, match="at least one part"):
        ge.split(x, 0)
    with pytest.raises(ShapeError, match="axis 2"):
        ge.split(x, 2, axis=2)


def test_a_bundle_is_taken_apart_before_anything_is_computed_of_it() -> None:
    g = ge.Graph("g")
    bundle = apply(Split(axis=0, sizes=(1, 1)), g.input("x", (2, 3)))
    with pytest.raises(ShapeError, match=r"add takes values, and tuple\(.*\) is several"):
        bundle + bundle


def bundled(dtype: str = "float32") -> tuple[ge.Graph, Node]:
    graph = ge.Graph("g")
    return graph, apply(Split(axis=0, sizes=(1, 1)), graph.input("x", (2,), dtype=dtype), name="s")


@pytest.mark.parametrize(
    "use",
    [
        lambda s: ge.reshape(s, (1,)),
        lambda s: ge.cast(s, "float32"),
        lambda s: ge.broadcast_to(s, (3,)),
        lambda s: ge.concat([ge.reshape(s, (1,)), s]),
        lambda s: ge.where(s > 1, 1.0, 0.0),
        lambda s: ge.dropout(s, 0.5),
        lambda s: ge.scan(lambda c, _: (c, None), s, length=2),
        lambda s: ge.scan(lambda c, _: (c + ge.cast(s, "float32"), None), s.graph.state("t", ()), length=2),
        lambda s: ge.grad(s, [s.graph["x"]]),
        lambda s: ge.grad(ge.sum(s.graph["x"]), [s]),
        lambda s: ge.jvp([s], [s.graph["x"]], [s.graph["x"]]),
        lambda s: ge.jacobian(s, s.graph["x"]),
        lambda s: ge.compile(s.graph, loss=s),
        lambda s: ge.compile(s.graph, loss="s"),
        lambda s: s.graph.update(s.graph.state("t", (), dtype="uint8"), s),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_bundle_stands_for_no_value(use: Callable[[Node], object], dtype: str) -> None:
    _, bundle = bundled(dtype)
    with pytest.raises((ShapeError, DTypeError)):
        use(bundle)


def test_a_bundle_is_no_output_and_the_refusal_names_its_items() -> None:
    graph, bundle = bundled()
    with pytest.raises(ShapeError, match=r"output 'y' is one value, and 's' is several, .* a node of the op \"item\""):
        graph.output("y", bundle)
    parts = ge.split(graph["x"], 2)
    with pytest.raises(ShapeError, match="name one of its items: item_1, item_2"):
        graph.output("y", parts[0].parents[0])
    assert not graph.outputs


@pytest.mark.parametrize(
    "op", [{"op": "split", "inputs": ["x"], "sizes": [2, 2]}, {"op": "attention", "inputs": ["x", "x", "x"]}]
)
def test_a_document_whose_output_is_a_bundle_is_refused(op: dict[str, object]) -> None:
    nodes = [{"name": "x", "op": "input", "shape": [4, 4, 8]}, {"name": "n", **op}]
    head = {"format": "graphengine", "version": 1, "name": "d", "dtype": "float32"}
    with pytest.raises(ge.SpecError, match="output 'y' is one value, and 'n' is several") as caught:
        ge.Graph.from_json(json.dumps({**head, "nodes": nodes, "outputs": {"y": "n"}}))
    assert "/outputs/y" in str(caught.value)


def test_a_bundle_is_not_imported_in_the_place_of_an_input() -> None:
    graph, bundle = bundled()
    other = ge.Graph("other")
    other.output("y", other.input("z", (), dtype="uint8"))
    with pytest.raises(ShapeError, match="'z' of 'other' is one value"):
        graph.import_graph(other, "m", {"z": bundle})

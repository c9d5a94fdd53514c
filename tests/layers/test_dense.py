"""Dense layers, and layers one after another."""

from functools import partial

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, NamingError, ShapeError
from graphengine.layers import batch_norm, dense, dropout, sequential
from graphengine.ops.scan import scan
from tests.arrays import f64


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
def test_a_dense_layer_is_its_formula(shape: tuple[int, ...]) -> None:
    g = ge.Graph(dtype="float64")
    g.output("y", dense(g.input("x", shape), 4, name="hidden", activation=ge.tanh))
    exe, x = ge.compile(g), f64(*shape)
    exe.parameters["hidden.bias"] = f64(4, seed=1)
    expected = np.tanh(x @ exe.parameters["hidden.weight"] + f64(4, seed=1))
    np.testing.assert_allclose(exe.forward({"x": x})["y"], expected, rtol=1e-13)


def test_parameters_bear_the_name_of_the_layer() -> None:
    g = ge.Graph()
    dense(g.input("x", ("batch", 3)), 4, name="hidden", activation=ge.relu)
    assert {node.name: node.shape for node in g.parameters} == {"hidden.weight": (3, 4), "hidden.bias": (4,)}
    assert g["hidden"].op.kind == "add"


def test_a_layer_without_bias_has_a_weight_only() -> None:
    g = ge.Graph()
    y = dense(g.input("x", ("batch", 3)), 4, bias=False)
    assert [node.name for node in g.parameters] == ["dense_1.weight"]
    assert y is g["dense_1"]


def test_layers_without_a_name_are_numbered_past_names_that_are_taken() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    g.parameter("dense_2.weight", (1,))
    for _ in range(3):
        x = dense(x, 3)
    names = [node.name for node in g.parameters if node.name.endswith("weight")]
    assert names == ["dense_2.weight", "dense_1.weight", "dense_3.weight", "dense_4.weight"]


def test_the_weight_starts_as_the_activation_needs() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    for name, options in {
        "rectified": {"activation": ge.relu},
        "bent": {"activation": ge.tanh},
        "own": {"activation": ge.relu, "init": ge.init.Orthogonal()},
    }.items():
        dense(x, 4, name=name, **options)
    kinds = {node.name: node.op.init.kind for node in g.parameters}
    assert kinds["rectified.weight"] == "he_normal"
    assert kinds["bent.weight"] == "glorot_uniform"
    assert kinds["own.weight"] == "orthogonal"
    assert kinds["own.bias"] == "zeros"


def test_parameters_take_the_dtype_of_what_the_layer_is_on() -> None:
    g = ge.Graph()
    assert dense(g.input("x", ("batch", 3), "float64"), 4).dtype == "float64"


def test_in_the_body_of_a_scan_parameters_belong_to_the_graph_around_it() -> None:
    g = ge.Graph(dtype="float64")
    xs, start = g.input("xs", ("time", "batch", 3)), g.input("start", ("batch", 4))
    step = partial(dense, units=4, name="cell", activation=ge.tanh)
    last, _ = scan(lambda h, x: (step(ge.concat([h, x], axis=-1)), None), start, xs)
    g.output("loss", ge.sum(last))
    assert [node.name for node in g.parameters] == ["cell.weight", "cell.bias"]
    ge.gradcheck(g, "loss", {"xs": f64(3, 2, 3), "start": f64(2, 4)})


def test_what_is_no_layer_is_refused_with_its_operand() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    with pytest.raises(
        AttributeValueError,
        match=r"units of a dense layer are an int of at least 1, not 0(.|\n)*hidden = dense\(x\)(.|\n)*test_dense.py",
    ):
        dense(x, 0, name="hidden")
    with pytest.raises(AttributeValueError, match=r"not 2\.5"):
        dense(x, 2.5)
    with pytest.raises(ShapeError, match=r"dense layer of float32\[batch, time\]: the last axis"):
        dense(g.input("t", ("batch", "time")), 4)
    with pytest.raises(ShapeError, match=r"dense layer of float32\[\]"):
        dense(g.input("s", ()), 4)
    with pytest.raises(DTypeError, match=r"a dense layer takes floats, not int64\[batch, 3\]"):
        dense(g.input("n", ("batch", 3), "int64"), 4)
    assert not g.parameters


def test_a_name_is_taken_once() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    dense(x, 3, name="hidden")
    with pytest.raises(NamingError, match=r"the name 'hidden\.weight' is taken"):
        dense(x, 3, name="hidden")


def test_sequential_applies_layers_in_turn() -> None:
    g = ge.Graph()
    y = sequential(
        g.input("x", ("batch", 3)),
        partial(dense, units=5, activation=ge.relu),
        batch_norm,
        partial(dropout, rate=0.5),
        lambda h: h * 2.0,
        partial(dense, units=2, name="top"),
    )
    assert y is g["top"]
    assert y.shape == ("batch", 2)
    assert [node.name for node in g.parameters if node.name.endswith("weight")] == [
        "dense_1.weight",
        "batch_norm_1.weight",
        "top.weight",
    ]


def test_no_layers_leave_a_node_as_it_is() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    assert sequential(x) is x


def test_a_layer_that_gives_no_node_is_told_by_its_place() -> None:
    g = ge.Graph()
    with pytest.raises(GraphError, match="layer 1 of sequential, counted from 0, gives None, which is not a node"):
        sequential(g.input("x", (3,)), ge.relu, lambda _: None)

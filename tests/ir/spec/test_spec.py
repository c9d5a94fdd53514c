"""The JSON form: canonical, exact, and the same graph when read back."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import graphengine as ge
from graphengine.ir import spec
from graphengine.ir.node import Phase
from graphengine.ir.op import Op
from graphengine.ir.spec.reader import ENTRY_FIELDS
from graphengine.ops.scan import scan
from tests.random_graphs import SEEDS, grow

every_dtype = pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])


def neuron() -> ge.Graph:
    g = ge.Graph("neuron", dtype="float64")
    x, y = g.input("x", ("batch", 3)), g.input("y", ("batch", 1))
    w = g.parameter("w", (3, 1), init=ge.init.Normal(std=0.1))
    b = g.parameter("b", (1,))
    u = ge.sigmoid(x @ w + b, name="u")
    loss = ge.half_squared_error(u, y) + 0.01 * ge.l2(w)
    g.output("prediction", u)
    g.output("loss", loss)
    return g


def again(graph: ge.Graph) -> ge.Graph:
    return ge.Graph.from_json(graph.to_json())


def test_a_document_is_written_a_node_a_line_in_order_of_declaration_with_defaults_left_out() -> None:
    g = neuron()
    g.training = ge.Training(loss="loss", optimizer=ge.SGD(learning_rate=0.1), batch_size=32)
    assert (
        g.to_json()
        == """\
{
  "format": "graphengine",
  "version": 1,
  "name": "neuron",
  "dtype": "float64",
  "nodes": [
    {"name": "x", "op": "input", "shape": ["batch", 3]},
    {"name": "y", "op": "input", "shape": ["batch", 1]},
    {"name": "w", "op": "parameter", "shape": [3, 1], "init": {"kind": "normal", "std": 0.1}},
    {"name": "b", "op": "parameter", "shape": [1], "init": {"kind": "zeros"}},
    {"name": "matmul_1", "op": "matmul", "inputs": ["x", "w"]},
    {"name": "add_1", "op": "add", "inputs": ["matmul_1", "b"]},
    {"name": "u", "op": "sigmoid", "inputs": ["add_1"]},
    {"name": "half_squared_error_1", "op": "half_squared_error", "inputs": ["u", "y"]},
    {"name": "l2_1", "op": "l2", "inputs": ["w"]},
    {"name": "constant_1", "op": "constant", "value": 0.01},
    {"name": "multiply_1", "op": "multiply", "inputs": ["constant_1", "l2_1"]},
    {"name": "add_2", "op": "add", "inputs": ["half_squared_error_1", "multiply_1"]}
  ],
  "outputs": {
    "prediction": "u",
    "loss": "add_2"
  },
  "training": {
    "loss": "loss",
    "optimizer": {"kind": "sgd", "learning_rate": 0.1},
    "batch_size": 32
  }
}
"""
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_graphs_of_all_ops_come_back_equal_and_to_the_same_bytes(seed: int) -> None:
    graph = grow(seed).graph
    text = graph.to_json()
    read = ge.Graph.from_json(text)
    assert read == graph
    assert read.to_json() == text
    assert read.hash() == graph.hash()


def test_gradients_of_a_loop_come_back_with_the_body_of_the_loop() -> None:
    g = ge.Graph("recurrent")
    x, h, w = g.input("x", ("time", 3)), g.input("h", (3,)), g.parameter("w", (3, 3))

    def body(carry: ge.Node, step: ge.Node) -> tuple[ge.Node, ge.Node]:
        after = ge.tanh(carry @ w + step)
        return after, after

    _, states = scan(body, h, x)
    g.output("w_bar", ge.grad(ge.sum(states), [w])[0])
    assert again(g) == g
    assert again(g).to_json() == g.to_json()


def test_a_graph_without_nodes_has_a_document() -> None:
    g = ge.Graph()
    assert '"nodes": [],\n  "outputs": {}\n}' in g.to_json()
    assert again(g) == g


def test_the_digest_changes_with_any_attribute_and_not_with_the_process() -> None:
    g = neuron()
    assert re.fullmatch("[0-9a-f]{64}", g.hash())
    assert g.hash() == neuron().hash()
    g.output("z", g["add_1"])
    assert g.hash() != neuron().hash()


def test_updates_stand_in_the_document_in_the_order_of_their_targets() -> None:
    g = ge.Graph("counter")
    a, b = g.state("a", ()), g.state("b", ())
    one = g.constant("one", 1.0)
    g.update(b, b + one)
    g.update(a, a + one)
    assert json.loads(g.to_json())["updates"] == {"a": "add_2", "b": "add_1"}
    assert again(g) == g


def test_no_attribute_of_an_op_bears_the_name_of_a_field_that_every_node_has() -> None:
    for kind, op in Op.registry.items():
        assert not set(ENTRY_FIELDS) & op.model_fields.keys(), kind


def test_the_phase_of_a_node_stands_in_the_document_where_it_is_not_forward() -> None:
    g = ge.Graph("mean")
    x, mean = g.input("x", ()), g.state("mean", ())
    with g.emitting(Phase.UPDATE, mean):
        g.update(mean, ge.add(mean, x, name="next"))
    g.output("mean", mean)
    assert '{"name": "next", "op": "add", "inputs": ["mean", "x"], "phase": "update"}' in g.to_json()
    assert again(g)["next"].phase is Phase.UPDATE
    assert again(g) == g
    forward = ge.Graph.from_json(g.to_json().replace(', "phase": "update"', ""))
    assert forward["next"].phase is Phase.FORWARD
    assert forward != g


def test_nodes_may_stand_in_any_order_and_are_put_parents_first_ties_as_they_stand() -> None:
    document = json.loads(neuron().to_json())
    document["nodes"].reverse()
    read = ge.Graph.from_json(json.dumps(document))
    names = [node.name for node in read.nodes]
    assert sorted(names) == sorted(node.name for node in neuron().nodes)
    assert names[:3] == ["constant_1", "b", "w"]
    assert all(parent.index < node.index for node in read.nodes for parent in node.parents)
    assert ge.Graph.from_json(read.to_json()) == read


def test_a_node_that_is_read_knows_its_place_in_the_document(tmp_path: Path) -> None:
    neuron().save(tmp_path / "net.json")
    g = ge.load(tmp_path / "net.json")
    assert str(g["w"].where) == f"{tmp_path / 'net.json'}#/nodes/2"
    with pytest.raises(ge.ShapeError, match=re.escape("net.json#/nodes/3")):
        g["x"] @ g["b"] @ g["w"]
    assert str(again(neuron())["w"].where) == "<json>#/nodes/2"


def test_a_parameter_without_an_initializer_starts_as_one_declared_in_python() -> None:
    document = json.loads(neuron().to_json())
    for node in document["nodes"]:
        node.pop("init", None)
    read = ge.Graph.from_json(json.dumps(document))
    assert read["w"].op.init == ge.init.GlorotUniform()
    assert read["b"].op.init == ge.init.Zeros()


@pytest.mark.parametrize(
    "optimizer",
    [
        ge.GD(0.5),
        ge.SGD(learning_rate=ge.Warmup(5, ge.CosineDecay(0.1, 100)), momentum=0.9, nesterov=True),
        ge.Adam(clip=ge.ClipByGlobalNorm(1.0)),
        ge.AdamW(learning_rate=ge.Piecewise((10, 20), (0.1, 0.01, 0.001)), weight_decay=0.1),
    ],
)
def test_a_training_section_comes_back_equal(optimizer: object) -> None:
    g = neuron()
    g.training = ge.Training(loss="loss", optimizer=optimizer, batch_size=None, epochs=7, seed=3)
    assert again(g) == g
    assert again(g).training == g.training
    assert again(g).to_json() == g.to_json()


def test_a_training_section_that_names_no_output_is_not_written() -> None:
    g = neuron()
    g.training = ge.Training(loss="lost", optimizer=ge.GD(0.5))
    with pytest.raises(ge.NamingError, match="did you mean 'loss'"):
        g.to_json()


def test_a_wrong_training_configuration_says_what_is_wrong() -> None:
    with pytest.raises(ge.AttributeValueError, match=r"Training: epochs: .*greater than or equal to 1"):
        ge.Training(loss="loss", optimizer=ge.GD(0.5), epochs=0)


def numbers(dtype: str) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), allow_subnormal=True))


@every_dtype
@given(data=st.data())
def test_constants_come_back_to_the_bit(dtype: str, data: st.DataObject) -> None:
    array = data.draw(numbers(dtype))
    g = ge.Graph("constants")
    g.constant("c", array, dtype=dtype)
    read = again(g)["c"].op.value
    assert read.shape == array.shape
    assert read.dtype == array.dtype
    if array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan  # of the many NaNs a constant holds one
    assert read.tobytes() == array.tobytes()
    assert again(g).to_json() == g.to_json()


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [5e-45, 1.1754942e-38, 3.4028235e38, -0.0, 0.1, 16777217.0]),
        ("float64", [5e-324, 2.225073858507201e-308, 1.7976931348623157e308, -0.0, 0.1, 9007199254740993.0]),
    ],
)
def test_denormals_the_greatest_floats_and_negative_zero_are_exact(dtype: str, values: list[float]) -> None:
    g = ge.Graph("edges")
    g.constant("c", np.array(values, dtype), dtype=dtype)
    assert again(g)["c"].op.value.tobytes() == np.array(values, dtype).tobytes()


def test_a_float32_whose_shortest_text_is_misread_through_a_float64_is_written_longer() -> None:
    value = np.array([0x15AE43FD], np.uint32).view(np.float32)
    assert np.float32(float(str(value[0]))) != value[0]
    g = ge.Graph("edge")
    g.constant("c", value)
    assert again(g)["c"].op.value.tobytes() == value.tobytes()


def test_a_float32_is_written_by_its_own_shortest_text() -> None:
    g = ge.Graph("short")
    g.constant("c", np.float32(0.1))
    assert '"value": 0.1}' in g.to_json()


def test_nan_and_the_infinities_are_written_explicitly() -> None:
    g = ge.Graph("explicit")
    g.constant("c", [np.nan, np.inf, -np.inf, 1.0])
    assert '"value": ["NaN", "Infinity", "-Infinity", 1.0]' in g.to_json()
    assert again(g) == g


def test_the_dtype_of_a_leaf_stands_in_the_document_only_where_it_is_not_the_graphs() -> None:
    g = ge.Graph("mixed", dtype="float64")
    g.input("a", (2,))
    g.input("b", (2,), dtype="int64")
    assert ['"dtype"' in line for line in g.to_json().splitlines() if '"input"' in line] == [False, True]
    assert again(g) == g


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.json"
    neuron().save(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    other = neuron()
    other.output("z", other["add_1"])
    with pytest.raises(OSError, match="disk full"):
        other.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.json"]


def test_a_chain_of_twenty_thousand_nodes_comes_back() -> None:
    g = ge.Graph("chain")
    x = v = g.input("x", ())
    for _ in range(20_000):
        v = v + x
    g.output("v", v)
    document = json.loads(g.to_json())
    assert spec.from_json(json.dumps(document)) == g
    document["nodes"].reverse()
    assert spec.from_json(json.dumps(document)) == g

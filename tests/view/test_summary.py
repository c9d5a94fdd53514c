"""The table of a graph."""

import json

import pytest

import graphengine as ge
from graphengine.errors import CompileError, FeedError
from graphengine.ir.training import Training
from graphengine.view import Row, summarize


def neuron(training: bool = False) -> ge.Graph:
    g = ge.Graph("neuron")
    x = g.input("x", ("batch", 3))
    w, b = g.parameter("w", (3, 2)), g.parameter("b", (2,))
    z = ge.add(ge.matmul(x, w, name="xw"), b, name="z")
    g.output("loss", ge.sum(z.T, name="total"))
    if training:
        g.training = Training(loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    return g


def test_a_row_states_what_a_node_is_and_what_it_costs() -> None:
    rows = {row.name: row for row in summarize(neuron(), batch=4).rows}
    assert rows["x"] == Row("x", "input", "float32[batch, 3]", 0, 0, 4 * 3 * 4)
    assert rows["w"] == Row("w", "parameter", "float32[3, 2]", 6, 0, 6 * 4)
    assert rows["xw"] == Row("xw", "matmul", "float32[batch, 2]", 0, 4 * 2 * (3 + 2), 4 * 2 * 4)
    assert rows["z"].flops == 8
    assert rows["transpose_1"].bytes == 0


def test_totals_add_up_to_the_cost_of_the_program() -> None:
    summary = summarize(neuron(), batch=4)
    assert summary.total.parameters == 8
    assert summary.total.flops == summary.forward.total_flops == 40 + 8 + 7


def test_dims_that_are_left_out_have_size_one() -> None:
    assert summarize(neuron()) == summarize(neuron(), batch=1)


def test_a_node_that_no_output_needs_costs_nothing() -> None:
    g = neuron()
    ge.exp(g["z"], name="unused")
    assert summarize(g).rows[-1] == Row("unused", "exp", "float32[batch, 2]", 0, 0, 0)


def test_a_graph_with_a_training_section_states_the_cost_of_a_step() -> None:
    assert summarize(neuron()).step is None
    step = summarize(neuron(training=True), batch=4).step
    assert step is not None
    assert step.flops["FORWARD"] > 0 < step.flops["UPDATE"]  # its adjoints are ones: nothing is left of them


def test_a_summary_is_json() -> None:
    document = json.loads(json.dumps(summarize(neuron(training=True), batch=2).to_dict()))
    assert document["sizes"] == {"batch": 2}
    assert document["total"] == {"parameters": 8, "flops": 27, "bytes": sum(n["bytes"] for n in document["nodes"])}
    assert [node["name"] for node in document["nodes"]] == ["x", "w", "b", "xw", "z", "transpose_1", "total"]


def test_sizes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(FeedError, match="no named dim 'bach'; did you mean 'batch'"):
        summarize(neuron(), bach=2)
    with pytest.raises(FeedError, match="batch = 0: the size of a dim is an int from 1 to"):
        summarize(neuron(), batch=0)


def test_a_graph_without_outputs_is_an_error() -> None:
    g = ge.Graph()
    g.input("x", ("batch",))
    with pytest.raises(CompileError, match="has no outputs"):
        summarize(g)

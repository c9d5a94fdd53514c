"""The reference backend: arrays bound beforehand, and errors that name the node."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends.bound import BoundProgram
from graphengine.backends.numpy import NumpyBackend
from graphengine.errors import ValueRangeError
from graphengine.schedule.memory import plan
from tests.arrays import f64
from tests.schedule.replay import named


def loaded(graph: ge.Graph, leaves: dict[str, np.ndarray]) -> tuple[BoundProgram, int]:
    program = plan("forward", named(graph.outputs.values()), {}, {})
    return NumpyBackend().load(program, leaves), len(program.instructions)


def test_a_loaded_program_reads_its_leaves_where_they_are() -> None:
    graph = ge.Graph("doubling", dtype="float64")
    graph.output("y", graph.state("x", (3,)) * 2.0)
    x = np.zeros(3)
    leaves = {"x": x} | {node.name: node.op.value for node in graph.nodes if node.op.kind == "constant"}
    runnable, length = loaded(graph, leaves)
    (result,) = runnable.results.values()
    for value in (1.0, 2.0):
        x[:] = value
        runnable.run(0, length)
        np.testing.assert_array_equal(result, [2 * value] * 3)


def test_a_program_runs_in_parts() -> None:
    graph = ge.Graph("parts", dtype="float64")
    y = ge.exp(graph.state("x", (2,)))
    z = ge.sin(y)
    graph.output("y", y)
    graph.output("z", z)
    runnable, _ = loaded(graph, {"x": np.zeros(2)})
    runnable.results[z.name][:] = -1.0
    runnable.run(0, 1)
    np.testing.assert_array_equal(runnable.results[y.name], [1.0, 1.0])
    np.testing.assert_array_equal(runnable.results[z.name], [-1.0, -1.0])
    runnable.run(1, 2)
    np.testing.assert_array_equal(runnable.results[z.name], np.sin([1.0, 1.0]))


def test_results_may_be_views() -> None:
    graph = ge.Graph("views", dtype="float64")
    y = graph.state("x", (2, 3)) + 1.0
    graph.output("turned", y.T)
    graph.output("wide", ge.broadcast_to(ge.sum(y, axis=0), (4, 3)))
    values = ge.compile(graph).forward({})
    np.testing.assert_array_equal(values["turned"], np.ones((3, 2)))
    np.testing.assert_array_equal(values["wide"], np.full((4, 3), 2.0))
    assert all(value.flags.writeable for value in values.values())


def test_overflow_and_division_by_zero_give_inf_and_nan_without_a_warning() -> None:
    graph = ge.Graph("extremes", dtype="float64")
    x = graph.input("x", (3,))
    graph.output("y", ge.exp(x * 1e3) / (x - x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = ge.compile(graph).forward({"x": [0.0, 1.0, -1.0]})["y"]
    assert np.isinf(value[0])
    assert np.isinf(value[1])
    assert np.isnan(value[2])


def test_numpy_is_left_as_it_was_found() -> None:
    graph = ge.Graph("polite")
    graph.output("y", graph.input("x", (3,)) + 1.0)
    before = (np.geterr(), np.getbufsize())
    ge.compile(graph).forward({"x": np.ones(3)})
    assert (np.geterr(), np.getbufsize()) == before


def labelled() -> ge.Graph:
    graph = ge.Graph("labelled")
    logits, labels = graph.input("logits", ("batch", 3)), graph.input("labels", ("batch",), dtype="int64")
    graph.output("loss", ge.cross_entropy(logits * 2.0, labels, name="nll"))
    graph.output("rows", ge.gather(logits, graph.input("rows", (2,), dtype="int64"), name="picked"))
    return graph


def test_an_error_in_a_kernel_names_the_node_its_operands_and_where_it_was_declared() -> None:
    exe = ge.compile(labelled())
    feeds = {"logits": f64(4, 3), "labels": [0, 1, 3, 2], "rows": [0, 1]}
    with pytest.raises(ValueRangeError) as caught:
        exe.forward(feeds)
    text = str(caught.value)
    assert "3" in caught.value.message
    assert "nll = cross_entropy(multiply_1, labels)" in text
    assert f"{os.path.basename(__file__)}:" in text
    assert "labels is int64[4]" in text


def test_an_error_names_its_own_node_among_several_that_could_fail() -> None:
    exe = ge.compile(labelled())
    with pytest.raises(ValueRangeError, match="picked = gather"):
        exe.forward({"logits": f64(4, 3), "labels": [0, 1, 2, 2], "rows": [0, 9]})


def test_after_a_failed_run_the_executable_still_works() -> None:
    exe = ge.compile(labelled())
    good = {"logits": f64(4, 3), "labels": [0, 1, 2, 2], "rows": [0, 1]}
    expected = exe.forward(good)["loss"]
    with pytest.raises(ValueRangeError):
        exe.forward({**good, "labels": [0, 1, -1, 2]})
    assert exe.forward(good)["loss"] == expected


def test_a_step_that_fails_leaves_parameters_and_state_as_they_were() -> None:
    graph = ge.Graph("failing")
    x, labels = graph.input("x", ("batch", 3)), graph.input("labels", ("batch",), dtype="int64")
    seen = graph.state("seen", ())
    graph.update(seen, seen + 1.0)
    graph.output("loss", ge.cross_entropy(x @ graph.parameter("w", (3, 4)), labels))
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam(learning_rate=0.1))
    held = {**exe.parameters, **exe.state}
    with pytest.raises(ValueRangeError):
        exe.step({"x": f64(2, 3), "labels": [0, 7]})
    for name, value in {**exe.parameters, **exe.state}.items():
        np.testing.assert_array_equal(value, held[name], err_msg=name)

"""What a user holds: feeds, outputs, gradients, steps, plans, parameters and state."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import AttributeValueError, DTypeError, ExecutionError, FeedError, NamingError, ShapeError
from graphengine.executable import Executable
from graphengine.ir.node import Node
from graphengine.schedule.program import Program

FEATURES, HIDDEN = 4, 8


def network(dtype: str = "float64") -> ge.Graph:
    graph = ge.Graph("network", dtype=dtype)
    x, y = graph.input("x", ("batch", FEATURES)), graph.input("y", ("batch", 1))
    w, b = graph.parameter("w", (FEATURES, HIDDEN)), graph.parameter("b", (HIDDEN,))
    v = graph.parameter("v", (HIDDEN, 1))
    prediction = ge.exp((x @ w + b) * 0.2) @ v
    error = prediction - y
    graph.output("prediction", prediction)
    graph.output("loss", ge.sum(error * error))
    return graph


def feeds(batch: int = 3, seed: int = 0, dtype: str = "float64") -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(batch, FEATURES)).astype(dtype)
    return {"x": x, "y": generator.normal(size=(batch, 1)).astype(dtype)}


def trained(dtype: str = "float64", rate: float = 0.01, seed: int = 0) -> Executable:
    return ge.compile(network(dtype), loss="loss", optimizer=ge.SGD(learning_rate=rate), seed=seed)


# Feeds


def test_a_missing_feed_is_named_with_its_type_and_place() -> None:
    with pytest.raises(FeedError, match=r"input 'y' is not fed; it is float64\[batch, 1\], declared at .*\.py:\d+"):
        trained().forward({"x": np.ones((2, FEATURES))})


@pytest.mark.parametrize("run", ["step", "forward", "gradients"])
@pytest.mark.parametrize("given", [None, 3, [1.0, 2.0], np.ones((2, FEATURES))])
def test_feeds_that_are_no_mapping_are_refused(run: str, given: Any) -> None:
    exe = trained()
    for _ in range(2):
        with pytest.raises(FeedError, match="by the names of inputs"):
            getattr(exe, run)(given)
        exe.step(feeds())  # from now on there is a program that feeds are compared with


def test_feeds_may_be_any_mapping() -> None:
    one, two = trained(), trained()
    assert [one.step(MappingProxyType(feeds())) for _ in range(2)] == [two.step(feeds()) for _ in range(2)]


def test_an_unknown_feed_is_told_the_nearest_input() -> None:
    graph = ge.Graph("camera")
    graph.output("y", graph.input("image", ("batch", 2)) * 2.0)
    with pytest.raises(FeedError, match="no input 'imgae'; did you mean 'image'"):
        ge.compile(graph).forward({"imgae": np.ones((1, 2))})


def test_a_parameter_is_not_fed() -> None:
    with pytest.raises(FeedError, match="no input 'w'"):
        trained().forward({**feeds(), "w": np.ones((FEATURES, HIDDEN))})


def test_a_feed_that_these_outputs_do_not_need_is_neither_asked_for_nor_refused() -> None:
    exe = trained()
    alone = exe.forward({"x": feeds()["x"]}, outputs=["prediction"])
    both = exe.forward(feeds(), outputs=["prediction"])
    np.testing.assert_array_equal(alone["prediction"], both["prediction"])
    assert set(alone) == {"prediction"}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((FEATURES,), r"of rank 2, and the feed has shape \[4\]"),
        ((3, FEATURES, 1), r"of rank 2, and the feed has shape \[3, 4, 1\]"),
        ((3, FEATURES + 1), r"input 'x' is float64\[batch, 4\], and the feed has shape \[3, 5\]"),
        ((0, FEATURES), "its batch is fed with size 0"),
        ((2, FEATURES), r"'y' is float64\[batch, 1\] and is fed with batch = 3, but 'x' with batch = 2"),
    ],
)
def test_a_feed_of_the_wrong_shape_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(FeedError, match=message):
        trained().forward({"x": np.ones(shape), "y": np.ones((3, 1))})


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(FeedError, match="input 'x' is fed with rows of unequal length"):
        trained().forward({"x": [[1.0], [1.0, 2.0]], "y": [[1.0]]})


@pytest.mark.parametrize("value", [["a"], [None], [1j], [np.datetime64("2020-01-01")]])
def test_what_is_no_number_is_refused(value: list) -> None:
    graph = ge.Graph("numbers")
    graph.output("y", graph.input("x", (1,)) * 2.0)
    with pytest.raises(FeedError, match="is not cast to float32 in silence"):
        ge.compile(graph).forward({"x": value})


def test_floats_never_enter_an_integer_input() -> None:
    graph = ge.Graph("labels")
    graph.output("y", graph.input("n", ("batch",), dtype="int64") + 1)
    exe = ge.compile(graph)
    with pytest.raises(FeedError, match=r"'n' is int64\[batch\], and float64 is not cast to int64 in silence"):
        exe.forward({"n": [1.0, 2.0]})
    np.testing.assert_array_equal(exe.forward({"n": np.array([1, 2], np.int32)})["y"], [2, 3])


UNFITTING = [
    (
        "int32",
        np.array([0, 2**32 + 1]),
        r"4294967297 does not fit int32.*-2147483648 to 2147483647; .* at \[1\]",
    ),
    ("int32", [2**40, 0], r"1099511627776 does not fit int32.*stands at \[0\]"),
    ("int64", np.array([7, 2**63 + 3], "uint64"), r"9223372036854775811 does not fit int64.*stands at \[1\]"),
    ("int32", np.array([-(2**31) - 1, 0]), r"-2147483649 does not fit int32.*stands at \[0\]"),
    ("uint8", np.array([3, 300], "uint16"), r"300 does not fit uint8.*from 0 to 255; it stands at \[1\]"),
    ("int64", [1, 2**70], "1180591620717411303424, which no integer dtype holds"),
    ("float32", np.ma.masked_array([1.0, 2.0], [False, True]), "masked elements"),
    ("float32", [1.0, -1e300], r"-1e\+300 does not fit float32.*up to 3.4028235e\+38; it stands at \[1\]"),
]


@pytest.mark.parametrize(("dtype", "value", "message"), UNFITTING)
def test_a_number_that_a_dtype_does_not_hold_is_neither_fed_nor_assigned(dtype: str, value, message: str) -> None:
    graph = ge.Graph("narrow")
    held = graph.parameter("p", (2,), dtype=dtype, init=ge.init.Zeros()), graph.state("s", (2,), dtype=dtype)
    graph.output("y", held[0] + held[1] + graph.input("x", (2,), dtype=dtype))
    exe = ge.compile(graph)
    with pytest.raises(FeedError, match=f"input 'x' is .*{message}"):
        exe.forward({"x": value})
    for mapping, name in ((exe.parameters, "p"), (exe.state, "s")):
        with pytest.raises(DTypeError, match=f"{name!r} is .*{message}"):
            mapping[name] = value
    with pytest.raises(DTypeError, match=message):
        ge.collapse(graph, {"p": value, "s": value})
    np.testing.assert_array_equal(exe.forward({"x": np.zeros(2, dtype)})["y"], [0, 0])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ma.masked_array([1.0, 2.0], [False, True]), "masked elements"),
        ([[1.0], [1.0, 2.0]], "rows of unequal length"),
        ([1, 2**70], "no integer dtype holds"),
    ],
)
def test_a_constant_and_an_operand_are_arrays_without_loss(value, words: str) -> None:
    graph = ge.Graph("given")
    with pytest.raises(AttributeValueError, match=f"a constant is given .*{words}"):
        graph.constant("c", value)
    with pytest.raises(DTypeError, match=f"add is given .*{words}"):
        graph.input("x", (2,)) + value


def test_integers_of_another_dtype_are_fed_where_they_fit() -> None:
    graph = ge.Graph("narrow")
    graph.output("y", graph.input("x", (2,), dtype="int32") + 0)
    exe = ge.compile(graph)
    for dtype in ("uint8", "int64", "uint32", ">i8"):
        np.testing.assert_array_equal(exe.forward({"x": np.array([200, 3], dtype)})["y"], [200, 3])
    extremes = np.array([-(2**31), 2**31 - 1])
    np.testing.assert_array_equal(exe.forward({"x": extremes})["y"], extremes)


def test_infinities_and_nan_are_fed_to_float32() -> None:
    graph = ge.Graph("narrow")
    graph.output("y", ge.identity(graph.input("x", (3,))))
    extremes = np.array([np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(ge.compile(graph).forward({"x": extremes})["y"], extremes)


def test_float64_rounds_into_a_float32_input() -> None:
    graph = ge.Graph("rounding")
    graph.output("y", graph.input("x", (1,)) + 0.0)
    value = ge.compile(graph).forward({"x": np.array([1 / 3])})["y"]
    assert value.dtype == np.float32
    assert value[0] == np.float32(1 / 3)


def test_lists_and_integers_and_scalars_are_fed_as_they_are() -> None:
    graph = ge.Graph("lists")
    graph.output("y", graph.input("x", ("batch", 2)) * graph.input("scale", ()))
    value = ge.compile(graph).forward({"x": [[1, 2], [3, 4]], "scale": 2})["y"]
    np.testing.assert_array_equal(value, [[2, 4], [6, 8]])


def test_feeds_of_any_layout_are_fed_as_they_read() -> None:
    exe = trained()
    plain = feeds(6)
    expected = exe.forward(plain)["prediction"]
    wide = np.zeros((6, 2 * FEATURES))
    wide[:, ::2] = plain["x"]
    for x in (np.asfortranarray(plain["x"]), wide[:, ::2], plain["x"][::-1][::-1]):
        np.testing.assert_array_equal(exe.forward({**plain, "x": x})["prediction"], expected)


def test_feeds_are_left_as_they_were() -> None:
    exe = trained()
    given = feeds()
    before = {name: array.copy() for name, array in given.items()}
    for array in given.values():
        array.flags.writeable = False
    exe.step(given)
    exe.forward(given)
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])


def test_an_unknown_output_is_told_the_nearest_one() -> None:
    with pytest.raises(NamingError, match="no output 'predictoin'; did you mean 'prediction'"):
        trained().forward(feeds(), outputs=["predictoin"])


# Forward and backward


def test_outputs_are_the_callers_own() -> None:
    exe = trained()
    first = exe.forward(feeds())
    kept = first["prediction"].copy()
    first["prediction"][:] = 7.0
    np.testing.assert_array_equal(exe.forward(feeds())["prediction"], kept)
    second = exe.forward(feeds(seed=1))
    assert not np.shares_memory(first["prediction"], second["prediction"])
    assert second["prediction"].flags.writeable


def test_an_input_or_a_parameter_may_be_an_output_and_is_copied_too() -> None:
    graph = ge.Graph("through", dtype="float64")
    graph.output("x", graph.input("x", ("batch",)))
    graph.output("w_turned", graph.parameter("w", (2, 3)).T)
    exe = ge.compile(graph)
    values = exe.forward({"x": [1.0, 2.0]})
    np.testing.assert_array_equal(values["x"], [1.0, 2.0])
    values["w_turned"][:] = 9.0
    assert not np.any(exe.parameters["w"] == 9.0)


def test_gradients_are_the_callers_own() -> None:
    exe = trained()
    exe.forward(feeds())
    first = exe.backward()
    first["w"][:] = 7.0
    assert not np.any(exe.backward()["w"] == 7.0)


def test_backward_gives_the_gradient_of_the_last_forward() -> None:
    exe = trained()
    exe.forward(feeds(seed=0))
    one = exe.backward()
    exe.forward(feeds(seed=1))
    two = exe.backward()
    exe.forward(feeds(seed=0))
    again = exe.backward()
    assert not np.allclose(one["w"], two["w"])
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])


def test_backward_twice_gives_the_same_gradient() -> None:
    graph = ge.Graph("deep", dtype="float64")
    value = graph.input("x", (4, 4))
    for i in range(4):
        value = ge.exp(value @ graph.parameter(f"w{i}", (4, 4)) * 0.1)
    graph.output("loss", ge.sum(value * value))
    exe = ge.compile(graph, loss="loss")
    exe.forward({"x": np.ones((4, 4))})
    once, twice = exe.backward(), exe.backward()
    for name in once:
        np.testing.assert_array_equal(once[name], twice[name])


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda exe: exe.step(feeds()), id="a step"),
        pytest.param(lambda exe: exe.parameters.update(b=np.zeros(HIDDEN)), id="an assignment"),
        pytest.param(lambda exe: exe.forward({"x": feeds()["x"]}, outputs=["prediction"]), id="a forward without loss"),
    ],
)
def test_backward_needs_a_forward_that_still_stands(between) -> None:
    exe = trained()
    with pytest.raises(ExecutionError, match="call forward first"):
        exe.backward()
    exe.forward(feeds())
    exe.backward()
    between(exe)
    with pytest.raises(ExecutionError, match="call forward first"):
        exe.backward()


def test_without_a_loss_there_is_no_backward_and_no_step() -> None:
    exe = ge.compile(network())
    exe.forward(feeds())
    with pytest.raises(ExecutionError, match="backward needs a loss"):
        exe.backward()
    with pytest.raises(ExecutionError, match="step needs a loss"):
        exe.step(feeds())


def test_without_an_optimizer_there_is_no_step_even_where_states_have_updates() -> None:
    graph = network()
    seen = graph.state("seen", ())
    graph.update(seen, seen + 1.0)
    exe = ge.compile(graph, loss="loss")
    with pytest.raises(ExecutionError, match="step needs an optimizer"):
        exe.step(feeds())
    assert exe.program.name == "gradient"


def test_forward_and_backward_change_no_state() -> None:
    graph = network()
    seen = graph.state("seen", ())
    graph.update(seen, seen + 1.0)
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    before = dict(exe.parameters)
    exe.forward(feeds())
    exe.backward()
    assert exe.state["seen"] == 0.0
    for name, value in before.items():
        np.testing.assert_array_equal(exe.parameters[name], value)


# Steps


def test_a_step_is_forward_backward_and_update() -> None:
    exe, other = trained(rate=0.03), trained(rate=0.03)
    loss = other.forward(feeds())["loss"]
    gradients = other.backward()
    expected = {name: other.parameters[name] - 0.03 * gradients[name] for name in gradients}
    assert exe.step(feeds()) == pytest.approx(float(loss), rel=1e-14)
    for name, value in expected.items():
        np.testing.assert_allclose(exe.parameters[name], value, rtol=1e-13)


def test_a_step_returns_the_loss_before_the_update_as_a_float() -> None:
    exe = trained()
    before = float(exe.forward(feeds())["loss"])
    loss = exe.step(feeds())
    assert type(loss) is float
    assert loss == before
    assert exe.step(feeds()) < before


def test_a_loss_that_is_a_parameter_itself_is_returned_as_it_was() -> None:
    graph = ge.Graph("bare", dtype="float64")
    graph.output("loss", ge.reshape(graph.parameter("w", (1,), init=ge.init.Constant(3.0)), ()))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.5))
    assert exe.step({}) == 3.0
    np.testing.assert_array_equal(exe.parameters["w"], [2.5])


def test_a_short_last_batch_changes_nothing_for_the_full_ones() -> None:
    exe, other = trained(), trained()
    for batch in (5, 5, 2, 5):
        exe.step(feeds(batch))
    for batch in (5, 5):
        other.step(feeds(batch))
    other = _with(other.parameters, trained())
    other.step(feeds(2))
    other = _with(other.parameters, trained())
    other.step(feeds(5))
    for name in exe.parameters:
        np.testing.assert_array_equal(exe.parameters[name], other.parameters[name])


def _with(parameters, exe: Executable) -> Executable:
    exe.parameters.update(parameters)
    return exe


def test_the_same_seed_and_feeds_give_the_same_bits() -> None:
    runs = []
    for _ in range(2):
        exe = trained("float32", seed=5)
        losses = [exe.step(feeds(7, seed=i, dtype="float32")) for i in range(5)]
        runs.append((losses, {name: array.tobytes() for name, array in exe.parameters.items()}))
    assert runs[0] == runs[1]


def test_another_seed_draws_other_parameters() -> None:
    assert not np.array_equal(trained(seed=1).parameters["w"], trained(seed=2).parameters["w"])


def test_executables_of_one_graph_are_independent() -> None:
    graph = network()
    one, two = (ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1)) for _ in range(2))
    kept = two.parameters["w"]
    one.step(feeds())
    np.testing.assert_array_equal(two.parameters["w"], kept)
    assert not np.array_equal(one.parameters["w"], kept)


def classifier(dtype: str, activation: Callable[[Node], Node]) -> ge.Graph:
    graph = ge.Graph("classifier", dtype=dtype)
    hidden = activation(
        graph.input("x", ("batch", 64)) @ graph.parameter("w", (64, 128)) + graph.parameter("b", (128,))
    )
    logits = hidden @ graph.parameter("v", (128, 10)) + graph.parameter("c", (10,))
    nll = ge.cross_entropy(logits, graph.input("labels", ("batch",), dtype="int64"))
    graph.output("loss", nll + 1e-3 * ge.l2(graph["w"]))
    return graph


@pytest.mark.parametrize("activation", [ge.relu, ge.sigmoid, ge.tanh, ge.gelu])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [ge.SGD(learning_rate=0.1, momentum=0.9), ge.Adam(learning_rate=0.1)])
def test_a_steady_step_allocates_under_4_kib(dtype: str, activation, optimizer) -> None:
    exe = ge.compile(classifier(dtype, activation), loss="loss", optimizer=optimizer)
    generator = np.random.default_rng(0)
    given = {"x": generator.normal(size=(128, 64)).astype(dtype), "labels": generator.integers(0, 10, 128)}
    for _ in range(3):
        exe.step(given)
    tracemalloc.start()
    try:
        exe.step(given)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(10):
            exe.step(given)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4096
    assert after - before < 512


# Plans


def test_plans_are_kept_for_16_sizes_and_no_more() -> None:
    exe = trained()
    for batch in range(1, 21):
        exe.step(feeds(batch))
    assert len(exe.programs.cached) == 16
    kept = dict(exe.programs.cached)
    exe.step(feeds(20))
    assert dict(exe.programs.cached) == kept
    exe.step(feeds(1))
    assert len(exe.programs.cached) == 16


def test_a_plan_is_made_once_for_a_size() -> None:
    exe = trained()
    exe.step(feeds(3))
    (prepared,) = exe.programs.cached.values()
    exe.step(feeds(3, seed=1))
    assert list(exe.programs.cached.values()) == [prepared]


def test_programs_are_planned_and_costed_before_anything_runs() -> None:
    exe = trained()
    assert exe.program.name == "step"
    assert exe.cost(batch=128).flops["FORWARD"] > 0
    assert exe.programs.latest is None
    assert exe.plan("forward", batch=2).name == "forward"
    assert exe.plan("gradient", batch=2).binding == {"batch": 2}


def test_the_program_is_that_of_the_sizes_last_run() -> None:
    exe = trained()
    assert exe.program.binding == {"batch": 1}
    exe.step(feeds(6))
    assert exe.program.binding == {"batch": 6}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, r"needed \(batch\), and given: none"),
        ({"bacth": 3}, r"needed \(batch\), and given: bacth"),
        ({"batch": 3, "time": 2}, "given: batch, time"),
        ({"batch": 0}, "an int from 1 to"),
        ({"batch": 2.5}, "an int from 1 to"),
    ],
)
def test_sizes_that_make_no_plan_are_refused(sizes: dict, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        trained().cost(**sizes)


def test_the_listing_names_phase_instruction_slot_type_and_bytes() -> None:
    exe = trained()
    exe.step(feeds(3))
    lines = str(exe.program).splitlines()
    assert lines[0].startswith("program step (batch=3): ")
    assert lines[1].split() == ["phase", "instruction", "type", "slot", "bytes"]
    assert len(lines) == 2 + len(exe.program.instructions)
    first = next(line for line in lines if "matmul_1" in line)
    assert first.split() == ["FORWARD", "matmul_1", "=", "matmul(x,", "w)", "float64[3,", "8]", "%0", "192"]
    assert any("in place" in line for line in lines)
    assert any("view of" in line for line in lines)
    assert [line.split()[0] for line in lines[2:]].count("FORWARD") == exe.program.forward_length


# Parameters and state


def test_parameters_are_read_as_read_only_copies() -> None:
    exe = trained()
    held = exe.parameters["w"]
    with pytest.raises(ge.UsageError, match="read-only"):
        held[:] = 0.0
    before = held.copy()
    exe.step(feeds())
    np.testing.assert_array_equal(held, before)


def test_an_assigned_parameter_is_what_runs() -> None:
    exe = trained()
    exe.parameters["v"] = np.zeros((HIDDEN, 1))
    np.testing.assert_array_equal(exe.forward(feeds())["prediction"], np.zeros((3, 1)))


def test_a_parameter_is_assigned_a_copy() -> None:
    exe = trained()
    value = np.ones(HIDDEN)
    exe.parameters["b"] = value
    value[:] = 5.0
    np.testing.assert_array_equal(exe.parameters["b"], np.ones(HIDDEN))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("b", np.ones(3), ShapeError, r"parameter 'b' is float64\[8\], and the value has shape \[3\]"),
        ("b", 1.0, ShapeError, r"the value has shape \[\]"),
        ("b", np.ones(HIDDEN, complex), DTypeError, "the value is complex128"),
        ("c", np.ones(3), NamingError, "no parameter 'c'; there are w, b, v"),
    ],
)
def test_an_assignment_that_does_not_fit_is_refused(name: str, value, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trained().parameters[name] = value


def test_parameters_are_a_mapping_in_order_of_declaration() -> None:
    exe = trained()
    assert list(exe.parameters) == ["w", "b", "v"]
    assert len(exe.parameters) == 3
    assert "w" in exe.parameters
    assert "x" not in exe.parameters
    assert exe.parameters.get("x") is None
    assert repr(exe.parameters) == "{w: float64[4, 8], b: float64[8], v: float64[8, 1]}"
    with pytest.raises(TypeError, match="there to stay"):
        del exe.parameters["w"]


def test_state_is_carried_read_and_set() -> None:
    graph = network()
    mean = graph.state("mean", (1,))
    graph.update(mean, mean * 0.5 + ge.sum(graph["y"], axis=0))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.01))
    given = feeds()
    total = given["y"].sum(axis=0)
    exe.step(given)
    exe.step(given)
    np.testing.assert_allclose(exe.state["mean"], total * 1.5, rtol=1e-14)
    exe.state["mean"] = np.zeros(1)
    exe.step(given)
    np.testing.assert_allclose(exe.state["mean"], total, rtol=1e-14)


# Depth


@pytest.mark.usefixtures("shallow_stack")
def test_a_chain_of_200_000_nodes_builds_saves_loads_compiles_and_steps(tmp_path: Path) -> None:
    graph = ge.Graph("chain", dtype="float64")
    value = graph.parameter("w", (), init=ge.init.Constant(0.5))
    for _ in range(100_000):
        value = -(value + 1e-6)
    graph.output("loss", value)
    assert len(graph) > 200_000
    graph.save(tmp_path / "chain.json")
    loaded = ge.load(tmp_path / "chain.json")
    assert loaded == graph
    exe = ge.compile(loaded, loss="loss", optimizer=ge.SGD(learning_rate=0.25))
    assert exe.step({}) == pytest.approx(0.5, abs=1e-9)
    assert exe.parameters["w"] == 0.25


@pytest.fixture
def shallow_stack():
    """A recursion limit that no walk along a long chain survives; the collector leaves alone what other tests left."""
    limit = sys.getrecursionlimit()
    gc.freeze()
    sys.setrecursionlimit(300)
    yield
    sys.setrecursionlimit(limit)
    gc.unfreeze()


def test_an_executable_is_gone_as_soon_as_nobody_holds_it() -> None:
    g = ge.Graph("line")
    g.output("loss", ge.sum(ge.square(g.input("x", ("batch", 3)) @ g.parameter("w", (3, 1)))))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    exe.step({"x": np.ones((2, 3))})
    assert exe.inference is exe
    parameters, gone = exe.parameters, weakref.ref(exe)
    was_on = gc.isenabled()
    gc.disable()
    try:
        del exe
        assert gone() is None
    finally:
        (gc.enable if was_on else gc.disable)()
    assert parameters["w"].shape == (3, 1)


def alive(name: str) -> int:
    gc.collect()
    return sum(type(thing) is Program and thing.name == name for thing in gc.get_objects())


@pytest.mark.parametrize("backend", installed_backends())
def test_whatever_outputs_and_sizes_are_asked_for_few_programs_are_kept(backend: str) -> None:
    graph = ge.Graph("g")
    value = graph.input("x", ("batch", 8)) * graph.parameter("w", (8,))
    for number in range(8):
        value = ge.tanh(value + 0.5)
        graph.output(f"o{number}", value)
    graph.output("loss", ge.mean(value))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend=backend)
    before = {name: alive(name) for name in ("forward", "gradient", "step")}
    subsets = [list(names) for names in itertools.combinations([f"o{i}" for i in range(8)], 3)]
    for size, names in enumerate(subsets[:40], 1):
        feeds = {"x": np.ones((1 + size % 20, 8), np.float32)}
        first = exe.forward(feeds, names)
        assert all(np.array_equal(first[name], value) for name, value in exe.forward(feeds, names).items())
        exe.step(feeds)
        exe.forward(feeds, [*names, "loss"])
        exe.cost(batch=size)
        exe.plan("forward", batch=size)
    assert sum(alive(name) - count for name, count in before.items()) <= 16 + 1
    assert len(exe.programs.cached) == 16


def test_a_program_that_runs_time_and_again_is_not_forgotten_for_others() -> None:
    exe = trained()
    exe.step(feeds(1))
    (often,) = exe.programs.cached.values()
    for batch in range(2, 30):
        exe.step(feeds(batch))
        exe.step(feeds(1))
    assert often in exe.programs.cached.values()
    assert exe.plan("step", batch=1) is exe.plan(batch=1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda exe: pickle.loads(pickle.dumps(exe))])
@pytest.mark.parametrize("has_run", [False, True])
def test_a_copy_of_an_executable_goes_on_like_it_and_apart_from_it(copied, has_run: bool) -> None:
    graph = ge.Graph("copied")
    x, w = graph.input("x", ("n", 6)), graph.parameter("w", (6, 8))
    y = graph.output("y", ge.transpose(ge.reshape(ge.tanh(x @ w), ("n", 2, 4)), (0, 2, 1)))
    graph.output("loss", ge.mean(ge.square(y)))
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam(0.1))
    feeds = [{"x": np.random.default_rng(seed).standard_normal((4, 6)).astype("float32")} for seed in (0, 1)]
    if has_run:
        exe.forward(feeds[0])
        exe.update(exe.gradients(feeds[0], copy=False))
        exe.step(feeds[0])
    other = copied(exe)
    np.testing.assert_array_equal(exe.forward(feeds[1])["y"], other.forward(feeds[1])["y"])
    with pytest.raises(ExecutionError):
        copied(exe).backward()
    assert exe.step(feeds[1]) == other.step(feeds[1])
    before = exe.parameters["w"]
    np.testing.assert_array_equal(before, other.parameters["w"])
    other.step(feeds[0])
    np.testing.assert_array_equal(before, exe.parameters["w"])

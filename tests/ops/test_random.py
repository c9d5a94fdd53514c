"""Dropout: what it draws, when it draws the same, and what is left of it."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import AttributeValueError, DTypeError, GraphError
from graphengine.executable import Executable
from graphengine.ops.random import Dropout
from graphengine.ops.scan import scan
from graphengine.testing import check_op
from tests.arrays import f64


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout_keeps_the_op_contract(shape: tuple[int, ...], rate: float) -> None:
    check_op(Dropout(rate=rate, stream=5), f64(*shape), np.array(7), np.array(3))


def network(rate: float = 0.5, width: int = 1000) -> ge.Graph:
    g = ge.Graph()
    x, w = g.input("x", ("batch", width)), g.parameter("w", (width,), ge.init.Ones())
    g.output("first", ge.dropout(x * w, rate, name="first"))
    g.output("second", ge.dropout(x * w, rate, name="second"))
    g.output("loss", ge.sum(g["first"]) + ge.sum(g["second"]))
    return g


def compiled(graph: ge.Graph, seed: int = 0, rate: float = 1e-3) -> Executable:
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=rate), seed=seed)


ONES = {"x": np.ones((4, 1000), np.float32)}


def masks(exe: Executable, name: str = "first") -> np.ndarray:
    return exe.forward(ONES, [name])[name] != 0


def test_elements_are_dropped_or_scaled() -> None:
    value = compiled(network(0.2)).forward(ONES)["first"]
    assert set(np.unique(value)) == {np.float32(0), np.float32(1.25)}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_expectation_stays(rate: float) -> None:
    exe = compiled(network(rate))
    deviation = np.sqrt(rate / (1 - rate) / ONES["x"].size)
    for name in ("first", "second"):
        assert abs(exe.forward(ONES, [name])[name].mean() - 1) < 4 * deviation


def test_the_same_seed_step_and_node_draw_the_same() -> None:
    one, other = compiled(network(), seed=3), compiled(network(), seed=3)
    np.testing.assert_array_equal(masks(one), masks(one))
    np.testing.assert_array_equal(masks(one), masks(other))


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean(one == other))


def test_another_seed_node_or_step_draws_independently() -> None:
    exe = compiled(network())
    first = masks(exe)
    assert agreement(first, masks(compiled(network(), seed=1))) == pytest.approx(0.5, abs=0.04)
    assert agreement(first, masks(exe, "second")) == pytest.approx(0.5, abs=0.04)
    for _ in range(3):
        before = masks(exe)
        exe.step(ONES)
        assert agreement(before, masks(exe)) == pytest.approx(0.5, abs=0.04)


def test_elements_are_drawn_independently() -> None:
    kept = masks(compiled(network())).ravel()
    assert agreement(kept[1:], kept[:-1]) == pytest.approx(0.5, abs=0.04)


def test_the_backward_pass_drops_what_the_forward_pass_of_its_step_has() -> None:
    exe = compiled(network())
    for _ in range(3):
        values = exe.forward(ONES)
        expected = (values["first"] + values["second"]).sum(0)  # where x is 1, d loss / d w is the sum of the scales
        w = exe.parameters["w"]
        np.testing.assert_allclose(exe.backward()["w"], expected / w, rtol=1e-5)
        exe.step(ONES)
        np.testing.assert_allclose(exe.parameters["w"], w - np.float32(1e-3) * expected / w, rtol=1e-5)


def test_the_gradient_of_the_gradient_drops_the_same() -> None:
    g = ge.Graph(dtype="float64")
    x = g.input("x", (50,))
    g.output("loss", ge.sum(ge.dropout(x * x, 0.5) * x))
    (bar,) = ge.grad(g.outputs["loss"], [x])
    g.output("second", ge.sum(bar * bar))
    ge.gradcheck(g, "second", {"x": f64(50)}, wrt=["x"])


def test_a_step_is_counted_once_and_nothing_else_is() -> None:
    exe = compiled(network())
    exe.forward(ONES)
    exe.backward()
    assert exe.state["random.step"] == 0
    exe.step(ONES)
    exe.step(ONES)
    assert exe.state["random.step"] == 2


def test_a_graph_has_one_seed_and_one_count() -> None:
    g = network()
    assert [node.name for node in g.states] == ["random.seed", "random.step"]
    assert len(g.updates) == 1


@pytest.mark.parametrize("seed", [0, 17, 2**63 - 1, 2**70 + 5])
def test_the_seed_is_that_of_compile(seed: int) -> None:
    assert compiled(network(), seed=seed).state["random.seed"] == seed % 2**63


def test_the_count_set_back_makes_the_step_again() -> None:
    exe = compiled(network())
    exe.step(ONES)
    before = masks(exe)
    exe.step(ONES)
    exe.state["random.step"] = 1
    np.testing.assert_array_equal(masks(exe), before)


def test_training_resumed_from_a_checkpoint_is_the_same_to_the_bit(tmp_path: Path) -> None:
    straight = compiled(network())
    for _ in range(3):
        straight.step(ONES)
    ge.save_checkpoint(straight, tmp_path / "at3.safetensors")
    resumed = compiled(network(), seed=99)
    ge.load_checkpoint(resumed, tmp_path / "at3.safetensors", ignore=["seed"])
    for _ in range(3):
        straight.step(ONES)
        resumed.step(ONES)
    assert straight.parameters["w"].tobytes() == resumed.parameters["w"].tobytes()


def test_a_graph_read_from_its_document_drops_the_same() -> None:
    again = ge.Graph.from_json(network().to_json())
    assert again == network()
    np.testing.assert_array_equal(masks(compiled(again)), masks(compiled(network())))


def test_masks_do_not_depend_on_the_dtype() -> None:
    op, seed, step = Dropout(rate=0.4, stream=1), np.array(2), np.array(3)
    single, double = (op.eval(np, np.ones(100, dtype), seed, step) for dtype in (np.float32, np.float64))
    np.testing.assert_array_equal(single != 0, double != 0)


def test_a_rate_of_0_is_the_operand_itself() -> None:
    g = ge.Graph()
    x = g.input("x", (3,))
    assert ge.dropout(x, 0.0) is x
    assert len(g) == 1


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), "half"])
def test_a_rate_outside_0_and_1_is_refused(rate: float) -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    message = r"Dropout: rate(.|\n)*node  d = dropout\(x\)(.|\n)*test_random.py:\d+(.|\n)*x is float32\[batch, 3\]"
    with pytest.raises(AttributeValueError, match=message):
        ge.dropout(x, rate, name="d")
    assert len(g) == 1


def test_only_floats_are_dropped() -> None:
    g = ge.Graph()
    with pytest.raises(DTypeError, match=r"dropout takes floats, not int64\[3\]"):
        ge.dropout(g.input("n", (3,), "int64"), 0.5)
    assert len(g) == 1
    x = g.input("x", (3,))
    with pytest.raises(DTypeError, match=r"the seed of a dropout is int64\[\], not float32\[3\]"):
        g.add(Dropout(rate=0.5, stream=1), [x, x, x])


def test_names_that_mean_something_else_are_told() -> None:
    g = ge.Graph()
    g.parameter("random.seed", ())
    with pytest.raises(GraphError, match=r"dropout keeps its count in the states 'random\.seed' and 'random\.step'"):
        ge.dropout(g.input("x", (3,)), 0.5)


def test_in_a_scan_all_steps_of_the_sequence_share_a_mask_and_scans_do_not() -> None:
    g = ge.Graph(dtype="float64")
    xs, start = g.input("xs", (5, 200)), g.input("start", (200,))
    for name in ("one", "other"):
        _, ys = scan(lambda c, x: (c, ge.dropout(x, 0.5) + 0.0 * c), start, xs)
        g.output(name, ys)
    loss = g.output("loss", ge.sum(g.outputs["one"] * g.outputs["one"]))
    (bar,) = ge.grad(loss, [xs])
    g.output("bar", bar)
    values = ge.compile(g).forward({"xs": np.ones((5, 200)), "start": np.ones(200)})
    for name in ("one", "other"):
        np.testing.assert_array_equal(values[name], np.tile(values[name][0], (5, 1)))
    np.testing.assert_allclose(values["bar"], 4 * values["one"])
    assert agreement(values["one"], values["other"]) == pytest.approx(0.5, abs=0.12)


def test_a_step_allocates_no_array() -> None:
    exe = compiled(network())
    for _ in range(3):
        exe.step(ONES)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        exe.step(ONES)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < ONES["x"].nbytes / 2


def with_dropout_in_a_scan() -> ge.Graph:
    """A graph that drops places of its input, of each step of a scan and of the gradient of what it dropped."""
    graph = ge.Graph("sub", dtype="float64")
    x = graph.input("x", ("batch", 64))
    dropped = ge.dropout(x, 0.5)
    _, steps = ge.scan(lambda carry, _: (carry, ge.dropout(carry, 0.5)), dropped * 0.0 + 1.0, length=2)
    graph.output("y", dropped)
    graph.output("steps", steps)
    graph.output("slope", ge.grad(ge.sum(dropped), [x])[0])
    return graph


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("prefixes", [("first", "second"), ("", "second"), ("first", "")])
def test_what_is_imported_twice_draws_twice(prefixes: tuple[str, str], backend: str) -> None:
    graph = ge.Graph("g", dtype="float64")
    x = graph.input("x", ("batch", 64))
    for number, prefix in enumerate(prefixes):
        for name, node in graph.import_graph(with_dropout_in_a_scan(), prefix, {"x": x}).items():
            graph.output(f"{name}{number}", node)
    graph.output("own", ge.dropout(x, 0.5))
    exe = ge.compile(ge.Graph.from_json(graph.to_json()), backend=backend)
    values = exe.forward({"x": np.ones((16, 64))})
    drawn = [values["own"], *(values[f"{name}{number}"] for name in ("y", "steps") for number in range(2))]
    drawn = [part for value in drawn for part in value.reshape(-1, 16, 64)[:1]]
    for place, one in enumerate(drawn):
        assert all(0.4 < np.mean((one != 0) == (other != 0)) < 0.6 for other in drawn[:place])
    for number in range(2):  # the gradient drops what its own copy dropped
        np.testing.assert_array_equal(values[f"slope{number}"], values[f"y{number}"])


def test_the_import_of_a_graph_under_its_own_names_draws_as_it_does() -> None:
    whole = with_dropout_in_a_scan()
    graph = ge.Graph("sub", dtype="float64")
    for name, node in graph.import_graph(whole).items():
        graph.output(name, node)
    assert graph.hash() == whole.hash()

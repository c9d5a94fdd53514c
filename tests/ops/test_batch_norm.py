"""Batch normalization in training; what inference makes of it is in tests/transform/test_inference.py."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.executable import Executable
from graphengine.ops.norm import BatchStatistic, Normalize
from graphengine.ops.reduce import Variance
from graphengine.ops.scan import scan
from graphengine.testing import check_op
from tests.arrays import f64
from tests.ops.evaluate import evaluate


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 4), None), ((3, 4), (0,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1,)), ((5,), None), ((1, 1), (0,)), ((), None)],
)
@pytest.mark.parametrize("keepdims", [True, False])
def test_variance_keeps_the_op_contract(shape: tuple[int, ...], axis: tuple[int, ...] | None, keepdims: bool) -> None:
    check_op(Variance(axis=axis, keepdims=keepdims), f64(*shape))


@pytest.mark.parametrize(
    ("shape", "channels"), [((3, 4), (4,)), ((2, 3, 4), (3, 1)), ((4,), ()), ((1, 1), (1,)), ((3, 4), (3, 4))]
)
def test_normalize_keeps_the_op_contract(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    mean, scale, shift = (f64(*channels, seed=seed) for seed in (1, 2, 3))
    check_op(Normalize(epsilon=1e-2), f64(*shape), mean, f64(*channels, low=0.3, seed=4), scale, shift)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_batch_statistic_keeps_the_op_contract(shape: tuple[int, ...]) -> None:
    check_op(BatchStatistic(), f64(*shape), f64(*shape, seed=1))


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2)])
def test_variance_is_that_of_numpy(axis: int | tuple[int, ...] | None) -> None:
    x = f64(2, 3, 4)
    np.testing.assert_allclose(evaluate(lambda node: ge.variance(node, axis), x), x.var(axis), rtol=1e-13)


def test_the_variance_of_no_elements_is_refused() -> None:
    with pytest.raises(ShapeError, match="variance of no elements"):
        ge.variance(ge.Graph().input("x", (0, 3)), axis=0)


def network(shape: tuple[int | str, ...], axis: int = 1, **options: float) -> ge.Graph:
    """y = batch_norm(x), with states under the names m and v."""
    g = ge.Graph(dtype="float64")
    x = g.input("x", shape)
    channels = (int(x.shape[axis]),)
    scale, shift = g.parameter("scale", channels, ge.init.Normal()), g.parameter("shift", channels, ge.init.Normal())
    states = g.state("m", channels), g.state("v", channels, ge.init.Ones())
    y = g.output("y", ge.batch_norm(x, scale, shift, *states, axis=axis, **options))
    g.output("loss", ge.mean(ge.sin(y)))
    return g


def trained(graph: ge.Graph) -> Executable:
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.0))


CASES = [
    (("batch", 3), 1, (8, 3)),
    (("batch", 3, "width"), 1, (4, 3, 5)),
    (("batch", 3, 4, 5), 1, (2, 3, 4, 5)),
    (("batch", "time", 3), 2, (2, 4, 3)),
    (("batch", "time", 3), -1, (2, 4, 3)),
    ((3, 6), 0, (3, 6)),
]


@pytest.mark.parametrize(("shape", "axis", "sizes"), CASES)
def test_training_uses_the_statistics_of_the_batch(
    shape: tuple[int | str, ...], axis: int, sizes: tuple[int, ...]
) -> None:
    exe, x = trained(network(shape, axis, epsilon=0.1)), f64(*sizes)
    others = tuple(place for place in range(x.ndim) if place != axis % x.ndim)
    wide = [sizes[place] if place == axis % x.ndim else 1 for place in range(x.ndim)]
    scale, shift = (exe.parameters[name].reshape(wide) for name in ("scale", "shift"))
    expected = (x - x.mean(others, keepdims=True)) / np.sqrt(x.var(others, keepdims=True) + 0.1) * scale + shift
    np.testing.assert_allclose(exe.forward({"x": x}, ["y"])["y"], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("shape", "axis", "sizes"), CASES)
def test_gradients_go_through_the_statistics(shape: tuple[int | str, ...], axis: int, sizes: tuple[int, ...]) -> None:
    ge.gradcheck(network(shape, axis), "loss", {"x": f64(*sizes)}, wrt=["x", "scale", "shift"])


def test_second_derivatives_go_through_the_statistics() -> None:
    g = network(("batch", 3))
    gradients = ge.grad(g.outputs["loss"], [g["x"], g["scale"]])
    g.output("second", ge.sum(ge.square(gradients[0])) + ge.sum(ge.square(gradients[1])))
    ge.gradcheck(g, "second", {"x": f64(5, 3)}, wrt=["x", "scale", "shift"], tolerance=1e-5)


@pytest.mark.parametrize(("shape", "axis", "sizes"), CASES)
def test_every_step_moves_the_running_statistics_as_pytorch_does(
    shape: tuple[int | str, ...], axis: int, sizes: tuple[int, ...]
) -> None:
    exe = trained(network(shape, axis, momentum=0.25))
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = f64(*sizes, seed=seed)
        others = tuple(place for place in range(x.ndim) if place != axis % x.ndim)
        mean = 0.75 * mean + 0.25 * x.mean(others)
        variance = 0.75 * variance + 0.25 * x.var(others, ddof=1)
        exe.step({"x": x})
        np.testing.assert_allclose(exe.state["m"], mean, rtol=1e-12)
        np.testing.assert_allclose(exe.state["v"], variance, rtol=1e-12)


def test_only_a_step_moves_the_running_statistics() -> None:
    exe = trained(network(("batch", 3)))
    exe.forward({"x": f64(4, 3)})
    exe.backward()
    assert not exe.state["m"].any()


def test_a_batch_of_one_is_the_shift_and_moves_the_running_variance_towards_0() -> None:
    exe = trained(network(("batch", 3)))
    np.testing.assert_array_equal(exe.forward({"x": f64(1, 3)}, ["y"])["y"], exe.parameters["shift"][None])
    exe.step({"x": f64(1, 3)})
    np.testing.assert_allclose(exe.state["v"], 0.9, rtol=1e-15)


def test_a_large_mean_takes_no_digits_of_the_variance() -> None:
    x = (np.random.default_rng(0).normal(size=(64, 4, 8, 8)) + 1e4).astype(np.float32)
    g = ge.Graph()
    one, zero = (g.constant(name, np.full(4, value)) for name, value in (("one", 1.0), ("zero", 0.0)))
    g.output("y", ge.batch_norm(g.input("x", x.shape), one, zero, g.state("m", (4,)), g.state("v", (4,))))
    wide = x.astype(np.float64)
    exact = (wide - wide.mean((0, 2, 3), keepdims=True)) / wide.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(ge.compile(g).forward({"x": x})["y"], exact, atol=1e-2)  # the spacing at 1e4 is 1e-3


def test_a_network_with_batch_norm_saves_and_loads() -> None:
    g = network(("batch", 3, 4))
    again = ge.Graph.from_json(g.to_json())
    assert again == g
    assert [target.name for target in again.updates] == ["m", "v"]


def declared(
    shape: tuple[int | str, ...] = ("batch", 3), size: int = 3, dtype: str = "float32", **options: object
) -> ge.Node:
    g = ge.Graph()
    x = g.input("x", shape)
    return ge.batch_norm(
        x,
        g.parameter("scale", (size,), dtype=dtype),
        g.parameter("shift", (3,)),
        g.state("m", (3,)),
        g.state("v", (3,)),
        **options,
    )


def test_what_does_not_fit_is_refused_with_its_operands() -> None:
    with pytest.raises(
        ShapeError, match=r"takes float32\[3\], not float32\[4\](.|\n)*test_batch_norm.py(.|\n)*scale is"
    ):
        declared(size=4)
    with pytest.raises(ShapeError, match=r"takes float32\[3\], not float64\[3\]"):
        declared(dtype="float64")
    with pytest.raises(ShapeError, match="axis 1 of a value with 1 axis"):
        declared(shape=(3,))
    with pytest.raises(ShapeError, match="mean of no elements"):
        declared(shape=(0, 3))
    with pytest.raises(AttributeValueError, match=r"momentum of batch_norm lies in \[0, 1\], not 1.5"):
        declared(momentum=1.5)


def test_channels_of_unknown_number_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"takes float32\[channels\], not float32\[3\]"):
        declared(shape=("batch", "channels"))


def test_statistics_serve_one_batch_norm_only() -> None:
    g = network(("batch", 3))
    with pytest.raises(GraphError, match="'m' is the running statistic of another batch_norm"):
        ge.batch_norm(g["x"], g["scale"], g["shift"], g["m"], g["v"])


def test_a_graph_stays_as_it_was_when_running_statistics_are_no_states() -> None:
    g = ge.Graph()
    x, scale = g.input("x", ("batch", 3)), g.parameter("scale", (3,))
    constant = g.constant("c", np.zeros(3))
    with pytest.raises(GraphError, match="the running statistics of batch_norm are states, and 'c' is a constant"):
        ge.batch_norm(x, scale, scale, constant, constant)
    assert len(g) == 3


def test_the_body_of_a_scan_is_no_place_for_it() -> None:
    g = ge.Graph()
    xs, scale = g.input("xs", ("time", "batch", 3)), g.parameter("scale", (3,))
    states = g.state("m", (3,)), g.state("v", (3,))
    carry = g.input("carry", ("batch", 3))
    with pytest.raises(GraphError, match="batch_norm needs the statistics of a whole batch"):
        scan(lambda c, x: (c, ge.batch_norm(x, scale, scale, *states)), carry, xs)


def test_operands_of_normalize_that_differ_are_refused() -> None:
    g = ge.Graph()
    x, c, d = g.input("x", ("batch", 3)), g.parameter("c", (3,)), g.parameter("d", (1,))
    with pytest.raises(ShapeError, match="mean, variance, scale and shift differ"):
        g.add(Normalize(), [x, c, c, c, d])
    with pytest.raises(ShapeError, match=r"a mean and a variance of type float32\[2\] do not broadcast|shapes do not"):
        g.add(Normalize(), [x, *[g.parameter("e", (2,))] * 4])
    with pytest.raises(DTypeError, match="normalize takes floats, not int64"):
        g.add(Normalize(), [g.input(f"n{i}", (3,), "int64") for i in range(5)])
    with pytest.raises(ShapeError, match="the statistic of a batch is float32"):
        g.add(BatchStatistic(), [c, d])


@pytest.mark.parametrize("momentum", [1.0, 0.999])
def test_running_statistics_take_a_small_value_after_a_large_one(momentum: float) -> None:
    graph = ge.Graph("after", dtype="float32")
    graph.output("loss", ge.sum(ge.layers.batch_norm(graph.input("x", ("n", 1)), name="bn", momentum=momentum)))
    exe = ge.compile(graph, loss="loss", optimizer=ge.GD(0.0))
    exe.state["bn.running_mean"] = [1e8]
    for _ in range(3):
        exe.step({"x": [[1.0], [3.0]]})
    assert float(exe.state["bn.running_mean"][0]) == pytest.approx(2.0, rel=0.1)


def test_momentum_of_1_forgets_what_was_infinite_and_0_keeps_what_was_there() -> None:
    for momentum, kept, left in ((1.0, np.inf, 2.0), (0.0, 5.0, 5.0)):
        graph = ge.Graph("ends", dtype="float32")
        graph.output("loss", ge.sum(ge.layers.batch_norm(graph.input("x", ("n", 1)), name="bn", momentum=momentum)))
        exe = ge.compile(graph, loss="loss", optimizer=ge.GD(0.0), non_finite="allow")
        exe.state["bn.running_mean"] = [kept]
        exe.step({"x": [[1.0], [3.0 if momentum else np.inf]]})
        assert float(exe.state["bn.running_mean"][0]) == left

"""Jacobians, Hessians and their products: against differences, closed forms and each other, in both modes."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import Scan
from graphengine.transform import derivatives
from tests.arrays import f64
from tests.transform.values import compiled, mlp, normal_like, parameters, recurrent, values

both_modes = pytest.mark.parametrize("mode", ["forward", "reverse"])


@pytest.fixture(params=[0, 1000], ids=["loop", "unrolled"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivatives, "UNROLLED", request.param)


in_a_loop_and_without = pytest.mark.usefixtures("either_way")


def layer(rows: int = 3, columns: int = 2) -> tuple[Graph, Node, Node]:
    """tanh(x @ w) @ (w.T @ x): not linear, and not symmetric."""
    graph = ge.Graph("layer", dtype="float64")
    x, w = graph.input("x", (rows,)), graph.parameter("w", (rows, columns))
    return graph, ge.tanh(x @ w) * (w.T @ x), x


def by_differences(y: Node, x: Node, feeds: dict[str, np.ndarray], held: dict[str, np.ndarray]) -> np.ndarray:
    """dy/dx by central differences, an element of x at a time."""
    place = feeds if x.name in feeds else held
    value = place[x.name]
    columns = []
    for index in np.ndindex(value.shape):
        shifted = []
        for step in (1e-6, -1e-6):
            moved = value.copy()
            moved[index] += step
            place[x.name] = moved
            shifted.append(values([y], feeds, held)[0])
        columns.append((shifted[0] - shifted[1]) / 2e-6)
    place[x.name] = value
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *value.shape)


@in_a_loop_and_without
@both_modes
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_a_jacobian_agrees_with_differences(mode: str, rows: int) -> None:
    graph, y, x = layer(rows)
    by_x, by_w = ge.jacobian(y, [x, graph["w"]], mode=mode)
    feeds, held = {"x": f64(rows)}, parameters(graph)
    found_x, found_w = values([by_x, by_w], feeds, held)
    assert (found_x.shape, found_w.shape) == ((2, rows), (2, rows, 2))
    np.testing.assert_allclose(found_x, by_differences(y, x, feeds, held), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found_w, by_differences(y, graph["w"], feeds, held), rtol=1e-7, atol=1e-8)


@in_a_loop_and_without
@both_modes
@pytest.mark.parametrize(
    ("y_shape", "x_shape"), [((), ()), ((), (4,)), ((4,), ()), ((2, 3), (3, 2)), ((1, 6), (2, 1, 3)), ((6,), (1,))]
)
def test_a_jacobian_has_the_axes_of_both(mode: str, y_shape: tuple[int, ...], x_shape: tuple[int, ...]) -> None:
    graph = ge.Graph("shapes", dtype="float64")
    x = graph.input("x", x_shape)
    table = f64(*y_shape, *x_shape, seed=1)
    flat = ge.reshape(ge.square(x), (1, -1)) * table.reshape(-1, max(1, int(np.prod(x_shape))))
    y = ge.reshape(ge.sum(flat, axis=1), y_shape)
    data = f64(*x_shape)
    (found,) = values([ge.jacobian(y, x, mode=mode)], {"x": data})
    np.testing.assert_allclose(found, table * 2 * data, rtol=1e-12)


def steps(node: Node) -> int:
    """How often the body of the one loop in `node`'s graph runs."""
    (bundle,) = [other for other in node.graph.nodes if isinstance(other.op, Scan)]
    return int(bundle.op.steps([parent.type for parent in bundle.parents]))


def test_the_mode_that_takes_fewer_steps_is_chosen() -> None:
    for rows, columns in ((90, 70), (70, 90)):
        graph = ge.Graph("choice", dtype="float64")
        x = graph.input("x", (columns,))
        y = ge.exp(graph.parameter("w", (rows, columns)) @ x)
        assert steps(ge.jacobian(y, x)) == 70


def test_a_jacobian_of_few_steps_has_no_loop() -> None:
    graph, y, x = layer(rows=9, columns=4)
    ge.jacobian(y, x)
    assert not any(isinstance(node.op, Scan) for node in graph.nodes)


def test_what_the_steps_share_is_computed_once_before_the_loop() -> None:
    graph, y, x = layer(rows=100, columns=80)
    (bundle,) = [node for node in ge.jacobian(y, x).graph.nodes if isinstance(node.op, Scan)]
    inside = {node.op.kind for node in bundle.op.body.nodes}
    assert "tanh" not in inside
    assert "tanh" in {node.op.kind for node in graph.nodes}


@in_a_loop_and_without
def test_the_side_that_is_not_stepped_through_may_have_named_dims() -> None:
    graph = ge.Graph("named", dtype="float64")
    x, w = graph.input("x", ("batch", 3)), graph.parameter("w", (3, 2))
    y = ge.tanh(x @ w)
    by_w = ge.jacobian(y, w)
    assert by_w.shape == ("batch", 2, 3, 2)
    total = ge.sum(y, axis=0)
    by_x = ge.jacobian(total, x)
    assert by_x.shape == (2, "batch", 3)
    feeds, held = {"x": f64(5, 3)}, parameters(graph)
    found_w, found_x = values([by_w, by_x], feeds, held)
    np.testing.assert_allclose(found_w, by_differences(y, w, feeds, held), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found_x, by_differences(total, x, feeds, held), rtol=1e-7, atol=1e-8)


@in_a_loop_and_without
def test_what_no_path_leads_to_has_a_zero_jacobian() -> None:
    graph = ge.Graph("apart", dtype="float64")
    x, y = graph.input("x", (7,)), graph.input("y", (6,))
    blocks = ge.jacobian(ge.exp(y), [x, y])
    none, some = values(blocks, {"x": f64(7), "y": f64(6)})
    np.testing.assert_array_equal(none, np.zeros((6, 7)))
    np.testing.assert_allclose(some, np.diag(np.exp(f64(6))))
    empty = graph.constant("empty", np.zeros((0, 2)))
    assert ge.jacobian(empty * 2.0, empty).shape == (0, 2, 0, 2)


@in_a_loop_and_without
def test_a_jacobian_is_differentiated_like_any_node() -> None:
    graph, y, x = layer(rows=6, columns=6)
    loss = ge.sum(ge.sin(ge.jacobian(y, x)))
    ge.gradcheck(graph, loss, {"x": f64(6)}, wrt=[x, "w"], tolerance=1e-5)


@in_a_loop_and_without
@both_modes
def test_a_jacobian_through_a_recurrence_agrees_with_differences(mode: str) -> None:
    graph, _, feeds = recurrent()
    feeds = {name: value[..., :2, :] for name, value in feeds.items()}
    state = graph["item_1"]
    total = ge.sum(state, axis=0)
    held = parameters(graph)
    (found,) = values([ge.jacobian(total, graph["u"], mode=mode)], feeds, held)
    np.testing.assert_allclose(found, by_differences(total, graph["u"], feeds, held), rtol=1e-6, atol=1e-8)


def test_a_jacobian_that_cannot_be_had_is_refused() -> None:
    graph = ge.Graph("wrong", dtype="float64")
    x, k = graph.input("x", ("batch", 3)), graph.input("k", (3,), dtype="int64")
    y = ge.exp(x)
    total = ge.sum(y)
    with pytest.raises(ShapeError, match="takes a number of reverse steps that named dims leave open"):
        ge.jacobian(y, x)
    with pytest.raises(ShapeError, match="takes a number of forward steps that named dims leave open"):
        ge.jacobian(total, x, mode="forward")
    with pytest.raises(DTypeError, match="no derivative of or by k"):
        ge.jacobian(y, k)
    with pytest.raises(AttributeValueError, match="'forward' or 'reverse', not 'sideways'"):
        ge.jacobian(y, x, mode="sideways")
    with pytest.raises(GraphError, match="belongs to graph 'other'"):
        ge.jacobian(y, ge.Graph("other").input("x", (2,)))
    assert len(graph) == 4


@in_a_loop_and_without
@pytest.mark.parametrize("model", [mlp, recurrent])
def test_a_hessian_times_a_vector_is_their_product(model) -> None:
    graph, loss, feeds = model()
    wrt = graph.parameters
    vectors = normal_like(wrt)
    blocks, products = ge.hessian(loss, wrt), ge.hvp(loss, wrt, vectors)
    found = values([*(block for row in blocks for block in row), *products], feeds, parameters(graph))
    size = len(wrt)
    sizes = [node.type.size for node in wrt]
    flat = [block.reshape(sizes[i // size], sizes[i % size]) for i, block in enumerate(found[: size**2])]
    whole = np.block([flat[i * size : (i + 1) * size] for i in range(size)])
    np.testing.assert_allclose(whole, whole.T, rtol=1e-9, atol=1e-12)
    product = whole @ np.concatenate([vector.op.value.ravel() for vector in vectors])
    np.testing.assert_allclose(np.concatenate([p.ravel() for p in found[size**2 :]]), product, rtol=1e-9, atol=1e-12)


@in_a_loop_and_without
def test_a_hessian_agrees_with_differences_of_the_gradient() -> None:
    graph, loss, feeds = mlp()
    w = graph["w"]
    held = parameters(graph)
    (gradient,) = ge.grad(loss, [w])
    (found,) = values([ge.hessian(loss, w)], feeds, held)
    assert found.shape == (4, 6, 4, 6)
    np.testing.assert_allclose(found, by_differences(gradient, w, feeds, held), rtol=1e-6, atol=1e-8)


@in_a_loop_and_without
def test_the_hessian_of_a_quadratic_form_is_its_matrix() -> None:
    graph = ge.Graph("quadratic", dtype="float64")
    x = graph.input("x", (5,))
    a = f64(5, 5, seed=4)
    loss = 0.5 * ge.sum(x * (graph.constant("a", a) @ x))
    (found,) = values([ge.hessian(loss, x)], {"x": f64(5)})
    np.testing.assert_allclose(found, (a + a.T) / 2, rtol=1e-12)


@in_a_loop_and_without
def test_the_hessian_of_a_cubic_is_differentiated_like_any_node() -> None:
    graph = ge.Graph("cubic", dtype="float64")
    x = graph.input("x", (6,))
    ge.gradcheck(graph, ge.sum(ge.square(ge.hessian(ge.sum(x * x * x), x))), {"x": f64(6)}, wrt=[x])


def test_the_second_derivative_by_a_scalar_is_a_scalar() -> None:
    graph = ge.Graph("scalar", dtype="float64")
    x = graph.input("x", ())
    second = ge.hessian(ge.sin(x), x)
    assert second.shape == ()
    assert values([second], {"x": np.array(0.4)})[0] == pytest.approx(-np.sin(0.4), rel=1e-14)


def test_a_product_with_the_hessian_costs_a_few_gradients_however_many_weights() -> None:
    graph, loss, _ = mlp()
    gradient = compiled(ge.grad(loss, graph.parameters)).cost(batch=64).total_flops
    product = compiled(ge.hvp(loss, graph.parameters, graph.parameters)).cost(batch=64).total_flops
    assert product < 3 * gradient


def test_a_hessian_that_cannot_be_had_is_refused() -> None:
    graph = ge.Graph("wrong", dtype="float64")
    x = graph.input("x", ("batch", 3))
    loss = ge.sum(ge.exp(x))
    with pytest.raises(ShapeError, match="the size of a Hessian is a number"):
        ge.hessian(loss, x)
    with pytest.raises(ShapeError, match="a loss is a scalar"):
        ge.hessian(ge.exp(x), x)
    with pytest.raises(ShapeError, match="a loss is a scalar"):
        ge.hvp(ge.exp(x), [x], [x])
    with pytest.raises(ShapeError, match="the direction for x = input"):
        ge.hvp(loss, [x], [loss])
    with pytest.raises(GraphError, match="0 directions for the 1 nodes"):
        ge.hvp(loss, [x], [])
    products = ge.hvp(loss, [x], [x])
    assert products[0].type == x.type


@in_a_loop_and_without
def test_derivatives_survive_their_document() -> None:
    graph, y, x = layer(rows=7, columns=6)
    graph.output("jacobian", ge.jacobian(y, x))
    graph.output("hessian", ge.hessian(ge.sum(y), x))
    again = ge.Graph.from_json(graph.to_json())
    assert again == graph
    feeds = {"x": f64(7)}
    for name, value in ge.compile(graph).forward(feeds).items():
        np.testing.assert_array_equal(value, ge.compile(again).forward(feeds)[name])

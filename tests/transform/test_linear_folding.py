"""Chains of linear maps made one: equal values, never more FLOPs, and as few as any grouping takes."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.node import Node
from graphengine.layers.norm import batch_norm
from graphengine.transform.linear_chains import linear_chains, worth_merging
from tests.arrays import f64

Feeds = dict[str, np.ndarray]


def network(sizes: list[int], bias: bool = False) -> ge.Graph:
    """x W1 W2 ... from the first of `sizes` to the last, in float64."""
    g = ge.Graph("network", dtype="float64")
    h = g.input("x", ("batch", sizes[0]))
    for place, (before, after) in enumerate(pairwise(sizes), 1):
        h = h @ g.parameter(f"w{place}", (before, after), init=ge.init.Normal())
        if bias:
            h = h + g.parameter(f"b{place}", (after,), init=ge.init.Normal())
    g.output("y", h)
    return g


def collapsed(graph: ge.Graph, seed: int = 0) -> tuple[ge.Executable, ge.Executable]:
    """The executable of the graph, and that of the collapsed one."""
    exe = ge.compile(graph, seed=seed)
    return exe, ge.compile(ge.collapse(graph, {**exe.parameters, **exe.state}))


def assert_collapses_to(graph: ge.Graph, kinds: str, feeds: Feeds) -> None:
    """The outputs stay, to rounding, and are computed by nodes of these kinds, with fewer FLOPs."""
    exe, small = collapsed(graph)
    assert " ".join(node.op.kind for node in small.graph.nodes if not node.is_leaf) == kinds
    expected, actual = exe.forward(feeds), small.forward(feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-12, atol=1e-12 * np.abs(value).max())
    assert small.program.flops()[0] < exe.program.flops()[0]


def test_three_matrices_are_one() -> None:
    graph = network([8, 16, 16, 4])
    assert_collapses_to(graph, "matmul", {"x": f64(5, 8)})
    exe, small = collapsed(graph)
    w1, w2, w3 = exe.parameters.values()
    (weight,) = (node.op.value for node in small.graph.nodes if node.op.kind == "constant")
    np.testing.assert_allclose(weight, w1 @ w2 @ w3, rtol=1e-12)
    assert exe.cost(batch=10).total_flops == 10 * (16 * 15 + 16 * 31 + 4 * 31)
    assert small.cost(batch=10).total_flops == 10 * (4 * 15)


def test_biases_become_one_bias() -> None:
    assert_collapses_to(network([8, 16, 16, 4], bias=True), "matmul add", {"x": f64(5, 8)})


def test_a_bias_of_zeros_is_not_added() -> None:
    g = ge.zoo.mlp([8, 16, 4], loss="half_squared_error", dtype="float64")
    h = g["x"] @ g["layer1.weight"] + g["layer1.bias"]
    g.output("linear", h @ g["layer2.weight"] + g["layer2.bias"])
    _, small = collapsed(g)
    assert small.graph.outputs["linear"].op.kind == "matmul"


def test_scales_and_shifts_of_the_units_go_in() -> None:
    g = ge.Graph("scaled", dtype="float64")
    scale = g.parameter("scale", (4,), init=ge.init.Normal())
    h = g.input("x", (5, 8)) @ g.parameter("w1", (8, 6)) * 3.0
    h = scale - -(ge.identity(h / 2.0 - 1.0) @ g.parameter("w2", (6, 4)))
    g.output("y", 1.0 * (h + 0.5) * scale)
    assert_collapses_to(g, "matmul add", {"x": f64(5, 8)})


def test_what_is_divided_by_a_value_parts_the_chain() -> None:
    g = ge.Graph("divided", dtype="float64")
    g.output("y", 2.0 / (g.input("x", (5, 4)) @ g.parameter("w1", (4, 4)) @ g.parameter("w2", (4, 4))) * 3.0)
    assert_collapses_to(g, "matmul divide multiply", {"x": f64(5, 4)})


@pytest.mark.parametrize("shape", [(8,), (8, 5), (3, 8, 5)])
def test_matrices_on_the_left_are_one_as_the_lecture_writes_them(shape: tuple[int, ...]) -> None:
    g = ge.Graph("left", dtype="float64")
    x = g.input("x", shape)
    w1, w2, w3 = (g.parameter(f"w{i}", s) for i, s in enumerate([(16, 8), (16, 16), (4, 16)], 1))
    b = g.parameter("b", (16,) if len(shape) == 1 else (16, 1), init=ge.init.Normal())
    g.output("y", w3 @ (w2 @ (w1 @ x) + b))
    assert_collapses_to(g, "matmul add", {"x": f64(*shape)})


def test_on_the_left_and_on_the_right_are_two_chains() -> None:
    g = ge.Graph("sides", dtype="float64")
    w = [g.parameter(f"w{i}", (4, 4)) for i in range(4)]
    g.output("y", w[3] @ (w[2] @ (g.input("x", (4, 4)) @ w[0] @ w[1])))
    assert_collapses_to(g, "matmul matmul", {"x": f64(4, 4)})


def test_a_bias_along_the_other_axis_parts_the_chain() -> None:
    g = ge.Graph("other_axis", dtype="float64")
    h = g.input("x", (4, 4)) @ g.parameter("w1", (4, 4)) + g.parameter("b", (4, 1), init=ge.init.Normal())
    g.output("y", h @ g.parameter("w2", (4, 4)))
    exe, small = collapsed(g)
    assert len(small.program.instructions) == 3
    np.testing.assert_array_equal(small.forward({"x": f64(4, 4)})["y"], exe.forward({"x": f64(4, 4)})["y"])


def test_a_bias_that_widens_the_value_parts_the_chain() -> None:
    g = ge.Graph("widening", dtype="float64")
    h = g.input("x", (1, 4)) @ g.parameter("w1", (4, 4)) + g.parameter("b", (3, 4))
    g.output("y", h @ g.parameter("w2", (4, 4)))
    assert len(collapsed(g)[1].program.instructions) == 3


def test_a_nonlinearity_parts_the_chain() -> None:
    g = ge.Graph("parted", dtype="float64")
    w = [g.parameter(f"w{i}", (4, 4)) for i in range(4)]
    g.output("y", ge.tanh(g.input("x", ("batch", 4)) @ w[0] @ w[1]) @ w[2] @ w[3])
    assert_collapses_to(g, "matmul tanh matmul", {"x": f64(2, 4)})


def test_what_is_narrow_in_the_middle_stays() -> None:
    exe, small = collapsed(network([100, 2, 100]))
    assert len(small.graph.nodes) == len(exe.graph.nodes) == 5
    assert small.cost(batch=3) == exe.cost(batch=3)


def test_a_part_of_a_chain_is_made_one_where_the_whole_would_cost_more() -> None:
    graph = network([100, 2, 50, 100])
    assert_collapses_to(graph, "matmul matmul", {"x": f64(3, 100)})
    assert collapsed(graph)[1].cost(batch=1).total_flops == 2 * 199 + 100 * 3


def test_a_value_that_is_read_twice_or_is_an_output_stays() -> None:
    g = network([4, 4, 4])
    hidden = g["matmul_1"]
    g.output("hidden", hidden)
    assert [link.node for chain in linear_chains(g) for link in chain.links] == []
    g = network([4, 4, 4])
    g.output("other", ge.tanh(g["matmul_1"]))
    assert len(collapsed(g)[1].program.instructions) == 3


def test_a_square_of_a_value_is_no_map_by_a_matrix() -> None:
    g = ge.Graph("square", dtype="float64")
    h = g.input("x", (4, 4)) @ g.parameter("w", (4, 4))
    g.output("y", (h @ h) @ g.parameter("v", (4, 4)) * h)
    assert linear_chains(g) == []


def test_a_weight_that_an_input_reaches_is_no_constant() -> None:
    g = ge.Graph("attending", dtype="float64")
    x = g.input("x", (4, 4))
    g.output("y", x @ g.parameter("w", (4, 4)) @ ge.tanh(x))
    assert linear_chains(g) == []


def test_a_value_that_knows_the_size_of_the_batch_is_no_constant() -> None:
    g = ge.Graph("counting", dtype="float64")
    x = g.input("x", ("batch", 4))
    count = ge.sum(ge.broadcast_to(g.parameter("one", (), init=ge.init.Ones()), ("batch",)))
    g.output("y", x @ g.parameter("w", (4, 4)) * count)
    exe, small = collapsed(g)
    feeds = {"x": f64(3, 4)}
    np.testing.assert_allclose(small.forward(feeds)["y"], exe.forward(feeds)["y"])


def test_what_weights_alone_give_is_computed_once_for_all() -> None:
    g = ge.Graph("tied", dtype="float64")
    w = g.parameter("w", (4, 6), init=ge.init.Normal())
    v = g.parameter("v", (6, 6), init=ge.init.Normal())
    norm = ge.sqrt(ge.sum(ge.square(w)))
    g.output("y", ge.tanh(g.input("x", ("batch", 6)) @ (v / norm) @ w.T))
    g.output("norm", norm)
    exe, small = collapsed(g)
    assert [node.op.kind for node in small.graph.nodes if not node.is_leaf] == ["matmul", "tanh"]
    feeds = {"x": f64(3, 6)}
    np.testing.assert_allclose(small.forward(feeds)["y"], exe.forward(feeds)["y"], rtol=1e-12)
    assert small.forward(feeds)["norm"] == exe.forward(feeds)["norm"]


def test_a_wide_view_of_a_weight_takes_no_memory() -> None:
    g = ge.Graph("wide")
    wide = ge.broadcast_to(g.parameter("b", ()), (1000, 1000))
    g.output("y", ge.sum(g.input("x", (1000,)) * wide))
    assert sum(node.op.value.size for node in collapsed(g)[1].graph.nodes if node.op.kind == "constant") == 1


def test_dropout_and_batch_statistics_are_gone_first() -> None:
    g = ge.Graph("trained", dtype="float64")
    h = g.input("x", ("batch", 6)) @ g.parameter("w1", (6, 8))
    h = ge.dropout(batch_norm(h, name="norm"), 0.5)
    g.output("y", h @ g.parameter("w2", (8, 4)))
    exe = ge.compile(g)
    exe.state["norm.running_mean"] = f64(8)
    small = ge.compile(ge.collapse(g, {**exe.parameters, **exe.state}))
    assert [node.op.kind for node in small.graph.nodes if not node.is_leaf] == ["matmul", "add"]
    expected = exe.inference.forward({"x": f64(3, 6)})["y"]
    np.testing.assert_allclose(small.forward({"x": f64(3, 6)})["y"], expected, rtol=1e-12)


def test_a_product_that_overflows_is_not_made() -> None:
    g = ge.Graph("overflowing")
    h = g.input("x", ("batch", 2)) @ g.parameter("w1", (2, 2), init=ge.init.Constant(1e30))
    g.output("y", h @ g.parameter("w2", (2, 2), init=ge.init.Constant(1e30)))
    exe, small = collapsed(g)
    feeds = {"x": np.full((1, 2), 1e-30)}
    np.testing.assert_array_equal(small.forward(feeds)["y"], exe.forward(feeds)["y"])
    assert np.isfinite(exe.forward(feeds)["y"]).all()


def test_float32_products_are_rounded_once() -> None:
    g = ge.Graph("rounded")
    sizes = [16, 16, 16, 16, 16]
    h = g.input("x", ("batch", 16))
    for place in range(4):
        h = h @ g.parameter(f"w{place}", (16, 16))
    g.output("y", h)
    exe, small = collapsed(g)
    exact = np.linalg.multi_dot([exe.parameters[f"w{i}"].astype(np.float64) for i in range(len(sizes) - 1)])
    (weight,) = (node.op.value for node in small.graph.nodes if node.op.kind == "constant")
    np.testing.assert_array_equal(weight, exact.astype(np.float32))


def test_names_of_what_stays_are_kept_and_new_ones_are_free() -> None:
    g = ge.Graph("names", dtype="float64")
    taken = g.parameter("out.weight", (4,), init=ge.init.Normal())
    w1, w2 = g.parameter("w1", (4, 4)), g.parameter("w2", (4, 4))
    y = ge.matmul(g.input("x", ("batch", 4)) @ w1, w2, name="out")
    g.output("y", ge.tanh(y * ge.tanh(g["x"]) * taken, name="end"))
    names = [node.name for node in collapsed(g)[1].graph.nodes]
    assert "out" in names
    assert "end" in names
    assert {"out.weight", "out.weight_1"} <= set(names)


def test_the_declared_lines_are_kept_and_the_graph_stays_as_it_is() -> None:
    graph = network([4, 4, 4])
    before = graph.to_json()
    small = ge.collapse(graph, ge.compile(graph).parameters)
    assert graph.to_json() == before
    assert small.outputs["y"].where == graph.outputs["y"].where
    assert ge.Graph.from_json(small.to_json()) == small


def test_inputs_outputs_and_updates() -> None:
    g = network([4, 4, 4])
    g.input("unused", (3,))
    g.update(g["w1"], g["w1"] * 0.5)
    small = ge.collapse(g, ge.compile(network([4, 4, 4])).parameters)
    assert [node.name for node in small.inputs] == ["x"]
    assert list(small.outputs) == ["y"]
    assert small.parameters == []
    assert small.updates == {}


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ge.NamingError, match=r"no value is given for w2 = parameter\(\): float64\[4, 4\]; give"):
        ge.collapse(network([4, 4, 4]), {"w1": np.zeros((4, 4))})


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((4, 5)), ge.ShapeError, r"'w2' is float64\[4, 4\], and the value has shape \[4, 5\]"),
        (np.zeros((4, 4), complex), ge.DTypeError, r"'w2' is float64\[4, 4\], and the value is complex128"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ge.collapse(network([4, 4, 4]), {"w1": np.zeros((4, 4)), "w2": value})


def flops_of(groups: list[tuple[int, int, bool]]) -> int:
    return sum(after * (2 * before - 1 + shifted) for before, after, shifted in groups)


def test_no_grouping_of_the_matrices_takes_fewer_flops() -> None:
    """Held against all groupings, on chains drawn at random, with biases here and there."""
    generator = np.random.default_rng(0)
    for _ in range(60):
        sizes = [int(size) for size in generator.integers(1, 9, generator.integers(3, 7))]
        biased = generator.integers(0, 2, len(sizes) - 1).astype(bool)
        g = ge.Graph("drawn", dtype="float64")
        h: Node = g.input("x", ("batch", sizes[0]))
        for place, (before, after) in enumerate(pairwise(sizes)):
            h = h @ g.parameter(f"w{place}", (before, after), init=ge.init.Normal())
            h = h + g.parameter(f"b{place}", (after,), init=ge.init.Normal()) if biased[place] else h
        g.output("y", h)
        inner = range(1, len(sizes) - 1)
        cuts = [(0, *cut, len(sizes) - 1) for n in range(len(sizes)) for cut in combinations(inner, n)]
        least = min(flops_of([(sizes[a], sizes[b], biased[a:b].any()) for a, b in pairwise(cut)]) for cut in cuts)
        exe, small = collapsed(g)
        assert small.cost(batch=1).total_flops == least
        feeds = {"x": f64(2, sizes[0])}
        np.testing.assert_allclose(small.forward(feeds)["y"], exe.forward(feeds)["y"], rtol=1e-9, atol=1e-9)


def test_the_parts_say_what_they_cost() -> None:
    (chain,) = linear_chains(network([100, 2, 50, 100], bias=True))
    assert chain.sizes == (100, 2, 2, 50, 50, 100, 100)
    assert chain.flops == ge.compile(network([100, 2, 50, 100], bias=True)).cost(batch=1).total_flops
    (part,) = worth_merging(chain)
    assert (part.sizes[0], part.sizes[-1]) == (2, 100)
    assert part.merged_flops == 100 * 4


def test_a_chain_of_many_thousand_links_is_collapsed() -> None:
    g = ge.Graph("long", dtype="float64")
    w, b = g.parameter("w", (2, 2), init=ge.init.Orthogonal()), g.parameter("b", (2,), init=ge.init.Normal())
    h = g.input("x", ("batch", 2))
    for _ in range(5000):
        h = h @ w + b
    g.output("y", h)
    parameters = ge.compile(g).parameters
    y = x = f64(3, 2)
    for _ in range(5000):
        y = y @ parameters["w"] + parameters["b"]
    small = ge.compile(ge.collapse(g, parameters))
    assert len(small.program.instructions) == 2
    np.testing.assert_allclose(small.forward({"x": x})["y"], y, rtol=1e-9)

"""Forward mode and the chain rule written out, against backpropagation: the same numbers, at the cost that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from benchmarks.networks import ladder
from graphengine import zoo
from graphengine.baselines import Differences, Element, ForwardMode, Unshared, every_element
from graphengine.baselines.unshared import Paths
from graphengine.errors import ExecutionError, NamingError
from graphengine.testing import in_float64
from tests.arrays import f64
from tests.baselines.graphs import two_layers
from tests.random_graphs import BATCH, SEEDS, Sample, grow

FEEDS = {"x": f64(5, 3)}
WAYS = [ForwardMode, Unshared]

every_way = pytest.mark.parametrize("way", WAYS)


def backprop(graph: ge.Graph, feeds: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    exe = ge.compile(graph, loss="loss", seed=seed)
    exe.forward(feeds)
    return exe.backward()


def pictures(batch: int) -> dict[str, np.ndarray]:
    return {"pixels": f64(batch, 64), "label": np.arange(batch) % 10}


ZOO = {
    "lstm": (zoo.digits_lstm, pictures(2)),
    "digits": (zoo.digits_network, pictures(3)),
    "autoencoder": (zoo.convolutional_autoencoder, {"pixels": f64(2, 64)}),
}


@every_way
def test_every_element_is_that_of_backpropagation(way: type) -> None:
    graph = two_layers()
    gradients, one_by_one = backprop(graph, FEEDS, seed=1), way(graph, "loss", seed=1)
    for name, gradient in gradients.items():
        given = [one_by_one.derivative(FEEDS, Element(name, place)) for place in range(gradient.size)]
        np.testing.assert_allclose(given, gradient.ravel(), rtol=1e-13, err_msg=name)


@every_way
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_of_all_ops_agree(way: type, seed: int) -> None:
    sample: Sample = grow(seed)
    one_by_one = way(sample.graph, "loss")
    for name, gradient in backprop(sample.graph, sample.feeds).items():
        element = Element(name, gradient.size // 2)
        given = one_by_one.derivative(sample.feeds, element)
        assert given == pytest.approx(gradient.flat[element.place], abs=1e-12 * max(1.0, np.abs(gradient).max()))


@given(seed=st.integers(min_value=len(SEEDS), max_value=10_000), size=st.integers(min_value=1, max_value=12))
@settings(max_examples=10)
def test_all_ways_agree_on_any_random_graph(seed: int, size: int) -> None:
    sample = grow(seed, size)
    gradients, ways = backprop(sample.graph, sample.feeds), [way(sample.graph, "loss") for way in (*WAYS, Differences)]
    for name, gradient in gradients.items():
        element = Element(name, seed % gradient.size)
        scale = max(1.0, float(np.abs(gradient).max()))
        for way in ways:
            if way.followed(name) == way.paths(name):
                given = way.derivative(sample.feeds, element)
                assert given == pytest.approx(gradient.flat[element.place], abs=1e-6 * scale)


@every_way
@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_agree(way: type, name: str) -> None:
    build, feeds = ZOO[name]
    graph = in_float64(build())
    one_by_one = way(graph, "loss")
    gradients = backprop(graph, feeds)
    for name in (min(gradients), max(gradients)):
        place = int(np.abs(gradients[name]).argmax())
        expected = gradients[name].flat[place]
        assert one_by_one.derivative(feeds, Element(name, place)) == pytest.approx(expected, rel=1e-10)


@every_way
def test_a_parameter_that_no_path_leads_from_has_derivative_0(way: type) -> None:
    graph = two_layers()
    graph.parameter("idle", (2,), init=ge.init.Constant(3.0))
    stopped = graph.parameter("stopped", (), init=ge.init.Constant(3.0))
    graph.outputs["loss"] = graph.outputs["loss"] * ge.stop_gradient(stopped)
    one_by_one = way(graph, "loss")
    assert one_by_one.derivative(FEEDS, Element("idle", 1)) == one_by_one.derivative(FEEDS, Element("stopped", 0)) == 0


@every_way
def test_an_element_that_is_not_there_is_an_error(way: type) -> None:
    one_by_one = way(two_layers(), "loss")
    with pytest.raises(ExecutionError, match="elements 0 to 11, and not 12"):
        one_by_one.derivative(FEEDS, Element("w", 12))
    with pytest.raises(NamingError, match="'u'"):
        one_by_one.derivative(FEEDS, Element("u", 0))


@every_way
def test_a_graph_may_have_an_input_called_place(way: type) -> None:
    graph = ge.Graph("placed", dtype="float64")
    graph.output("loss", graph.parameter("w", (), init=ge.init.Constant(2.0)) * graph.input("place", ()))
    assert way(graph, "loss").derivative({"place": 5.0}, Element("w", 0)) == 5.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pass_in_forward_mode_costs_at_most_three_forward_passes(seed: int) -> None:
    sample = grow(seed)
    graph = sample.graph.copy()
    graph.outputs = {"loss": graph.outputs["loss"]}
    forward = ge.compile(graph).cost(batch=BATCH).total_flops
    assert max(ForwardMode(graph, "loss").flops({"batch": BATCH}).values()) <= 3 * forward


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cost_of_all_paths_is_counted_without_following_them(seed: int) -> None:
    graph, sizes = grow(seed).graph, {"batch": BATCH}
    one_by_one = Unshared(graph, "loss")
    for name, flops in one_by_one.flops(sizes).items():
        assert one_by_one.followed(name) == one_by_one.paths(name)
        assert one_by_one.executable(name).cost(**sizes).total_flops == flops


def test_the_paths_are_those_that_the_audit_counts() -> None:
    for graph in (ladder(12), two_layers()):
        one_by_one = Unshared(graph, "loss")
        paths = sum(one_by_one.paths(node.name) for node in graph.parameters)
        assert paths == ge.compile(graph, loss="loss").audit().paths


def test_a_ladder_costs_twice_as_much_with_every_rung_and_its_forward_pass_two_operations_more() -> None:
    costs = [Unshared(ladder(rungs), "loss").flops({})["v"] for rungs in range(1, 60)]
    for rungs, (cost, following) in enumerate(pairwise(costs), 1):
        edges = 3 * 2 ** (rungs - 1) * rungs  # half of all paths multiply at a rung, by v x_dot + x_dot v
        assert cost == 2 * rungs + edges + 2**rungs - 1
        assert following > 2 * cost


def test_of_too_many_paths_some_are_followed_each_as_likely_as_any_other() -> None:
    graph = ladder(3)
    paths, leaf = Paths(graph.outputs["loss"], graph.parameters), graph["v"]
    drawn = Counter(paths.sample(leaf, 8000))
    assert set(drawn) == set(paths.of(leaf))
    assert len(drawn) == paths.counts[leaf] == 8
    assert all(900 < count < 1100 for count in drawn.values())
    few = Unshared(graph, "loss", paths=5)
    assert (few.paths("v"), few.followed("v")) == (8, 5)


def test_nothing_is_shared_but_the_forward_pass() -> None:
    """4 rungs: 16 paths, on each of which every multiplication of a rung is made anew."""
    exe = Unshared(ladder(4), "loss").executable("v")
    kinds = [step.op.kind for step in exe.plan().instructions]
    multiplications_of_paths = 2 * 4 * 8
    assert kinds.count("multiply") == 4 + multiplications_of_paths


def test_a_network_declared_number_by_number_has_a_path_for_every_way() -> None:
    graph = ge.Graph("numbers", dtype="float64")
    x = graph.input("x", ())
    units = [x]
    for layer, width in enumerate((3, 3, 1)):
        weights = [[graph.parameter(f"w{layer}.{i}.{j}", ()) for i in range(len(units))] for j in range(width)]
        products = [[unit * w for unit, w in zip(units, row, strict=True)] for row in weights]
        units = [ge.tanh(sum(terms[1:], terms[0])) for terms in products]
    graph.output("loss", units[0])
    one_by_one = Unshared(graph, "loss")
    assert [one_by_one.paths(name) for name in ("w0.0.0", "w1.0.0", "w2.0.0")] == [3, 1, 1]
    exe = ge.compile(graph)
    assert sum(one_by_one.paths(element.parameter) for element in every_element(exe.parameters)) == 3 * 3 + 9 + 3

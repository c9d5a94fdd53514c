"""Memory budgets: what is computed again is bit for bit the same, what is allocated fits, and the price is told."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.budget import plan_within
from graphengine.schedule.memory import plan
from graphengine.schedule.order import schedule
from graphengine.transform.rematerialization import Repeated
from graphengine.transform.training_graph import dim_names
from tests.random_graphs import BATCH, SEED, SEEDS, grow
from tests.schedule.replay import prove
from tests.schedule.tangles import tangles
from tests.schedule.test_memory import agrees_with_naive_evaluation

WIDTH = 16


def deep(layers: int, rate: float = 0.0) -> Graph:
    graph = ge.Graph("deep")
    value = graph.input("x", ("batch", WIDTH))
    for layer in range(layers):
        value = ge.tanh(value @ graph.parameter(f"w{layer}", (WIDTH, WIDTH)) + graph.parameter(f"b{layer}", (WIDTH,)))
        value = ge.dropout(value, rate) if rate else value
    graph.output("loss", ge.mean(value * value))
    return graph


NETWORKS: dict[str, Callable[[], Graph]] = {
    "deep": lambda: deep(24),
    "dropout": lambda: deep(16, rate=0.2),
    "transformer": lambda: ge.zoo.character_transformer(20, units=16, heads=2, blocks=3),
    "autoencoder": ge.zoo.convolutional_autoencoder,
    "lstm": ge.zoo.digits_lstm,
}


def feeds_of(exe: Executable, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feeds = {}
    for name, type_ in exe.needs().items():
        shape = type_.bind(sizes).static_shape
        is_label = type_.dtype.startswith("int")
        feeds[name] = random.integers(0, 3, shape) if is_label else random.normal(size=shape).astype(type_.dtype)
    return feeds


def fits(graph: Graph, share: float, sizes: dict[str, int], **options: object) -> Executable | None:
    """`graph` compiled for this share of the memory that it takes by itself, if it can do with it."""
    budget = int(share * ge.compile(graph, loss="loss", **options).cost(**sizes).peak_bytes)
    exe = ge.compile(graph, loss="loss", memory_budget=budget, **options)
    try:
        exe.plan(**sizes)
    except ge.CompileError:
        return None
    return exe


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_to_the_same_bits_in_less_memory(name: str, share: float) -> None:
    graph = NETWORKS[name]()
    whole = ge.compile(graph, loss="loss", optimizer=ge.Adam())
    sizes = dict.fromkeys(dim_names(whole.graph), 8)
    exe = fits(graph, share, sizes, optimizer=ge.Adam())
    if exe is None:
        assert name in ("autoencoder", "lstm") or share < 0.6
        return
    assert exe.cost(**sizes).recomputed_flops > 0
    for seed in range(3):
        feeds = feeds_of(exe, sizes, seed)
        assert exe.step(feeds) == whole.step(feeds)
    for parameter, value in whole.parameters.items():
        np.testing.assert_array_equal(exe.parameters[parameter], value)


@pytest.mark.parametrize("share", [0.9, 0.7])
def test_gradients_between_two_calls_are_the_same_bits(share: float) -> None:
    graph = NETWORKS["transformer"]()
    whole = ge.compile(graph, loss="loss")
    sizes = dict.fromkeys(dim_names(whole.graph), 8)
    exe = fits(graph, share, sizes)
    assert exe is not None
    assert exe.cost(**sizes).retained_bytes < whole.cost(**sizes).retained_bytes
    feeds = feeds_of(ge.compile(graph, loss="loss", optimizer=ge.Adam()), sizes)
    assert exe.forward(feeds)["loss"] == whole.forward(feeds)["loss"]
    expected = whole.backward()
    assert all(np.array_equal(gradient, expected[name]) for name, gradient in exe.backward().items())
    assert exe.forward(feeds)["loss"] == whole.forward(feeds)["loss"]


@pytest.mark.parametrize("seed", list(SEEDS)[:12])
def test_random_graphs_have_the_same_gradients_in_less_memory(seed: int) -> None:
    sample = grow(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        whole = ge.compile(sample.graph, loss="loss", seed=SEED)
        exe = fits(sample.graph, 0.85, {"batch": BATCH}, seed=SEED)
    if exe is None:
        return
    assert exe.forward(sample.feeds)["loss"] == whole.forward(sample.feeds)["loss"]
    expected = whole.backward()
    assert all(np.array_equal(gradient, expected[name]) for name, gradient in exe.backward().items())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tangles(), st.data())
def test_what_is_computed_again_finds_its_operands(
    tangle: tuple[Graph, list[Node], dict[Node, Node]], data: st.DataObject
) -> None:
    graph, results, updates = tangle
    graph.updates = updates
    graph.outputs = {node.name: node for node in results}
    order: list[Node] = []
    for node in schedule(needed_nodes([*results, *updates.values()]), updates):
        again = [other for other in order if other.phase is Phase.FORWARD]
        if again and data.draw(st.booleans()):
            order.append(data.draw(st.sampled_from(again)))
        order += [] if node.is_leaf else [node]
    copy = Repeated(graph, order).graph
    program = plan("again", copy.outputs, copy.updates, {})
    prove(program, copy, copy.outputs, copy.updates)
    agrees_with_naive_evaluation(graph, program, results, updates)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tangles(), st.sampled_from([0.9, 0.7, 0.5]))
def test_a_plan_within_a_budget_keeps_to_it_and_computes_the_same(
    tangle: tuple[Graph, list[Node], dict[Node, Node]], share: float
) -> None:
    graph, results, updates = tangle
    graph.updates = updates
    graph.outputs = {node.name: node for node in results}
    budget = int(share * plan("whole", graph.outputs, updates, {}).peak_bytes)
    try:
        program = plan_within(budget, "within", graph, {})
    except ge.CompileError:
        return
    assert program.peak_bytes <= budget
    agrees_with_naive_evaluation(graph, program, results, updates)


@pytest.mark.parametrize("layers", [64, 256])
def test_a_chain_of_equal_layers_is_trained_in_memory_of_the_order_of_the_root_of_their_number(layers: int) -> None:
    value = 4 * WIDTH * 32
    budget = int((2 * layers**0.5 + 8) * value)
    exe = ge.compile(deep(layers), loss="loss", optimizer=ge.SGD(learning_rate=0.1), memory_budget=budget)
    cost = exe.cost(batch=32)
    forward = ge.compile(deep(layers)).cost(batch=32).total_flops
    assert cost.peak_bytes <= budget
    assert cost.recomputed_flops < 1.2 * forward


def test_less_memory_still_is_had_for_more_work() -> None:
    costs = []
    for values in (30, 18, 12):
        exe = ge.compile(
            deep(60), loss="loss", optimizer=ge.SGD(learning_rate=0.1), memory_budget=values * 4 * WIDTH * 32
        )
        costs.append(exe.cost(batch=32))
    assert costs[0].recomputed_flops < costs[1].recomputed_flops < costs[2].recomputed_flops


@pytest.mark.parametrize("kind", ["forward", "gradient", "step"])
def test_what_is_allocated_is_what_was_predicted(kind: str) -> None:
    exe = fits(NETWORKS["transformer"](), 0.6, {"batch": 8, "time": 8}, optimizer=ge.Adam())
    assert exe is not None
    predicted = exe.plan(kind, batch=8, time=8).peak_bytes
    feeds = feeds_of(exe, {"batch": 8, "time": 8})
    if kind == "step":
        exe.step(feeds)
    else:
        exe.forward(feeds, outputs=["loss"] if kind == "gradient" else ["logits"])
    bound = exe.programs.latest
    assert bound.runnable.arena.nbytes == bound.program.peak_bytes <= predicted


def test_the_price_is_told() -> None:
    exe = fits(deep(24), 0.5, {"batch": 8}, optimizer=ge.SGD(learning_rate=0.1))
    assert exe is not None
    cost, program = exe.cost(batch=8), exe.plan(batch=8)
    whole = ge.compile(deep(24), loss="loss", optimizer=ge.SGD(learning_rate=0.1)).cost(batch=8)
    assert cost.recomputed_flops == cost.total_flops - whole.total_flops > 0
    assert cost.memory_budget == whole.peak_bytes // 2
    more = 100 * cost.recomputed_flops / whole.total_flops
    assert f"fits in {cost.peak_bytes:,} of {cost.memory_budget:,} B for {more:.1f} % more FLOPs" in str(cost)
    assert {step.phase for step in program.instructions if step.name in program.recomputed} == {Phase.BACKWARD}


def test_the_audit_counts_apart_what_is_computed_again() -> None:
    exe = fits(deep(24), 0.5, {"batch": 8}, optimizer=ge.SGD(learning_rate=0.1))
    assert exe is not None
    exe.step({"x": np.zeros((8, WIDTH), np.float32)})
    found, whole = exe.audit(), ge.compile(deep(24), loss="loss").audit()
    assert found.ok
    again = {step.name for step in exe.program.instructions if not step.is_view} & exe.program.recomputed
    assert found.recomputed == len(again) > 0
    assert (found.values, found.adjoints) == (whole.values, whole.adjoints)
    assert f"and {found.recomputed} again to keep to the memory budget" in str(found)


def test_a_budget_that_is_not_needed_changes_nothing() -> None:
    exe = ge.compile(deep(4), loss="loss", memory_budget=10**9)
    assert exe.cost(batch=8).recomputed_flops == 0
    whole = ge.compile(deep(4), loss="loss").plan(batch=8)
    assert str(exe.plan(batch=8)) == str(whole)
    exact = ge.compile(deep(4), loss="loss", memory_budget=whole.peak_bytes)
    assert str(exact.plan(batch=8)) == str(whole)
    assert not exact.plan(batch=8).recomputed


def test_what_cannot_be_is_refused_with_the_least_that_can() -> None:
    exe = ge.compile(deep(24), loss="loss", optimizer=ge.SGD(learning_rate=0.1), memory_budget=2000)
    with pytest.raises(ge.CompileError, match="'step' does not fit in a memory_budget of 2,000 bytes") as caught:
        exe.step({"x": np.zeros((8, WIDTH), np.float32)})
    least = int(re.findall(r"and ([\d,]+) is the least found", str(caught.value))[0].replace(",", ""))
    again = ge.compile(deep(24), loss="loss", optimizer=ge.SGD(learning_rate=0.1), memory_budget=least)
    assert again.cost(batch=8).peak_bytes <= least


def test_sizes_that_are_known_are_refused_when_compiled() -> None:
    graph = ge.Graph("fixed")
    graph.output("y", ge.exp(graph.input("x", (100, 100))))
    with pytest.raises(ge.CompileError, match=r"it holds\s+exp_1, float32\[100, 100\], 40,000 bytes"):
        ge.compile(graph, memory_budget=1000)


def test_a_budget_is_a_number_of_bytes() -> None:
    with pytest.raises(ge.CompileError, match="not -1"):
        ge.compile(deep(2), memory_budget=-1)


def test_a_forward_pass_keeps_to_a_budget_too() -> None:
    graph = ge.Graph("skip")
    x = graph.input("x", (64, 64))
    first = ge.exp(x)
    second = ge.sin(x)
    value = first @ second
    for _ in range(4):
        value = value @ value
    graph.output("y", value @ first @ second)
    whole = ge.compile(graph)
    exe = ge.compile(graph, memory_budget=3 * 64 * 64 * 4)
    assert whole.cost().peak_bytes == 4 * 64 * 64 * 4
    assert exe.cost().peak_bytes == 3 * 64 * 64 * 4
    x = np.random.default_rng(0).normal(scale=0.05, size=(64, 64)).astype("float32")
    np.testing.assert_array_equal(exe.forward({"x": x})["y"], whole.forward({"x": x})["y"])


def with_steps_of_several_results(seed: int) -> Graph:
    """A random network of scans, splits, dropout and views, whose outputs are any of its values, and of frozen layers.

    What only frozen layers read, BACKWARD reads not at all: it is let go early, and comes again with what is read.
    """
    random = np.random.default_rng(seed)
    graph = ge.Graph("several", dtype="float64")
    x, state = graph.input("x", (6, 16)), graph.state("s", (16,))
    pool = [x * graph.parameter("w", (16,), init=ge.init.Normal(std=1.0))]

    def pick() -> Node:
        return pool[-1 - int(random.integers(min(3, len(pool))))]

    def scanned() -> list[Node]:
        last, steps = ge.scan(lambda c, t: (ge.tanh(c + t), (t * 2.0, ge.sin(t))), state, pick())
        return [*steps, last * pick()]

    def cut() -> list[Node]:
        left, right = ge.split(pick(), 2, axis=1)
        return [ge.concat([right, ge.tanh(left)], axis=1), ge.concat([left, left], axis=1)]

    def dense() -> list[Node]:
        trained = bool(random.integers(2))
        return [ge.tanh(pick() @ graph.parameter(f"m{len(pool)}", (16, 16), trainable=trained))]

    def gated() -> list[Node]:
        value = pick()
        gate = ge.sigmoid(value)
        return [gate, value * gate]

    kinds = [scanned, cut, dense, gated, lambda: [ge.dropout(pick(), 0.3)], lambda: [ge.reshape(pick().T, (6, 16))]]
    for _ in range(10):
        pool += kinds[int(random.integers(len(kinds)))]()
    for number in random.choice(len(pool), size=min(4, len(pool)), replace=False):
        graph.output(f"o{number}", pool[number].T if random.integers(2) else pool[number])
    graph.update(state, ge.mean(pick(), axis=0))
    graph.output("loss", ge.mean(ge.square(sum(pool[-4:], start=x))))
    return graph


def least_budget(compiled: Callable[[int], Executable], peak: int) -> int:
    """The least budget with which all programs of an executable fit, to one part in a hundred."""
    low, high = 0, peak
    while high - low > peak // 100:
        middle = (low + high) // 2
        try:
            exe = compiled(middle)
            high = max(exe.plan(kind).peak_bytes for kind in ("gradient", "step"))
        except ge.CompileError:
            low = middle
    return high


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("rewrites", [None, []])
@pytest.mark.parametrize("seed", [0, 10, 29, 52])
def test_outputs_of_any_step_are_the_same_bits_in_the_least_memory(
    seed: int, rewrites: list[str] | None, backend: str
) -> None:
    graph = with_steps_of_several_results(seed)
    random = np.random.default_rng(seed)
    feeds = [{"x": random.normal(size=(6, 16))} for _ in range(3)]
    options = {"loss": "loss", "optimizer": ge.Adam(learning_rate=0.1), "rewrites": rewrites, "backend": backend}
    peak = ge.compile(graph, **options).cost().peak_bytes
    least = least_budget(lambda budget: ge.compile(graph, **options, memory_budget=budget), peak)
    for budget in dict.fromkeys([least, (least + peak) // 2]):
        whole, exe = ge.compile(graph, **options), ge.compile(graph, **options, memory_budget=budget)
        for fed in feeds:
            subset = [name for name in graph.outputs if random.integers(2)]
            for names in (None, subset):
                try:
                    got = exe.forward(fed, names)
                except ge.CompileError:  # a program of other outputs than those for which the budget was found
                    continue
                want = whole.forward(fed, names)
                assert all(np.array_equal(got[name], want[name]) for name in want)
                if names is None or "loss" in names:
                    want, got = whole.backward(), exe.backward()
                    assert all(np.array_equal(got[name], want[name]) for name in want)
            assert exe.step(fed) == whole.step(fed)
            held = {**whole.parameters, **whole.state}
            assert all(np.array_equal({**exe.parameters, **exe.state}[name], held[name]) for name in held)

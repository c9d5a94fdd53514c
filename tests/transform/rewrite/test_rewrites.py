"""What holds of every rewrite, over random graphs of all ops: the values stay, and what comes out is a graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Leaf
from graphengine.transform.extract import extract
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.passes import REWRITES, on_copy, stages
from tests.random_graphs import BATCH, SEED, SEEDS, Sample, evaluate, grow

TOLERANCE = 1e-9
"""Relative, in float64: rewrites round otherwise, and gradients of 60 nodes in a row carry that on."""

sample = cache(grow)
every_seed = pytest.mark.parametrize("seed", SEEDS)


def compiled(sample: Sample, **options: object) -> Executable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        optimizer = ge.SGD(learning_rate=0.01, momentum=0.9)
        return ge.compile(sample.graph, loss="loss", seed=SEED, wrt=sample.float_leaves, optimizer=optimizer, **options)


@cache
def whole(seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A grown graph with gradients for outputs, and updates, as it was before any rewrite; and what leaves hold."""
    exe = compiled(sample(seed), rewrites=())
    results = [*exe.graph.outputs.values(), *exe.programs.training.gradients.values()]
    graph = extract(exe.graph, dict.fromkeys(results), exe.graph.updates)
    given = dict(sample(seed).given)
    for node in graph.nodes:
        if isinstance(node.op, Leaf) and not isinstance(node.op, Constant) and node.name not in given:
            given[node.name] = np.full(node.type.static_shape, 0.25, node.dtype)
    return graph, given


def results_of(graph: Graph, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        values = evaluate(graph.nodes, given, {"batch": BATCH})
    asked = {**graph.outputs, **{f"next {leaf.name}": node for leaf, node in graph.updates.items()}}
    return {name: values[node.name] for name, node in asked.items()}


def assert_agree(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(np.max(np.abs(value), initial=0.0)))
        np.testing.assert_allclose(actual[name], value, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=name)


@every_seed
@pytest.mark.parametrize("name", [*REWRITES])
def test_a_rewrite_alone_changes_no_value_gradient_or_update(name: str, seed: int) -> None:
    graph, given = whole(seed)
    after = on_copy(REWRITES[name], graph)
    check_rewrite(graph, after)
    assert_agree(results_of(after, given), results_of(graph, given))


@every_seed
@pytest.mark.parametrize("name", [*REWRITES])
def test_all_rewrites_but_one_change_no_value_gradient_or_update(name: str, seed: int) -> None:
    graph, given = whole(seed)
    after = graph
    for other in REWRITES:
        if other != name:
            before, after = after, on_copy(REWRITES[other], after)
            check_rewrite(before, after)
    assert_agree(results_of(after, given), results_of(graph, given))


@every_seed
def test_all_rewrites_together_change_no_run(seed: int) -> None:
    plain, rewritten = compiled(sample(seed), rewrites=()), compiled(sample(seed))
    feeds = sample(seed).feeds
    assert_agree(rewritten.forward(feeds), plain.forward(feeds))
    assert_agree(rewritten.backward(), plain.backward())
    for _ in range(2):
        loss = rewritten.step(feeds)
        assert loss == pytest.approx(plain.step(feeds), rel=TOLERANCE)
    assert_agree(rewritten.parameters, plain.parameters)
    assert_agree(rewritten.state, plain.state)


@every_seed
def test_rewrites_of_a_copy_leave_the_graph_and_the_bodies_of_its_scans_as_they_are(seed: int) -> None:
    graph, _ = whole(seed)
    document = graph.to_json()
    stages(graph, tuple(REWRITES))
    assert graph.to_json() == document


@every_seed
def test_rewrites_never_cost_operations(seed: int) -> None:
    plain, rewritten = compiled(sample(seed), rewrites=()), compiled(sample(seed))
    assert rewritten.cost(batch=BATCH).total_flops <= plain.cost(batch=BATCH).total_flops


def test_names_that_are_none_are_refused() -> None:
    g = ge.Graph("g")
    g.output("y", g.input("x", ()) * 2.0)
    with pytest.raises(ge.CompileError, match="no rewrite 'algebr'; did you mean 'algebra'"):
        ge.compile(g, rewrites=["algebr"])


def test_old_names_of_rewrites_are_taken_with_a_warning() -> None:
    g = ge.Graph("g")
    g.output("y", g.input("x", ()))
    with pytest.warns(DeprecationWarning, match="is called '(cse|dce)' now") as warnings:
        exe = ge.compile(g, rewrites=["duplicates", "dead", "fuse"])
    assert exe.programs.settings.rewrites == ("dce", "cse", "fuse")
    assert {warning.filename for warning in warnings} == {__file__}


def test_rewrites_are_made_in_the_order_in_which_they_are_listed() -> None:
    g = ge.Graph("g")
    g.output("y", g.input("x", ()) * 2.0)
    exe = ge.compile(g, rewrites=[*REWRITES][::-1])
    assert exe.programs.settings.rewrites == tuple(REWRITES)

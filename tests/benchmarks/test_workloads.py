"""The networks that engines are compared on."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import pytest

from benchmarks.dags import chain_dag, layered_dag, random_dag
from benchmarks.worker.with_graphengine import graph_of
from benchmarks.workloads import WORKLOADS

PARAMETERS = {
    "tiny": 16 * 32 + 32 + 32 * 10 + 10,
    "digits": 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10,
    "mnist": 784 * 256 + 256 + 256 * 10 + 10,
    "wide": 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10,
    "gemm": 3 * (1024 * 1024 + 1024) + 1024 * 10 + 10,
    "lenet": 8 * 25 + 8 + 16 * 8 * 25 + 16 + 256 * 10 + 10,
    "lstm": 4 * 64 * (32 + 64 + 1) + 64 * 10 + 10,
    "block": 4 * 64 + 64 * 192 + 192 + 64 * 64 + 64 + 64 * 256 + 256 + 256 * 64 + 64,
    "elementwise": 10**6 + 2,
    "scalar": 32,
}
BATCHES = {"tiny": 1, "digits": 32, "mnist": 128, "wide": 128, "gemm": 512, "lenet": 64, "lstm": 32, "block": 8}


def test_there_is_a_size_for_every_row() -> None:
    assert list(WORKLOADS) == list(PARAMETERS)


@pytest.mark.parametrize("row", WORKLOADS)
def test_a_row_has_the_sizes_that_it_says_and_is_the_same_each_time(row: str) -> None:
    case, again = WORKLOADS[row].case(), WORKLOADS[row].case()
    assert sum(value.size for value in case.parameters.values()) == PARAMETERS[row]
    assert {len(value) for value in case.feeds.values()} == ({BATCHES[row]} if row in BATCHES else set())
    assert all(value.dtype == np.float32 for value in case.parameters.values())
    for name, value in {**case.parameters, **case.feeds}.items():
        assert np.array_equal(value, {**again.parameters, **again.feeds}[name])


@pytest.mark.parametrize("row", WORKLOADS)
def test_the_engine_s_network_has_the_parameters_of_the_row(row: str) -> None:
    case = WORKLOADS[row].case()
    graph = graph_of(case.family, case.settings, case.feeds)
    declared = {node.name: node.shape for node in graph.parameters}
    assert declared == {name: value.shape for name, value in case.parameters.items()}


def values_of(dag: dict) -> list[float]:
    values = list(dag["first"])
    ops = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b, "tanh": np.tanh}
    for op, *parents in dag["nodes"]:
        values.append(float(ops[op](*(values[parent] for parent in parents))))
    return values


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("nodes", "leaves"), [(1000, 32), (40, 8), (12, 3)])
def test_a_random_dag_has_so_many_nodes_that_are_all_live_and_of_moderate_size(
    nodes: int, leaves: int, seed: int
) -> None:
    dag = random_dag(nodes, leaves, seed)
    assert len(dag["nodes"]) == nodes
    assert {node[0] for node in dag["nodes"]} <= {"add", "multiply", "tanh"}
    read = Counter(parent for _, *parents in dag["nodes"] for parent in parents)
    assert set(read) == set(range(nodes + leaves - 1))  # all but the loss, which is the last
    assert all(parent < place + leaves for place, (_, *parents) in enumerate(dag["nodes"]) for parent in parents)
    values = values_of(dag)
    assert max(map(abs, values)) < 5
    assert np.median(np.abs(values)) > 0.2


@pytest.mark.parametrize("nodes", [10, 100, 1000])
def test_graphs_that_are_compiled_have_about_so_many_nodes(nodes: int) -> None:
    for dag in (chain_dag(nodes), layered_dag(nodes)):
        assert nodes - 3 <= len(dag["nodes"]) <= nodes
        feeds = {name: np.ones(shape, np.float32) for name, shape in dag["feeds"]}
        graph = graph_of("dag", dag, feeds)
        assert graph.outputs["loss"].shape == ()
        held = sum(prod(node.shape) for node in graph.parameters)
        assert held == sum(prod(shape) for _, shape in dag["parameters"])

"""The cost of a program, held against counts by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends.numpy import NumpyBackend

BATCH, INPUT, HIDDEN, OUTPUT = 128, 10, 16, 3


def mlp() -> ge.Graph:
    graph = ge.Graph("mlp")
    x = graph.input("x", ("batch", INPUT))
    w = graph.parameter("w", (INPUT, HIDDEN))
    b = graph.parameter("b", (HIDDEN,))
    v = graph.parameter("v", (HIDDEN, OUTPUT))
    graph.output("loss", ge.sum(ge.exp(x @ w + b) @ v))
    return graph


FORWARD = (
    BATCH * HIDDEN * (2 * INPUT - 1)  # x @ w: INPUT products and INPUT - 1 sums an element
    + BATCH * HIDDEN  # + b
    + BATCH * HIDDEN  # exp
    + BATCH * OUTPUT * (2 * HIDDEN - 1)  # @ v
    + BATCH * OUTPUT
    - 1  # sum of n elements
)
BACKWARD = (
    HIDDEN * OUTPUT * (2 * BATCH - 1)  # v_bar
    + BATCH * HIDDEN * (2 * OUTPUT - 1)  # h_bar
    + BATCH * HIDDEN  # exp
    + HIDDEN * (BATCH - 1)  # b_bar
    + INPUT * HIDDEN * (2 * BATCH - 1)  # w_bar
)
WEIGHTS = INPUT * HIDDEN + HIDDEN + HIDDEN * OUTPUT


def test_flops_equal_the_count_by_hand() -> None:
    cost = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.5), rewrites=()).cost(batch=BATCH)
    assert cost.flops == {"FORWARD": FORWARD, "BACKWARD": BACKWARD, "UPDATE": 2 * WEIGHTS}
    assert cost.total_flops == FORWARD + BACKWARD + 2 * WEIGHTS


def test_bytes_moved_are_operands_read_and_results_written() -> None:
    cost = ge.compile(mlp(), rewrites=()).cost(batch=BATCH)
    hidden, output = BATCH * HIDDEN, BATCH * OUTPUT
    moved = (BATCH * INPUT + INPUT * HIDDEN + hidden) + (hidden + HIDDEN + hidden) + 2 * hidden
    moved += (hidden + HIDDEN * OUTPUT + output) + (output + 1)
    assert cost.bytes_moved == {"FORWARD": 4 * moved, "BACKWARD": 0, "UPDATE": 0}


def test_leaf_bytes_are_those_of_inputs_parameters_and_constants() -> None:
    cost = ge.compile(mlp()).cost(batch=BATCH)
    assert cost.leaf_bytes == 4 * (BATCH * INPUT + WEIGHTS)


def test_a_forward_program_reuses_its_slots_by_lifetime() -> None:
    cost = ge.compile(mlp(), rewrites=()).cost(batch=BATCH)
    assert cost.peak_bytes == 4 * BATCH * (HIDDEN + OUTPUT)  # h over z, and the product; the loss where h was
    assert cost.retained_bytes == 0


def test_backward_retains_what_it_reads_and_no_more() -> None:
    cost = ge.compile(mlp(), loss="loss").cost(batch=BATCH)
    assert cost.retained_bytes == 4 * BATCH * HIDDEN + 64  # exp's value serves its own adjoint and v's


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_the_arena_that_is_allocated_is_the_peak_that_was_predicted(batch: int) -> None:
    exe = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.5))
    predicted = exe.cost(batch=batch).peak_bytes
    exe.step({"x": np.zeros((batch, INPUT), np.float32)})
    arena = exe.programs.latest.runnable.arena
    assert arena.nbytes == predicted
    assert arena.base.nbytes == predicted + 64  # room to start at a cache line


def long_sums() -> ge.Graph:
    """Sums, statistics and norms over many numbers, alone and in fused regions, along every axis."""
    graph = ge.Graph("long_sums")
    x = graph.input("x", ("batch", 30, 1500))
    w = graph.parameter("w", (1500,), init=ge.init.Ones())
    h = ge.layer_norm(x * w, w, w)
    terms = [ge.log_softmax(h, 1), ge.softmax(ge.transpose(h, (0, 2, 1)), 1)]
    for axis in (0, 1, 2, (0, 1), (0, 2), None):
        terms += [ge.sum(ge.square(h), axis), ge.mean(h, axis), ge.variance(h, axis), ge.logsumexp(h, axis)]
    first, *others = (ge.mean(term) for term in terms)
    graph.output("loss", ge.add(first, sum(others), name="loss"))
    return graph


@pytest.mark.parametrize("network", [ge.zoo.lenet, ge.zoo.digits_lstm, ge.zoo.convolutional_autoencoder, long_sums])
def test_binding_a_program_allocates_its_arena_and_no_other_array(network: Callable[[], ge.Graph]) -> None:
    exe = ge.compile(network(), loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    program = exe.plan(batch=32)
    graph = exe.programs.part("step", ()).graph
    constants = {node.name: node.op.value for node in graph.nodes if node.op.kind == "constant"}
    feeds = {name: np.zeros(leaf.type.static_shape, leaf.type.dtype) for name, leaf in program.leaves.items()}
    tracemalloc.start()
    before = bytes_of_arrays()
    runnable = NumpyBackend().load(program, {**feeds, **constants})
    found = bytes_of_arrays() - before
    tracemalloc.stop()
    assert program.peak_bytes <= found < program.peak_bytes + 4096  # kernels read numbers such as 0.5
    assert runnable.results["loss"].nbytes == 4


def bytes_of_arrays() -> int:
    """What NumPy has allocated for the elements of arrays."""
    only_numpy = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only_numpy]).traces)


def test_cost_is_known_before_anything_runs_and_grows_linearly_with_the_batch() -> None:
    exe = ge.compile(mlp(), loss="loss")
    counts = [exe.cost(batch=batch).flops["FORWARD"] for batch in (1, 2, 3)]
    assert counts[2] - counts[1] == counts[1] - counts[0]


def test_a_cost_reads_as_a_table() -> None:
    text = str(ge.compile(mlp(), loss="loss").cost(batch=BATCH))
    assert text.splitlines()[0].split() == ["phase", "FLOPs", "bytes", "moved"]
    assert f"{FORWARD:,}" in text
    assert "retained 8,256 B" in text

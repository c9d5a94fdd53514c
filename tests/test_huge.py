"""What a graph costs is told in time and memory by its nodes, whatever sizes stand in it."""

import itertools
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.ops.attention import Attention
from graphengine.ops.index import arange
from graphengine.ops.support.window import Sweep
from graphengine.view.lint import lint
from graphengine.view.summary import summarize

HUGE = 10**12
WIDE = 10**8


def with_little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


@pytest.mark.parametrize("backend", installed_backends())
def test_asking_takes_time_by_nodes(backend: str) -> None:
    """Of every op and layer, with each axis of a million million elements."""
    command = [sys.executable, "-m", "tests.huge", backend]
    root = Path(__file__).parents[1]
    result = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=200, preexec_fn=with_little_memory
    )
    assert result.stdout == "all were asked\n", result.stderr


def image(graph: ge.Graph) -> ge.Node:
    return graph.input("x", (2, 3, 4, 5))


def kernel(graph: ge.Graph, *sizes: int) -> ge.Node:
    return graph.parameter("kernel", (2, 3, *sizes))


GRAPHS: dict[str, Callable[[ge.Graph], ge.Node]] = {
    "a parameter": lambda g: g.parameter("w", (2**17, 2**17)),
    "a large window": lambda g: ge.max_pool2d(image(g), (1, 10**9), (1, 10**9), (0, 10**9 - 1)),
    "a mean of a large window": lambda g: ge.avg_pool2d(image(g), (1, 10**9), (1, 10**9), (0, 10**9 - 1)),
    "a padding": lambda g: ge.conv2d(image(g), kernel(g, 2, 2), padding=WIDE),
    "a stride": lambda g: ge.conv2d(image(g), kernel(g, 2, 2), padding=WIDE, stride=WIDE),
    "a dilation": lambda g: ge.conv2d(image(g), kernel(g, 2, 2), padding=WIDE, dilation=WIDE),
    "a kernel": lambda g: ge.conv2d(image(g), kernel(g, 10**9, 2), padding="same"),
    "a stride between": lambda g: ge.conv2d_transpose(image(g), g.parameter("kernel", (3, 2, 2, 2)), stride=WIDE),
    "a convolution of constants": lambda g: ge.conv2d(
        g.constant("x", np.ones((1, 1, 2, 2))), g.constant("w", np.ones((1, 1, 2, 2))), padding=WIDE, stride=WIDE
    ),
    "a pool of a constant": lambda g: ge.max_pool2d(
        g.constant("x", np.ones((1, 1, 2, 2))), (1, 10**9), (1, 10**9), (0, 10**9 - 1)
    ),
    "a scan": lambda g: ge.scan(lambda c, _: (ge.tanh(c), c), g.input("x", (4,)), None, length=HUGE)[1],
    "blocks of one query": lambda g: ge.attention(*[g.input("x", (HUGE, 4))] * 3, causal=True, block=1),
    "a range": lambda g: ge.cast(arange(g, HUGE), "float32"),
    "classes": lambda g: ge.one_hot(g.input("i", (4,), dtype="int64"), HUGE),
}


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("what", GRAPHS)
def test_numbers_in_a_graph_cost_nothing(what: str, backend: str) -> None:
    graph = ge.Graph("huge")
    y = GRAPHS[what](graph)
    graph.output("loss", ge.mean(y * graph.parameter("factor", (), init=ge.init.Ones())))
    graph.training = ge.Training(loss="loss", optimizer=ge.Adam(0.1), batch_size=4, epochs=1)
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam(0.1), backend=backend)
    assert str(exe.plan())
    assert exe.audit().ok
    assert str(exe.explain())
    peak = exe.cost().peak_bytes
    with pytest.raises(ge.CompileError, match="does not fit"):
        ge.compile(graph, loss="loss", optimizer=ge.Adam(0.1), memory_budget=64, backend=backend)
    ge.compile(graph, loss="loss", optimizer=ge.Adam(0.1), memory_budget=peak, backend=backend)
    if backend == "numpy":
        assert summarize(graph).total.bytes
        lint(graph)
        assert ge.Graph.from_json(graph.to_json()).hash() == graph.hash()


@pytest.mark.parametrize("size", [10**10, 10**14])
def test_a_batch_of_any_size_has_a_cost(size: int) -> None:
    graph = ge.zoo.lenet()
    assert summarize(graph, batch=size).step.total_flops > size
    assert ge.compile(graph).cost(batch=size).peak_bytes > size


def test_explaining_draws_nothing_and_binds_one_step_of_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ge.Graph()
    sequence, start = graph.input("sequence", (10**6, 4)), graph.input("start", (4,))
    last, values = ge.scan(lambda c, x: (ge.tanh(c @ graph.parameter("w", (4, 4)) + x), c), start, sequence)
    graph.output("loss", ge.sum(last) + ge.sum(values[::-1]))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(0.1))
    monkeypatch.setattr(ge.init.GlorotUniform, "draw", lambda *_: pytest.fail("it was drawn"))
    assert {"numpy.dot", "numpy.tanh"} <= {use.kernel for use in exe.explain().kernels}


def test_a_program_that_is_too_large_to_be_bound_for_that_has_no_kernels_listed() -> None:
    graph = ge.Graph()
    graph.output("y", ge.exp(graph.input("x", ("batch",))))
    explained = ge.compile(graph).explain(batch=10**12)
    assert explained.kernels == ()
    assert "has its kernels listed once it has run" in str(explained)
    assert ge.compile(graph).explain(batch=10**7).kernels


def test_a_batch_that_no_axis_can_have_is_refused() -> None:
    graph = ge.zoo.lenet()
    for size in (2**60, 2**63 - 1):
        with pytest.raises(ge.GraphEngineError, match=r"at most 2\^63 - 1 bytes"):
            summarize(graph, batch=size)
    with pytest.raises(ge.FeedError, match=r"batch = 1000000000000000000000000: .* from 1 to 9223372036854775807"):
        summarize(graph, batch=10**24)
    with pytest.raises(ge.FeedError, match=r"an int of about 5,000 digits: .* from 1 to 9223372036854775807"):
        ge.compile(graph).cost(batch=10**5000)


def test_the_scores_of_blocks_are_counted_without_going_through_them() -> None:
    for queries, keys, block, causal in itertools.product(range(7), range(7), (None, 1, 2, 3, 9), (False, True)):
        op = Attention(causal=causal, block=block)
        blocks = op.blocks(queries, keys)
        seen = sum(block.count * block.seen for block in blocks)
        doubtful = sum(block.count * len(op.doubtful(block, has_mask=False)) for block in blocks)
        assert op._counts(queries, keys) == (seen, doubtful)


def test_the_elements_in_windows_are_counted_without_going_through_them() -> None:
    for size, window, stride, before, after in itertools.product(
        range(1, 6), range(1, 6), range(1, 4), (0, 1, 3), (0, 2)
    ):
        sweep = Sweep(size, window, stride, 1, before, after)
        if max(before, after) >= window or window > before + size + after:
            continue
        assert sweep.met_in_all == sum(sweep.met())
        some = set(sweep.elements)
        assert all(k in some or sweep.meets(k) == (slice(0, 0), slice(0, 0)) for k in range(window))


@pytest.mark.parametrize("pool", [ge.max_pool2d, ge.avg_pool2d])
@pytest.mark.parametrize("backend", installed_backends())
def test_a_window_that_is_nearly_all_padding_pools_what_it_holds(pool: Callable[..., ge.Node], backend: str) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    grads = []
    for side in (12, 10**6):
        graph = ge.Graph()
        y = pool(graph.input("x", x.shape), (1, side), (1, side), (0, side - 1))
        graph.output("loss", ge.sum(y * y))
        exe = ge.compile(graph, loss="loss", wrt=["x"], backend=backend)
        exe.forward({"x": x})
        grads.append(exe.backward()["x"])
    np.testing.assert_array_equal(*grads)

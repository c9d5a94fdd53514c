"""Fused regions: the same values in one block and in many, over operands, and without memory of their own."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import ShapeError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType, TupleType
from graphengine.ops.fusion import numpy as fused_blocks
from graphengine.ops.fusion.fused import Fused
from graphengine.ops.fusion.region import Region
from tests.arrays import boolean, f64

Write = Callable[..., Node | tuple[Node, ...]]


def region(write: Write, *operands: Array) -> Fused:
    """The op whose body `write` declares, of inputs like the operands."""
    body = ge.Graph("region", "float64")
    results = write(*[body.input(f"x{i}", array.shape, array.dtype) for i, array in enumerate(operands)])
    for index, node in enumerate(results if isinstance(results, tuple) else (results,)):
        body.output(f"y{index}", node)
    return Fused(kind="fused", region=Region(body), computes=())


def outs_of(op: Op, *operands: Array) -> tuple[Array, ...]:
    """Arrays for the results, full of garbage."""
    type_ = op.infer(*(TensorType(array.shape, array.dtype.name) for array in operands))
    types = type_.items if isinstance(type_, TupleType) else (type_,)
    return tuple(np.full(t.static_shape, True if t.dtype == "bool" else np.nan, t.dtype) for t in types)


def run(op: Fused, outs: tuple[Array, ...], *operands: Array) -> int:
    """Run the kernel, and return how many calls it is."""
    types = [TensorType(array.shape, array.dtype.name) for array in operands]
    scratch = [np.full(t.static_shape, 77, t.dtype) for t in op.scratch(op.infer(*types), *types)]
    calls = op.calls(outs if len(outs) > 1 else outs[0], *operands, scratch=scratch)
    with np.errstate(all="ignore"):
        for function, arguments in calls:
            function(*arguments)
    return len(calls)


def check(write: Write, *operands: Array) -> int:
    op = region(write, *operands)
    value = op.eval(np, *operands)
    outs = outs_of(op, *operands)
    count = run(op, outs, *operands)
    for out, expected in zip(outs, value if isinstance(value, tuple) else (value,), strict=True):
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
        assert out.dtype == expected.dtype
    return count


def chain(x: Node, a: Node, b: Node) -> Node:
    return ge.tanh(x * a + b) * ge.sigmoid(x) + ge.exp(-x * x)


def shared(x: Node, a: Node, b: Node) -> tuple[Node, ...]:
    h = ge.gelu(x * a)
    return h, h * h - b, ge.where(h > 0.0, x, b), h > x


def reduced(x: Node, a: Node, b: Node) -> tuple[Node, ...]:
    h = ge.elu(x * a) + b
    last = h.ndim - 1
    return (
        ge.sum(h),
        ge.sum(h * x, 0),
        ge.sum(h, last, keepdims=True),
        ge.mean(h * h, last),
        ge.max(h, 0),
        ge.min(h),
        ge.mean(h),
        h,
    )


OPERANDS = {
    "one size": (f64(6, 5), f64(6, 5, seed=1), f64(6, 5, seed=2)),
    "numbers": (f64(6, 5), f64(), f64(seed=1)),
    "a row and a column": (f64(6, 5), f64(5), f64(6, 1)),
    "one axis": (f64(97), f64(1), f64()),
    "many axes": (f64(3, 1, 4, 5), f64(4, 1), f64(3, 1, 1, 5)),
    "one element": (f64(1, 1), f64(1), f64()),
    "no element": (f64(0, 3), f64(3), f64()),
}


@pytest.mark.parametrize("nbytes", [1, 600, 2**20], ids=["small blocks", "blocks", "one block"])
@pytest.mark.parametrize("operands", OPERANDS.values(), ids=OPERANDS)
@pytest.mark.parametrize("write", [chain, shared, reduced])
def test_blocks_of_all_sizes_give_what_eval_gives(
    write: Write, operands: tuple[Array, ...], nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if write is reduced and 0 in operands[0].shape:
        pytest.skip("the mean of nothing is refused when it is declared")
    monkeypatch.setattr(fused_blocks, "BLOCK_BYTES", nbytes)
    check(write, *operands)


@pytest.mark.parametrize("nbytes", [1, 600, 2**20], ids=["small blocks", "blocks", "one block"])
def test_operands_and_results_may_lie_in_any_order(nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_blocks, "BLOCK_BYTES", nbytes)
    x, a, b = f64(5, 6).T, np.broadcast_to(f64(5), (6, 5)), f64(6, 10)[:, ::2]
    op = region(shared, x, a, b)
    outs = tuple(np.full((5, 6), 77, out.dtype).T for out in outs_of(op, x, a, b))
    run(op, outs, x, a, b)
    for out, expected in zip(outs, op.eval(np, x, a, b), strict=True):
        np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_a_large_region_is_cut_into_blocks_of_the_bytes_that_fit_the_cache() -> None:
    x = f64(300_000)
    assert check(lambda x: ge.sum(ge.exp(ge.sin(x) * x)), x) > 4 * 5


def test_a_region_that_fits_the_cache_is_the_calls_of_its_ops() -> None:
    x, b = f64(32, 64), f64(64)
    op = region(lambda x, b: ge.relu(ge.tanh(x + b)), x, b)
    out = np.empty((32, 64))
    calls = op.calls(out, x, b, scratch=[np.empty(op.scratch(None)[0].static_shape, np.uint8)])
    single = ge.compile(unfused(x, b), rewrites=())
    expected = [step.op.bind(out, x)[0] for step in single.program.instructions[1:]]
    assert [call[0] for call in calls] == [np.add, *expected]
    assert calls[-1][1][-1] is out or calls[-1][1][-1].base is out


def cell(i: Node, f: Node, g: Node, c: Node) -> tuple[Node, ...]:
    after = ge.sigmoid(f) * c + ge.sigmoid(i) * ge.tanh(g)
    return ge.tanh(after), after


def test_parts_of_one_array_are_copied_together_in_any_order() -> None:
    i, f, g = np.split(f64(6, 15), 3, axis=1)
    for parts in ((i, f, g), (g, i, f), (f[:, ::-1], g[:, ::-1], i[:, ::-1])):
        op, outs = region(cell, *parts, f64(6, 5)), [np.empty((6, 5)), np.empty((6, 5))]
        scratch = [np.full(op.scratch(None)[0].static_shape, 77, np.uint8)]
        first, *others = op.calls(tuple(outs), *parts, f64(6, 5), scratch=scratch)
        assert first[0] is np.copyto
        assert first[1][0].shape == (3, 6, 5)
        assert all(argument.flags.c_contiguous for _, arguments in others for argument in arguments)
    check(cell, i, f, g, f64(6, 5))
    check(cell, g, i, f, f64(6, 5))


def test_what_does_not_lie_at_equal_distances_is_not_copied() -> None:
    z, c = f64(6, 20), f64(6, 5)
    apart = z[:, :5], z[:, 5:10], z[:, 15:]
    of_two = z[:, :5], z[:, 5:10], f64(6, 20, seed=1)[:, 10:15]
    turned = z[:, :5], z[:, 5:10], z[::-1, 10:15]
    blocks = f64(3, 6, 5)
    one_block = z[:, :5], z[:, 5:10], c
    alone = check(cell, *blocks, c)
    for parts in (apart, of_two, turned, one_block):
        assert check(cell, *parts, c) == alone


def test_parts_with_long_rows_are_read_where_they_lie() -> None:
    parts = np.split(f64(2, 3 * 512), 3, axis=1)
    assert check(cell, *parts, f64(2, 512)) == check(cell, *f64(3, 2, 512), f64(2, 512))


def unfused(x: Array, b: Array) -> Graph:
    graph = ge.Graph("unfused", "float64")
    graph.output("y", ge.relu(ge.tanh(graph.input("x", x.shape) + graph.input("b", b.shape))))
    return graph


@pytest.mark.parametrize("nbytes", [200, 2**20], ids=["blocks", "one block"])
def test_a_result_may_stand_over_an_operand_that_is_read_no_later(nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def adam(w: Node, g: Node, m: Node, v: Node) -> tuple[Node, ...]:
        m = m + (g - m) * 0.1
        v = v + (g * g - v) * 0.01
        return m, v, w - m / (ge.sqrt(v) + 1e-3)

    monkeypatch.setattr(fused_blocks, "BLOCK_BYTES", nbytes)
    w, g, m, v = (np.abs(f64(7, 9, seed=seed)) for seed in range(4))
    op = region(adam, w, g, m, v)
    assert [set(op.may_overwrite(item)) for item in range(3)] == [{2}, {1, 2, 3}, {0, 1, 2, 3}]
    expected = op.eval(np, w, g, m, v)
    held = [array.copy() for array in (w, g, m, v)]
    run(op, (held[2], held[3], held[0]), *held)
    for out, value in zip((held[2], held[3], held[0]), expected, strict=True):
        np.testing.assert_allclose(out, value, rtol=1e-12)


def test_an_operand_is_not_overwritten_by_what_is_written_before_it_is_read() -> None:
    x, y = f64(4, 3), f64(4, 3, seed=1)
    early = region(lambda x, y: (ge.exp(x), ge.exp(x) * y), x, y)
    assert [set(early.may_overwrite(item)) for item in range(2)] == [set(), {0, 1}]
    twice = region(lambda x, c: ge.where(c, x, -x), x, boolean(4, 3))
    assert set(twice.may_overwrite()) == {0}
    assert not region(lambda x: ge.sum(ge.exp(x), 0, keepdims=True), f64(1, 3)).may_overwrite()


def test_a_row_that_is_repeated_is_not_overwritten() -> None:
    assert set(region(lambda x, b: ge.tanh(x + b), f64(4, 3), f64(3)).may_overwrite()) == {0}


def test_a_long_region_takes_few_registers() -> None:
    def write(x: Node) -> Node:
        y = x
        for _ in range(60):
            y = ge.tanh(y * 1.5 + x)
        return y

    x = f64(64)
    assert region(write, x).scratch(None)[0].nbytes <= 2 * x.nbytes


@pytest.mark.parametrize("size", [1000, 400_000], ids=["one block", "blocks"])
def test_running_allocates_no_array(size: int) -> None:
    x = f64(size)
    op = region(lambda x: (ge.softplus(x) * 2.0, ge.sum(ge.gelu(x))), x)
    outs = outs_of(op, x)
    scratch = [np.empty(op.scratch(None)[0].static_shape, np.uint8)]
    calls = op.calls(outs, x, scratch=scratch)
    tracemalloc.start()
    try:
        for function, arguments in calls:
            function(*arguments)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


def test_a_sum_over_blocks_is_as_right_as_one_over_all() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 2_000_000).astype("float32")
    body = ge.Graph("region")
    body.output("y", ge.sum(ge.square(body.input("x", x.shape))))
    (out,) = outs = (np.empty((), "float32"),)
    run(Fused(kind="fused", region=Region(body), computes=()), outs, x)
    assert abs(float(out) / float(np.sum(x.astype("float64") ** 2)) - 1) < 1e-6


def test_flops_are_those_of_the_ops() -> None:
    x, b = f64(4, 3), f64(3)
    op = region(lambda x, b: ge.sum(ge.tanh(x + b)), x, b)
    assert op.flops(None) == 12 + 12 + 11


def test_named_dims_are_bound() -> None:
    body = ge.Graph("region", "float64")
    x, b = body.input("x", ("batch", 3)), body.input("b", (3,))
    body.output("y", ge.tanh(x + b))
    body.output("total", ge.sum(x * b, 0))
    op = Fused(kind="fused", region=Region(body), computes=())
    bound = op.bind_dims({"batch": 5})
    assert op.infer(x.type, b.type).bind({"batch": 5}) == bound.infer(x.type.bind({"batch": 5}), b.type)
    assert op.dim_names() == {"batch"}
    assert bound.dim_names() == set()


def test_other_operands_are_refused() -> None:
    op = region(lambda x: ge.tanh(x), f64(3))
    with pytest.raises(ShapeError, match=r"float64\[3\] is given float64\[4\]"):
        op.infer(TensorType((4,), "float64"))


def test_no_document_holds_one() -> None:
    assert "fused" not in Op.registry

"""Fused kernels: by Python from their text, and as machine code, against what NumPy makes of the same region."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from inspect import signature

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.backends.native.fusion import loops as fused_loops
from graphengine.backends.native.fusion import walk
from graphengine.backends.native.fusion.loops import loops, partials, pointwise_loops
from graphengine.backends.native.kernel import LoopCall
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.activation import ReLU
from graphengine.ops.elementwise import Add, Exp
from graphengine.ops.fusion.region import Region
from graphengine.ops.matmul import MatMul
from tests.ops.fused_cases import Array, Case, by_python, cases, check, empty, laid_out

Runner = Callable[[Sequence[LoopCall], int], None]


def by_machine(calls: Sequence[LoopCall], threads: int = 1) -> None:
    """Run kernels as machine code, as so many threads one after the other."""
    pytest.importorskip("numba", reason="numba compiles the kernels")
    from tests.backends.native.compiled import run_on

    for kernel, arguments in calls:
        run_on(threads, kernel, *arguments)


RUNNERS = pytest.mark.parametrize("runner", [by_python, by_machine])


def region_of(build: Callable[..., Node | tuple[Node, ...]], *arrays: Array) -> Region:
    """The region that `build` makes of inputs for the arrays."""
    graph = Graph("body")
    made = build(*(graph.input(f"x{place}", array.shape, array.dtype) for place, array in enumerate(arrays)))
    for place, node in enumerate(made if isinstance(made, tuple) else (made,)):
        graph.output(f"y{place}", node)
    return Region(graph)


def scratch_of(region: Region) -> list[Array]:
    return [np.full(type_.static_shape, 55, type_.dtype) for type_ in partials(region)]


def text_of(region: Region, *arrays: Array) -> list[str]:
    calls = loops(region, [empty(node) for node in region.outputs], arrays, scratch_of(region))
    return [kernel.source for kernel, _ in calls]


def check_case(case: Case, outs: Sequence[Array], runner: Runner) -> None:
    """Run a case as one, two and three threads, which gives the same bits, and NumPy's values."""
    graph, arrays = case
    region = Region(graph)
    calls = loops(region, outs, arrays, scratch_of(region))
    assert calls is not None
    bits = []
    for threads in (1, 2, 3):
        for out in outs:
            out[...] = 77
        runner(calls, threads)
        check(outs, case)
        bits.append([out.tobytes() for out in outs])
    assert bits[0] == bits[1] == bits[2]


def outs_for(case: Case, data: st.DataObject) -> list[Array]:
    """Arrays for the results, in memory in any order."""
    generator = np.random.default_rng(0)
    return [laid_out(data.draw, generator, node.type.static_shape, node.dtype) for node in case[0].outputs.values()]


@given(cases(), st.data())
@settings(max_examples=150)
def test_a_kernel_gives_what_numpy_gives_for_any_layout(case: Case, data: st.DataObject) -> None:
    check_case(case, outs_for(case, data), by_python)


@given(cases(), st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_its_machine_code_does(case: Case, data: st.DataObject) -> None:
    check_case(case, outs_for(case, data), by_machine)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cuts small spaces as large ones are cut."""
    with monkeypatch.context() as patch:
        patch.setattr(walk, "BLOCK", 2)
        patch.setattr(fused_loops, "PIECE", 5)
        patch.setattr(fused_loops, "WIDE", 10**9)
        yield


@pytest.mark.usefixtures("small_pieces")
@given(cases())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_space_in_blocks_and_pieces_gives_the_same(case: Case) -> None:
    check_case(case, [empty(node) for node in case[0].outputs.values()], by_python)


def wave(x: Node, a: Node, b: Node) -> tuple[Node, ...]:
    t, s = ge.tanh(a * x + b), ge.sigmoid(x)
    slope = s * (1.0 - t * t)
    return ge.sum(t * s + ge.exp(-ge.square(x))), slope * a, ge.sum(slope * x), ge.sum(slope)


LARGE = {
    "all of a line": (lambda x, a, b: wave(x, a, b), [(30_011,), (), ()]),
    "columns": (lambda x, b: (ge.relu(x + b), ge.sum(x * b, 0)), [(129, 131), (131,)]),
    "rows": (lambda x, b: (ge.tanh(x + b), ge.max(x, 1), ge.mean(x, 1)), [(67, 1100), (1100,)]),
    "rows and columns": (lambda x, b: (ge.sum(x * b, 1), ge.sum(x, 0), ge.mean(x)), [(400, 55), (55,)]),
    "channels": (
        lambda x, b: (ge.relu(x + b), ge.sum(x, (0, 2, 3)), ge.sum(x, (0, 2, 3), True)),
        [(4, 5, 9, 11), (5, 1, 1)],
    ),
    "few long lines": (lambda x, b: (x * b, ge.sum(x * b, 0)), [(3, 2100), (2100,)]),
    "a mask": (lambda x, m: x + m, [(3, 4, 16, 17), (16, 17)]),
    "few columns": (lambda x: (ge.exp(x), ge.sum(x, 0), ge.max(x, 0)), [(9000, 3)]),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_spaces_give_the_same_bits_on_any_number_of_threads(name: str, dtype: str) -> None:
    build, shapes = LARGE[name]
    generator = np.random.default_rng(1)
    arrays = [np.asarray(generator.uniform(-1, 1, shape), dtype) for shape in shapes]
    region = region_of(build, *arrays)
    check_case((region.graph, arrays), [empty(node) for node in region.outputs], by_machine)


def test_a_bias_and_a_relu_are_one_nest() -> None:
    x, bias = np.ones((4, 6), "float32"), np.ones(6, "float32")
    assert text_of(region_of(lambda x, bias: ge.relu(x + bias), x, bias), x, bias) == [
        """\
def fused_add_relu(p0, p1, p2, n0, n1, s0, rank, ranks):
    for i0 in share(n0, rank, ranks):
        at0 = s0 * i0
        for i1 in range(n1):
            x1 = p1[at0 + i1]
            x2 = p2[i1]
            add_1 = x1 + x2
            relu_2 = 0.0 if add_1 <= 0.0 else add_1
            p0[at0 + i1] = relu_2
"""
    ]


def test_what_does_not_move_with_the_inner_loop_is_made_outside_of_it() -> None:
    x, v = np.ones((4, 6)), np.ones((4, 1))
    (text,) = text_of(region_of(lambda x, v: (x / ge.sqrt(v), ge.sum(x, 1)), x, v), x, v)
    assert (
        text
        == """\
def fused_sqrt_divide_sum(p0, p1, p2, p3, n0, n1, s0, rank, ranks):
    for i0 in share(n0, rank, ranks):
        at0 = s0 * i0
        x3 = p3[i0]
        sqrt_1 = sqrt(x3)
        sum_2 = 0.0
        for i1 in range(n1):
            x2 = p2[at0 + i1]
            divide_2 = x2 / sqrt_1
            p0[at0 + i1] = divide_2
            sum_2 = plus(sum_2, x2)
        p1[i0] = sum_2
"""
    )


def test_sums_over_rows_go_on_line_by_line_and_threads_share_columns() -> None:
    y, y_bar = np.ones((8, 6), "float32"), np.ones((8, 6), "float32")
    (text,) = text_of(region_of(lambda y, y_bar: ge.sum(y * y_bar, 0), y, y_bar), y, y_bar)
    assert (
        text
        == """\
def fused_multiply_sum(p0, p1, p2, n0, n1, s0, rank, ranks):
    for i1 in share(n1, rank, ranks):
        p0[i1] = 0.0
    for i0 in range(n0):
        at0 = s0 * i0
        for i1 in share(n1, rank, ranks):
            x1 = p1[at0 + i1]
            x2 = p2[at0 + i1]
            multiply_1 = x1 * x2
            p0[i1] = plus(p0[i1], multiply_1)
"""
    )


def test_sums_over_many_rows_are_made_of_blocks_strip_by_strip() -> None:
    x = np.ones((300, 200), "float32")
    assert text_of(region_of(lambda x: ge.mean(ge.square(x), 0), x), x) == [
        """\
def fused_square_mean(p0, p1, n0, n1, strips, blocks, width, s0, count0, rank, ranks):
    total_1 = totals()
    rest_1 = totals()
    for strip in share(strips, rank, ranks):
        for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
            p0[i1] = 0.0
        for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
            total_1[i1 - width * strip] = 0.0
            rest_1[i1 - width * strip] = 0.0
        for block in range(blocks):
            first = 128 * block
            last = 128 * block + 128 if 128 * block + 128 < n0 else n0
            for four in range(first, last - 3, 4):
                for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
                    part_0 = 0.0
                    for turn in range(4):
                        at0 = s0 * (four + turn)
                        x1 = p1[at0 + i1]
                        square_1 = x1 * x1
                        part_0 = plus(part_0, square_1)
                    p0[i1] = plus(p0[i1], part_0)
            for i0 in range(first + (last - first) // 4 * 4, last):
                at0 = s0 * i0
                for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
                    x1 = p1[at0 + i1]
                    square_1 = x1 * x1
                    p0[i1] = plus(p0[i1], square_1)
            for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
                rest_1[i1 - width * strip] = rest_1[i1 - width * strip] + lost(total_1[i1 - width * strip], p0[i1])
                total_1[i1 - width * strip] = total_1[i1 - width * strip] + p0[i1]
                p0[i1] = 0.0
        for i1 in range(width * strip, width * strip + width if width * strip + width < n1 else n1):
            p0[i1] = float32(total_1[i1 - width * strip] + rest_1[i1 - width * strip]) / count0
"""
    ]


def test_a_large_total_is_made_of_pieces_and_blocks() -> None:
    x = np.ones(100_000, "float32")
    assert text_of(region_of(lambda x: ge.mean(ge.square(x)), x), x) == [
        """\
def fused_square_sum(p0, p1, n0, pieces, blocks, rank, ranks):
    for piece in share(pieces, rank, ranks):
        total_1 = float64(0.0)
        rest_1 = float64(0.0)
        for block in share(blocks, piece, pieces):
            sum_1 = 0.0
            for i0 in range(128 * block, 128 * block + 128 if 128 * block + 128 < n0 else n0):
                x1 = p1[i0]
                square_1 = x1 * x1
                sum_1 = plus(sum_1, square_1)
            rest_1 = rest_1 + lost(total_1, sum_1)
            total_1 = total_1 + sum_1
        p0[piece] = float32(total_1 + rest_1)
""",
        """\
def fused_mean(p0, p1, n0, count0):
    mean_1 = 0.0
    for i0 in range(n0):
        x1 = p1[i0]
        mean_1 = plus(mean_1, x1)
    p0[0] = mean_1 / count0
""",
    ]


def test_scalars_are_straight_lines() -> None:
    a, b = np.float32(2), np.float32(3)
    assert text_of(region_of(lambda a, b: (a + b) * b, a, b), np.asarray(a), np.asarray(b)) == [
        """\
def fused_add_multiply(p0, p1, p2):
    x1 = p1[0]
    x2 = p2[0]
    add_1 = x1 + x2
    multiply_2 = add_1 * x2
    p0[0] = multiply_2
"""
    ]


@pytest.mark.parametrize("shapes", [[(4, 6), (6,)], [(5, 9), (9,)], [(512, 128), (128,)], [(2, 2, 6), (6,)]])
def test_one_kernel_serves_all_sizes_and_rates(shapes: list[tuple[int, ...]]) -> None:
    rate = 0.1 / shapes[0][0]

    def step(w: Node, b: Node) -> tuple[Node, ...]:
        return w - rate * b, ge.mean(w * b, -1)

    arrays = [np.ones(shape, "float32") for shape in shapes]
    first = [np.ones(shape, "float32") for shape in [(3, 7), (7,)]]
    assert text_of(region_of(step, *arrays), *arrays) == text_of(region_of(step, *first), *first)


def test_contiguous_axes_are_one_loop() -> None:
    x = np.ones((2, 3, 4, 5))
    (text,) = text_of(region_of(lambda x: x + 1.0, x), x)
    assert text.count("for ") == 1


@RUNNERS
def test_a_result_may_take_the_place_of_an_operand(runner: Runner) -> None:
    w, g = np.arange(12.0).reshape(3, 4), np.ones((3, 4))
    region = region_of(lambda w, g: (w - 0.5 * g, ge.sum(w, 1)), w, g)
    total = np.empty(3)
    calls = loops(region, [w, total], [w, g])
    wanted = w - 0.5 * g, w.sum(1)
    assert sum(isinstance(argument, np.ndarray) for argument in calls[0][1]) == 3
    runner(calls, 2)
    np.testing.assert_array_equal(w, wanted[0])
    np.testing.assert_array_equal(total, wanted[1])


@RUNNERS
def test_a_pointwise_op_alone_needs_no_graph(runner: Runner) -> None:
    stack = np.linspace(-1, 1, 24, dtype="float32").reshape(3, 8)
    wanted = stack[0] + stack[1]
    runner(pointwise_loops(Add(), stack[2], (stack[0], stack[1])), 1)
    np.testing.assert_array_equal(stack[2], wanted)
    runner(pointwise_loops(ReLU(), stack[0], (stack[0],)), 1)
    assert stack[0].max() == 0.0


def test_parts_of_one_array_that_lie_between_each_other_are_different_memory() -> None:
    gates = np.arange(24.0).reshape(2, 12)
    by_python(pointwise_loops(Add(), gates[:, 8:], (gates[:, :4], gates[:, 4:8])))
    np.testing.assert_array_equal(gates[:, 8:], gates[:, :4] + gates[:, 4:8])


def test_overlapping_memory_has_no_loops() -> None:
    x = np.arange(10.0)
    assert pointwise_loops(Exp(), x[1:], (x[:-1],)) is None
    assert pointwise_loops(Add(), x[:1], (x[:1], x[:2])) is None
    square = x[:9].reshape(3, 3)
    assert pointwise_loops(Exp(), square, (square.T,)) is None
    region = region_of(lambda x: (x + 1.0, x + 2.0), x)
    assert loops(region, [np.empty_like(x), np.empty_like(x)], [x]) is not None
    assert loops(region, [x, x], [np.empty_like(x)]) is None
    assert loops(region_of(lambda x: ge.sum(x), x), [x[:1].reshape(())], [x]) is None


def test_an_op_of_another_kind_has_no_loops() -> None:
    assert pointwise_loops(MatMul(), np.ones((2, 4)), (np.ones((2, 3)), np.ones((3, 4)))) is None
    assert pointwise_loops(Exp(), (np.ones(2), np.ones(2)), (np.ones(2),)) is None


def test_an_array_that_is_read_backwards_has_no_loops() -> None:
    x = np.arange(10.0)
    assert pointwise_loops(Exp(), np.empty(10), (x[::-1],)) is None


def test_a_number_that_the_floats_of_the_kernel_cannot_hold_has_no_loops() -> None:
    x = np.ones(3, "float32")

    def narrowed(factor: float) -> Callable[[Node], Node]:
        return lambda x: ge.cast(factor * ge.cast(x, "float64"), "float32")

    assert loops(region_of(narrowed(0.1), x), [np.empty_like(x)], [x]) is None
    assert loops(region_of(narrowed(0.375), x), [np.empty_like(x)], [x]) is not None
    wide = region_of(lambda x, y: ge.cast(0.1 * ge.cast(x, "float64") * y, "float32"), x, np.ones(3))
    assert loops(wide, [np.empty_like(x)], [x, np.ones(3)]) is not None


def test_no_elements_need_no_calls() -> None:
    x = np.ones((0, 3))
    assert loops(region_of(lambda x: x + 1.0, x), [np.empty((0, 3))], [x]) == []
    assert loops(region_of(lambda x: ge.sum(x, 0), x), [np.empty(3)], [x]) is None


DTYPES = {
    "bools of floats": lambda x, y, c: (x > y, ge.logical_and(x > 0.5, ge.logical_not(c))),
    "floats by bools": lambda x, y, c, i: (ge.where(c, x, y), ge.where(c, i, -i)),
    "float64 among float32": lambda x, i: (0.1 * ge.cast(x, "float64") + ge.cast(i, "float64"), 0.1 * x),
    "whole numbers": lambda x, i: (i * i * i - 3 * i, ge.cast(i, "int64") * 70_000 * 70_000, ge.cast(x, "int32")),
    "bytes": lambda i, c: (ge.square(ge.cast(i, "uint8")), ge.cast(c, "uint8"), ge.cast(c, "float32")),
    "sums of whole numbers": lambda i: (ge.sum(i), ge.sum(ge.cast(i, "uint8"), 0), ge.max(i, 1)),
}


@RUNNERS
@pytest.mark.parametrize("name", DTYPES)
def test_every_value_has_its_own_dtype(name: str, runner: Runner) -> None:
    generator = np.random.default_rng(3)
    x, y = (generator.uniform(-2, 2, (5, 37)).astype("float32") for _ in range(2))
    given = {"x": x, "y": y, "c": x > 0, "i": generator.integers(-90_000, 90_000, (5, 37), dtype="int32")}
    arrays = [given[name] for name in signature(DTYPES[name]).parameters]
    region = region_of(DTYPES[name], *arrays)
    check_case((region.graph, arrays), [empty(node) for node in region.outputs], runner)


@RUNNERS
def test_nan_and_infinity_pass_through(runner: Runner) -> None:
    x = np.ones((3, 40), "float32")
    x[0, 7], x[1, 8] = np.nan, -np.inf
    region = region_of(lambda x: (ge.relu(x), ge.max(x, 1), ge.min(x, 0), ge.sum(x, 1), ge.sum(x, 0)), x)
    outs = [empty(node) for node in region.outputs]
    runner(loops(region, outs, [x]), 2)
    wanted = [np.maximum(x, 0), x.max(1), x.min(0), x.sum(1), x.sum(0)]
    for out, value in zip(outs, wanted, strict=True):
        np.testing.assert_array_equal(out, value)


def test_a_long_sum_of_float32_is_as_accurate_as_numpys() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 1_000_003).astype("float32")
    region = region_of(lambda x: ge.sum(x), x)
    for scratch in (scratch_of(region), []):
        total = np.empty((), "float32")
        by_machine(loops(region, [total], [x], scratch))
        assert abs(float(total) - math.fsum(x)) <= 2.0**-23 * math.fsum(x)

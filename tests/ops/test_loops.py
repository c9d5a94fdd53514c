"""What ops give compiling backends in the place of their kernels, against `eval`: by Python, and as machine code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from graphengine.backends.native import vocabulary
from graphengine.backends.native.kernel import VOCABULARY
from graphengine.backends.native.lowering.copies import copies
from graphengine.backends.native.lowering.products import products
from graphengine.errors import ValueRangeError
from graphengine.ir.op import Op
from graphengine.ops.activation import LogSoftmax, Softmax
from graphengine.ops.broadcast import Reshape, Sum
from graphengine.ops.elementwise import Copy
from graphengine.ops.index import Gather, OneHot, ScatterAdd, SliceAdjoint
from graphengine.ops.loss import BinaryCrossEntropy, CrossEntropy, Hinge, Huber, SoftmaxError, SquaredError
from graphengine.ops.matmul import MatMul
from graphengine.ops.norm import GroupNorm, LayerNorm, RMSNorm, RowNormAdjoint
from graphengine.ops.reduce import ArgMax, ArgMin, First, LogSumExp, Max, Mean, Min, Variance
from graphengine.ops.regularizer import L1, L2, ElasticNet, GroupLasso
from graphengine.ops.shape import Concat, Pad, Stack
from tests.arrays import f64, i64
from tests.ops.loops import (
    Execute,
    as_machine_code,
    assert_close,
    by_python,
    calls_of,
    expected_of,
    garbage,
    has_loops,
    layouts,
    make,
    type_of,
)
from tests.random_graphs import RECIPES, Grower

EXECUTES = [pytest.param(by_python, id="python"), pytest.param(as_machine_code, id="machine")]
WITH_LOOPS = sorted(kind for kind, op in Op.registry.items() if has_loops(op) and kind in RECIPES)

REDUCTIONS = [
    (op, f64(*shape), axis)
    for op in (Sum, Mean, Max, Min, Variance, LogSumExp, ArgMax, ArgMin)
    for shape, axis in [
        ((1100,), None),
        ((3, 70), (0,)),
        ((70, 3), (-1,)),
        ((3, 4, 5, 6), (0, 2, 3)),
        ((2, 3, 4, 5), (1, 3)),
        ((9, 2, 66), (0, 1)),
        ((1, 1), (0,)),
        ((), None),
    ]
]

CASES: list[tuple[Op, tuple[np.ndarray, ...]]] = [
    *[(op(axis=axis, keepdims=keepdims), (x,)) for op, x, axis in REDUCTIONS for keepdims in (False, True)],
    *[(First(of=of, axis=axis), (f64(5, 70),)) for of in ("max", "min") for axis in ((0,), (1,), None)],
    *[(op(axis=axis), (f64(3, 40, 70),)) for op in (Softmax, LogSoftmax) for axis in (0, 1, 2)],
    (Softmax(), (f64(2, 1100),)),
    *[(CrossEntropy(reduction=of), (f64(150, 9), i64(150, high=9))) for of in ("mean", "sum", "none")],
    (CrossEntropy(reduction="none"), (f64(4, 5, 9), i64(4, 5, high=9).astype("uint8"))),
    (CrossEntropy(), (f64(9), np.array(3))),
    (SoftmaxError(), (f64(150, 9), i64(150, high=9).astype("int32"))),
    *[(SquaredError(reduction=of), (f64(70, 60), f64(70, 60, seed=1))) for of in ("mean", "sum", "none")],
    (Huber(delta=0.5), (f64(70), f64(70, seed=1))),
    (Hinge(reduction="sum"), (f64(70), np.sign(f64(70, seed=1)))),
    (BinaryCrossEntropy(), (f64(70), f64(70, low=0.0, high=1.0))),
    *[
        (op, (f64(70, 60),))
        for op in (L1(), L2(), ElasticNet(ratio=0.25), GroupLasso(axis=(0,)), GroupLasso(axis=(1,)))
    ],
    *[(Sum(axis=axis), (i64(5, 70, high=9).astype(dtype),)) for axis in ((0,), (1,)) for dtype in ("uint8", "int64")],
    (LayerNorm(), (f64(5, 70), f64(70), f64(70, seed=1))),
    (LayerNorm(axes=2), (f64(5, 7, 10), f64(7, 10))),
    (LayerNorm(), (f64(2, 1100),)),
    (RMSNorm(), (f64(5, 70), f64(70))),
    (GroupNorm(groups=2), (f64(3, 4, 7), f64(4), f64(4, seed=1))),
    (GroupNorm(groups=2), (f64(3, 4, 7), f64(4))),
    (GroupNorm(groups=2), (f64(3, 4), f64(4), f64(4, seed=1))),
    *[(RowNormAdjoint(centered=centered), (f64(5, 70), f64(5, 70, seed=1))) for centered in (True, False)],
    (RowNormAdjoint(), (f64(2, 1100), f64(2, 1100, seed=1))),
    *[(Gather(axis=axis), (f64(4, 5, 6), i64(2, 3, high=4))) for axis in (0, 1, -1)],
    *[(ScatterAdd(axis=axis, size=7), (f64(4, 4, 6), i64(4, high=7))) for axis in (0, 1)],
    (ScatterAdd(size=7), (f64(2, 3, 6), i64(2, 3, high=7).astype("uint8"))),
    (ScatterAdd(size=300), (f64(0, 4), i64(0, high=7))),
    *[(OneHot(depth=9, dtype=dtype), (i64(70, high=9),)) for dtype in ("float32", "float64", "int32", "bool")],
    (SliceAdjoint(key="1:3, ::-1", shape=(4, 70)), (f64(2, 70),)),
    (SliceAdjoint(key="::-2, 1", shape=(5, 3)), (f64(3),)),
    *[(Concat(axis=axis), (f64(4, 6), f64(4, 6, seed=1), f64(4, 6, seed=2))) for axis in (0, 1)],
    *[(Stack(axis=axis), (f64(4, 6), f64(4, 6, seed=1))) for axis in (0, 1, -1)],
    (Pad(before=(1, 0, 2), after=(0, 3, 1), value=0.5), (f64(3, 4, 5),)),
    (Pad(before=(1,), after=(1,), value=1.0), (np.array([True, False]),)),
    (Copy(), (f64(2, 3, 4, 5),)),
    (Copy(), (f64(),)),
    (Reshape(shape=(-1,)), (f64(4, 40),)),
    *[
        (MatMul(), (f64(*a), f64(*b)))
        for a, b in [
            ((5, 6), (6, 7)),
            ((6,), (6, 7)),
            ((5, 6), (6,)),
            ((6,), (6,)),
            ((2, 3, 5, 6), (6, 7)),
            ((3, 5, 6), (2, 1, 6, 7)),
            ((3, 5, 6), (6,)),
            ((1, 1), (1, 1)),
        ]
    ],
]
"""Larger than what recipes grow: beyond a stretch of lines, a block of a sum, and a share of one thread."""


def named(case: tuple[Op, tuple[np.ndarray, ...]]) -> str:
    op, operands = case
    return f"{op.kind}-{'x'.join(map(str, operands[0].shape))}-{op.attributes()}"


def cast(operands: Sequence[np.ndarray], dtype: str) -> list[np.ndarray]:
    return [operand.astype(dtype) if operand.dtype.kind == "f" else operand for operand in operands]


@pytest.mark.parametrize("execute", EXECUTES)
@pytest.mark.parametrize("kind", WITH_LOOPS)
def test_loops_give_what_eval_gives_in_every_layout(kind: str, execute: Execute) -> None:
    grower = Grower(np.random.default_rng(1))
    grower.plant()
    grower.value(RECIPES[kind](grower))
    tried = 0
    for node in grower.graph.nodes:
        if node.op.kind != kind:
            continue
        op = node.op.bind_dims({"batch": 4})
        values = [grower.values[parent.index] for parent in node.parents]
        for dtype in ("float64", "float32"):
            for layout, operands in layouts(cast(values, dtype)):
                expected = expected_of(op, operands)
                out = garbage(expected)
                calls = calls_of(op, operands, out)
                if calls is not None:
                    assert make(calls, execute, ranks=2)
                    assert_close(out, expected, f"{kind}, {dtype}, operands {layout}")
                    tried += 1
    assert tried


@pytest.mark.parametrize("execute", EXECUTES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_every_share_is_written_and_the_number_of_threads_changes_no_bit(
    case: tuple[Op, tuple[np.ndarray, ...]], dtype: str, execute: Execute
) -> None:
    op, operands = case[0], cast(case[1], dtype)
    expected = expected_of(op, operands)
    outs = []
    for ranks in (1, 3):
        out = garbage(expected)
        assert make(calls_of(op, operands, out), execute, ranks)
        assert_close(out, expected, f"{ranks} threads")
        outs.append(out)
    np.testing.assert_array_equal(*outs)


SPECIAL = [
    (Sum(axis=(1,)), ()),
    (Mean(axis=(0,)), ()),
    *[(op(axis=(axis,)), ()) for op in (Max, Min, ArgMax, ArgMin, LogSumExp, Variance) for axis in (0, 1)],
    *[(op(axis=axis), ()) for op in (Softmax, LogSoftmax) for axis in (0, 1)],
    (CrossEntropy(reduction="none"), (i64(6, high=20),)),
    (SoftmaxError(), (i64(6, high=20),)),
    (SquaredError(reduction="none"), (f64(6, 20),)),
    (LayerNorm(), ()),
    (RowNormAdjoint(), (f64(6, 20),)),
    (L2(), ()),
    (Copy(), ()),
]


@pytest.mark.parametrize("execute", EXECUTES)
@pytest.mark.parametrize(("op", "others"), SPECIAL, ids=lambda value: value.kind if isinstance(value, Op) else "")
def test_nan_and_infinities_go_where_they_go_in_eval(op: Op, others: tuple[np.ndarray, ...], execute: Execute) -> None:
    x = f64(6, 20)
    x[1, 3], x[2, 4], x[3, 5], x[4, 6], x[4, 7] = np.nan, np.inf, -np.inf, np.inf, -np.inf
    x[5] = -np.inf
    expected = expected_of(op, (x, *others))
    out = garbage(expected)
    assert make(calls_of(op, (x, *others), out), execute)
    assert_close(out, expected, op.kind)


@pytest.mark.parametrize("execute", EXECUTES)
@pytest.mark.parametrize(
    ("op", "position", "operands"),
    [
        (Softmax(), 0, (f64(3, 40),)),
        (LogSoftmax(axis=0), 0, (f64(3, 40),)),
        (SoftmaxError(), 0, (f64(3, 40), i64(3, high=40))),
        (LayerNorm(), 0, (f64(3, 40), f64(40), f64(40, seed=1))),
        (RowNormAdjoint(), 0, (f64(3, 40), f64(3, 40, seed=1))),
        (RowNormAdjoint(), 1, (f64(3, 40), f64(3, 40, seed=1))),
    ],
    ids=lambda value: value.kind if isinstance(value, Op) else "",
)
def test_a_result_may_be_written_over_an_operand(
    op: Op, position: int, operands: tuple[np.ndarray, ...], execute: Execute
) -> None:
    assert position in op.overwrites
    expected = expected_of(op, operands)
    held = [operand.copy() for operand in operands]
    assert make(calls_of(op, held, held[position]), execute, ranks=2)
    assert_close(held[position], expected, op.kind)


REFUSED = [
    (CrossEntropy(), (f64(5, 3), np.array([0, 1, 3, 2, 0]))),
    (CrossEntropy(), (f64(5, 3), np.array([0, 1, 2, -1, 0]))),
    (SoftmaxError(), (f64(5, 3), np.array([0, 1, 3, 2, 0]))),
    (SoftmaxError(), (f64(5, 3), np.array([0, 1, 2, -1, 0]))),
    (Gather(), (f64(5, 3), np.array([0, 5]))),
    (Gather(axis=1), (f64(5, 3), np.array([0, -1]))),
    (ScatterAdd(size=3), (f64(2, 3), np.array([0, 3]))),
    (ScatterAdd(size=3), (f64(2, 3), np.array([-1, 2]))),
    (OneHot(depth=3, dtype="float32"), (np.array([0, 3]),)),
    (OneHot(depth=3, dtype="float32"), (np.array([-2, 1]),)),
    (BinaryCrossEntropy(), (f64(2), np.array([0.5, 1.5]))),
    (BinaryCrossEntropy(), (f64(2), np.array([np.nan, 0.5]))),
]


@pytest.mark.parametrize("execute", EXECUTES)
@pytest.mark.parametrize(("op", "operands"), REFUSED, ids=lambda value: value.kind if isinstance(value, Op) else "")
def test_what_bind_refuses_sets_the_fault(op: Op, operands: tuple[np.ndarray, ...], execute: Execute) -> None:
    with pytest.raises(ValueRangeError):
        op.eval(np, *operands)
    out = garbage(np.empty(op.infer(*map(type_of, operands)).static_shape))
    assert not make(calls_of(op, operands, out), execute, ranks=2)


def test_loops_of_products_take_vectors_and_views_and_leave_the_rest() -> None:
    square = f64(6, 6)
    for a, b in [(square.T, square), (square[:, 0], square), (square, square[:, 1]), (square[0:1].T, square[:1])]:
        out = np.full(np.matmul(a, b).shape, np.nan)
        assert make(products(out, a, b), by_python)
        np.testing.assert_allclose(out, a @ b)
    assert products(np.empty((3, 6)), square[::2, ::2], square[:3]) is None


def test_copies_take_any_steps() -> None:
    x = f64(4, 5, 6, 7)
    for view in (x[::-1], x[:, ::-2], x.transpose(3, 1, 2, 0), x[..., 2], np.broadcast_to(x[:1], x.shape)):
        for out in (np.full(view.shape, np.nan), np.full((*view.shape, 2), np.nan)[::-1, ..., 1]):
            assert make(copies(out, view), by_python, ranks=3)
            np.testing.assert_array_equal(out, view)
    assert copies(np.empty((2,) * 5), np.empty((2, 3) * 5)[(slice(None), 0) * 5]) is None


def test_a_long_sum_of_float32_keeps_its_digits() -> None:
    pytest.importorskip("numba", reason="numba compiles the kernels")
    x = np.full(10_000_000, 0.1, np.float32)
    out = np.empty((), np.float32)
    assert make(calls_of(Sum(), [x], out), as_machine_code)
    assert out == pytest.approx(np.sum(x, dtype=np.float64), rel=1e-6)


def test_every_name_of_the_vocabulary_has_a_meaning_in_python() -> None:
    assert [name for name in VOCABULARY if not hasattr(vocabulary, name)] == ["bool"]  # which Python has

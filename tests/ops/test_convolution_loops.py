"""Convolutions and pools of larger images as loops: several blocks of images, tiles, pieces of rows, and borders."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphengine.backends.native.kernel import Kernel, parameters
from graphengine.backends.native.lowering.convolution import taps_of_adjoint
from graphengine.backends.native.lowering.tiles import Tile, tile_dots, tile_sums
from graphengine.ir.op import Op
from graphengine.ops.convolution import Conv2D, Conv2DTranspose, Conv2DWeightGrad
from graphengine.ops.pool import (
    AvgPool2D,
    AvgPool2DAdjoint,
    MaxPool2D,
    MaxPool2DGather,
    MaxPool2DPlace,
    MaxPool2DScatter,
)
from tests.arrays import f64
from tests.ops.loops import as_machine_code, assert_close, by_python, calls_of, expected_of, garbage, make

CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ({}, (2, 3, 9, 10), (4, 3, 3, 2)),
    ({}, (33, 1, 6, 6), (3, 1, 3, 3)),
    ({}, (70, 2, 5, 5), (9, 2, 2, 2)),
    ({}, (1, 3, 4, 600), (2, 3, 2, 3)),
    ({}, (20, 2, 3, 60), (8, 2, 2, 5)),
    ({"padding": 1}, (5, 4, 7, 7), (16, 4, 3, 3)),
    ({"padding": "same"}, (3, 2, 6, 5), (5, 2, 4, 4)),
    ({"padding": ((0, 3), (2, 0))}, (3, 2, 6, 5), (1, 2, 4, 4)),
    ({"stride": 2, "padding": 1}, (32, 4, 8, 8), (8, 4, 4, 4)),
    ({"stride": (3, 2), "padding": "same"}, (4, 2, 11, 12), (3, 2, 3, 5)),
    ({"stride": 4}, (3, 2, 10, 11), (2, 2, 2, 3)),
    ({"dilation": (2, 3)}, (3, 2, 8, 9), (3, 2, 2, 3)),
    ({"stride": 2, "dilation": 2, "padding": 2}, (3, 2, 9, 8), (3, 2, 3, 3)),
    ({"stride": (2, 3), "padding": ((1, 2), (0, 3)), "dilation": (2, 1), "groups": 2}, (3, 4, 7, 6), (4, 2, 2, 3)),
    ({"groups": 4, "padding": 1}, (5, 4, 6, 6), (4, 1, 3, 3)),
    ({"groups": 2}, (5, 4, 6, 6), (6, 2, 3, 3)),
    ({"stride": 2}, (5, 4, 6, 6), (6, 4, 1, 1)),
    ({}, (5, 4, 6, 6), (6, 4, 1, 1)),
    ({"groups": 2}, (5, 4, 6, 6), (6, 2, 1, 1)),
    ({}, (1, 1, 1, 1), (1, 1, 1, 1)),
    ({}, (0, 2, 5, 5), (3, 2, 2, 2)),
    ({"padding": 2}, (2, 1, 1, 1), (1, 1, 3, 3)),
]

WINDOWS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"window": 2, "stride": 2}, (2, 2, 9, 71)),
    ({"window": 2, "stride": 2, "padding": 1}, (2, 2, 9, 40)),
    ({"window": 3, "stride": 2, "padding": "same"}, (2, 3, 11, 17)),
    ({"window": 2, "stride": 2}, (3, 2, 8, 8)),
    ({"window": (2, 3), "stride": (1, 1)}, (2, 2, 5, 30)),
    ({"window": 3, "stride": 3, "padding": 1}, (2, 2, 10, 16)),
    ({"window": 2, "stride": 3}, (2, 1, 9, 50)),
    ({"window": (1, 4), "stride": (1, 4)}, (2, 3, 1, 24)),
    ({"window": 6, "stride": 6}, (2, 1, 12, 40)),
    ({"window": (5, 5), "stride": 1, "padding": 4}, (1, 1, 3, 3)),
    ({"window": 20, "stride": 1}, (1, 1, 20, 21)),
    ({"window": 1, "stride": 1}, (1, 1, 1, 1)),
]


def machine_code_of(op: Op, operands: tuple[np.ndarray, ...], dtype: str) -> None:
    """Asserts that one thread and three write the same, and what `eval` gives."""
    operands = tuple(operand.astype(dtype) if operand.dtype.kind == "f" else operand for operand in operands)
    expected = expected_of(op, operands)
    outs = [garbage(expected) for _ in range(2)]
    for out, ranks in zip(outs, (1, 3), strict=True):
        assert make(calls_of(op, operands, out), as_machine_code, ranks)
        assert_close(out, expected, f"{op.kind}, {dtype}, {ranks} threads")
    np.testing.assert_array_equal(*outs)


def ops_of(attributes: dict[str, Any], x: np.ndarray, weight: np.ndarray) -> list[tuple[Op, tuple[np.ndarray, ...]]]:
    """A convolution and its adjoints, with operands."""
    op = Conv2D(**attributes)
    moves = op.moves(x.shape, weight.shape[2:])
    values = f64(*op.shape(x.shape, weight.shape), seed=3)
    fixed = {**attributes, "padding": tuple((sweep.before, sweep.after) for sweep in moves)}
    back = Conv2DTranspose(output_padding=[sweep.rest for sweep in moves], **fixed)
    return [
        (op, (x, weight)),
        (back, (values, weight)),
        (Conv2DWeightGrad(window=weight.shape[2:], **fixed), (x, values)),
    ]


def pools_of(attributes: dict[str, Any], x: np.ndarray) -> list[tuple[Op, tuple[np.ndarray, ...]]]:
    """The pooling ops, with operands."""
    greatest = MaxPool2D(**attributes).eval(np, x)
    place = MaxPool2DPlace(**attributes).eval(np, x, greatest)
    found: list[tuple[Op, tuple[np.ndarray, ...]]] = [
        (MaxPool2D(**attributes), (x,)),
        (MaxPool2DPlace(**attributes), (x, greatest)),
        (MaxPool2DScatter(size=x.shape[2:], **attributes), (f64(*greatest.shape), place)),
        (MaxPool2DGather(**attributes), (x, place)),
    ]
    for counted in (False, True):
        both = {"count_include_pad": counted, **attributes}
        found += [(AvgPool2D(**both), (x,)), (AvgPool2DAdjoint(size=x.shape[2:], **both), (f64(*greatest.shape),))]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("attributes", "images", "kernel"), CONVOLUTIONS)
def test_convolutions_are_what_eval_gives(
    attributes: dict[str, Any], images: tuple[int, ...], kernel: tuple[int, ...], dtype: str
) -> None:
    for op, operands in ops_of(attributes, f64(*images), f64(*kernel, seed=1)):
        machine_code_of(op, operands, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("attributes", "images"), WINDOWS[:3])
def test_pools_are_what_eval_gives(attributes: dict[str, Any], images: tuple[int, ...], dtype: str) -> None:
    x = np.round(4 * f64(*images)) / 4  # so that some elements of a window are equal
    for op, operands in pools_of(attributes, x):
        machine_code_of(op, operands, dtype)


@pytest.mark.parametrize(("attributes", "images", "kernel"), [case for case in CONVOLUTIONS if case[1][0] <= 3])
def test_no_kernel_reads_or_writes_outside_of_its_arrays(
    attributes: dict[str, Any], images: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    """By Python, where an index outside of an array is an error."""
    if images[3] > 60:
        pytest.skip("takes long by Python")
    for op, operands in ops_of(attributes, f64(*images), f64(*kernel, seed=1)):
        expected = expected_of(op, operands)
        out = garbage(expected)
        assert make(calls_of(op, operands, out), by_python, ranks=2)
        assert_close(out, expected, op.kind)


@pytest.mark.parametrize(("attributes", "images"), WINDOWS)
def test_pools_by_python_are_too_and_stay_within_their_arrays(
    attributes: dict[str, Any], images: tuple[int, ...]
) -> None:
    for op, operands in pools_of(attributes, np.round(4 * f64(*images)) / 4):
        expected = expected_of(op, operands)
        out = garbage(expected)
        assert make(calls_of(op, operands, out), by_python, ranks=2)
        assert_close(out, expected, op.kind)


@pytest.mark.parametrize("op", [MaxPool2D(window=2, stride=2), MaxPool2D(window=3, stride=1, padding=1)])
def test_a_window_with_nan_gives_nan_and_no_place(op: MaxPool2D) -> None:
    x = f64(1, 1, 6, 40)
    x[0, 0, [0, 3, 5, 5], [0, 7, 38, 39]] = np.nan
    x[0, 0, 1:5, 11:16] = -np.inf
    machine_code_of(op, (x,), "float64")
    greatest = op.eval(np, x)
    assert np.isnan(greatest).any()
    assert np.isneginf(greatest).any()
    machine_code_of(MaxPool2DPlace(**op.fixed()), (x, greatest), "float64")


def test_padding_is_zero_to_infinite_weights_as_in_eval() -> None:
    weight = f64(2, 2, 3, 3)
    weight[0, 0, 0, 0] = np.inf
    x = f64(2, 2, 4, 5)
    for op, operands in ops_of({"padding": 1}, x, weight):
        machine_code_of(op, operands, "float64")


@pytest.mark.parametrize("flip", [(0,), (1, 2), (0, 1, 2, 3)])
def test_operands_that_are_read_backwards(flip: tuple[int, ...]) -> None:
    x, weight = f64(3, 2, 6, 5), f64(4, 2, 3, 3, seed=1)
    for op, operands in [*ops_of({"padding": 1}, x, weight), *pools_of({"window": 2, "stride": 1}, x)[:1]]:
        flipped = [np.flip(np.ascontiguousarray(np.flip(operand, flip)), flip) for operand in operands]
        out = garbage(expected_of(op, operands))
        calls = calls_of(op, flipped, out)
        if calls is not None:
            assert make(calls, by_python)
            assert_close(out, expected_of(op, operands), op.kind)
        else:
            assert op.kind == "max_pool2d"
            assert 3 in flip


def test_more_threads_than_have_a_buffer_leave_the_work_to_those() -> None:
    x, weight = f64(3, 2, 6, 6), f64(3, 2, 3, 3, seed=1)
    for op, operands in ops_of({"padding": 1}, x, weight):
        expected = expected_of(op, operands)
        out = garbage(expected)
        assert make(calls_of(op, operands, out), as_machine_code, ranks=40)
        assert_close(out, expected, op.kind)


def test_a_transposed_convolution_sums_up_no_zeros() -> None:
    """Its rows and columns list as many taps as places meet elements, not the window for every element."""
    moves = Conv2D(stride=2, padding=1).moves((4, 3, 5, 6), (3, 3))
    for sweep in moves:
        assert sum(map(len, taps_of_adjoint(sweep))) == sum(sweep.met())


@pytest.mark.parametrize(
    ("kernel", "arrays", "sums"), [(tile_sums(Tile(8, 32)), 5, 8 * 32), (tile_dots(4, 5, 16), 1, 320)]
)
def test_what_is_summed_up_stays_in_registers_through_all_loops(kernel: Kernel, arrays: int, sums: int) -> None:
    pytest.importorskip("numba", reason="numba compiles the kernels")
    from graphengine.backends.native.compile.build import assembly, optimized

    count = len(parameters(kernel)) - 2
    signature = [*["float32*"] * 4, *["int64*"] * arrays, *["int"] * (count - 4 - arrays)]
    code = str(optimized(assembly("looked_at", kernel, signature)))
    assert sum(map(int, re.findall(r"phi (?:\w+ )*<(\d+) x float>", code))) >= sums

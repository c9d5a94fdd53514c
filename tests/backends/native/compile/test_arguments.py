"""Which arguments of a kernel share memory, so that it may not take for granted that they do not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

import graphengine as ge
from graphengine.backends.native.compile.arguments import apart, overlap
from graphengine.backends.native.kernel import Kernel

BLOCK = np.zeros(12, np.float32)
FRONT, MIDDLE, BACK = BLOCK[:6], BLOCK[4:8], BLOCK[8:]


def test_arrays_overlap_where_the_memory_between_their_ends_does() -> None:
    assert overlap([FRONT, MIDDLE])
    assert overlap([MIDDLE, 3, FRONT, 1.0])
    assert overlap([BLOCK[::2], BLOCK[1::2]])
    assert not overlap([FRONT, BACK])
    assert not overlap([FRONT, BLOCK[6:8], BACK])


def test_of_two_that_overlap_one_has_to_be_written() -> None:
    assert not overlap([BACK, FRONT, MIDDLE], written={0})
    assert overlap([FRONT, MIDDLE], written={0})
    assert overlap([FRONT, MIDDLE], written={1})
    assert not overlap([BLOCK, FRONT, MIDDLE], written=())


def test_one_that_begins_early_and_ends_late_is_seen_behind_others() -> None:
    assert overlap([BLOCK, BLOCK[1:2], BACK], written={2})
    assert overlap([BLOCK, BLOCK[1:2], BACK], written={0})
    assert not overlap([BLOCK, BLOCK[1:2], BACK], written=())


def test_what_is_the_memory_of_a_result_is_one_parameter_with_it() -> None:
    kernel = Kernel("sample", "def sample(x, y, out, n):\n    out[n] = x[n] + y[n]\n")
    alone, arguments = apart(kernel, [FRONT, BACK, FRONT, 3])
    assert alone == Kernel("sample", "def sample(y, out, n):\n    out[n] = out[n] + y[n]\n")
    assert [argument is given for argument, given in zip(arguments, (BACK, FRONT, 3), strict=True)] == [True] * 3
    assert apart(kernel, [FRONT, FRONT, BACK, 3])[0] is kernel
    assert apart(kernel, [FRONT, BACK, MIDDLE, 3])[0] == Kernel("sample", kernel.source, may_overlap=True)


def test_a_product_of_a_matrix_with_itself_takes_the_kernel_of_all_products() -> None:
    g = ge.Graph("square")
    x = g.input("x", (64, 64))
    g.output("y", x @ x)
    exe = ge.compile(g, backend="numba")
    values = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    np.testing.assert_allclose(exe.forward({"x": values})["y"], values @ values, rtol=1e-4, atol=1e-4)
    (call,) = exe.programs.latest.runnable.calls
    assert not call.request[0].may_overlap

"""Lowerings of an op that is defined outside of the package: registered by its class, with work memory of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

import graphengine as ge
from graphengine.backends.native.kernel import LoopCall, kernel_of
from graphengine.backends.native.lowering import registry
from graphengine.backends.native.lowering.registry import register_lowering
from graphengine.backends.native.vocabulary import share
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType
from graphengine.testing import check_op
from tests.arrays import f64


class RunningSum(Op):
    kind: Literal["test_running_sum"] = "test_running_sum"

    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.cumsum(x, axis=-1)

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(self, y_bar[:, ::-1])[:, ::-1],)


class Descendant(RunningSum):
    kind: Literal["test_descendant"] = "test_descendant"


def running_sum(x: Array, work: Array, out: Array, rows: int, n: int, rank: int, ranks: int) -> None:
    for row in share(rows, rank, ranks):
        total = 0.0
        for i in range(n):
            total += x[row * n + i]
            work[row * n + i] = total
        for i in range(n):
            out[row * n + i] = work[row * n + i]


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_LOWERINGS", dict(registry._LOWERINGS))

    @register_lowering(RunningSum, scratch=lambda _op, _y, x: (x, x))
    def lower_running_sum(_op: RunningSum, out: Array, x: Array, *, scratch: Sequence[Array]) -> list[LoopCall] | None:
        if not x.size or not x.flags.c_contiguous:
            return None
        return [(kernel_of(running_sum), (x, scratch[1], out, x.shape[0], x.shape[1]))]

    yield
    registry.lowering_of.cache_clear()


def kernels(op: Op, x: np.ndarray) -> set[str]:
    g = ge.Graph("sums")
    y = g.output("y", apply(op, g.input("x", x.shape, dtype="float64")))
    exe = ge.compile(g, backend="numba")
    np.testing.assert_allclose(exe.forward({"x": x})["y"], np.cumsum(x, axis=-1))
    assert y.type == TensorType(x.shape, "float64")
    return {use.kernel for use in exe.explain().kernels}


def test_without_a_lowering_an_op_runs_its_numpy_kernel() -> None:
    assert "running_sum" not in kernels(RunningSum(), f64(3, 5))


@pytest.mark.usefixtures("lowered")
def test_with_a_lowering_it_runs_that_and_so_do_subclasses() -> None:
    check_op(RunningSum(), f64(3, 5))
    for op in (RunningSum(), Descendant()):
        assert kernels(op, f64(3, 5)) == {"running_sum"}


@pytest.mark.usefixtures("lowered")
def test_arrays_that_a_lowering_leaves_go_to_numpy_in_the_same_work_memory() -> None:
    assert "running_sum" not in kernels(RunningSum(), f64(3, 0))

"""Numbers of places, and the waves that tell places apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError
from graphengine.ops.index import Arange, SinusoidalPositions
from graphengine.testing import check_op


@pytest.mark.parametrize("size", [0, 1, 7])
def test_arange_keeps_the_op_contract(size: int) -> None:
    check_op(Arange(size=size))


@pytest.mark.parametrize(("length", "units"), [(1, 1), (5, 4), (6, 3), (0, 2)])
def test_sinusoidal_positions_keep_the_op_contract(length: int, units: int) -> None:
    check_op(SinusoidalPositions(length=length, units=units, dtype="float64"))


def test_positions_are_the_published_waves() -> None:
    y = SinusoidalPositions(length=9, units=5, dtype="float64").eval(np)
    for p in range(9):
        for column in range(5):
            angle = p / 10000 ** ((column - column % 2) / 5)
            wave = math.cos(angle) if column % 2 else math.sin(angle)
            assert y[p, column] == pytest.approx(wave, rel=1e-12, abs=1e-15)


def test_positions_far_out_keep_their_digits_in_float32() -> None:
    y = SinusoidalPositions(length=100_001, units=2, dtype="float32").eval(np)
    assert y.dtype == np.float32
    assert y[100_000, 0] == np.float32(math.sin(100_000))


def test_a_named_length_is_that_of_what_is_fed() -> None:
    graph = ge.Graph("positions", dtype="float64")
    x = graph.input("x", ("time", 4))
    graph.output("y", 0.0 * x + graph.add(SinusoidalPositions(length="time", units=4, dtype="float64")))
    exe = ge.compile(graph)
    longer, shorter = (exe.forward({"x": np.zeros((time, 4))})["y"] for time in (6, 3))
    np.testing.assert_array_equal(longer[:3], shorter)


def test_positions_are_floats_of_at_least_one_unit() -> None:
    graph = ge.Graph("bad")
    with pytest.raises(DTypeError, match="gives floats, not int32"):
        graph.add(SinusoidalPositions(length=3, units=4, dtype="int32"))
    with pytest.raises(AttributeValueError, match="units"):
        SinusoidalPositions(length=3, units=0, dtype="float32")

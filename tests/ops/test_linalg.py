"""Matrix products and transposition."""

import numpy as np
import pytest

from graphengine.ops.matmul import MatMul
from graphengine.ops.shape import Transpose
from graphengine.testing import check_op
from tests.arrays import f64


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (f64(3, 4), f64(4, 2)),
        (f64(1, 1), f64(1, 1)),
        (f64(5, 3, 4), f64(4, 2)),
        (f64(3, 4), f64(5, 4, 2)),
        (f64(5, 1, 3, 4), f64(6, 4, 2)),
        (f64(4), f64(4)),
        (f64(4), f64(4, 2)),
        (f64(3, 4), f64(4)),
        (f64(5, 3, 4), f64(4)),
        (f64(4), f64(5, 4, 2)),
        (f64(2, 3, 0), f64(0, 4)),
        (f64(2, 3, 4), f64(4, 0)),
        (f64(2, 0, 4), f64(4, 2)),
        (f64(0, 3, 4), f64(4, 2)),
        (f64(2, 3, 0), f64(0)),
    ],
)
def test_matmul_keeps_the_op_contract(a: np.ndarray, b: np.ndarray) -> None:
    check_op(MatMul(), a, b)


@pytest.mark.parametrize(
    ("x", "axes"), [(f64(3, 4), None), (f64(2, 3, 4), (1, 2, 0)), (f64(2, 3), (-1, 0)), (f64(), None)]
)
def test_transpose_keeps_the_op_contract(x: np.ndarray, axes: tuple[int, ...] | None) -> None:
    check_op(Transpose(axes=axes), x)

"""The scalar forms of ops, evaluated place by place, against what the ops give for whole arrays."""

from __future__ import annotations

import ast
import itertools
import math

import numpy as np
import pytest

from graphengine.ir.kernel import VOCABULARY
from graphengine.ir.op import Op
from graphengine.ops import activation, batch_norm, compare, elementwise, erf, mills, power

MEANINGS = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "sin", "cos", "power")},
    **{name: getattr(np, name) for name in ("floor", "absolute", "sign", "maximum", "minimum")},
    **{name: getattr(np, name) for name in ("uint8", "int32", "int64", "float32", "float64")},
    "bool": np.bool,
    "sigmoid": lambda x: activation.Sigmoid().eval(np, x),
    "erf": lambda x: type(x)(math.erf(x)),
    "mills": mills.mills,
}

FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, 88.0, -88.0, 1e30, -1e30, np.inf, -np.inf, np.nan)
SMALL = (0.0, -0.0, 1.0, 2.5, -3.0, np.inf, np.nan)
BOOLS = (True, False)
INTS = (0, 1, -1, 7, 2**31 - 1, -(2**31))

UNARY = [
    elementwise.Negative(),
    compare.Abs(),
    elementwise.Sign(),
    elementwise.Floor(),
    elementwise.Square(),
    elementwise.Sqrt(),
    elementwise.Reciprocal(),
    elementwise.Exp(),
    elementwise.Expm1(),
    elementwise.Log(),
    elementwise.Log1p(),
    elementwise.Sin(),
    elementwise.Cos(),
    erf.Erf(),
    compare.IsFinite(),
    compare.Clip(low=-1.0, high=0.5),
    compare.Clip(low=1.0),
    compare.Clip(high=-1.0),
    activation.Sigmoid(),
    activation.Tanh(),
    activation.ReLU(),
    activation.HardTanh(),
    activation.LeakyReLU(slope=0.25),
    activation.ELU(alpha=0.5),
    activation.SiLU(),
    activation.Softplus(),
    activation.GELU(),
    activation.GELU(approximate="tanh"),
    activation.GELUSlope(),
]
BINARY = [
    elementwise.Add(),
    elementwise.Subtract(),
    elementwise.Multiply(),
    elementwise.Divide(),
    power.Power(),
    compare.Maximum(),
    compare.Minimum(),
    compare.Equal(),
    compare.NotEqual(),
    compare.Less(),
    compare.LessEqual(),
    compare.Greater(),
    compare.GreaterEqual(),
]
LOGICAL = [
    (compare.LogicalNot(), (BOOLS,)),
    (compare.LogicalAnd(), (BOOLS, BOOLS)),
    (compare.LogicalOr(), (BOOLS, BOOLS)),
]
OF_FLOATS = [
    *((op, (FLOATS,)) for op in UNARY),
    *((op, (SMALL, SMALL)) for op in BINARY),
    (compare.Where(), (BOOLS, SMALL, SMALL)),
    (compare.Mask(), (FLOATS, BOOLS)),
    (batch_norm.Normalize(epsilon=0.1), ((0.5, np.nan, np.inf), (1.0, -2.0), (0.0, 4.0), (0.0, 3.0), (-1.0, 2.0))),
    (elementwise.Cast(dtype="float64"), (FLOATS,)),
    (elementwise.Cast(dtype="bool"), (FLOATS,)),
    (elementwise.Cast(dtype="int32"), ((0.0, -0.0, 1.9, -1.9, 7.0),)),
]
OF_INTS = [
    *((op, (INTS,)) for op in (elementwise.Negative(), compare.Abs(), elementwise.Sign(), elementwise.Square())),
    *((op, (INTS, INTS)) for op in BINARY if op.kind not in ("divide", "power")),
    (elementwise.Cast(dtype="float32"), (INTS,)),
    (elementwise.Cast(dtype="uint8"), (INTS,)),
    (elementwise.Cast(dtype="bool"), (INTS,)),
]


def check(op: Op, operands: tuple[tuple[object, ...], ...], dtype: str) -> None:
    """Hold the scalar form at every choice of operands against `eval` of the arrays of all choices."""
    places = list(zip(*itertools.product(*operands), strict=True))
    arrays = [np.array(column, "bool" if isinstance(column[0], bool) else dtype) for column in places]
    names = [f"v{index}" for index in range(len(operands))]
    form = op.scalar(*names)
    assert form is not None
    code = compile(form, "<form>", "eval")
    with np.errstate(all="ignore"):
        expected = op.eval(np, *arrays)
        found = [
            eval(code, {**MEANINGS, **dict(zip(names, place, strict=True))}) for place in zip(*arrays, strict=True)
        ]
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    actual = np.array([np.asarray(value).astype(expected.dtype) for value in found])
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    if expected.dtype.kind == "f" and "maximum" not in form and "minimum" not in form:
        finite = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[finite], np.signbit(expected)[finite])


def label(case: object) -> str | None:
    return case.kind if isinstance(case, Op) else None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("op", "operands"), [*OF_FLOATS, *LOGICAL], ids=label)
def test_a_scalar_form_of_floats_gives_what_eval_gives(
    op: Op, operands: tuple[tuple[object, ...], ...], dtype: str
) -> None:
    check(op, operands, dtype)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(("op", "operands"), OF_INTS, ids=label)
def test_a_scalar_form_of_ints_gives_what_eval_gives(
    op: Op, operands: tuple[tuple[object, ...], ...], dtype: str
) -> None:
    check(op, operands, dtype)


@pytest.mark.parametrize(("op", "operands"), [*OF_FLOATS, *OF_INTS, *LOGICAL], ids=label)
def test_a_scalar_form_calls_nothing_but_the_vocabulary(op: Op, operands: tuple[tuple[object, ...], ...]) -> None:
    names = [f"v{index}" for index in range(len(operands))]
    found = {node.id for node in ast.walk(ast.parse(op.scalar(*names) or "")) if isinstance(node, ast.Name)}
    assert found <= {*names, *VOCABULARY}
    assert found >= set(names)


def test_every_scalar_form_has_a_case() -> None:
    cases = {type(op) for op, _ in (*OF_FLOATS, *OF_INTS, *LOGICAL)}
    default = Op.scalar
    pointwise = {
        op for op in Op.registry.values() if op.__module__.startswith("graphengine.") and op.scalar is not default
    }
    without = {
        op for op in pointwise if getattr(op, "form", "") is None and op.scalar is elementwise.Elementwise.scalar
    }
    assert pointwise - without == cases


def test_a_form_is_absent_where_an_element_depends_on_others() -> None:
    assert activation.Softmax().scalar("x") is None
    assert activation.Identity().scalar("x") is None

"""The forms of ops: against references of their own, as text element by element, and as NumPy calls."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from graphengine.backends.native import vocabulary
from graphengine.backends.native.kernel import VOCABULARY
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType, check_dtype
from graphengine.ops import activation, compare, elementwise, norm
from graphengine.ops.support import form
from graphengine.ops.support.pointwise import Pointwise, UnaryOp
from graphengine.testing import check_op
from tests.arrays import f64

MEANINGS = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "sin", "cos", "power")},
    **{name: getattr(np, name) for name in ("floor", "absolute", "sign", "copysign", "maximum", "minimum")},
    **{name: getattr(np, name) for name in ("uint8", "int32", "int64", "float32", "float64")},
    "bool": np.bool,
    "sigmoid": vocabulary.sigmoid,
    "erf": vocabulary.erf,
    "mills": lambda x: form.evaluate(form.record(form.mills, 1), np, [x]),
}

FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, 88.0, -88.0, 1e30, -1e30, np.inf, -np.inf, np.nan)
SMALL = (0.0, -0.0, 1.0, 2.5, -3.0, np.inf, np.nan)
BOOLS = (True, False)
INTS = (0, 1, -1, 7, 2**31 - 1, -(2**31))


def long(function: Callable[..., object]) -> Callable[..., np.ndarray]:
    """A function of Python floats, of each element."""

    def of_arrays(x: np.ndarray) -> np.ndarray:
        return np.array([np.nan if np.isnan(value) else function(float(value)) for value in x], np.longdouble)

    return of_arrays


def normal_tail(a: np.ndarray) -> np.ndarray:
    """1 - Phi(a), for a from 0 up."""
    return long(lambda a: math.erfc(a / math.sqrt(2)) / 2)(a)


def gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    u = np.sqrt(2 / np.longdouble(np.pi)) * (x + 0.044715 * x**3)
    return np.where(x == -np.inf, 0, x / (1 + np.exp(-2 * u)))


def gelu(x: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(x), np.maximum(x, 0), np.maximum(x, 0) - np.abs(x) * normal_tail(np.abs(x)))


def gelu_slope(x: np.ndarray) -> np.ndarray:
    a = np.minimum(np.abs(x), 1000)
    tail = normal_tail(a) - a * np.exp(-a * a / 2) / np.sqrt(2 * np.longdouble(np.pi))
    return np.where(x > 0, 1 - tail, tail)


class Row(NamedTuple):
    """A case: an op of one operand."""

    op: Op
    reference: Callable[[np.ndarray], np.ndarray]
    ulp: float
    low: float = -2.0
    """From where on derivatives are held against differences."""


REFERENCES: list[Row] = [
    Row(elementwise.Negative(), lambda x: -x, 0),
    Row(elementwise.Abs(), lambda x: np.where(x < 0, -x, x), 0),
    Row(elementwise.Sign(), lambda x: np.where(x > 0, 1, np.where(x < 0, -1, x)), 0),
    Row(elementwise.Floor(), long(lambda x: math.floor(x) if math.isfinite(x) else x), 0),
    Row(elementwise.Square(), lambda x: x**2, 0.5),
    Row(elementwise.Sqrt(), np.sqrt, 0.5, low=0.5),
    Row(elementwise.Reciprocal(), lambda x: 1 / x, 0.5, low=0.5),
    Row(elementwise.Exp(), np.exp, 3),
    Row(elementwise.Expm1(), np.expm1, 2),
    Row(elementwise.Log(), np.log, 4, low=0.5),
    Row(elementwise.Log1p(), np.log1p, 2, low=0.5),
    Row(elementwise.Sin(), np.sin, 2),
    Row(elementwise.Cos(), np.cos, 2),
    Row(elementwise.Erf(), long(math.erf), 7),
    Row(compare.Clip(low=-0.75, high=0.625), lambda x: np.where(x < -0.75, -0.75, np.where(x > 0.625, 0.625, x)), 0),
    Row(compare.Clip(low=1.0), lambda x: np.where(x < 1, 1, x), 0),
    Row(activation.Identity(), lambda x: x, 0),
    Row(activation.Sigmoid(), lambda x: 1 / (1 + np.exp(-x)), 4),
    Row(activation.Tanh(), np.tanh, 3),
    Row(activation.ReLU(), lambda x: np.where(x < 0, 0, x), 0),
    Row(activation.HardTanh(), lambda x: np.where(x < -1, -1, np.where(x > 1, 1, x)), 0),
    Row(activation.LeakyReLU(slope=0.25), lambda x: np.where(x < 0, x / 4, x), 0),
    Row(activation.ELU(alpha=0.5), lambda x: np.where(x > 0, x, np.expm1(x) / 2), 2),
    Row(activation.SiLU(), lambda x: np.where(x == -np.inf, 0, x / (1 + np.exp(-x))), 5),
    Row(activation.Softplus(), lambda x: np.logaddexp(x, 0), 4),
    Row(activation.GELU(), gelu, 300),
    Row(activation.GELU(approximate="tanh"), gelu_by_tanh, 200),
    Row(activation.GELUSlope(), gelu_slope, 500),
]
"""Ops of one operand, what they are by other means in wide floats, and by how many units in the last place they err.

The tails of gelu have the error that rounding x^2 makes of exp(-x^2 / 2), and its reference has that of a double.
"""

UNARY = [*(row.op for row in REFERENCES), compare.Clip(high=-1.0), compare.IsFinite()]
BINARY = [
    elementwise.Add(),
    elementwise.Subtract(),
    elementwise.Multiply(),
    elementwise.Divide(),
    elementwise.Power(),
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
    (norm.Normalize(epsilon=0.1), ((0.5, np.nan, np.inf), (1.0, -2.0), (0.0, 4.0), (0.0, 3.0), (-1.0, 2.0))),
    (elementwise.Cast(dtype="float64"), (FLOATS,)),
    (elementwise.Cast(dtype="bool"), (FLOATS,)),
    (elementwise.Cast(dtype="int32"), ((0.0, -0.0, 1.9, -1.9, 7.0),)),
]
OF_INTS = [
    *((op, (INTS,)) for op in (elementwise.Negative(), elementwise.Abs(), elementwise.Sign(), elementwise.Square())),
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
    text = op.scalar(*names)
    assert text is not None
    code = compile(text, "<form>", "eval")
    with np.errstate(all="ignore"):
        expected = op.eval(np, *arrays)
        found = [
            eval(code, {**MEANINGS, **dict(zip(names, place, strict=True))}) for place in zip(*arrays, strict=True)
        ]
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    actual = np.array([np.asarray(value).astype(expected.dtype) for value in found])
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    if expected.dtype.kind == "f" and "maximum" not in text and "minimum" not in text:
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


def test_every_form_has_a_case() -> None:
    cases = {type(op) for op, _ in (*OF_FLOATS, *OF_INTS, *LOGICAL)}
    own = {op for op in Op.registry.values() if issubclass(op, Pointwise) and op.__module__.startswith("graphengine.")}
    assert own == cases


def test_an_op_whose_elements_depend_on_others_has_no_text() -> None:
    assert activation.Softmax().scalar("x") is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: row.op.kind)
def test_values_are_within_units_of_a_reference(row: Row, dtype: str) -> None:
    op = row.op
    numbers = np.linspace(-10, 10, 401)
    x = np.concatenate([numbers, [1e-30, 88.0, 1e4, np.inf, -np.inf, np.nan]]).astype(dtype)
    types = [TensorType(x.shape, check_dtype(x.dtype))]
    out = np.empty_like(x)
    scratch = [np.empty(type_.static_shape, type_.dtype) for type_ in op.scratch(types[0], *types)]
    with np.errstate(all="ignore"):
        function, arguments = op.bind(out, x, scratch=scratch)
        function(*arguments)
        wide = np.asarray(row.reference(x.astype(np.longdouble)), np.longdouble)
        expected = wide.astype(dtype)
        off = np.abs(op.eval(np, x).astype(np.longdouble) - wide) / np.spacing(np.abs(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(op.eval(np, x), out)
    np.testing.assert_array_equal(out[~finite], expected[~finite])
    assert off[finite].max() <= row.ulp, f"off by {off[finite].max()} at {x[finite][off[finite].argmax()]}"


@pytest.mark.parametrize("shape", [(), (3, 4), (2, 1, 3)])
@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: row.op.kind)
def test_an_op_of_one_operand_keeps_the_op_contract(row: Row, shape: tuple[int, ...]) -> None:
    differentiable = type(row.op).vjp is not Op.vjp
    check_op(row.op, f64(*shape, low=row.low), differentiable=differentiable)


class Chosen(UnaryOp):
    """A form in which `where` has all its ways, and an operand is read last of all."""

    def form(self, x: form.Scalar) -> form.Scalar:
        above = form.where(x > 0.5, 1.0, 0.0)
        other = form.where(form.isfinite(x), x * 2.0, 3.0)
        return form.where(x < 0.0, above, other) + form.where(other > 1.0, other, 0.0) * x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_work_memory_is_reused_only_when_it_is_read_no_more(dtype: str) -> None:
    op, x = Chosen(kind="chosen"), np.array([-1.0, 0.25, 0.75, 4.0, np.inf], dtype)
    np.testing.assert_array_equal(op.eval(np, x), [0, 0.5, 1.5 + 1.5 * 0.75, 8 + 32, np.inf])
    assert_bound(op, x)


def assert_bound(op: UnaryOp, x: np.ndarray) -> None:
    """The NumPy calls give what `eval` gives, beside the operand and over it."""
    type_ = TensorType(x.shape, check_dtype(x.dtype))
    expected = op.eval(np, x)
    for out in (np.full_like(x, np.nan), x.copy()):
        operand = out if np.isfinite(out[0]) else x
        scratch = [np.full(t.static_shape, 77, t.dtype) for t in op.scratch(type_, type_)]
        function, arguments = op.bind(out, operand, scratch=scratch)
        function(*arguments)
        np.testing.assert_array_equal(out, expected)


class Powers(UnaryOp):
    """A form in which values 0 and 1 are chosen from, which are not the numbers 0.0 and 1.0."""

    def form(self, x: form.Scalar) -> form.Scalar:
        power = form.exp(x)
        return form.where(power > 1.0, power, x) + form.where(x > 0.0, 1.0, -0.0)


def test_a_value_that_is_chosen_is_not_taken_for_a_number() -> None:
    x = np.array([-1.0, 0.5, 2.0])
    np.testing.assert_allclose(Powers(kind="powers").eval(np, x), [-1.0, np.exp(0.5) + 1, np.exp(2.0) + 1])
    assert_bound(Powers(kind="powers"), x)


def test_a_form_cannot_branch_on_a_value() -> None:
    with pytest.raises(TypeError, match="use where"):
        form.record(lambda x: x if x > 0 else -x, 1)


def test_a_form_takes_numpys_numbers_and_refuses_its_functions() -> None:
    assert form.record(lambda x: np.float64(2.0) * x, 1).text(["x"]) == "2.0 * x"
    with pytest.raises(TypeError, match="does not support ufuncs"):
        form.record(lambda x: np.tanh(x), 1)


def test_flops_count_the_operators_of_a_form_at_their_own_sizes() -> None:
    x, mean = TensorType((2, 3), "float32"), TensorType((3,), "float32")
    assert activation.SiLU().flops(x, x) == 6 * 6
    assert norm.Normalize().flops(x, x, mean, mean, mean, mean) == 3 * 6 + 3 * 3

"""Comparison, logic, and choice between values."""

import operator
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError
from graphengine.ir.op import Op
from graphengine.ops.compare import (
    Clip,
    Equal,
    Greater,
    GreaterEqual,
    IsFinite,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    Mask,
    Maximum,
    Minimum,
    NotEqual,
    Where,
)
from graphengine.testing import check_op
from tests.arrays import boolean, f64, i64
from tests.ops.evaluate import derivatives, evaluate

BROADCASTS = [((3, 4), (3, 4)), ((), ()), ((3, 4), ()), ((), (2, 3)), ((3, 1), (4,)), ((2, 1, 3), (4, 1))]
COMPARISONS = [Equal(), Greater(), GreaterEqual(), Less(), LessEqual(), NotEqual()]


@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_keep_the_op_contract(op: Op, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(op, np.round(f64(*a)), np.round(f64(*b, seed=1)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_take_bools_and_integers(op: Op, dtype: str) -> None:
    check_op(op, i64(3, 4, high=3).astype(dtype), i64(4, high=3, seed=1).astype(dtype))


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (ge.equal, operator.eq),
        (ge.not_equal, operator.ne),
        (ge.less, operator.lt),
        (ge.less_equal, operator.le),
        (ge.greater, operator.gt),
        (ge.greater_equal, operator.ge),
    ],
)
def test_comparisons_are_those_of_python_nan_and_infinity_included(
    function: Callable[..., ge.Node], reference: Callable[[float, float], bool]
) -> None:
    numbers = [-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf, np.nan]
    table = evaluate(function, np.array(numbers)[:, None], np.array(numbers))
    assert table.dtype == np.bool_
    assert table.tolist() == [[reference(a, b) for b in numbers] for a in numbers]


@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("op", [LogicalAnd(), LogicalOr()])
def test_logic_keeps_the_op_contract(op: Op, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(op, boolean(*a), boolean(*b, seed=1))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
def test_negation_keeps_the_op_contract(shape: tuple[int, ...]) -> None:
    check_op(LogicalNot(), boolean(*shape))


def test_logic_follows_its_truth_tables() -> None:
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    assert evaluate(ge.logical_and, a, b).tolist() == [False, False, False, True]
    assert evaluate(ge.logical_or, a, b).tolist() == [False, True, True, True]
    assert evaluate(ge.logical_not, a).tolist() == [True, True, False, False]


def test_isfinite_keeps_the_op_contract() -> None:
    check_op(IsFinite(), np.array([0.0, np.inf, -np.inf, np.nan, 1e38]))


def test_isfinite_tells_numbers_from_infinities_and_nan() -> None:
    x = np.array([0.0, np.inf, -np.inf, np.nan])
    assert evaluate(ge.isfinite, x).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("condition", "a", "b"),
    [
        ((3, 4), (3, 4), (3, 4)),
        ((), (), ()),
        ((3, 4), (), ()),
        ((3, 1), (4,), (3, 4)),
        ((4,), (3, 4), (1,)),
        ((1,), (2, 3), (3,)),
        ((2, 1, 3), (4, 1), ()),
    ],
)
def test_where_keeps_the_op_contract(condition: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(Where(), boolean(*condition), f64(*a), f64(*b, seed=1))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_where_and_mask_take_every_dtype(dtype: str) -> None:
    a, b = i64(3, 4, high=9).astype(dtype), i64(4, high=9, seed=1).astype(dtype)
    check_op(Where(), boolean(3, 4), a, b)
    check_op(Mask(), a, boolean(3, 1))


@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
@settings(max_examples=15, deadline=None)
def test_where_has_right_gradients_however_shapes_broadcast(shapes: object) -> None:
    condition, a, b = shapes.input_shapes
    check_op(Where(), boolean(*condition), f64(*a), f64(*b, seed=1))


def test_where_chooses_infinities_and_nan_as_they_are() -> None:
    a, b = np.array([np.nan, 1.0, -np.inf]), np.array([2.0, np.nan, np.inf])
    np.testing.assert_array_equal(evaluate(ge.where, np.array([False, True, True]), a, b), [2, 1, -np.inf])
    np.testing.assert_array_equal(evaluate(ge.where, np.array([True, False, False]), a, b), [np.nan, np.nan, np.inf])


@pytest.mark.parametrize(
    ("x", "condition"), [((3, 4), (3, 4)), ((), ()), ((3, 4), (4,)), ((4,), (3, 1)), ((3, 1), (1, 4)), ((), (2,))]
)
def test_mask_keeps_the_op_contract(x: tuple[int, ...], condition: tuple[int, ...]) -> None:
    check_op(Mask(), f64(*x), boolean(*condition))


def test_mask_hides_infinities_and_nan() -> None:
    x = np.array([np.inf, np.nan, -np.inf, 3.0])
    np.testing.assert_array_equal(evaluate(ge.mask, x, np.array([False, False, True, True])), [0, 0, -np.inf, 3])


def test_a_gradient_that_is_masked_is_not_poisoned_by_what_is_hidden() -> None:
    x = np.array([-4.0, 0.0, 4.0])
    np.testing.assert_array_equal(derivatives(lambda x: ge.sqrt(ge.relu(x)), x), [[0, 0, 0.25]])


@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("op", [Maximum(), Minimum()])
def test_extremes_keep_the_op_contract(op: Op, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(op, f64(*a), f64(*b, low=-1.87, high=2.03))


@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3),
    op=st.sampled_from([Maximum(), Minimum()]),
)
@settings(max_examples=15, deadline=None)
def test_extremes_have_right_gradients_however_shapes_broadcast(shapes: object, op: Op) -> None:
    a, b = shapes.input_shapes
    check_op(op, f64(*a), f64(*b, low=-1.87, high=2.03))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("op", [Maximum(), Minimum()])
def test_extremes_take_integers(op: Op, dtype: str) -> None:
    check_op(op, i64(3, 4, high=9).astype(dtype), i64(4, high=9, seed=1).astype(dtype))


@pytest.mark.parametrize("function", [ge.maximum, ge.minimum])
def test_the_first_of_tied_operands_gets_the_adjoint(function: Callable[..., ge.Node]) -> None:
    tied = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(derivatives(function, tied, tied.copy()), [[1, 1, 1], [0, 0, 0]])


def test_the_extreme_operand_gets_the_adjoint_and_the_other_none() -> None:
    a, b = np.array([1.0, 5.0]), np.array([2.0, 3.0])
    np.testing.assert_array_equal(derivatives(ge.maximum, a, b), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(derivatives(ge.minimum, a, b), [[1, 0], [0, 1]])


def test_extremes_with_nan_are_nan() -> None:
    a, b = np.array([np.nan, 1.0]), np.array([1.0, np.nan])
    assert np.isnan(evaluate(ge.maximum, a, b)).all()
    assert np.isnan(evaluate(ge.minimum, a, b)).all()


@pytest.mark.parametrize("op", [Clip(low=-0.7, high=0.9), Clip(low=0.3), Clip(high=-0.3), Clip(low=0.0, high=0.0)])
@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
def test_clip_keeps_the_op_contract(op: Op, shape: tuple[int, ...]) -> None:
    check_op(op, f64(*shape))


def test_clip_keeps_between_its_bounds_and_has_no_slope_on_them() -> None:
    x = np.array([-np.inf, -2.0, -1.0, 0.5, 3.0, 4.0, np.inf])
    np.testing.assert_array_equal(evaluate(lambda x: ge.clip(x, -1, 3), x), [-1, -1, -1, 0.5, 3, 3, 3])
    np.testing.assert_array_equal(derivatives(lambda x: ge.clip(x, -1, 3), x), [[0, 0, 0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(derivatives(lambda x: ge.clip(x, low=-1), x), [[0, 0, 0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(derivatives(lambda x: ge.clip(x, high=3), x), [[1, 1, 1, 1, 0, 0, 0]])


def test_clip_has_no_slope_on_a_bound_that_float32_rounds() -> None:
    x = np.array([0.1, 0.2], np.float32)
    np.testing.assert_array_equal(derivatives(lambda x: ge.clip(x, 0.1, 0.2), x), [[0, 0]])


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "low, high or both are needed"),
        ({"low": 2.0, "high": 1.0}, r"low 2\.0 is above high 1\.0"),
        ({"low": float("nan")}, "finite number"),
        ({"low": "a"}, "valid number"),
    ],
)
def test_clip_refuses_bounds_that_are_none(bounds: dict[str, float], message: str) -> None:
    x = ge.Graph("clip").input("x", (3,))
    with pytest.raises(AttributeValueError, match=message):
        ge.clip(x, **bounds)


def test_the_condition_of_a_choice_is_of_bools() -> None:
    graph = ge.Graph("choice")
    x = graph.input("x", (3,))
    with pytest.raises(DTypeError, match=r"of where is of bools, not float32\[3\], to choose from float32"):
        ge.where(x, x, 0.0)
    with pytest.raises(DTypeError, match=r"of mask is of bools, not float32\[3\], to apply to float32\[3\]"):
        ge.mask(x, x)


def test_choices_of_different_dtypes_are_an_error_that_names_both_types() -> None:
    graph = ge.Graph("choice")
    a, b = graph.input("a", (3,)), graph.input("b", (), dtype="int64")
    with pytest.raises(DTypeError, match=r"dtypes differ: float32\[3\] and int64\[\]"):
        ge.where(a > 0, a, b)


def test_logic_refuses_numbers_and_names_both_types() -> None:
    graph = ge.Graph("logic")
    a, b = graph.input("a", (3,)), graph.input("b", (3,), dtype="bool")
    with pytest.raises(DTypeError, match=r"logical_and takes bools, not float32\[3\] and bool\[3\]; compare first"):
        ge.logical_and(a, b)


def test_comparison_of_different_dtypes_is_an_error_that_names_both_types() -> None:
    graph = ge.Graph("comparison")
    a, b = graph.input("a", (3,)), graph.input("b", (3,), dtype="int64")
    with pytest.raises(DTypeError, match=r"dtypes differ: float32\[3\] and int64\[3\]"):
        ge.less(a, b)

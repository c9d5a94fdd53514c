"""Arithmetic, functions of one operand, casts, and the operators on nodes."""

import math
import platform
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.op import Op
from graphengine.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Copy,
    Divide,
    Multiply,
    Negative,
    Sign,
    Square,
    StopGradient,
    Subtract,
)
from graphengine.testing import check_op
from tests.arrays import f64, i64
from tests.ops.evaluate import derivatives, evaluate

SHAPES = [(), (1,), (3, 4), (2, 1, 3)]
BROADCASTS = [((3, 4), (3, 4)), ((), ()), ((3, 4), ()), ((), (2, 3)), ((3, 1), (4,)), ((1,), (5,)), ((2, 1, 3), (4, 1))]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_copy_keeps_the_op_contract(shape: tuple[int, ...]) -> None:
    check_op(Copy(), f64(*shape))


@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("op", [Add(), Divide(), Multiply(), Subtract()])
def test_arithmetic_keeps_the_op_contract(op: Op, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(op, f64(*a), f64(*b, low=0.5, seed=1))


@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3),
    op=st.sampled_from([Multiply(), Divide()]),
)
@settings(max_examples=15, deadline=None)
def test_products_and_quotients_have_right_gradients_however_shapes_broadcast(shapes: object, op: Op) -> None:
    a, b = shapes.input_shapes
    check_op(op, f64(*a), f64(*b, low=0.5, seed=1))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("op", [Add(), Multiply(), Subtract()])
def test_arithmetic_takes_integers_of_every_width(op: Op, dtype: str) -> None:
    check_op(op, i64(3, 4, high=9).astype(dtype), i64(4, high=9, seed=1).astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("op", [Abs(), Copy(), Negative(), Sign(), Square(), StopGradient()])
def test_functions_that_keep_whole_numbers_whole_take_integers(op: Op, dtype: str) -> None:
    check_op(op, i64(3, 4, high=9).astype(dtype))


@pytest.mark.parametrize("source", ["bool", "uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("target", ["bool", "uint8", "int32", "int64"])
def test_casts_keep_the_op_contract(source: str, target: str) -> None:
    check_op(Cast(dtype=target), i64(3, 4, high=3).astype(source))


@pytest.mark.parametrize("shape", SHAPES)
def test_casts_to_floats_are_differentiable(shape: tuple[int, ...]) -> None:
    check_op(Cast(dtype="float64"), f64(*shape))
    check_op(Cast(dtype="float64"), i64(*shape, high=5))


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (ge.abs, math.fabs),
        (ge.cos, math.cos),
        (ge.exp, math.exp),
        (ge.expm1, math.expm1),
        (ge.floor, math.floor),
        (ge.log, math.log),
        (ge.log1p, math.log1p),
        (ge.reciprocal, lambda x: 1 / x),
        (ge.sign, lambda x: math.copysign(1, x)),
        (ge.sin, math.sin),
        (ge.sqrt, math.sqrt),
        (ge.square, lambda x: x**2),
    ],
)
def test_functions_give_what_the_math_module_gives(
    function: Callable[..., ge.Node], reference: Callable[[float], float]
) -> None:
    x = np.array([1e-9, 0.3, 1.0, 2.5, 20.75])
    np.testing.assert_allclose(evaluate(function, x), [reference(float(value)) for value in x], rtol=1e-14)


@pytest.mark.parametrize(
    ("function", "x", "slope"),
    [
        (ge.sqrt, 4.0, 0.25),
        (ge.square, -3.0, -6.0),
        (ge.reciprocal, 2.0, -0.25),
        (ge.log, 5.0, 0.2),
        (ge.log1p, 1.0, 0.5),
        (ge.exp, 0.0, 1.0),
        (ge.expm1, math.log(3), 3.0),
        (ge.sin, math.pi, -1.0),
        (ge.cos, math.pi / 2, -1.0),
        (ge.negative, 7.0, -1.0),
    ],
)
def test_derivatives_are_those_of_the_textbook(function: Callable[..., ge.Node], x: float, slope: float) -> None:
    np.testing.assert_allclose(derivatives(function, np.array(x)), [slope], rtol=1e-14)


def test_the_derivative_of_abs_is_the_sign_and_0_at_0() -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(derivatives(ge.abs, x), [[-1, 0, 0, 1]])


def test_sign_is_0_at_0_and_nan_at_nan() -> None:
    np.testing.assert_array_equal(evaluate(ge.sign, np.array([-np.inf, -0.0, 0.0, np.nan])), [-1, 0, 0, np.nan])


@pytest.mark.parametrize("function", [ge.sign, ge.floor, ge.stop_gradient])
def test_no_gradient_passes(function: Callable[..., ge.Node]) -> None:
    x = f64(3, 4)
    np.testing.assert_array_equal(derivatives(lambda x: x * function(x), x), [evaluate(function, x)])


def test_stop_gradient_takes_no_memory_and_no_instruction_of_its_own() -> None:
    graph = ge.Graph("view")
    x = graph.input("x", (3,))
    graph.output("y", ge.stop_gradient(ge.exp(x)) * 2)
    view = next(step for step in ge.compile(graph, rewrites=()).program.instructions if step.op.kind == "stop_gradient")
    assert view.is_view


def test_the_adjoint_of_a_cast_is_cast_back() -> None:
    graph = ge.Graph("mixed", "float32")
    x = graph.input("x", (2,))
    (x_bar,) = ge.grad(ge.sum(ge.cast(x, np.float64) ** 2), [x])
    assert x_bar.dtype == "float32"
    graph.output("x_bar", x_bar)
    np.testing.assert_array_equal(ge.compile(graph).forward({"x": [1.5, -2.0]})["x_bar"], [3.0, -4.0])


def test_a_cast_to_integers_drops_the_fraction_and_the_gradient() -> None:
    x = np.array([-1.9, 0.4, 2.6])
    np.testing.assert_array_equal(evaluate(lambda x: ge.cast(x, "int64"), x), [-1, 0, 2])
    np.testing.assert_array_equal(derivatives(lambda x: x * ge.cast(ge.cast(x, int), x.dtype), x), [[-1, 0, 2]])


FITS_NOT = [
    300.0,
    -1.9,
    256.5,
    1000.0,
    2.0**31,
    -(2.0**31) - 4096,
    2.0**32 + 512,
    2.0**63,
    1e30,
    math.inf,
    -math.inf,
    math.nan,
]
WRAPPED = {
    "bool": [True] * 12,
    "uint8": [44, 255, 0, 232, *[0] * 8],
    "int32": [300, -1, 256, 1000, *[-(2**31)] * 8],
    "int64": [300, -1, 256, 1000, 2**31, -(2**31) - 4096, 2**32 + 512, *[-(2**63)] * 5],
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="NumPy casts as the processor does")
@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("target", WRAPPED)
def test_a_float_that_does_not_fit_is_one_number_at_every_place(target: str, source: str, backend: str) -> None:
    for number, expected in zip(FITS_NOT, WRAPPED[target], strict=True):
        y = evaluate(lambda x: ge.cast(x, target), np.full(37, number, source), backend=backend)
        np.testing.assert_array_equal(y, np.full(37, expected, target), err_msg=str(number))


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("source", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("target", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_an_integer_that_does_not_fit_wraps_around(target: str, source: str, backend: str) -> None:
    numbers = [0, 1, -1, 255, 256, 300, 2**31 - 1, 2**31, -(2**31) - 1, 2**32 + 1, 2**63 - 1, -(2**63)]
    x = np.repeat(np.array(numbers).astype(source), 37)
    np.testing.assert_array_equal(evaluate(lambda x: ge.cast(x, target), x, backend=backend), x.astype(target))


def test_functions_at_extremes_give_infinity_and_nan_without_a_warning() -> None:
    assert evaluate(ge.exp, np.array(1000.0)) == np.inf
    assert evaluate(ge.log, np.array(0.0)) == -np.inf
    assert np.isnan(evaluate(ge.sqrt, np.array(-1.0)))
    assert evaluate(ge.divide, np.array(1.0), np.array(0.0)) == np.inf
    assert derivatives(ge.sqrt, np.array(0.0)) == [np.inf]


OPERATORS = [
    (lambda a, b: a + b, 7.0),
    (lambda a, b: a - b, 3.0),
    (lambda a, b: a * b, 10.0),
    (lambda a, b: a / b, 2.5),
    (lambda a, b: a**b, 25.0),
    (lambda a, b: a < b, False),
    (lambda a, b: a <= b, False),
    (lambda a, b: a > b, True),
    (lambda a, b: a >= b, True),
]


@pytest.mark.parametrize("number", [int, float, np.float32, np.float64, np.int64, np.asarray])
@pytest.mark.parametrize(("operator", "expected"), OPERATORS)
def test_operators_take_a_number_on_either_side(
    operator: Callable[..., ge.Node], expected: float, number: Callable[[float], object]
) -> None:
    left = evaluate(lambda b: operator(number(5), b), np.full(3, 2.0, np.float32))
    right = evaluate(lambda a: operator(a, number(2)), np.full(3, 5.0, np.float32))
    for value in (left, right):
        assert value.dtype == (np.bool_ if isinstance(expected, bool) else np.float32)
        np.testing.assert_array_equal(value, np.full(3, expected))


@pytest.mark.parametrize(("operator", "expected"), OPERATORS)
def test_operators_take_two_nodes(operator: Callable[..., ge.Node], expected: float) -> None:
    np.testing.assert_array_equal(evaluate(operator, np.full((2, 1), 5.0), np.full(3, 2.0)), np.full((2, 3), expected))


def test_an_array_on_the_left_makes_one_node_and_not_an_array_of_nodes() -> None:
    row = np.arange(3.0)
    np.testing.assert_array_equal(evaluate(lambda x: row * x, np.full((2, 1), 2.0)), [[0, 2, 4], [0, 2, 4]])


def test_unary_minus_and_the_matrix_product_are_operators() -> None:
    a, b = f64(3, 4), f64(4, 2, seed=1)
    np.testing.assert_array_equal(evaluate(lambda a: -a, a), -a)
    np.testing.assert_allclose(evaluate(lambda a, b: a @ b, a, b), a @ b, rtol=1e-14)
    np.testing.assert_allclose(evaluate(lambda b: a @ b, b), a @ b, rtol=1e-14)


def test_a_node_is_named_as_asked() -> None:
    graph = ge.Graph("names")
    x = graph.input("x", (2,))
    assert [ge.add(x, 1, name="y").name, ge.exp(x, name="z").name, ge.cast(x, "int32", name="w").name] == [
        "y",
        "z",
        "w",
    ]


def test_dtypes_that_differ_are_an_error_that_names_both_types() -> None:
    graph = ge.Graph("mixed")
    a, b = graph.input("a", (2, 3)), graph.input("b", (3,), dtype="float64")
    with pytest.raises(DTypeError, match=r"dtypes differ: float32\[2, 3\] and float64\[3\]; cast one to the other's"):
        a + b


def test_shapes_that_do_not_broadcast_are_an_error_that_names_both_operands() -> None:
    graph = ge.Graph("shapes")
    a, b = graph.input("a", ("batch", 3)), graph.input("b", (4,))
    with pytest.raises(ShapeError, match=r"do not broadcast: \[batch, 3\] and \[4\]") as caught:
        a * b
    assert "a is float32[batch, 3], declared at" in str(caught.value)
    assert "b is float32[4], declared at" in str(caught.value)


@pytest.mark.parametrize(
    "function", [ge.exp, ge.expm1, ge.log, ge.log1p, ge.sqrt, ge.reciprocal, ge.sin, ge.cos, ge.floor]
)
def test_functions_of_floats_refuse_integers(function: Callable[..., ge.Node]) -> None:
    x = ge.Graph("integers").input("x", (3,), dtype="int64")
    with pytest.raises(DTypeError, match=rf"{function.__name__} takes floats, not int64\[3\]"):
        function(x)


def test_division_of_integers_is_refused_and_names_both_types() -> None:
    graph = ge.Graph("integers")
    a, b = graph.input("a", (3,), dtype="int64"), graph.input("b", (), dtype="int64")
    with pytest.raises(DTypeError, match=r"divide takes floats, not int64\[3\] and int64\[\]"):
        a / b


def test_arithmetic_refuses_bools() -> None:
    x = ge.Graph("bools").input("x", (3,), dtype="bool")
    with pytest.raises(DTypeError, match=r"add takes numbers, not bool\[3\] and bool\[3\]"):
        x + x


def test_a_float_does_not_round_silently_to_an_integer_node() -> None:
    x = ge.Graph("integers").input("x", (3,), dtype="int64")
    with pytest.raises(DTypeError, match=r"0\.5 does not fit int64"):
        x * 0.5


def test_what_is_no_number_is_refused() -> None:
    x = ge.Graph("text").input("x", (3,))
    with pytest.raises(DTypeError, match="add takes nodes and numbers, not 'one'"):
        ge.add(x, "one")


def test_numbers_alone_belong_to_no_graph() -> None:
    with pytest.raises(GraphError, match="add needs at least one node among its operands, not 1, 2"):
        ge.add(1, 2)


def test_a_cast_to_no_known_dtype_names_those_there_are() -> None:
    x = ge.Graph("dtypes").input("x", (3,))
    with pytest.raises(DTypeError, match="no such dtype: 'float16'; there are bool, uint8"):
        ge.cast(x, "float16")

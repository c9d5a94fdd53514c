"""Activations: values against formulas of their own, kinks, extremes, and what they cost a step."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.op import Op
from graphengine.ops.activation import ELU, GELU, LogSoftmax, Sigmoid, SiLU, Softmax, Softplus, Tanh
from graphengine.testing import check_op
from tests.arrays import f64
from tests.ops.evaluate import derivatives, evaluate

FUNCTIONS = [
    ge.identity,
    ge.sigmoid,
    ge.tanh,
    ge.relu,
    ge.hard_tanh,
    ge.leaky_relu,
    ge.elu,
    ge.gelu,
    ge.silu,
    ge.softplus,
]


@pytest.mark.parametrize(
    ("shape", "axis"), [((4,), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((3, 1), -1), ((1, 3), 0)]
)
@pytest.mark.parametrize("op", [Softmax, LogSoftmax])
def test_softmax_and_its_logarithm_keep_the_op_contract(op: type[Op], shape: tuple[int, ...], axis: int) -> None:
    check_op(op(axis=axis), f64(*shape))


def _gelu_by_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (ge.identity, lambda x: x),
        (ge.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
        (ge.tanh, math.tanh),
        (ge.relu, lambda x: x if x > 0 else 0.0),
        (ge.hard_tanh, lambda x: min(max(x, -1.0), 1.0)),
        (ge.leaky_relu, lambda x: x if x > 0 else 0.01 * x),
        (lambda x: ge.leaky_relu(x, 0.2), lambda x: x if x > 0 else 0.2 * x),
        (ge.elu, lambda x: x if x > 0 else math.expm1(x)),
        (lambda x: ge.elu(x, alpha=0.5), lambda x: x if x > 0 else 0.5 * math.expm1(x)),
        (ge.gelu, lambda x: x * math.erfc(-x / math.sqrt(2)) / 2),
        (lambda x: ge.gelu(x, approximate="tanh"), _gelu_by_tanh),
        (ge.silu, lambda x: x / (1 + math.exp(-x))),
        (ge.softplus, lambda x: math.log1p(math.exp(x))),
    ],
)
def test_activations_give_what_their_formulas_give(
    function: Callable[..., ge.Node], reference: Callable[[float], float]
) -> None:
    x = f64(41, low=-5, high=5)
    expected = [reference(float(value)) for value in x]
    np.testing.assert_allclose(evaluate(function, x), expected, rtol=1e-13, atol=1e-15)


def test_the_approximation_of_gelu_stays_close_and_is_another_function() -> None:
    x = np.linspace(-6, 6, 601)
    apart = np.abs(evaluate(ge.gelu, x) - evaluate(lambda x: ge.gelu(x, approximate="tanh"), x)).max()
    assert 1e-4 < apart < 5e-4


@pytest.mark.parametrize(
    ("function", "at_kink", "slope"),
    [
        (ge.relu, 0.0, 0.0),
        (ge.hard_tanh, 1.0, 0.0),
        (ge.hard_tanh, -1.0, 0.0),
        (lambda x: ge.leaky_relu(x, 0.25), 0.0, 0.25),
        (lambda x: ge.elu(x, 0.5), 0.0, 0.5),
    ],
)
def test_kinks_have_the_slopes_that_are_declared(
    function: Callable[..., ge.Node], at_kink: float, slope: float
) -> None:
    assert derivatives(function, np.array(at_kink)) == [slope]


def test_slopes_beside_the_kinks_are_those_of_the_pieces() -> None:
    beside = np.array([np.nextafter(0, -1), np.nextafter(0, 1)])
    np.testing.assert_array_equal(derivatives(ge.relu, beside), [[0, 1]])
    np.testing.assert_array_equal(derivatives(lambda x: ge.leaky_relu(x, 0.25), np.array([-1e-9, 1e-9])), [[0.25, 1]])
    within = np.array([np.nextafter(-1, 0), np.nextafter(1, 0), np.nextafter(1, 2)])
    np.testing.assert_array_equal(derivatives(ge.hard_tanh, within), [[1, 1, 0]])


EXTREMES = np.array([-1000, -200, -80, 0, 80, 200, 1000], np.float32)


@pytest.mark.parametrize("function", [*FUNCTIONS, ge.softmax, ge.log_softmax])
def test_values_and_gradients_are_finite_at_extremes_in_float32(function: Callable[..., ge.Node]) -> None:
    assert np.isfinite(evaluate(function, EXTREMES)).all()
    (gradient,) = derivatives(function, EXTREMES)
    assert gradient.dtype == np.float32
    assert np.isfinite(gradient).all()


def test_sigmoid_keeps_its_relative_accuracy_in_the_tail() -> None:
    x = np.array([-80, -60, -20, -1], np.float32)
    exact = [1 / (1 + math.exp(-value)) for value in x.tolist()]
    np.testing.assert_allclose(evaluate(ge.sigmoid, x), exact, rtol=1e-6)
    np.testing.assert_allclose(derivatives(ge.sigmoid, x)[0][:3], exact[:3], rtol=1e-6)


def test_sigmoid_ends_in_0_and_1() -> None:
    np.testing.assert_array_equal(evaluate(ge.sigmoid, np.array([-1000, 0, 1000], np.float32)), [0, 0.5, 1])


def test_the_references_of_stable_activations_warn_of_nothing() -> None:
    for op in (Sigmoid(), Softplus(), SiLU(), Softmax(), LogSoftmax(), Tanh(), GELU(), ELU()):
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            assert np.isfinite(op.eval(np, EXTREMES)).all()


def test_softplus_is_the_identity_far_right_and_an_exponential_far_left() -> None:
    value = evaluate(ge.softplus, np.array([-1000, -80, 80, 1000], np.float32))
    np.testing.assert_allclose(value, [0, math.exp(-80), 80, 1000], rtol=1e-6)


@given(x=st.floats(-30, 30))
@settings(max_examples=10, deadline=None)
def test_sigmoid_and_its_mirror_sum_to_1_and_softplus_differs_by_x(x: float) -> None:
    def sums(x: ge.Node) -> ge.Node:
        return ge.sigmoid(x) + ge.sigmoid(-x) + ge.softplus(x) - ge.softplus(-x) - x

    np.testing.assert_allclose(evaluate(sums, np.array(x)), 1, rtol=1e-14)


def test_an_op_along_an_axis_may_not_say_that_it_is_elementwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Softmax.is_elementwise
    monkeypatch.setattr(Softmax, "is_elementwise", True)
    with pytest.raises(AssertionError, match="softmax, which is no elementwise op"):
        check_op(Softmax(), f64(2, 3))


def test_softmax_rows_sum_to_one() -> None:
    x = f64(5, 7, low=-30, high=30)
    value = evaluate(ge.softmax, x)
    np.testing.assert_allclose(value.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(value[2], [math.exp(v) / math.fsum(map(math.exp, x[2])) for v in x[2]], rtol=1e-13)


@pytest.mark.parametrize("function", [ge.softmax, ge.log_softmax])
def test_softmax_does_not_see_what_is_added_to_a_whole_row(function: Callable[..., ge.Node]) -> None:
    x = f64(3, 4)
    np.testing.assert_allclose(evaluate(function, x + 900), evaluate(function, x), rtol=1e-12)
    np.testing.assert_allclose(derivatives(lambda x: ge.square(function(x)), x)[0].sum(axis=-1), 0, atol=1e-14)


def test_log_softmax_keeps_what_softmax_loses() -> None:
    x = np.array([0, 1000], np.float32)
    np.testing.assert_array_equal(evaluate(ge.softmax, x), [0, 1])
    np.testing.assert_array_equal(evaluate(ge.log_softmax, x), [-1000, 0])


def test_softmax_over_an_axis_of_names_is_declared_before_sizes_are_known() -> None:
    graph = ge.Graph("attention", "float64")
    x = graph.input("x", ("batch", "time"))
    graph.output("y", ge.softmax(x, axis=0))
    value = f64(4, 3)
    np.testing.assert_allclose(ge.compile(graph).forward({"x": value})["y"].sum(axis=0), 1, rtol=1e-14)


def test_relu_costs_a_step_three_instructions_and_the_last_is_in_place() -> None:
    graph = ge.Graph("cost")
    x = graph.input("x", ("batch", 4))
    w = graph.parameter("w", (4, 3))
    graph.output("loss", ge.sum(ge.square(ge.relu(x @ w))))
    program = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1), rewrites=()).program
    steps = {step.op.kind: step for step in program.instructions if step.of == "relu_1" or step.name == "relu_1"}
    assert list(steps) == ["relu", "not_equal", "mask"]
    assert steps["mask"].in_place


def test_identity_takes_no_memory() -> None:
    graph = ge.Graph("view")
    graph.output("y", ge.identity(ge.exp(graph.input("x", (3,)))))
    program = ge.compile(graph, rewrites=()).program
    assert next(step for step in program.instructions if step.op.kind == "identity").is_view


@pytest.mark.parametrize("function", [*FUNCTIONS, ge.softmax, ge.log_softmax])
def test_activations_refuse_integers(function: Callable[..., ge.Node]) -> None:
    x = ge.Graph("integers").input("x", (3,), dtype="int32")
    with pytest.raises(DTypeError, match=rf"{function.__name__} takes floats, not int32\[3\]"):
        function(x)


def test_softmax_refuses_an_axis_that_is_not_there() -> None:
    x = ge.Graph("axes").input("x", ("batch", 3))
    with pytest.raises(ShapeError, match="axis 2 of a value with 2 axes"):
        ge.softmax(x, axis=2)
    with pytest.raises(ShapeError, match="axis -1 of a value with 0 axes"):
        ge.log_softmax(ge.sum(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: ge.leaky_relu(x, slope=1.5), "LeakyReLU: slope: .* less than or equal to 1"),
        (lambda x: ge.leaky_relu(x, slope=-0.1), "LeakyReLU: slope: .* greater than or equal to 0"),
        (lambda x: ge.elu(x, alpha=-1.0), "ELU: alpha: .* greater than or equal to 0"),
        (lambda x: ge.gelu(x, approximate="sigmoid"), "GELU: approximate: .*'none' or 'tanh'"),
        (lambda x: ge.softmax(x, axis=0.5), "Softmax: axis: .*valid integer"),
    ],
)
def test_attributes_out_of_range_are_refused(function: Callable[..., ge.Node], message: str) -> None:
    x = ge.Graph("attributes").input("x", (3,))
    with pytest.raises(AttributeValueError, match=message):
        function(x)

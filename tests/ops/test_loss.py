"""Losses: their values against hand formulas, their gradients, their reductions, and what they refuse."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError, ValueRangeError
from graphengine.ops.loss import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    HalfSquaredError,
    Hinge,
    Huber,
    Loss,
    PerceptronLoss,
    SoftmaxError,
    SquaredError,
)
from graphengine.testing import check_op
from tests.arrays import f64, i64

REDUCTIONS = ("mean", "sum", "none")
TERMWISE = (AbsoluteError, BinaryCrossEntropy, HalfSquaredError, Hinge, Huber, PerceptronLoss, SquaredError)
SHAPES = ((), (1,), (5,), (4, 3), (4, 1), (1, 3), (2, 3, 2))


def operands(op: type[Loss], *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target away from the loss's kinks."""
    u, y = f64(*shape), f64(*shape, low=-1.77, high=2.23, seed=1)
    if op is BinaryCrossEntropy:
        y = f64(*shape, low=0.1, high=0.9, seed=1)
    if op in (Hinge, PerceptronLoss):
        y = np.where(f64(*shape, seed=1) < 0.1, -1.0, 1.0)
    return u, y


def run(
    loss: Callable[..., ge.Node], u: np.ndarray, y: np.ndarray, dtype: str = "float64", **how: object
) -> np.ndarray:
    """The value of a loss on these arrays."""
    graph = ge.Graph(dtype=dtype)
    label_dtype = y.dtype if y.dtype.kind in "iu" else dtype
    nodes = graph.input("u", u.shape, dtype), graph.input("y", y.shape, label_dtype)
    graph.output("loss", loss(*nodes, **how))
    return ge.compile(graph).forward({"u": u, "y": y})["loss"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", TERMWISE)
def test_a_termwise_loss_keeps_the_op_contract(op: type[Loss], reduction: str, shape: tuple[int, ...]) -> None:
    check_op(op(reduction=reduction), *operands(op, *shape))


@pytest.mark.parametrize("delta", [0.3, 1.0, 10.0])
def test_huber_keeps_the_op_contract_whatever_its_delta(delta: float) -> None:
    check_op(Huber(delta=delta), *operands(Huber, 4, 3))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (f64(5), i64(high=5)),
        (f64(4, 3), i64(4, high=3)),
        (f64(1, 3), i64(1, high=3)),
        (f64(4, 1), i64(4, high=1)),
        (f64(2, 3, 4), i64(2, 3, high=4)),
        (f64(4, 3), i64(4, high=3).astype(np.int32)),
        (f64(4, 3), i64(4, high=3).astype(np.uint8)),
    ],
)
class TestClassification:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_cross_entropy_keeps_the_op_contract(self, logits: np.ndarray, labels: np.ndarray, reduction: str) -> None:
        check_op(CrossEntropy(reduction=reduction), logits, np.asarray(labels))

    def test_softmax_error_keeps_the_op_contract(self, logits: np.ndarray, labels: np.ndarray) -> None:
        check_op(SoftmaxError(), logits, np.asarray(labels))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


FORMULAS: dict[str, Callable[[float, float], float]] = {
    "half_squared_error": lambda u, y: (u - y) ** 2 / 2,
    "squared_error": lambda u, y: (u - y) ** 2,
    "absolute_error": lambda u, y: abs(u - y),
    "huber": lambda u, y: (u - y) ** 2 / 2 if abs(u - y) <= 1 else abs(u - y) - 0.5,
    "binary_cross_entropy": lambda z, t: -t * math.log(sigmoid(z)) - (1 - t) * math.log(1 - sigmoid(z)),
    "hinge": lambda z, y: max(0.0, 1 - y * z),
    "perceptron_loss": lambda z, y: max(0.0, -y * z),
}


@pytest.mark.parametrize("op", TERMWISE)
@pytest.mark.parametrize("shape", [(5,), (4, 3)])
def test_a_termwise_loss_has_its_formulas_value_summed_within_examples(op: type[Loss], shape: tuple[int, ...]) -> None:
    kind = op().kind
    u, y = operands(op, *shape)
    terms = np.array([FORMULAS[kind](*pair) for pair in zip(u.ravel(), y.ravel(), strict=True)]).reshape(shape)
    examples = terms.reshape(len(terms), -1).sum(axis=1)
    loss = getattr(ge, kind)
    np.testing.assert_allclose(run(loss, u, y, reduction="none"), examples, rtol=1e-12)
    np.testing.assert_allclose(run(loss, u, y, reduction="sum"), examples.sum(), rtol=1e-12)
    np.testing.assert_allclose(run(loss, u, y), examples.mean(), rtol=1e-12)


def test_cross_entropy_is_minus_the_log_of_the_softmax_at_the_label() -> None:
    logits, labels = f64(2, 3, 4), i64(2, 3, high=4)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    examples = np.array([sum(-math.log(softmax[i, j, labels[i, j]]) for j in range(3)) for i in range(2)])
    np.testing.assert_allclose(run(ge.cross_entropy, logits, labels, reduction="none"), examples, rtol=1e-12)
    np.testing.assert_allclose(run(ge.cross_entropy, logits, labels), examples.mean(), rtol=1e-12)


def test_cross_entropy_of_two_classes_is_binary_cross_entropy_of_the_difference() -> None:
    logits, labels = f64(6, 2), i64(6, high=2)
    one = run(ge.binary_cross_entropy, logits[:, 1] - logits[:, 0], labels.astype(np.float64))
    np.testing.assert_allclose(run(ge.cross_entropy, logits, labels), one, rtol=1e-12)


def test_a_scalar_counts_as_one_example() -> None:
    u, y = np.array(3.0), np.array(1.0)
    assert [run(ge.squared_error, u, y, reduction=how).item() for how in REDUCTIONS] == [4.0, 4.0, 4.0]
    assert run(ge.cross_entropy, np.zeros(4), np.array(2)) == pytest.approx(math.log(4))


def test_cross_entropy_is_exact_at_logits_of_a_thousand_in_float32() -> None:
    logits = np.array([[1000, -1000], [-1000, 1000], [1000, 1000]], np.float32)
    labels = np.array([0, 0, 1])
    losses = run(ge.cross_entropy, logits, labels, "float32", reduction="none")
    np.testing.assert_allclose(losses, [0, 2000, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gradient(ge.cross_entropy, logits, labels), [[0, 0], [-1, 1], [0.5, -0.5]], atol=1e-7)


def test_binary_cross_entropy_is_exact_at_logits_of_a_thousand_in_float32() -> None:
    logits = np.array([1000, 1000, -1000, -1000, 0, 20], np.float32)
    targets = np.array([1, 0, 1, 0, 0.5, 1], np.float32)
    losses = run(ge.binary_cross_entropy, logits, targets, "float32", reduction="none")
    np.testing.assert_allclose(losses, [0, 1000, 1000, 0, math.log(2), math.exp(-20)], rtol=1e-6)
    expected = [0, 1, -1, 0, 0, -math.exp(-20)]
    np.testing.assert_allclose(gradient(ge.binary_cross_entropy, logits, targets), expected, atol=1e-7)


def gradient(loss: Callable[..., ge.Node], u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """d loss / d u, the loss being summed, in the dtype of u."""
    graph = ge.Graph(dtype=u.dtype)
    nodes = graph.input("u", u.shape), graph.input("y", y.shape, y.dtype)
    graph.output("loss", loss(*nodes, reduction="sum"))
    exe = ge.compile(graph, loss="loss", wrt=["u"])
    exe.forward({"u": u, "y": y})
    return exe.backward()["u"]


@pytest.mark.parametrize(
    ("loss", "u", "y"),
    [(ge.absolute_error, 2.0, 2.0), (ge.hinge, 1.0, 1.0), (ge.hinge, -1.0, -1.0), (ge.perceptron_loss, 0.0, 1.0)],
)
def test_the_derivative_at_a_kink_is_zero(loss: Callable[..., ge.Node], u: float, y: float) -> None:
    assert gradient(loss, np.array([u]), np.array([y])) == 0


def test_the_second_derivative_of_cross_entropy_is_that_of_log_sum_exp() -> None:
    graph = ge.Graph(dtype="float64")
    z, c, v = graph.input("z", (1, 4)), graph.input("c", (1,), "int64"), graph.input("v", (1, 4))
    (z_bar,) = ge.grad(ge.cross_entropy(z, c), [z])
    (product,) = ge.grad(ge.sum(z_bar * v), [z])
    graph.output("product", product)
    feeds = {"z": f64(1, 4), "c": np.array([2]), "v": f64(1, 4, seed=3)}
    p = np.exp(feeds["z"][0]) / np.exp(feeds["z"][0]).sum()
    hessian = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(ge.compile(graph).forward(feeds)["product"][0], hessian @ feeds["v"][0], atol=1e-12)


@pytest.mark.parametrize("op", TERMWISE)
def test_shapes_that_would_broadcast_are_refused(op: type[Loss]) -> None:
    graph = ge.Graph()
    u, y = graph.input("u", ("batch", 1)), graph.input("y", ("batch",))
    with pytest.raises(ShapeError, match=r"prediction is float32\[batch, 1\] and the target float32\[batch\]"):
        getattr(ge, op().kind)(u, y)


def test_a_target_that_does_not_hold_the_predictions_dtype_is_refused() -> None:
    graph = ge.Graph()
    u, y, c = graph.input("u", (3,)), graph.input("y", (3,), "float64"), graph.input("c", (3,), "int64")
    with pytest.raises(DTypeError, match=r"float32\[3\] and float64\[3\]"):
        ge.squared_error(u, y)
    with pytest.raises(DTypeError, match=r"hinge takes floats, not int64\[3\] and int64\[3\]"):
        ge.hinge(c, c)


@pytest.mark.parametrize(
    ("logits", "labels", "dtype", "error", "message"),
    [
        (
            ("batch", 3),
            ("batch",),
            "float32",
            DTypeError,
            r"integer labels, not float32\[batch, 3\] and float32\[batch\]",
        ),
        (
            ("batch", 3),
            ("batch", 3),
            "int64",
            ShapeError,
            r"class numbers .* float32\[batch, 3\] and int64\[batch, 3\]",
        ),
        (("batch", 3), ("n",), "int64", ShapeError, r"float32\[batch, 3\] and int64\[n\]"),
        (("batch", 0), ("batch",), "int64", ShapeError, r"counts the classes, and float32\[batch, 0\] has none"),
        ((), (), "int64", ShapeError, r"counts the classes, and float32\[\] has none"),
    ],
)
def test_logits_and_labels_that_do_not_fit_are_refused(
    logits: tuple[int | str, ...], labels: tuple[int | str, ...], dtype: str, error: type[Exception], message: str
) -> None:
    graph = ge.Graph()
    with pytest.raises(error, match=message):
        ge.cross_entropy(graph.input("logits", logits), graph.input("labels", labels, dtype))


def test_an_unknown_reduction_and_a_delta_that_is_not_positive_are_refused() -> None:
    u = ge.Graph().input("u", (3,))
    with pytest.raises(AttributeValueError, match="reduction"):
        ge.squared_error(u, u, reduction="median")  # type: ignore[arg-type]  # what is under test
    with pytest.raises(AttributeValueError, match="delta"):
        ge.huber(u, u, delta=0.0)


def classifier(classes: int = 3) -> ge.Graph:
    """A linear classifier that also counts its steps, in a state."""
    graph = ge.Graph("classifier")
    x, y = graph.input("x", ("batch", 2)), graph.input("y", ("batch",), dtype="int64")
    steps = graph.state("steps", ())
    graph.update(steps, steps + 1.0)
    graph.output("loss", ge.cross_entropy(x @ graph.parameter("w", (2, classes)), y, name="l"))
    return graph


@pytest.mark.parametrize("label", [-1, 3, 2**40, -(2**63)])
def test_a_label_out_of_range_raises_before_anything_is_updated(label: int) -> None:
    exe = ge.compile(classifier(), loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    good = {"x": np.ones((4, 2), np.float32), "y": np.array([0, 1, 2, 0])}
    exe.step(good)
    before = {name: exe.parameters[name] for name in exe.parameters}
    with pytest.raises(ValueRangeError, match=rf"label {label} at \[2\] is out of range: it must lie in \[0, 3\)"):
        exe.step({**good, "y": np.array([0, 1, label, 0])})
    np.testing.assert_array_equal(exe.parameters["w"], before["w"])
    assert exe.state["steps"] == 1
    exe.step(good)
    assert exe.state["steps"] == 2


def test_the_error_of_a_label_quotes_the_node_and_where_it_was_declared() -> None:
    exe = ge.compile(classifier())
    with pytest.raises(ValueRangeError) as caught:
        exe.forward({"x": np.ones((1, 2)), "y": np.array([7])})
    assert "node  l = cross_entropy(matmul_1, y)" in str(caught.value)
    assert "test_loss.py" in str(caught.value)


@pytest.mark.parametrize("target", [-0.25, 1.5, math.nan])
def test_a_target_that_is_not_a_probability_raises(target: float) -> None:
    with pytest.raises(ValueRangeError, match=rf"target {target} at \[1\] is out of range"):
        run(ge.binary_cross_entropy, np.zeros(3), np.array([0.5, target, 1.0]))


@pytest.mark.parametrize("op", [CrossEntropy, SoftmaxError])
def test_eval_refuses_the_labels_that_the_kernel_refuses(op: type) -> None:
    with pytest.raises(ValueRangeError, match="label 3"):
        op().eval(np, f64(2, 3), np.array([0, 3]))


@pytest.mark.parametrize("kind", ["cross_entropy", *(op().kind for op in TERMWISE)])
def test_one_declaration_serves_every_batch_size(kind: str) -> None:
    graph = ge.Graph(dtype="float64")
    integer = kind == "cross_entropy"
    u = graph.parameter("shift", (3,), init=ge.init.Constant(0.3)) + graph.input("u", ("batch", 3))
    y = graph.input("y", ("batch",) if integer else ("batch", 3), "int64" if integer else None)
    graph.output("loss", getattr(ge, kind)(u, y))
    exe = ge.compile(graph, loss="loss")
    halves = []
    for rows in (slice(0, 2), slice(2, 8), slice(0, 8)):
        target = i64(8, high=3) if integer else np.where(f64(8, 3, seed=1) < 0.1, 0.0, 1.0)
        value = exe.forward({"u": f64(8, 3)[rows], "y": target[rows]})["loss"]
        halves.append((value, exe.backward()["shift"]))
    for first, second, both in zip(*halves, strict=True):
        np.testing.assert_allclose((2 * first + 6 * second) / 8, both, rtol=1e-12, atol=1e-15)


def test_the_backward_pass_of_a_classifier_is_one_slope_and_its_weight() -> None:
    graph = ge.Graph()
    logits, y = graph.parameter("logits", (4, 3)), graph.input("y", (4,), "int64")
    graph.output("loss", ge.cross_entropy(logits, y))
    program = ge.compile(graph, loss="loss", rewrites=()).program
    assert [step.op.kind for step in program.instructions] == ["cross_entropy", "softmax_error", "divide", "multiply"]


@pytest.mark.parametrize("kind", ["cross_entropy", *(op().kind for op in TERMWISE)])
def test_a_steady_step_allocates_no_array(kind: str) -> None:
    graph = ge.Graph(dtype="float64")
    shape = (500, 20)
    integer = kind == "cross_entropy"
    u = graph.parameter("u", shape)
    y = graph.input("y", shape[:1] if integer else shape, "int64" if integer else None)
    graph.output("loss", getattr(ge, kind)(u, y))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    feeds = {"y": i64(500, high=20) if integer else np.ones(shape)}
    exe.step(feeds)
    tracemalloc.start()
    try:
        exe.step(feeds)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4096

"""Layer, group and RMS normalization."""

from functools import partial

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.node import apply
from graphengine.ops.norm import GroupNorm, LayerNorm, RMSNorm, RowNormAdjoint
from graphengine.testing import check_op
from tests.arrays import f64
from tests.ops.evaluate import evaluate

EPSILON = 1e-2
"""Large enough to show where it is left out."""

ROWS = [((3, 4), 1), ((5,), 1), ((3, 4), 2), ((2, 3, 4), 1), ((2, 3, 4), 2), ((1, 1), 1), ((1, 6), 1), ((7, 1, 3), 2)]


@pytest.mark.parametrize(("shape", "axes"), ROWS)
@pytest.mark.parametrize("operands", [0, 1, 2])
def test_layer_norm_keeps_the_op_contract(shape: tuple[int, ...], axes: int, operands: int) -> None:
    affine = [f64(*shape[-axes:], seed=seed) for seed in range(1, operands + 1)]
    check_op(LayerNorm(axes=axes, epsilon=EPSILON), f64(*shape), *affine)


@pytest.mark.parametrize(("shape", "axes"), ROWS)
@pytest.mark.parametrize("operands", [0, 1])
def test_rms_norm_keeps_the_op_contract(shape: tuple[int, ...], axes: int, operands: int) -> None:
    affine = [f64(*shape[-axes:], seed=1)] * operands
    check_op(RMSNorm(axes=axes, epsilon=EPSILON), f64(*shape), *affine)


@pytest.mark.parametrize(
    ("shape", "groups"), [((3, 4), 2), ((2, 4, 3), 2), ((2, 4, 3, 2), 1), ((2, 4, 3, 2), 4), ((1, 1), 1)]
)
@pytest.mark.parametrize("operands", [0, 1, 2])
def test_group_norm_keeps_the_op_contract(shape: tuple[int, ...], groups: int, operands: int) -> None:
    affine = [f64(shape[1], seed=seed) for seed in range(1, operands + 1)]
    check_op(GroupNorm(groups=groups, epsilon=EPSILON), f64(*shape), *affine)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 4), (1, 1)])
@pytest.mark.parametrize("centered", [True, False])
def test_the_adjoint_of_a_row_keeps_the_op_contract(shape: tuple[int, ...], centered: bool) -> None:
    check_op(RowNormAdjoint(epsilon=EPSILON, centered=centered), f64(*shape, seed=1), f64(*shape))


def normalized(x: np.ndarray, axes: tuple[int, ...], epsilon: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_layer_norm_is_its_formula() -> None:
    x, scale, shift = f64(2, 3, 4), f64(4, seed=1), f64(4, seed=2)
    expected = normalized(x, (2,)) * scale + shift
    np.testing.assert_allclose(evaluate(ge.layer_norm, x, scale, shift), expected, rtol=1e-13, atol=1e-13)


def test_layer_norm_is_over_the_axes_that_the_scale_has() -> None:
    x, scale, shift = f64(2, 3, 4), f64(3, 4, seed=1), f64(3, 4, seed=2)
    expected = normalized(x, (1, 2), 0.1) * scale + shift
    value = evaluate(partial(ge.layer_norm, epsilon=0.1), x, scale, shift)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-13)


def test_rms_norm_is_its_formula() -> None:
    x, scale = f64(2, 3, 4), f64(4, seed=1)
    expected = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(evaluate(ge.rms_norm, x, scale), expected, rtol=1e-13)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_is_its_formula(groups: int) -> None:
    x, scale, shift = f64(2, 6, 3, 5), f64(6, seed=1), f64(6, seed=2)
    parts = normalized(x.reshape(2, groups, -1), (2,)).reshape(x.shape)
    expected = parts * scale[:, None, None] + shift[:, None, None]
    value = evaluate(partial(ge.group_norm, groups=groups), x, scale, shift)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)


def test_a_large_mean_takes_no_digits_of_the_variance() -> None:
    x = (np.random.default_rng(0).normal(size=(8, 4, 256)) + 1e4).astype(np.float32)
    exact = normalized(x.astype(np.float64), (2,))
    g = ge.Graph()
    node, one, zero = g.input("x", x.shape), g.constant("one", np.ones(256)), g.constant("zero", np.zeros(256))
    g.output("layer", ge.layer_norm(node, one, zero))
    g.output("group", ge.group_norm(node, one[:4], zero[:4], groups=4))
    values = ge.compile(g).forward({"x": x})
    spacing = np.spacing(np.float32(1e4))  # to which the mean can be told
    np.testing.assert_allclose(values["layer"], exact, atol=3 * spacing)
    np.testing.assert_allclose(values["group"], exact, atol=3 * spacing)


def test_rows_without_spread_become_the_shift() -> None:
    x, shift = np.full((2, 3), 5.0), f64(3)
    np.testing.assert_array_equal(evaluate(ge.layer_norm, x, f64(3, seed=1), shift), np.stack([shift, shift]))


def test_named_axes_ahead_of_the_rows_are_free() -> None:
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", "time", 4))
    scale, shift = g.parameter("scale", (4,), ge.init.Ones()), g.parameter("shift", (4,))
    y = g.output("y", ge.layer_norm(x, scale, shift))
    assert y.shape == ("batch", "time", 4)
    image = g.input("image", ("batch", 4, "time"))
    grouped = ge.group_norm(image, scale, shift, groups=2)
    g.output("loss", ge.sum(ge.sin(y)) + ge.sum(ge.cos(grouped)))
    ge.gradcheck(g, "loss", {"x": f64(2, 3, 4), "image": f64(2, 4, 3)}, wrt=["x", "scale", "shift", "image"])


def test_one_adjoint_op_and_the_normalized_rows_are_all_that_is_added() -> None:
    g = ge.Graph()
    x, scale, shift = g.input("x", ("batch", 4)), g.parameter("scale", (4,)), g.parameter("shift", (4,))
    loss = ge.sum(ge.layer_norm(x, scale, shift) * g.input("weight", ("batch", 4)))
    before = len(g)
    ge.grad(loss, [x, scale, shift])
    added = [node.op.kind for node in g.nodes[before:]]
    assert added.count("row_norm_adjoint") == 1
    assert added.count("layer_norm") == 1
    assert len(added) <= 10


def test_nothing_but_the_operand_is_kept_for_the_backward_pass() -> None:
    g = ge.Graph()
    x = g.input("x", (64, 32)) * 2.0
    y = ge.layer_norm(x, g.parameter("scale", (32,)), g.parameter("shift", (32,)))
    g.output("loss", ge.sum(y))
    exe = ge.compile(g, loss="loss")
    assert exe.plan("gradient").retained_bytes <= 64 * 32 * 4 + 1024


@pytest.mark.parametrize("declare", [ge.layer_norm, partial(ge.group_norm, groups=2)])
def test_a_scale_of_another_size_is_refused(declare: object) -> None:
    g = ge.Graph()
    x, scale, shift = g.input("x", ("batch", 4)), g.parameter("scale", (3,)), g.parameter("shift", (4,))
    with pytest.raises(
        ShapeError, match=r"takes a scale of type float32\[4\], not float32\[3\](.|\n)*scale is float32"
    ):
        declare(x, scale, shift)
    with pytest.raises(ShapeError, match=r"takes a shift of type float32\[4\], not float32\[3\]"):
        declare(x, shift, scale)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    g = ge.Graph()
    x, scale = g.input("x", ("batch", 4, 2)), g.parameter("scale", (4,))
    with pytest.raises(ShapeError, match=r"3 groups do not divide 4 channels(.|\n)*x is float32\[batch, 4, 2\]"):
        ge.group_norm(x, scale, scale, groups=3)
    with pytest.raises(AttributeValueError, match="groups"):
        ge.group_norm(x, scale, scale, groups=0)


def test_what_has_no_rows_is_refused() -> None:
    g = ge.Graph()
    scale = g.parameter("scale", (4,))
    with pytest.raises(DTypeError, match=r"layer_norm takes floats, not int64\[batch, 4\]"):
        ge.layer_norm(g.input("n", ("batch", 4), "int64"), scale, scale)
    with pytest.raises(ShapeError, match=r"takes \[examples, channels, ...\], not a value with 1 axes"):
        ge.group_norm(g.input("v", (4,)), scale, scale, groups=2)
    with pytest.raises(ShapeError, match=r"over the last 1 axes of a value with 0"):
        ge.rms_norm(g.input("s", ()), scale)
    with pytest.raises(ShapeError, match=r"rms_norm of no elements"):
        ge.rms_norm(g.input("empty", (3, 0)), g.parameter("none", (0,)))
    with pytest.raises(ShapeError, match=r"row_norm_adjoint of no elements"):
        apply(RowNormAdjoint(), g["empty"], g["empty"])
    with pytest.raises(AttributeValueError, match="epsilon"):
        ge.layer_norm(g.input("x", ("batch", 4)), scale, scale, epsilon=-1.0)
    with pytest.raises(DTypeError, match="dtypes differ"):
        ge.layer_norm(g["x"], g.parameter("wide", (4,), dtype="float64"), scale)

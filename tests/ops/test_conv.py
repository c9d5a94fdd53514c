"""Convolutions against a naive loop, by hand, and as each other's adjoints."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, FeedError, GraphError, ShapeError
from graphengine.ir.node import apply
from graphengine.ops.convolution import Conv2D, Conv2DTranspose, Conv2DWeightGrad
from graphengine.testing import check_op
from tests.arrays import f64, i64
from tests.ops.evaluate import derivatives, evaluate

Pads = tuple[tuple[int, int], tuple[int, int]]


@pytest.mark.parametrize(
    ("op", "x", "weight"),
    [
        (Conv2D(), f64(2, 3, 5, 6), f64(4, 3, 3, 2)),
        (Conv2D(), f64(1, 1, 1, 1), f64(1, 1, 1, 1)),
        (Conv2D(), f64(2, 3, 4, 5), f64(4, 3, 1, 1)),
        (Conv2D(groups=2), f64(2, 4, 3, 2), f64(2, 2, 1, 1)),
        (Conv2D(stride=2), f64(2, 3, 5, 5), f64(2, 3, 1, 1)),
        (Conv2D(padding=1), f64(2, 3, 5, 6), f64(4, 3, 3, 3)),
        (Conv2D(padding=3), f64(1, 1, 2, 2), f64(1, 1, 1, 1)),
        (Conv2D(padding="same", stride=2), f64(2, 2, 5, 6), f64(2, 2, 3, 3)),
        (Conv2D(padding="same"), f64(1, 2, 4, 1), f64(2, 2, 2, 4)),
        (Conv2D(stride=3), f64(1, 1, 8, 8), f64(2, 1, 2, 2)),
        (Conv2D(groups=4), f64(2, 4, 5, 5), f64(4, 1, 3, 3)),
        (Conv2D(groups=2, padding=(0, 2)), f64(2, 2, 4, 3), f64(4, 1, 3, 2)),
        (
            Conv2D(stride=(2, 3), padding=((1, 2), (0, 3)), dilation=(2, 1), groups=2),
            f64(2, 4, 7, 6),
            f64(4, 2, 2, 3),
        ),
        (Conv2D(dilation=(1, 3)), f64(1, 2, 3, 8), f64(2, 2, 2, 2)),
    ],
)
def test_conv2d_and_its_adjoints_keep_the_op_contract(op: Conv2D, x: np.ndarray, weight: np.ndarray) -> None:
    check_op(op, x, weight)
    y_bar = f64(*op.shape(x.shape, weight.shape), low=-0.2, high=0.2)
    moves = op.moves(x.shape, weight.shape[2:])
    fixed = {**op.attributes(), "padding": tuple((sweep.before, sweep.after) for sweep in moves)}
    check_op(Conv2DTranspose(output_padding=[sweep.rest for sweep in moves], **fixed), y_bar, weight)
    check_op(Conv2DWeightGrad(window=weight.shape[2:], **fixed), x, y_bar)


def naive_conv2d(
    x: np.ndarray, weight: np.ndarray, stride: tuple[int, int], pads: Pads, dilation: tuple[int, int], groups: int
) -> np.ndarray:
    """Every element of the result as the sum that defines it."""
    batch, _, height, width = x.shape
    filters, per_group, *window = weight.shape
    sizes = [
        (size + sum(pad) - d * (k - 1) - 1) // s + 1
        for size, pad, d, k, s in zip((height, width), pads, dilation, window, stride, strict=True)
    ]
    y = np.zeros((batch, filters, *sizes))
    for n, o, i, j, c, k, m in np.ndindex(batch, filters, *sizes, per_group, *window):
        row = i * stride[0] + k * dilation[0] - pads[0][0]
        column = j * stride[1] + m * dilation[1] - pads[1][0]
        if 0 <= row < height and 0 <= column < width:
            channel = o // (filters // groups) * per_group + c
            y[n, o, i, j] += x[n, channel, row, column] * weight[o, c, k, m]
    return y


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    small = st.integers(1, 3)
    groups, window, dilation = draw(small), (draw(small), draw(small)), (draw(small), draw(small))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2))
    least = [d * (k - 1) + 1 - sum(pad) for d, k, pad in zip(dilation, window, pads, strict=True)]
    sizes = [max(1, size) + draw(st.integers(0, 3)) for size in least]
    per_group, filters = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    x = f64(draw(st.integers(1, 2)), groups * per_group, *sizes)
    attributes = {"stride": (draw(small), draw(small)), "padding": pads, "dilation": dilation, "groups": groups}
    return x, f64(filters, per_group, *window, seed=1), attributes


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_conv2d_is_the_sum_that_defines_it(case: tuple[np.ndarray, np.ndarray, dict[str, object]]) -> None:
    x, weight, attributes = case
    stride, pads, dilation, groups = attributes.values()
    expected = naive_conv2d(x, weight, stride, pads, dilation, groups)
    np.testing.assert_allclose(evaluate(lambda x, w: ge.conv2d(x, w, **attributes), x, weight), expected, atol=1e-12)
    assert Conv2D(**attributes).eval(np, x, weight) == pytest.approx(expected, abs=1e-12)


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_the_three_ops_are_adjoints_of_each_other(case: tuple[np.ndarray, np.ndarray, dict[str, object]]) -> None:
    """<y_bar, conv(x, w)> = <x, transpose(y_bar, w)> = <w, weight_grad(x, y_bar)>, for every y_bar."""
    x, weight, attributes = case
    op = Conv2D(**attributes)
    y = op.eval(np, x, weight)
    y_bar = f64(*y.shape, seed=2)
    rest = [sweep.rest for sweep in op.moves(x.shape, weight.shape[2:])]
    x_bar = evaluate(lambda v, w: ge.conv2d_transpose(v, w, output_padding=rest, **attributes), y_bar, weight)
    weight_grad = Conv2DWeightGrad(window=weight.shape[2:], **attributes)
    weight_bar = evaluate(lambda x, v: apply(weight_grad, x, v), x, y_bar)
    product = np.vdot(y_bar, y)
    assert np.vdot(x, x_bar) == pytest.approx(product, abs=1e-9)
    assert np.vdot(weight, weight_bar) == pytest.approx(product, abs=1e-9)


def test_a_kernel_is_not_flipped() -> None:
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    y = evaluate(ge.conv2d, x, weight)
    assert y.tolist() == [[[[0 + 2 + 9 + 16, 1 + 4 + 12 + 20], [3 + 8 + 18 + 28, 4 + 10 + 21 + 32]]]]


def test_transposed_convolution_adds_the_kernel_at_every_place() -> None:
    x = np.array([[[[1.0, 10.0]]]])
    weight = np.array([[[[1.0, 2.0, 3.0]]]])
    plain = evaluate(lambda x, w: ge.conv2d_transpose(x, w, stride=2), x, weight)
    assert plain.tolist() == [[[[1.0, 2.0, 3.0 + 10.0, 20.0, 30.0]]]]
    cut = evaluate(lambda x, w: ge.conv2d_transpose(x, w, stride=2, padding=(0, 1), output_padding=(0, 1)), x, weight)
    assert cut.tolist() == [[[[2.0, 3.0 + 10.0, 20.0, 30.0]]]]


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [(5, 2, 1, (0, 1)), (5, 3, 1, (1, 1)), (5, 3, 2, (1, 1)), (6, 3, 2, (0, 1)), (7, 2, 3, (0, 1)), (6, 1, 2, (0, 0))],
)
def test_same_pads_as_little_as_gives_ceil_of_size_over_stride(
    size: int, window: int, stride: int, expected: tuple[int, int]
) -> None:
    x, weight = f64(1, 1, size, size), f64(1, 1, window, window)
    y = evaluate(lambda x, w: ge.conv2d(x, w, stride, "same"), x, weight)
    assert y.shape[2] == -(-size // stride)
    np.testing.assert_array_equal(y, evaluate(lambda x, w: ge.conv2d(x, w, stride, (expected, expected)), x, weight))


@pytest.mark.parametrize(
    ("padding", "stored"),
    [
        (1, ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        (((1, 2), (0, 3)), ((1, 2), (0, 3))),
        ((1, (0, 3)), ((1, 1), (0, 3))),
        ("valid", ((0, 0), (0, 0))),
        ("same", "same"),
    ],
)
def test_padding_is_stored_for_every_side(padding: object, stored: object) -> None:
    assert Conv2D(padding=padding).padding == stored


def test_the_document_of_a_convolution_comes_back_equal() -> None:
    graph = ge.Graph("g")
    x, w = graph.input("x", ("batch", 2, 8, 8)), graph.parameter("w", (4, 1, 3, 3))
    graph.output("a", ge.conv2d(x, w, padding="same", groups=2))
    graph.output("b", ge.conv2d_transpose(graph["conv2d_1"], w, 2, 1, output_padding=1))
    again = ge.Graph.from_json(graph.to_json())
    assert again == graph
    assert '"padding": "same"' in graph.to_json()
    assert again["conv2d_transpose_1"].op.padding == ((1, 1), (1, 1))


def test_a_convolution_of_one_row_is_conv1d() -> None:
    x, weight = f64(2, 4, 9), f64(6, 2, 3)
    y = evaluate(lambda x, w: ge.conv1d(x, w, 2, (1, 2), 2, 2), x, weight)
    expected = naive_conv2d(x[:, :, None], weight[:, :, None], (1, 2), ((0, 0), (1, 2)), (1, 2), 2)
    np.testing.assert_allclose(y, expected[:, :, 0], atol=1e-12)
    assert evaluate(lambda x, w: ge.conv1d(x, w, padding="same", groups=2), x, weight).shape == (2, 6, 9)


def test_gradients_of_conv1d_have_its_operands_shapes() -> None:
    shapes = [bar.shape for bar in derivatives(lambda x, w: ge.conv1d(x, w, 3), f64(2, 4, 11), f64(6, 4, 3))]
    assert shapes == [(2, 4, 11), (6, 4, 3)]


@pytest.mark.parametrize("padding", ["same", "valid", 2])
def test_a_batch_of_any_size_runs(padding: object) -> None:
    graph = ge.Graph("g", "float64")
    x, w = graph.input("x", ("batch", 2, 6, 5)), graph.parameter("w", (3, 2, 3, 3))
    y = ge.conv2d(x, w, 2, padding)
    graph.output("y", y)
    graph.output("loss", ge.sum(y * y))
    exe = ge.compile(graph, loss="loss")
    for batch in (1, 4, 7):
        array = f64(batch, 2, 6, 5)
        np.testing.assert_allclose(
            exe.forward({"x": array})["y"], y.op.eval(np, array, exe.parameters["w"]), atol=1e-12
        )
        assert exe.backward()["w"].shape == (3, 2, 3, 3)
    ge.gradcheck(graph, "loss", {"x": f64(3, 2, 6, 5)})


def test_images_of_any_size_run_with_stride_1() -> None:
    graph = ge.Graph("g", "float64")
    x, w = graph.input("x", ("batch", 2, "height", "width")), graph.parameter("w", (3, 2, 3, 2))
    y = ge.conv2d(x, w, padding=((1, 0), (0, 2)), dilation=(2, 1))
    assert y.shape == ("batch", 3, "height-3", "width+1")
    back = ge.conv2d_transpose(y, w, padding=((1, 0), (0, 2)), dilation=(2, 1))
    assert back.shape == x.shape
    assert ge.conv2d(x, w, padding="same").shape == ("batch", 3, "height", "width")
    graph.output("loss", ge.sum(back * x))
    for shape in ((1, 2, 5, 4), (3, 2, 6, 3)):
        ge.gradcheck(graph, "loss", {"x": f64(*shape)})
    with pytest.raises(FeedError, match=r"the window, which reaches over 5, is larger than the 4 of the padded axis"):
        ge.compile(graph).forward({"x": f64(1, 2, 3, 4)})


def test_a_stride_along_a_named_axis_is_refused_with_a_remedy() -> None:
    graph = ge.Graph("g")
    x, w = graph.input("x", ("batch", 2, "height", 8)), graph.parameter("w", (3, 2, 3, 3))
    with pytest.raises(ShapeError, match="stride 2 along the named axis height: write its size as a number, or take"):
        ge.conv2d(x, w, stride=2)
    with pytest.raises(ShapeError, match='padding "same" with stride 2 along the named axis height: write its size'):
        ge.conv2d(x, w, stride=2, padding="same")
    assert ge.conv2d(x, w, stride=(1, 2)).shape == ("batch", 3, "height-2", 3)


def test_images_of_any_size_are_doubled_and_halved_again() -> None:
    graph = ge.Graph("g", "float64")
    x, w = graph.input("x", ("batch", 2, "height", 3)), graph.parameter("w", (2, 1, 3, 3))
    doubled = ge.conv2d_transpose(x, w, stride=2, padding=1, output_padding=1)
    assert doubled.shape == ("batch", 1, "2*height", 6)
    assert ge.conv2d(doubled, w, stride=2, padding=1).shape == x.shape
    graph.output("loss", ge.sum(doubled * doubled))
    for height in (1, 4):
        ge.gradcheck(graph, "loss", {"x": f64(2, 2, height, 3)})


@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [({}, (16, 8, 3, 3)), ({"stride": 2, "padding": 1, "dilation": 2, "groups": 8}, (8, 1, 3, 3)), ({}, (4, 8, 1, 1))],
)
def test_kernels_allocate_no_arrays(attributes: dict[str, object], kernel: tuple[int, ...]) -> None:
    graph = ge.Graph("g", "float64")
    x, w = graph.input("x", (16, 8, 21, 21)), graph.parameter("w", kernel)
    pooled = ge.avg_pool2d(ge.max_pool2d(ge.conv2d(x, w, **attributes), 2), 3, 1, 1)
    graph.output("loss", ge.sum(pooled * pooled))
    exe = ge.compile(graph, loss="loss", wrt=["x", "w"])
    exe.forward({"x": f64(16, 8, 21, 21)})
    loaded = exe.programs.latest
    assert loaded is not None
    loaded.runnable.run(0, loaded.length)
    tracemalloc.start()
    loaded.runnable.run(0, loaded.length)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000  # NumPy's buffers of broadcast operands and a few tuples; the images take 450,000


FAULTS: list[tuple[dict[str, object], tuple[int, ...], tuple[int, ...], type[GraphError], str]] = [
    (
        {},
        (1, 2, 4, 4),
        (3, 2, 5, 3),
        ShapeError,
        "the window, which reaches over 5, is larger than the 4 of the padded",
    ),
    ({"dilation": 3}, (1, 2, 4, 9), (3, 2, 3, 3), ShapeError, "which reaches over 7, is larger than the 4"),
    ({"stride": 0}, (1, 2, 4, 4), (3, 2, 3, 3), AttributeValueError, r"stride is at least 1, not \(0, 0\)"),
    ({"dilation": (1, 0)}, (1, 2, 4, 4), (3, 2, 3, 3), AttributeValueError, r"dilation is at least 1, not \(1, 0\)"),
    ({"groups": 0}, (1, 2, 4, 4), (3, 2, 3, 3), AttributeValueError, "groups is at least 1, not 0"),
    ({"padding": -1}, (1, 2, 4, 4), (3, 2, 3, 3), AttributeValueError, "padding is at least 0, not"),
    ({"groups": 2}, (1, 3, 4, 4), (2, 1, 3, 3), ShapeError, "2 groups do not divide 3 channels"),
    ({"groups": 2}, (1, 2, 4, 4), (3, 1, 3, 3), ShapeError, "2 groups do not divide 3 filters"),
    ({}, (1, 3, 4, 4), (3, 2, 3, 3), ShapeError, "the images have 3 channels, and the kernel takes 2"),
    ({}, (3, 4, 4), (3, 2, 3, 3), ShapeError, "images and a kernel have 4 axes each"),
    ({}, (1, 2, 4, 4), (3, 2, 0, 3), AttributeValueError, r"window is at least 1, not \[0, 3\]"),
]


@pytest.mark.parametrize(("attributes", "x", "weight", "error", "message"), FAULTS)
def test_what_does_not_fit_is_refused_with_both_types(
    attributes: dict[str, object], x: tuple[int, ...], weight: tuple[int, ...], error: type[GraphError], message: str
) -> None:
    graph = ge.Graph("g")
    images, kernel = graph.input("x", x), graph.input("w", weight)
    with pytest.raises(error, match=message) as caught:
        ge.conv2d(images, kernel, **attributes)
    assert f"conv2d of {images.type} and {kernel.type}: " in caught.value.message
    assert "declared at" in str(caught.value)


def test_malformed_attributes_are_refused() -> None:
    for attributes in ({"stride": 1.5}, {"stride": (1, 2, 3)}, {"padding": "full"}, {"dilation": True}):
        with pytest.raises(AttributeValueError, match=next(iter(attributes))):
            Conv2D(**attributes)
    with pytest.raises(AttributeValueError, match="padding"):
        Conv2DTranspose(padding="same")


def test_dtypes_that_differ_or_count_are_refused() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (1, 1, 3, 3))
    with pytest.raises(DTypeError, match=r"float32\[1, 1, 3, 3\] and float64\[1, 1, 1, 1\]"):
        ge.conv2d(x, graph.constant("w", np.ones((1, 1, 1, 1)), dtype="float64"))
    numbers = graph.constant("n", i64(1, 1, 3, 3, high=3))
    with pytest.raises(DTypeError, match="conv2d takes floats, not int64"):
        ge.conv2d(numbers, numbers)


def test_transposed_convolutions_refuse_what_does_not_fit() -> None:
    graph = ge.Graph("g")
    x, w = graph.input("x", (1, 2, 1, 1)), graph.parameter("w", (2, 3, 1, 1))
    with pytest.raises(AttributeValueError, match=r"output_padding is at least 0 and below the stride \(2, 2\)"):
        ge.conv2d_transpose(x, w, stride=2, output_padding=2)
    with pytest.raises(ShapeError, match="leaves nothing of the images"):
        ge.conv2d_transpose(x, w, padding=1)
    with pytest.raises(ShapeError, match="the images have 2 channels, and the kernel takes 3"):
        ge.conv2d_transpose(x, graph.parameter("v", (3, 2, 1, 1)))


def test_values_at_other_places_have_no_gradient_by_a_kernel() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 1, 5, 5))
    with pytest.raises(ShapeError, match="the kernel has 3 by 3 places in each of 2 images"):
        apply(Conv2DWeightGrad(window=3), x, x)


def test_flops_are_those_of_the_sums() -> None:
    graph = ge.Graph("g")
    x, w = graph.input("x", ("batch", 4, 8, 8)), graph.parameter("w", (6, 2, 3, 3))
    graph.output("y", ge.conv2d(x, w, groups=2))
    cost = ge.compile(graph).cost(batch=5)
    assert cost.total_flops == 5 * 6 * 6 * 6 * (2 * 2 * 9 - 1)


def test_a_kernel_of_one_element_unfolds_nothing() -> None:
    graph = ge.Graph("g")
    x, w = graph.input("x", ("batch", 4, 8, 8)), graph.parameter("w", (6, 4, 1, 1))
    y = graph.output("y", ge.conv2d(x, w))
    assert ge.compile(graph).cost(batch=5).peak_bytes == 4 * 5 * 6 * 8 * 8
    assert y.op.scratch(*(node.type.bind({"batch": 5}) for node in (y, x, w))) == ()


def test_what_is_unfolded_grows_with_the_width_of_the_kernel_alone() -> None:
    x, weight = ge.TensorType((2, 4, 16, 16), "float32"), ge.TensorType((8, 4, 5, 3), "float32")
    op = Conv2D(padding="same")
    assert op.scratch(op.infer(x, weight), x, weight)[0].size == 2 * 4 * (16 + 4) * 16 * 3

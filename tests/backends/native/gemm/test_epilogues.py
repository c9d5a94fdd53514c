"""Epilogues: what a product's kernel makes of its blocks is, bit for bit, what a call behind it would make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="numba compiles the kernels")

import graphengine as ge
from graphengine.backends import numba
from graphengine.backends.blas import find_blas
from graphengine.backends.native.compile.loader import addresses
from graphengine.backends.native.gemm import products as native_products
from graphengine.backends.native.gemm.epilogues import NO_EPILOGUE, RUN_BLOCK, Epilogue, find_epilogue
from graphengine.backends.native.gemm.products import product_calls
from graphengine.backends.native.gemm.tiles import Workspace
from graphengine.backends.native.llvm.machine import vector_bytes
from graphengine.ir.graph import Graph
from graphengine.ir.kernel import Kernel, Product
from graphengine.ir.node import Node, Phase
from graphengine.ops.activation import ReLU
from graphengine.ops.compare import mask
from graphengine.ops.fusion.fused import Fused
from graphengine.ops.fusion.region import Region
from graphengine.ops.kernels.products import products
from graphengine.ops.linalg import MatMul
from tests.backends.native.compiled import run_on

THREADS = 3
Array = np.ndarray


def region(build: Callable[..., Node | tuple[Node, ...]], *arrays: Array) -> Fused:
    """What `build` makes of inputs for the arrays, as one op."""
    graph = Graph("body")
    made = build(*(graph.input(f"x{place}", array.shape, str(array.dtype)) for place, array in enumerate(arrays)))
    for place, node in enumerate(made if isinstance(made, tuple) else (made,)):
        graph.output(f"y{place}", node)
    return Fused(kind="fused", region=Region(graph), computes=())


FORMS: dict[str, tuple[Callable[..., Any], str]] = {
    "bias and relu": (lambda c, b: ge.relu(c + b), "columns"),
    "bias and tanh": (lambda c, b: ge.tanh(0.7 * c + b), "columns"),
    "rows": (lambda c, b: ge.sigmoid(c) * b, "rows"),
    "mask": (lambda c, x: mask(c, x > 0.0), "all"),
    "an activation and its argument": (lambda c, b: (c + b, ge.gelu(c + b)), "columns"),
    "a number": (lambda c, x: c * c - x, "none"),
}
"""What is made of C and of another operand, and along what that moves."""


def draw(seed: int, shape: Sequence[int], dtype: str) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def product_of(out: Array, a: Array, b: Array, by_tiles: bool) -> tuple[Kernel, list[Any]]:
    """The call of out = a @ b, by tiles or by BLAS."""
    if by_tiles and not vector_bytes():
        pytest.skip("no tiles for the vectors of this CPU")
    (product,) = products(out, a, b) or ()
    assert isinstance(product, Product)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_products, "pays", lambda *_: by_tiles)
        patch.setattr(native_products, "_FEW", 0)
        ((kernel, arguments),) = product_calls(product, find_blas(), Workspace(THREADS)) or ()
    assert kernel.name == ("packed_product" if by_tiles else "blas_product")
    return kernel, arguments


def run_merged(kernel: Kernel, arguments: Sequence[Any], epilogue: Epilogue, threads: int) -> None:
    """Run a product with its epilogue, as so many threads."""
    found = addresses([epilogue.request, RUN_BLOCK])
    array = epilogue.array(found, THREADS)
    run_on(threads, kernel, *(array if argument is NO_EPILOGUE else argument for argument in arguments))


def run_apart(
    kernel: Kernel, arguments: Sequence[Any], op: Fused, outs: Any, operands: Sequence[Array], threads: int
) -> None:
    """Run a product as so many threads, and then what reads it."""
    run_on(threads, kernel, *arguments)
    for call in op.loops(outs, *operands) or ():
        assert not isinstance(call, Product)
        function, numbers = call
        run_on(threads, function, *numbers)


@given(
    m=st.sampled_from([4, 6, 25, 97, 130]),
    n=st.sampled_from([4, 16, 33, 130, 600]),
    k=st.sampled_from([1, 16, 400, 800]),
    form=st.sampled_from(list(FORMS)),
    layout=st.sampled_from(["plain", "turned", "three axes"]),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, THREADS),
    by_tiles=st.booleans(),
    in_place=st.booleans(),
)
@settings(max_examples=150)
def test_an_epilogue_gives_the_bits_of_a_call_behind_the_product(
    m: int, n: int, k: int, form: str, layout: str, dtype: str, threads: int, by_tiles: bool, in_place: bool
) -> None:
    build, moves = FORMS[form]
    ahead = (2,) if layout == "three axes" else ()
    a, b = draw(0, (*ahead, m, k), dtype), draw(1, (k, n), dtype)
    shapes: dict[str, tuple[int, ...]] = {"columns": (n,), "rows": (m, 1), "all": (*ahead, m, n), "none": ()}
    if ahead:
        shapes["rows"] = (*ahead, m, 1)
    other = draw(2, shapes[moves], dtype)
    results = []
    for merges in (False, True):
        c = np.full((n, m), 7, dtype).T if layout == "turned" else np.full((*ahead, m, n), 7, dtype)
        op = region(build, c, other)
        outs = tuple(np.full_like(c, 5) for _ in op.region.outputs)
        outs = (c, *outs[1:]) if in_place else outs
        kernel, arguments = product_of(c, a, b, by_tiles)
        if merges:
            epilogue = find_epilogue(arguments, op, outs, (c, other))
            assert epilogue is not None
            run_merged(kernel, arguments, epilogue, threads)
        else:
            run_apart(kernel, arguments, op, outs, (c, other), threads)
        results.append([array.tobytes() for array in (c, *outs)])
    assert results[0] == results[1]


def test_an_op_that_is_in_no_region_is_an_epilogue_too() -> None:
    a, b, c, out = draw(0, (40, 16), "float32"), draw(1, (16, 64), "float32"), *np.zeros((2, 40, 64), "float32")
    kernel, arguments = product_of(c, a, b, by_tiles=False)
    epilogue = find_epilogue(arguments, ReLU(), out, (c,))
    assert epilogue is not None
    run_merged(kernel, arguments, epilogue, 2)
    np.testing.assert_array_equal(out, np.maximum(c, 0))
    assert out.any()


def test_an_epilogue_on_a_part_of_an_array_writes_nothing_beside_it() -> None:
    whole = np.full((60, 200), 7.0, "float32")
    c = whole[9:50, 50:127]
    a, b, bias = draw(0, (41, 500), "float32"), draw(1, (500, 77), "float32"), draw(2, (77,), "float32")
    op = region(lambda c, b: ge.relu(c + b), c, bias)
    kernel, arguments = product_of(c, a, b, by_tiles=False)
    epilogue = find_epilogue(arguments, op, c, (c, bias))
    assert epilogue is not None
    run_merged(kernel, arguments, epilogue, 2)
    np.testing.assert_allclose(c, np.maximum(a @ b + bias, 0), rtol=1e-4, atol=1e-4)
    assert (whole == 7).sum() == whole.size - c.size


def matrices(count: int, size: int = 32) -> list[Array]:
    return [draw(seed, (size, size), "float32") for seed in range(count)]


def epilogue_for(build: Callable[..., Any], out: Any, product: Sequence[Array], *operands: Array) -> Epilogue | None:
    _, arguments = product_of(*product, by_tiles=False)
    return find_epilogue(arguments, region(build, *operands), out, operands)


def test_what_reads_c_elsewhere_than_where_it_writes_is_no_epilogue() -> None:
    a, b, c, out = matrices(4)
    assert epilogue_for(lambda c, x: c + x, out, (c, a, b), c, a) is not None
    assert epilogue_for(lambda c, x: c + x, out, (c, a, b), c, c.T) is None
    assert epilogue_for(lambda c: c + 1.0, out, (c, a, b), c.T) is None
    assert epilogue_for(lambda c, x: c + x, out, (c, a, b), c, c[0]) is None
    assert epilogue_for(lambda c, x: c + x, out, (c, a, b), c, c[:, :1]) is None


def test_what_does_not_read_c_is_no_epilogue() -> None:
    a, b, c, out = matrices(4)
    assert epilogue_for(lambda x: x + 1.0, out, (c, a, b), a) is None
    assert epilogue_for(lambda x: x + 1.0, out[:8], (c, a, b), c[:8]) is None


def test_what_writes_over_an_operand_of_the_product_is_no_epilogue() -> None:
    a, b, c, out = matrices(4)
    assert epilogue_for(lambda c: c + 1.0, out, (c, a, b), c) is not None
    for written in (a, b):
        assert epilogue_for(lambda c: c + 1.0, written, (c, a, b), c) is None
        assert epilogue_for(lambda c, x: (c + x, c), (out, written), (c, a, b), c, out) is None


def test_arrays_between_each_other_are_given_to_no_epilogue() -> None:
    a, b, _, _ = matrices(4)
    both = np.zeros((32, 64), "float32")
    assert epilogue_for(lambda c: c + 1.0, both[:, 32:], (both[:, :32], a, b), both[:, :32]) is None


def test_a_reduction_is_no_epilogue() -> None:
    a, b, c, out = matrices(4)
    for axis in (0, 1):
        sums = np.zeros(32, "float32")
        made = epilogue_for(lambda c, axis=axis: (c + 1.0, ge.sum(c + 1.0, axis)), (out, sums), (c, a, b), c)
        assert made is None


def test_another_product_is_no_epilogue() -> None:
    a, b, c, out = draw(0, (64, 8), "float32"), draw(1, (8, 16), "float32"), *np.zeros((2, 64, 16), "float32")
    _, arguments = product_of(c, a, b, by_tiles=False)
    assert find_epilogue(arguments, MatMul(), out, (draw(2, (64, 40), "float32"), draw(3, (40, 16), "float32"))) is None


def test_a_stack_of_products_and_a_narrow_one_have_no_epilogue() -> None:
    a, b, c = draw(0, (3, 32, 8), "float32"), draw(1, (3, 8, 32), "float32"), np.zeros((3, 32, 32), "float32")
    for part in (c, c[0]):
        assert epilogue_for(lambda c: c + 1.0, part, (c, a, b), part) is None
    assert epilogue_for(lambda c: c + 1.0, c[0], (c[0], a[0], b[0]), c[0]) is not None
    narrow = np.zeros((32, 3), "float32")
    assert epilogue_for(lambda c: c + 1.0, narrow, (narrow, a[0], b[0, :, :3].copy()), narrow) is None


@pytest.fixture
def all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives small products epilogues, too."""
    monkeypatch.setattr(numba, "WORTH_MERGING", 0)


def mlp() -> ge.Graph:
    graph = ge.Graph("mlp")
    x, y = graph.input("x", ("batch", 96)), graph.input("y", ("batch",), dtype="int64")
    h = x
    for place, units in enumerate((256, 512, 96)):
        h = ge.relu(ge.layers.dense(h, units, name=f"layer{place}"))
    graph.output("loss", ge.cross_entropy(ge.layers.dense(h, 10, name="head"), y))
    return graph


FEEDS = {"x": draw(0, (150, 96), "float32"), "y": np.arange(150) % 10}


def trained() -> ge.Executable:
    """The MLP after some steps."""
    exe = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend="numba", seed=1)
    for _ in range(4):
        exe.step(FEEDS)
    return exe


@pytest.mark.usefixtures("all_sizes")
def test_a_network_trains_the_same_with_epilogues_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = trained()
    monkeypatch.setattr(numba, "find_epilogue", lambda *_: None)
    apart = trained()
    assert merged.step(FEEDS) == apart.step(FEEDS)
    for name, value in merged.parameters.items():
        np.testing.assert_array_equal(value, apart.parameters[name], err_msg=name)
    assert not any(" in " in use.kernel for use in apart.explain(batch=150).kernels)


@pytest.mark.usefixtures("all_sizes")
def test_explain_says_in_which_product_a_region_runs() -> None:
    exe = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend="numba")
    uses = exe.explain(batch=150).kernels
    wide = "packed_product" if vector_bytes() == 64 else "blas_product"
    kernels = [use.kernel for use in uses if use.instruction.startswith("relu_")]
    assert kernels == [f"fused_add_relu in {product}" for product in (wide, wide, "blas_product")]
    assert not any(" in " in use.kernel for use in exe.explain(batch=2).kernels)  # too small to be shared by threads


@pytest.mark.parametrize(("rows", "expected"), [(1024, True), (1000, False)])
def test_only_a_large_matrix_is_given_to_an_epilogue(rows: int, expected: bool) -> None:
    graph = ge.Graph("layer")
    x, w = graph.input("x", (rows, 64)), graph.parameter("w", (64, 256))
    graph.output("y", ge.relu(x @ w + graph.parameter("b", (256,))))
    uses = ge.compile(graph, backend="numba").explain().kernels
    assert any(" in " in use.kernel for use in uses) is expected


@pytest.mark.usefixtures("all_sizes")
def test_forward_and_backward_run_apart_with_epilogues() -> None:
    ours, reference = (ge.compile(mlp(), loss="loss", backend=backend, seed=1) for backend in ("numba", "numpy"))
    for exe in (ours, reference):
        exe.forward(FEEDS)
    expected = reference.backward()
    for name, gradient in ours.backward().items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("all_sizes")
def test_no_epilogue_reaches_from_forward_into_backward() -> None:
    graph = ge.Graph("layer")
    leaves = {"a": (128, 256), "w": (256, 256), "b": (256,)}
    a, w, b = (graph.parameter(name, shape) for name, shape in leaves.items())
    graph.output("y", ge.relu(a @ w + b))
    program = ge.compile(graph).plan("forward")
    product, relu = program.instructions
    apart = replace(program, instructions=(product, replace(relu, phase=Phase.BACKWARD)))
    for merged, seen in ((True, program), (False, apart)):
        arrays = {name: np.ones(shape, "float32") for name, shape in leaves.items()}
        kernels = numba.NumbaBackend().load(seen, arrays).kernels
        assert any(" in " in use.kernel for use in kernels) is merged


@pytest.mark.usefixtures("all_sizes")
def test_a_refusal_ahead_of_a_product_leaves_it_out() -> None:
    graph = ge.Graph("refused")
    y = graph.input("y", (64,), dtype="int64")
    rows = ge.gather(graph.parameter("table", (10, 256)), y)
    graph.output("z", ge.relu(rows @ graph.parameter("w", (256, 256)) + graph.parameter("b", (256,))))
    exe = ge.compile(graph, backend="numba")
    labels = np.arange(64) % 10
    expected = exe.forward({"y": labels})["z"]
    with pytest.raises(ge.errors.ExecutionError, match="77"):
        exe.forward({"y": np.where(labels == 3, 77, labels)})
    np.testing.assert_array_equal(exe.forward({"y": labels})["z"], expected)


@pytest.mark.usefixtures("all_sizes")
def test_a_refusal_behind_an_epilogue_is_that_of_its_own_node() -> None:
    exe = trained()
    before = {name: value.copy() for name, value in exe.parameters.items()}
    with pytest.raises(ge.errors.ValueRangeError, match=r"77[\s\S]*node  cross_entropy"):
        exe.step({**FEEDS, "y": np.full(150, 77)})
    for name, value in before.items():
        np.testing.assert_array_equal(exe.parameters[name], value)

"""Matrix products as kernels: every layout, in stacks, by several threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="numba compiles the kernels")

import graphengine as ge
from graphengine.backends.blas import find_blas
from graphengine.backends.native.gemm import products, tiles
from graphengine.backends.native.gemm.products import product_call
from graphengine.backends.native.gemm.tiles import Workspace, pays
from graphengine.backends.native.kernel import Product
from graphengine.backends.native.llvm.machine import vector_bytes
from tests.backends.native.compiled import run_on


def matrix(rows: int, columns: int, turned: bool, ahead: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """A matrix, or a stack of them, that is contiguous along its columns, or along its rows if `turned`."""
    generator = np.random.default_rng(seed)
    shape = (*ahead, columns, rows) if turned else (*ahead, rows, columns)
    values = generator.standard_normal(shape).astype(dtype)
    return values.swapaxes(-1, -2) if turned else values


SIZES = st.sampled_from([1, 2, 3, 7, 16, 33])


@given(
    m=SIZES,
    n=SIZES,
    k=SIZES,
    turned=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    ahead=st.sampled_from([(), (3,), (2, 3)]),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
    factors=st.sampled_from([(1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)]),
)
def test_a_product_is_what_numpy_computes(
    m: int,
    n: int,
    k: int,
    turned: tuple[bool, bool, bool],
    ahead: tuple[int, ...],
    dtype: str,
    threads: int,
    factors: tuple[float, float],
) -> None:
    a, b, out = (
        matrix(*sizes, flip, ahead, dtype, seed)
        for seed, (sizes, flip) in enumerate(zip([(m, k), (k, n), (m, n)], turned, strict=True))
    )
    factor, kept = factors
    scale = np.asarray(1.5, dtype)
    expected = factor * 1.5 * (a @ b) + kept * out
    call = product_call(Product(out, a, b, factor, kept, scale), find_blas(), Workspace(3))
    assert call is not None
    kernel, arguments = call
    run_on(threads, kernel, *arguments)
    np.testing.assert_allclose(out, expected, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-4)


def packed(product: Product, threads: int) -> None:
    """Compute a product by tiles, as so many threads."""
    if not vector_bytes():
        pytest.skip("no tiles for the vectors of this CPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "pays", lambda *_: True)
        patch.setattr(products, "_FEW", 0)
        call = product_call(product, find_blas(), Workspace(threads))
    assert call is not None
    kernel, arguments = call
    assert kernel.name == "packed_product"
    run_on(threads, kernel, *arguments)


LONG = st.sampled_from([1, 5, 8, 31, 64, 100, 130])


@given(
    m=LONG,
    n=st.sampled_from([1, 15, 64, 130, 600]),
    k=st.sampled_from([1, 16, 33, 400, 800]),
    turned=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    ahead=st.sampled_from([(), (3,)]),
    dtype=st.sampled_from(["float32", "float64"]),
    factors=st.sampled_from([(1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)]),
)
@settings(max_examples=60)
def test_a_product_by_tiles_is_the_same_by_any_number_of_threads(
    m: int,
    n: int,
    k: int,
    turned: tuple[bool, bool, bool],
    ahead: tuple[int, ...],
    dtype: str,
    factors: tuple[float, float],
) -> None:
    a, b, before = (
        matrix(*sizes, flip, ahead, dtype, seed)
        for seed, (sizes, flip) in enumerate(zip([(m, k), (k, n), (m, n)], turned, strict=True))
    )
    factor, kept = factors
    found = []
    for threads in (1, 2, 3):
        out = before.copy(order="K")
        packed(Product(out, a, b, factor, kept, np.asarray(1.5, dtype)), threads)
        found.append(out)
    expected = factor * 1.5 * (a.astype("float64") @ b) + kept * before
    np.testing.assert_allclose(found[0], expected, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-3)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("size", "itemsize", "vector", "expected"),
    [
        ((128, 512, 512), 4, 64, True),
        ((24, 64, 8), 4, 64, True),
        ((23, 64, 8), 4, 64, False),
        ((24, 64, 7), 4, 64, False),
        ((128, 32, 128), 4, 64, False),
        ((128, 32, 128), 8, 64, True),
        ((128, 10, 512), 4, 64, False),
        ((128, 70, 128), 4, 64, False),
        ((128, 120, 128), 4, 64, True),
        ((128, 512, 512), 4, 32, False),
        ((128, 512, 512), 4, 0, False),
    ],
)
def test_tiles_pay_for_enough_rows_of_nearly_full_panels_on_wide_vectors(
    size: tuple[int, int, int], itemsize: int, vector: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "vector_bytes", lambda: vector)
    assert pays(*size, itemsize) is expected


def test_a_large_product_of_a_program_is_computed_by_tiles() -> None:
    graph = ge.Graph("product")
    graph.output("y", graph.parameter("a", (128, 512)) @ graph.parameter("b", (512, 512)))
    exe = ge.compile(graph, backend="numba")
    (use,) = exe.explain().kernels
    assert use.kernel == ("packed_product" if vector_bytes() == 64 else "blas_product")
    np.testing.assert_allclose(exe.forward({})["y"], exe.parameters["a"] @ exe.parameters["b"], rtol=1e-4, atol=1e-5)


def test_nan_and_infinity_in_a_tile_stay_in_their_rows_and_columns() -> None:
    a, b = np.ones((20, 40), "float32"), np.ones((40, 70), "float32")
    a[3, 5], b[7, 69], out = np.nan, np.inf, np.full((20, 70), np.nan, "float32")
    packed(Product(out, a, b), 2)
    np.testing.assert_array_equal(out, a @ b)


def test_a_product_by_tiles_writes_nothing_beside_its_result() -> None:
    whole = np.full((30, 200), 7.0, "float32")
    a, b = np.ones((11, 19), "float32"), np.ones((19, 77), "float32")
    packed(Product(whole[9:20, 50:127], a, b), 2)
    assert (whole[9:20, 50:127] == 19).all()
    assert (whole == 7).sum() == whole.size - 11 * 77


def test_what_was_there_is_not_read_unless_it_is_kept() -> None:
    for size in (3, 40):
        out = np.full((size, size), np.nan)
        a = np.eye(size)
        call = product_call(Product(out, a, a + a), find_blas(), Workspace(3))
        assert call is not None
        kernel, arguments = call
        run_on(1, kernel, *arguments)
        np.testing.assert_array_equal(out, 2 * a)


def test_a_matrix_that_is_contiguous_along_neither_axis_has_no_kernel() -> None:
    a = np.zeros((100, 100))[::2, ::2]
    assert product_call(Product(np.zeros((50, 50)), a, np.zeros((50, 50))), find_blas(), Workspace(3)) is None


def test_without_a_blas_and_tiles_only_small_products_have_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "pays", lambda *_: False)
    small, large = np.zeros((4, 4)), np.zeros((64, 64))
    assert product_call(Product(small, small + 1, small + 2), None, Workspace(3)) is not None
    assert product_call(Product(large, large + 1, large + 2), None, Workspace(3)) is None


@pytest.mark.parametrize(("count", "m", "n"), [(1, 150, 96), (1, 40, 300), (2, 90, 70), (5, 64, 64), (1, 17, 4000)])
def test_blas_computes_the_same_bits_whoever_is_there(count: int, m: int, n: int) -> None:
    a, b = (matrix(*sizes, False, (count,), "float32", seed) for seed, sizes in enumerate([(m, 230), (230, n)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "pays", lambda *_: False)
        found = []
        for threads in (1, 2, 3):
            out = np.zeros((count, m, n), np.float32)
            kernel, arguments = product_call(Product(out, a, b), find_blas(), Workspace(3)) or pytest.fail("no kernel")
            assert kernel.name == "blas_product"
            run_on(threads, kernel, *arguments)
            found.append(out)
    np.testing.assert_allclose(found[0], a @ b, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])

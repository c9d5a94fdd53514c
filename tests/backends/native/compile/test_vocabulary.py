"""What kernels call: held against NumPy, in a wider precision, and looked at as machine code."""

from __future__ import annotations

import builtins
import math
import re
from functools import cache

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

from graphengine.backends.native.compile.build import assembly, optimized
from graphengine.backends.native.compile.vocabulary import functions
from graphengine.backends.native.kernel import VOCABULARY, Kernel, kernel_of
from graphengine.backends.native.llvm.machine import target_machine
from tests.backends.native.compiled import run, run_on

INF, NAN = np.inf, np.nan
WIDER = {"float32": np.float64, "float64": np.longdouble}

# The greatest error in units of the last place, in float32 and in float64, as the docstrings state it.
ULPS = {
    "exp": (0.9, 0.9),
    "expm1": (1.45, 1.6),
    "log": (1.0, 0.85),
    "log1p": (1.55, 1.4),
    "tanh": (1.6, 2.3),
    "sigmoid": (2.5, 2.4),
    "erf": (1.1, 1.0),
    "mills": (4.5, 6.3),
    "sin": (1.6, 1.0),
    "cos": (1.6, 1.0),
    "sqrt": (0.51, 0.51),
    "floor": (0.0, 0.0),
    "absolute": (0.0, 0.0),
    "sign": (0.0, 0.0),
}
OF_THE_MATH_LIBRARY = ("erf", "sin", "cos")  # in float64


@cache
def loop(expression: str) -> Kernel:
    """The kernel that writes the expression of x and y, the elements at one place."""
    lines = ("def each(out, xs, ys, n):", "    for i in range(n):", "        x = xs[i]", "        y = ys[i]")
    return Kernel("each", "\n".join((*lines, f"        out[i] = {expression}", "")))


def value(expression: str, x: np.ndarray, y: np.ndarray | None = None, dtype: str | None = None) -> np.ndarray:
    out = np.empty(x.shape, dtype or x.dtype)
    run(loop(expression), out, x, x if y is None else y, x.size)
    return out


def mills_near(x: np.ndarray) -> np.ndarray:
    """e^(x^2/2) (sqrt(pi/2) - the integral of e^(-t^2/2) from 0 to x), whose power series has no minus."""
    term = total = x
    for k in range(3, 99, 2):
        term = term * x * x / k
        total = total + term
    root = np.sqrt(2 * np.arctan(np.ones((), x.dtype)))
    return root * np.exp(x * x / 2) - total


def mills_far(x: np.ndarray) -> np.ndarray:
    """1 / (x + 1 / (x + 2 / (x + 3 / ...))), Laplace's continued fraction."""
    below = x
    for k in range(300, 0, -1):
        below = x + k / below
    return 1 / below


def exact(name: str, x: np.ndarray) -> np.ndarray:
    """The function in the precision of x, by other means."""
    if name == "erf":
        return np.array([math.erf(number) for number in x], x.dtype)
    if name == "mills":
        return np.where(x < 2, mills_near(x), mills_far(x))
    return 1 / (1 + np.exp(-x)) if name == "sigmoid" else getattr(np, name)(x)


def errors(y: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far y is from what is expected, in units of the last place; where that is no number, 0 or inf."""
    rounded = expected.astype(y.dtype)
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    far = np.abs(y - expected) / np.spacing(np.abs(rounded))
    return np.where(np.isfinite(rounded) & np.isfinite(y), far, np.where(same, 0.0, INF))


def numbers(name: str, dtype: str) -> np.ndarray:
    """Numbers of all sizes, and more of them where the function bends."""
    draw = np.random.default_rng(7)
    bits = draw.integers(0, 256, (20_000, np.dtype(dtype).itemsize), np.uint8).view(dtype).ravel()
    ends = ((-1.5, 1.5), (-12, 12), (-104, 89) if dtype == "float32" else (-746, 710))
    x = np.concatenate([bits, *(draw.uniform(*pair, 20_000).astype(dtype) for pair in ends)])
    if name == "mills":
        return x[(x >= 0) & (x < (14.5 if dtype == "float32" else 39))]
    if name == "sigmoid":
        x = x[~(x < (-88 if dtype == "float32" else -709))]
    return x


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what overflows
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ULPS)
def test_functions_are_as_exact_as_they_say(name: str, dtype: str) -> None:
    wider = WIDER[dtype]
    if name in OF_THE_MATH_LIBRARY and dtype == "float64":
        wider = np.float64
    elif np.finfo(wider).nmant == np.finfo(dtype).nmant:
        pytest.skip("NumPy has nothing wider than float64 here")
    x = numbers(name, dtype)
    y = value(f"{name}(x)", x)
    assert errors(y, exact(name, x.astype(wider))).max() <= ULPS[name][dtype == "float64"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ULPS.keys() - {"mills"}))
def test_ends_are_those_of_numpy_with_the_sign_of_zero(name: str, dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, 1.0, -1.0, tiny, -tiny, INF, -INF, NAN, -1000.0, -1e-30], dtype)
    y, expected = value(f"{name}(x)", x), exact(name, x.astype(dtype))
    np.testing.assert_allclose(y, expected, rtol=2 * np.finfo(dtype).eps, atol=0)
    np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(expected[~np.isnan(y)]))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_are_as_exact_for_float32_of_every_exponent(name: str) -> None:
    draw, exponents = np.random.default_rng(7), np.repeat(np.arange(-149, 128), 2000)
    x = np.ldexp(draw.uniform(1, 2, exponents.size), exponents).astype(np.float32)
    ends = np.ldexp(np.array([[1], [2 - 2.0**-23]]), np.arange(-126, 128)).astype(np.float32).ravel()
    near = [float.fromhex(text) for text in ("0x1.f37c8ap95", "0x1.f37c8ap96", "0x1.47d0fep34", "0x1.47d0fep35")]
    x = np.concatenate([x, ends, np.array(near, np.float32)])  # of all, these come nearest to whole quadrants
    x = np.concatenate([x, -x])
    assert errors(value(f"{name}(x)", x), exact(name, x.astype(np.float64))).max() <= ULPS[name][0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_all_signs_and_sizes_are_those_of_numpy(dtype: str) -> None:
    ends = np.array([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 2.5, INF, -INF, NAN, 1e-30, -1e30, 16777217, -149], dtype)
    draw = np.random.default_rng(7)
    base = np.concatenate([np.repeat(ends, ends.size), np.exp(draw.uniform(-20, 20, 9000)), draw.uniform(-9, 9, 9000)])
    exponent = np.concatenate([np.tile(ends, ends.size), draw.uniform(-5, 5, 9000), draw.integers(-40, 40, 9000)])
    x, y = base.astype(dtype), exponent.astype(dtype)
    power, expected = value("power(x, y)", x, y), np.power(x.astype(WIDER[dtype]), y.astype(WIDER[dtype]))
    assert errors(power, expected).max() <= (0.55 if dtype == "float32" else 1.0)
    np.testing.assert_array_equal(np.signbit(power[~np.isnan(power)]), np.signbit(expected[~np.isnan(power)]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0, 4.0, -1.5])
def test_exponents_that_the_code_tells_give_the_same_powers(exponent: float, dtype: str) -> None:
    x = np.concatenate([[0.0, -1.0, INF, NAN], np.random.default_rng(7).uniform(-9, 9, 999)]).astype(dtype)
    power, expected = value(f"power(x, {exponent})", x), np.power(x.astype(WIDER[dtype]), exponent)
    assert errors(power, expected).max() <= 2
    np.testing.assert_array_equal(np.signbit(power[~np.isnan(power)]), np.signbit(expected[~np.isnan(power)]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_the_outermost_of_two_is_nan_if_one_is(name: str, dtype: str) -> None:
    ends = np.array([1.0, -1.0, 0.0, INF, -INF, NAN, 3.5], dtype)
    x, y = np.repeat(ends, ends.size), np.tile(ends, ends.size)
    np.testing.assert_array_equal(value(f"{name}(x, y)", x, y), getattr(np, name)(x, y))
    np.testing.assert_array_equal(value(f"{name}(x, 0.5)", x), getattr(np, name)(x, 0.5))
    np.testing.assert_array_equal(value(f"{name}(0.5, x)", x), getattr(np, name)(0.5, x))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", ["maximum", "minimum", "absolute", "sign"])
def test_whole_numbers_are_compared_too(name: str, dtype: str) -> None:
    ends = np.array([0, 1, 2, 200]).astype(dtype) if dtype in ("uint8", "bool") else np.array([0, 1, -7, 5], dtype)
    x, y = np.repeat(ends, ends.size), np.tile(ends, ends.size)
    if name in ("maximum", "minimum"):
        np.testing.assert_array_equal(value(f"{name}(x, y)", x, y), getattr(np, name)(x, y))
    else:
        np.testing.assert_array_equal(value(f"{name}(x)", x), getattr(np, name)(x.astype("int64")).astype(dtype))


@pytest.mark.parametrize("name", ULPS)
def test_a_number_has_the_same_bits_in_a_vector_and_alone(name: str) -> None:
    x = numbers(name, "float32")[::80].copy()
    together, alone = value(f"{name}(x)", x), np.empty_like(x)
    for place in range(x.size):
        alone[place : place + 1] = value(f"{name}(x)", x[place : place + 1])
    np.testing.assert_array_equal(together, alone)


def machine_code(kernel: Kernel, *signature: str) -> str:
    return str(target_machine().emit_assembly(optimized(assembly("looked_at", kernel, signature))))


def assert_vectors_without_calls(kernel: Kernel, *signature: str, dtype: str = "float") -> None:
    code = str(optimized(assembly("looked_at", kernel, signature)))
    lanes = [int(n) for n in re.findall(rf"<(\d+) x {dtype}>", code)]
    assert max(lanes, default=1) >= (4 if dtype == "float" else 2)
    assert not re.search(r"^\s+(call\w*|bl)\s", machine_code(kernel, *signature), re.MULTILINE)


@pytest.mark.parametrize(
    "expression",
    [
        *(f"{name}(x)" for name in ULPS),
        *(f"{name}(x, y)" for name in ("maximum", "minimum", "power", "plus")),
        "maximum(x, 0.0)",
        "power(x, 2.0)",
        "power(x, 0.5)",
        "x if x > 0.0 else 0.0",
        "x if 0.0 < x < y else 0.0",
        "x if x > 0.0 and not y > 1.0 else y",
        "tanh(x) if x > 0.0 else (log(y) if y > 1.0 else x / y)",
        "real(x > 0.0) - real(x < 0.0)",
        "tanh(x * y + 1.0) * sigmoid(x) + exp(-x * x)",
    ],
)
def test_a_loop_over_float32_is_one_over_vectors_with_no_call(expression: str) -> None:
    assert_vectors_without_calls(loop(expression), "float32*", "float32*", "float32*", "int")


@pytest.mark.parametrize("name", sorted(ULPS.keys() - set(OF_THE_MATH_LIBRARY)))
def test_a_loop_over_float64_is_one_over_vectors_with_no_call(name: str) -> None:
    assert_vectors_without_calls(loop(f"{name}(x)"), "float64*", "float64*", "float64*", "int", dtype="double")


def total(out, x, n):
    s = 0.0
    for i in range(n):
        s = plus(s, tanh(x[i]) * x[i])  # noqa: F821  # names of the vocabulary
    out[0] = s


def greatest(out, x, n):
    m = x[0]
    for i in range(1, n):
        m = maximum(m, x[i])  # noqa: F821
    out[0] = m


@pytest.mark.parametrize("reduction", [total, greatest])
def test_sums_and_maxima_are_taken_over_vectors(reduction) -> None:
    assert_vectors_without_calls(kernel_of(reduction), "float32*", "float32*", "int")
    x, out = np.linspace(-3, 2, 1003).astype(np.float32), np.empty(1, np.float32)
    run(reduction, out, x, x.size)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(out[0], (np.tanh(wide) * wide).sum() if reduction is total else 2.0, rtol=1e-6)


def test_the_maximum_of_many_is_nan_if_one_is() -> None:
    x, out = np.ones(1000, np.float32), np.empty(1, np.float32)
    x[517] = NAN
    run(greatest, out, x, x.size)
    assert np.isnan(out[0])


def test_what_fails_a_comparison_takes_the_other_branch_as_nan_does() -> None:
    x = np.array([NAN, 1.0, -1.0, NAN] * 25, np.float32)
    np.testing.assert_array_equal(value("x if x > 0.0 else 0.0", x), np.where(x > 0, x, np.float32(0)))
    np.testing.assert_array_equal(value("0.0 if x <= 0.0 else x", x), np.where(x <= 0, np.float32(0), x))


def test_a_function_takes_the_dtype_of_its_operand_and_whole_numbers_as_the_kernels_floats() -> None:
    x, k = np.array([0.3, 2.0], np.float32), np.array([3, -4], np.int32)
    np.testing.assert_array_equal(value("exp(float64(x))", x, dtype="float64"), np.exp(x.astype(np.float64)))
    np.testing.assert_array_equal(value("exp(y)", x, k), value("exp(real(y))", x, k))
    np.testing.assert_array_equal(value("maximum(x, y)", x, k), [3, 2])
    np.testing.assert_array_equal(value("power(2, y)", x, k), [8, 0.0625])


def test_numbers_are_cast_as_numpy_casts_them() -> None:
    x = np.array([0.0, 1.9, -2.9, NAN, 0.1, 200.7])
    np.testing.assert_array_equal(value("bool(x)", x, dtype="bool"), x.astype(bool))
    np.testing.assert_array_equal(value("float32(x)", x), x.astype(np.float32))
    for dtype in ("int32", "int64"):
        np.testing.assert_array_equal(value(f"{dtype}(x)", x[[0, 1, 2, 5]], dtype=dtype), [0, 1, -2, 200])
    np.testing.assert_array_equal(value("uint8(x)", x[[0, 1, 5]], dtype="uint8"), [0, 1, 200])


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize(("dtype", "way"), [("uint8", "int32"), ("int32", "int32"), ("int64", "int64")])
def test_a_float_that_is_no_such_integer_is_the_same_number_in_a_vector_and_alone(
    dtype: str, way: str, source: str
) -> None:
    least = np.iinfo(way).min
    for number, whole in [(300.0, 300), (-1.9, -1), (-300.0, -300), (2.0**63, least), (INF, least), (NAN, least)]:
        expected = np.array(whole).astype(dtype)
        for size in (1, 37):
            y = value(f"{dtype}(x)", np.full(size, number, source), dtype=dtype)
            np.testing.assert_array_equal(y, np.full(size, expected))


@pytest.mark.parametrize(("dtype", "bits"), [("uint32", 32), ("uint64", 64)])
def test_multiply_high_is_the_upper_half_of_the_product(dtype: str, bits: int) -> None:
    x = np.random.default_rng(7).integers(0, 2**bits - 1, 50, dtype)
    y = x[::-1].copy()
    assert value("multiply_high(x, y)", x, y).tolist() == [int(a) * int(b) >> bits for a, b in zip(x, y, strict=True)]


def count(out, n, rank, ranks):
    for i in share(n, rank, ranks):  # noqa: F821
        out[i] = out[i] + ranks + rank


@pytest.mark.parametrize("n", [0, 1, 7, 100, 1000, 4099])
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads_share_a_range_without_gaps_or_overlaps(n: int, threads: int) -> None:
    out = np.zeros(n, np.int64)
    run_on(threads, count, out, n)
    ranks = out - threads
    assert (np.diff(ranks) >= 0).all()
    assert set(ranks) <= set(range(threads))
    sizes = np.bincount(ranks, minlength=threads)
    assert sizes.max() - sizes.min() <= max(1, 16 + n // 100)


def test_shares_of_much_begin_at_cache_lines() -> None:
    out = np.zeros(4099, np.int64)
    run_on(3, count, out, out.size)
    assert not ((1 + np.flatnonzero(np.diff(out))) % 16).any()


def test_each_name_of_the_vocabulary_has_a_meaning() -> None:
    assert {name for name in VOCABULARY if not hasattr(builtins, name)} == set(functions("float32"))

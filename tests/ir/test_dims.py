"""Arithmetic on named sizes, held against that on numbers."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphengine.errors import ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim

NAMES = ("batch", "time", "n")
BINDINGS = st.fixed_dictionaries({name: st.integers(0, 50) for name in NAMES})


def expressions() -> st.SearchStrategy[Dim]:
    leaves: st.SearchStrategy[Dim] = st.integers(0, 9) | st.sampled_from(NAMES)
    return st.recursive(
        leaves,
        lambda inner: st.builds(dims.add, inner, inner) | st.builds(dims.multiply, inner, inner),
        max_leaves=5,
    )


@given(expressions(), expressions(), BINDINGS)
def test_sums_differences_and_products_bind_to_those_of_the_numbers(a: Dim, b: Dim, binding: dict[str, int]) -> None:
    left, right = dims.bind(a, binding), dims.bind(b, binding)
    assert dims.bind(dims.add(a, b), binding) == left + right
    assert dims.bind(dims.subtract(a, b), binding) == left - right
    assert dims.bind(dims.multiply(a, b), binding) == left * right
    assert dims.bind(dims.product((a, b, a)), binding) == left * right * left


@given(expressions(), expressions(), BINDINGS)
def test_a_quotient_that_is_given_is_exact(a: Dim, b: Dim, binding: dict[str, int]) -> None:
    quotient = dims.divide(a, b)
    if quotient is not None and dims.bind(b, binding):
        assert dims.bind(quotient, binding) * dims.bind(b, binding) == dims.bind(a, binding)


@given(expressions(), st.sampled_from(NAMES) | st.integers(1, 9))
def test_a_product_can_be_divided_by_its_factor(a: Dim, factor: Dim) -> None:
    assert dims.divide(dims.multiply(a, factor), factor) == a


@given(expressions(), expressions())
def test_equal_dims_are_equal_texts(a: Dim, b: Dim) -> None:
    assert dims.add(a, b) == dims.add(b, a)
    assert dims.multiply(a, b) == dims.multiply(b, a)
    assert dims.subtract(dims.add(a, b), b) == a


@given(expressions())
def test_a_dim_is_read_as_it_is_written(a: Dim) -> None:
    assert dims.check_dim(a) == a
    assert dims.check_dim(str(a).replace("+", " + ").replace("*", " * ")) == a


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("batch", "batch"),
        ("1+batch", "batch+1"),
        ("time*batch", "batch*time"),
        ("batch+batch", "2*batch"),
        ("batch*3 - 1", "3*batch-1"),
        ("batch-batch", 0),
        ("b*b+b", "b*b+b"),
        (" batch ", "batch"),
        (7, 7),
        (0, 0),
    ],
)
def test_a_dim_has_one_text(text: Dim, written: Dim) -> None:
    assert dims.check_dim(text) == written


@pytest.mark.parametrize(
    "wrong", ["", "a b", "1 2", "a+", "+", "a**b", "a/b", "a.b", "a!", "(a)", "1.5", "é", "a\n", "2a", "a++b"]
)
def test_a_text_that_is_no_dim_is_refused(wrong: str) -> None:
    with pytest.raises(ShapeError, match="not a dim"):
        dims.check_dim(wrong)


@pytest.mark.parametrize("wrong", [-1, True, False, 1.0, None, [3]])
def test_a_value_that_is_no_dim_is_refused(wrong: object) -> None:
    with pytest.raises(ShapeError, match="a dim is"):
        dims.check_dim(wrong)


def test_sizes_beyond_64_bits_are_refused() -> None:
    assert dims.check_dim(2**63 - 1) == 2**63 - 1
    with pytest.raises(ShapeError, match="at most 9223372036854775807"):
        dims.check_dim(2**63)
    for text in ("9" * 19, "9" * 500, "9" * 500 + "*batch"):
        with pytest.raises(ShapeError, match="not a dim"):
            dims.check_dim(text)


def test_a_product_that_would_fill_the_memory_is_refused() -> None:
    a, b = ("+".join(f"{letter}{i}" for i in range(200)) for letter in "ab")
    with pytest.raises(ShapeError, match="more than 1000 terms"):
        dims.product((a, b))


def test_only_a_bare_name_is_a_name() -> None:
    assert [dims.is_name(dim) for dim in ("batch", "2*batch", "a+b", 3)] == [True, False, False, False]


def test_the_names_of_a_dim() -> None:
    assert dims.names("2*batch*time+n-1") == {"batch", "time", "n"}
    assert dims.names(3) == frozenset()


@pytest.mark.parametrize("text", ["a" + " " * 40_000 + "b", " " * 40_000, "+".join(f"a{i}" for i in range(5000))])
def test_a_text_that_is_longer_than_a_size_is_refused_unread(text: str) -> None:
    with pytest.raises(ShapeError, match="at most 1000 characters"):
        dims.check_dim(text)


@pytest.mark.parametrize("first", ["2*a", "a", "a+b", 2])
def test_what_a_size_gives_by_squaring_it_is_bounded(first: Dim) -> None:
    def squared(dim: Dim) -> Dim:
        return dims.multiply(dim, dim)

    dim = first
    with suppress(ShapeError):
        for _ in range(7):
            dim = squared(dim)
    assert len(str(dim)) <= 1000
    if first != 2:  # what an int gives is bounded where it becomes a size
        with pytest.raises(ShapeError, match=r"and this one|more than|is larger"):
            squared(squared(dim))

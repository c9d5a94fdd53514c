"""Keys of basic indexing as text."""

import numpy as np
import pytest

from graphengine.errors import ShapeError
from graphengine.ops.support.keys import key_shape, read_key, write_key


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (0, "0"),
        (np.int64(-2), "-2"),
        ((), ""),
        (Ellipsis, "..."),
        (slice(None), ":"),
        (slice(0, None, 1), ":"),
        (slice(1, -1), "1:-1"),
        (slice(None, None, -1), "::-1"),
        (slice(0, None, -1), "0::-1"),
        ((Ellipsis, None, slice(0, np.int32(6), 2), 3), "..., newaxis, :6:2, 3"),
        (" 0:3 ,+1,::1 ", ":3, 1, :"),
    ],
)
def test_a_key_has_one_text(key: object, text: str) -> None:
    assert write_key(key) == text
    assert write_key(read_key(text)) == text


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (1.0, "an index is an int, a slice, ... or None"),
        (True, "an index is an int"),
        ([0, 1], "rows are taken by number with ge.gather"),
        (np.array([0, 1]), "rows are taken by number with ge.gather"),
        ((0, "x"), "an index is an int"),
        ("1;2", "not an index: '1;2'"),
        ("1:2:3:4", "not an index"),
        (",", "not an index: ''"),
        (slice(None, None, 0), "the step of a slice is not 0"),
        ((Ellipsis, Ellipsis), "... stands at most once"),
        (slice(0, 1.5), "an index is an int"),
    ],
)
def test_what_is_no_basic_index_is_refused(key: object, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        write_key(key)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("1:", "n-1"),
        (":-1", "n-1"),
        ("2:-3", "n-5"),
        ("::-1", "n"),
        ("-2::-1", "n-1"),
        (":3:-1", "n-4"),
        (":3", 3),
        ("1:3", 2),
        ("-3:", 3),
        ("-3:-1", 2),
        ("3:1", 0),
        ("3::-1", 4),
        ("-1:-4:-2", 2),
        (":", "n"),
        ("::1", "n"),
    ],
)
def test_the_size_of_a_slice_of_a_named_axis_is_told_from_the_name(key: str, size: object) -> None:
    assert key_shape(key, ("n",)) == (size,)
    if isinstance(size, str):
        assert len(np.zeros(10)[read_key(key)]) == 10 + int(size[1:] or 0)
    else:
        assert len(np.zeros(10)[read_key(key)]) == size


@pytest.mark.parametrize("key", ["::2", "1::2", ":-1:3", "::-2"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_step_that_divides_the_factor_of_the_name_leaves_a_size(key: str, n: int) -> None:
    (size,) = key_shape(key, ("6*n+1",))
    assert isinstance(size, str)
    assert size.startswith(("2*n", "3*n"))
    assert len(np.zeros(6 * n + 1)[read_key(key)]) == eval(size, {"n": n})


@pytest.mark.parametrize("key", ["::2", "-3:3", "3:-1:-1"])
def test_a_size_that_the_name_does_not_tell_is_refused_with_a_remedy(key: str) -> None:
    with pytest.raises(ShapeError, match=r"cannot be told from the name 'n'.*give the axis an int size") as caught:
        key_shape(key, ("n", 2))
    assert caught.value.message.endswith("at axis 0 of [n, 2]")


def test_more_indices_than_axes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"2 axes are indexed, of a value of shape \[3\]"):
        key_shape(":, :", (3,))


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ShapeError, match=rf"index {index} is out of range for size 3, at axis 1 of \[n, 3\]"):
        key_shape(f"0, {index}", ("n", 3))

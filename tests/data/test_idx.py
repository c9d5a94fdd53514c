"""The idx format: every dtype, gzipped and plain, and files that are not what they should be."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from graphengine.data.images import read_idx
from graphengine.errors import TrainingError

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array: np.ndarray, dtype: str = "u1") -> bytes:
    """The bytes of an idx file."""
    header = bytes([0, 0, CODES[dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 28, 28)])
def test_what_is_written_is_read(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    (tmp_path / "plain").write_bytes(idx(array, dtype))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array, dtype)))
    for name in ("plain", "packed.gz"):
        read = read_idx(tmp_path / name)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.dtype(dtype).newbyteorder("=")
        assert read.flags.writeable


GOOD = idx(np.zeros((2, 3)))
WRONG = {
    "empty": (b"", r"not an idx file; it starts with the bytes \(none\)"),
    "of text": (b"Hello, world", "not an idx file; it starts with the bytes 48 65 6c 6c"),
    "of an unknown dtype": (b"\0\0\x07\1\0\0\0\1x", "not an idx file; .* 00 00 07 01"),
    "cut off in the header": (GOOD[:9], "the header of 2 axes is cut off after 9 bytes"),
    "cut off in the elements": (GOOD[:-1], r"uint8\[2, 3\] takes 6 bytes, and there are 5"),
    "longer than it says": (GOOD + b"\0", r"uint8\[2, 3\] takes 6 bytes, and there are 7"),
    "of a size that no memory holds": (
        b"\0\0\x0e\3" + b"\xff" * 12,
        r"float64\[4294967295, 4294967295, 4294967295\] takes .* and there are 0",
    ),
    "gzipped and cut off": (gzip.compress(GOOD)[:-9], "the gzip file is damaged"),
    "gzipped and changed": (gzip.compress(GOOD)[:-8] + b"\1" * 8, "the gzip file is damaged"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_not_what_it_should_be_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "images.idx"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)

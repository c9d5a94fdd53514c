"""The idx format of the MNIST files: a header of sizes, then the elements, all big-endian; often gzipped.

The header is two zero bytes, a byte for the dtype, a byte for the number of axes, and a size of four bytes for each
axis (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from graphengine.errors import TrainingError
from graphengine.ir.types import Array

_GZIP = b"\x1f\x8b"
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> Array:
    """The array that an idx file holds, gzipped or plain, in the machine's byte order.

    Raises OSError if the file cannot be read, and TrainingError if it is not what it should be.
    """
    data = _unpacked(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise TrainingError(f"{path}: not an idx file; it starts with the bytes {data[:4].hex(' ') or '(none)'}")
    dtype, axes = np.dtype(_DTYPES[data[2]]), data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise TrainingError(f"{path}: the header of {axes} axes is cut off after {len(data)} bytes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    needed, there = math.prod(shape) * dtype.itemsize, len(data) - start
    if needed != there:
        raise TrainingError(f"{path}: {dtype.name}{list(shape)} takes {needed:,} bytes, and there are {there:,}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise TrainingError(f"{path}: the gzip file is damaged: {error}") from None

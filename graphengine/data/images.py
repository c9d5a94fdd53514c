"""Images with labels: the digits that ship with the package, and Fashion-MNIST, which is read from where it is."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphengine.errors import TrainingError
from graphengine.ir.types import Array

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""What the labels 0 to 9 stand for."""

_INK, _WHITE = np.float32(16), np.float32(255)
"""The maximum of a pixel, of the digits and of Fashion-MNIST."""

_VARIABLE = "GRAPHENGINE_FASHION_MNIST"
_FOLDER = Path("/usr/share/datasets/fashion-mnist")

_GZIP = b"\x1f\x8b"
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Split(NamedTuple):
    """Examples to train on, and examples held back: `train` and `test`, arrays by the names of the inputs."""

    train: dict[str, Array]
    test: dict[str, Array]


def digits() -> Split:
    """Handwritten digits: returns 1,437 to train on and 360 held back: `pixels`, float32[n, 64] in [0, 1], and `label`,
    int64[n].

    The split is fixed and stored in the file: a fifth of each digit is held back. License: CC BY 4.0, see
    `data/README.md`.
    Source: Alpaydin and Kaynak 1998 (UCI), doi 10.24432/C50P49.
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        pixels = arrays["pixels"].astype(np.float32) / _INK
        labels = arrays["labels"].astype(np.int64)
        is_test = arrays["is_test"]
    return Split(*({"pixels": pixels[rows], "label": labels[rows]} for rows in (~is_test, is_test)))


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Split:
    """Fashion-MNIST: returns 60,000 images to train on and 10,000 held back: `pixels`, float32[n, 784] in [0, 1], and
    `label`, int64[n].

    The files are read from `folder`; left out, from the folder that the environment variable GRAPHENGINE_FASHION_MNIST
    names, or else from where the Debian package `dataset-fashion-mnist` puts them. They may be gzipped or not. Raises
    TrainingError if a file is missing or malformed.
    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747 (MIT license).
    """
    where = Path(folder or os.environ.get(_VARIABLE) or _FOLDER)
    return Split(_fashion_part(where, "train"), _fashion_part(where, "t10k"))


def _fashion_part(folder: Path, name: str) -> dict[str, Array]:
    images, labels = (_read(folder, f"{name}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise TrainingError(f"{folder}: the images of {name!r} are {images.dtype}{list(images.shape)}, not [n, 28, 28]")
    if labels.shape != images.shape[:1]:
        raise TrainingError(f"{folder}: {name!r} has {len(images)} images, and labels of shape {list(labels.shape)}")
    if labels.max(initial=0) >= len(FASHION_CLASSES):
        raise TrainingError(f"{folder}: a label of {name!r} is {labels.max()}, and there are ten classes")
    return {"pixels": images.reshape(len(images), -1).astype(np.float32) / _WHITE, "label": labels.astype(np.int64)}


def _read(folder: Path, name: str) -> Array:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return read_idx(path)
    raise TrainingError(
        f"Fashion-MNIST does not ship with graphengine, and {folder} has no {name}.gz: "
        f"install the Debian package dataset-fashion-mnist, or set {_VARIABLE} to the folder of the files"
    )


def read_idx(path: Path) -> Array:
    """The array of an idx file (the format of MNIST's files), gzipped or plain, in the machine's byte order.

    The file has two zero bytes, a byte for the dtype, one for the number of axes, a size of four bytes for each axis,
    then the elements, all big-endian (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
    Raises OSError if the file cannot be read, and TrainingError if it is not what it should be.
    """
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise TrainingError(f"{path}: the gzip file is damaged: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_DTYPES:
        raise TrainingError(f"{path}: not an idx file; it starts with the bytes {data[:4].hex(' ') or '(none)'}")
    dtype, axes = np.dtype(_IDX_DTYPES[data[2]]), data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise TrainingError(f"{path}: the header of {axes} axes is cut off after {len(data)} bytes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    needed, there = math.prod(shape) * dtype.itemsize, len(data) - start
    if needed != there:
        raise TrainingError(f"{path}: {dtype.name}{list(shape)} takes {needed:,} bytes, and there are {there:,}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))

"""Fashion-MNIST: 70,000 pictures of clothes in ten classes (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747, MIT).

Not shipped. The Debian package `dataset-fashion-mnist` has the four files, as the authors give them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from graphengine.data.idx import read_idx
from graphengine.data.split import Split
from graphengine.errors import TrainingError
from graphengine.ir.types import Array

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""What the labels 0 to 9 stand for."""

_VARIABLE = "GRAPHENGINE_FASHION_MNIST"
_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_PARTS = ("train", "t10k")
_WHITE = np.float32(255)


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Split:
    """Fashion-MNIST: returns 60,000 images to train on and 10,000 held back: `pixels`, float32[n, 784] in [0, 1], and
    `label`, int64[n].

    The files are read from `folder`; left out, from the folder that the environment variable GRAPHENGINE_FASHION_MNIST
    names, or else from where the Debian package puts them. They may be gzipped or not. Raises TrainingError if a file
    is missing or malformed.
    Source: Xiao et al. 2017.
    """
    place = Path(folder or os.environ.get(_VARIABLE) or _FOLDER)
    return Split(*(_part(place, name) for name in _PARTS))


def _part(folder: Path, name: str) -> dict[str, Array]:
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

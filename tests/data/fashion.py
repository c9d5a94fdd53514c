"""Files in the form of Fashion-MNIST's, small and made up, for tests that should run wherever the real ones are not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from tests.data.test_idx import idx


def stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of noise with a bright stripe whose place is the label."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    images = generator.integers(0, 60, (n, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6, 3:25] += 190
    return images, labels


def write(folder: Path, train: int = 200, test: int = 50) -> Path:
    """The four files, in `folder`."""
    for part, n in (("train", train), ("t10k", test)):
        images, labels = stripes(n, seed=n)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder

"""1,797 handwritten digits (Alpaydin and Kaynak 1998, doi 10.24432/C50P49, CC BY 4.0; see `data/README.md`)."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from graphengine.data.split import Split

_INK = np.float32(16)
"""The value of a pixel that is all ink."""


def digits() -> Split:
    """Handwritten digits: returns 1,437 to train on and 360 held back: `pixels`, float32[n, 64] in [0, 1], and `label`,
    int64[n].

    The split is fixed and stored in the file: a fifth of each digit is held back.
    Source: Alpaydin and Kaynak 1998 (UCI).
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        pixels = arrays["pixels"].astype(np.float32) / _INK
        labels = arrays["labels"].astype(np.int64)
        is_test = arrays["is_test"]
    return Split(*({"pixels": pixels[rows], "label": labels[rows]} for rows in (~is_test, is_test)))

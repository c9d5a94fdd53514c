"""What a data set comes as: a part to train on, and a part held back."""

from __future__ import annotations

from typing import NamedTuple

from graphengine.ir.types import Array


class Split(NamedTuple):
    """Examples to train on, and examples held back: `train` and `test`, arrays by the names of the inputs."""

    train: dict[str, Array]
    test: dict[str, Array]

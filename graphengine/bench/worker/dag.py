"""Graphs as lists of nodes, which every peer reads: the first parameters of one that comes without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .case import Array

__all__ = ["parameters_of"]


def parameters_of(settings: Mapping[str, Any]) -> dict[str, Array]:
    """Drawn so that values neither grow nor vanish; another seed is another draw."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) / math.sqrt(shape[0] if shape else 1)).astype(np.float32)
        for name, shape in settings["parameters"]
    }

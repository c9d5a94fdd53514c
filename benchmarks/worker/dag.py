"""Graphs as lists of nodes, which every peer reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .case import Array, Case

__all__ = ["read_dag"]


def read_dag(document: str) -> Case:
    """The case of a JSON document; all feeds are ones."""
    settings = json.loads(document)
    feeds = {name: np.ones(shape, np.float32) for name, shape in settings["feeds"]}
    return Case("dag", settings, 1e-3, _parameters_of(settings), feeds)


def _parameters_of(settings: Mapping[str, Any]) -> dict[str, Array]:
    """Drawn so that values neither grow nor vanish; another seed is another draw."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) / math.sqrt(shape[0] if shape else 1)).astype(np.float32)
        for name, shape in settings["parameters"]
    }

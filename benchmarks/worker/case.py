"""What a peer is to run, told in numbers and names, so that all peers run the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Case", "Missing", "Step", "Unsupported", "read_case", "read_dag", "write_case"]

Array = npt.NDArray[Any]
Step = Callable[[], float]
"""One step of training, done when it returns: the loss before the update."""


class Missing(Exception):  # noqa: N818  # it is an answer, not a fault
    """The peer is not there, and why."""


class Unsupported(Exception):  # noqa: N818  # likewise
    """The peer does not do this row, and why."""


@dataclass(frozen=True)
class Case:
    """A network of a family, with the parameters that training starts from, one batch, and the rate of SGD.

    Parameters are float32. Names and layouts are the engine's: a dense weight is [units in, units out].
    """

    family: str
    settings: Mapping[str, Any]
    rate: float
    parameters: Mapping[str, Array]
    feeds: Mapping[str, Array]


def write_case(path: Path, case: Case) -> None:
    """Put a case where a process can read it."""
    plain = {"family": case.family, "settings": dict(case.settings), "rate": case.rate}
    arrays = {f"parameters/{name}": value for name, value in case.parameters.items()}
    arrays |= {f"feeds/{name}": value for name, value in case.feeds.items()}
    np.savez(path, allow_pickle=False, case=np.array(json.dumps(plain)), **arrays)


def read_case(path: str | Path) -> Case:
    """The case that a file holds."""
    with np.load(path) as file:
        plain = json.loads(str(file["case"]))
        groups: dict[str, dict[str, Array]] = {"parameters": {}, "feeds": {}}
        for key in file.files:
            group, _, name = key.partition("/")
            if group in groups:
                groups[group][name] = file[key]
    return Case(plain["family"], plain["settings"], plain["rate"], groups["parameters"], groups["feeds"])


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

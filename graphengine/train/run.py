"""A training under way: all that a checkpoint holds of it beside the arrays of the executable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.ir.types import Array
from graphengine.train.callbacks import Callback
from graphengine.train.history import History
from graphengine.wording import shown

_ARRAY = "/array"
"""The key that stands for an array among JSON values; the names of arrays have the slash too, as no weight has."""


@dataclass(slots=True)
class Place:
    """How far an epoch has come: its number, and of its steps so far their count, examples, seconds and losses.

    `loss` is the sum of the losses of the steps, each times its examples; `before` counts the steps of earlier epochs,
    `skipped` those among `steps` that changed nothing, and `left_out` their examples.
    """

    epoch: Annotated[int, Field(ge=1)] = 1
    before: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=0)] = 0
    examples: Annotated[int, Field(ge=0)] = 0
    seconds: float = 0.0
    loss: float = 0.0
    skipped: Annotated[int, Field(ge=0)] = 0
    left_out: Annotated[int, Field(ge=0)] = 0

    @property
    def mean_loss(self) -> float:
        """That of the steps that were made; NaN if there is none."""
        return self.loss / made if (made := self.examples - self.left_out) else math.nan


@dataclass(slots=True)
class Run:
    """What `fit` is doing: `settings` are those of its arguments that must be the same when it goes on."""

    exe: Executable
    place: Place
    history: History = field(default_factory=History)
    callbacks: Sequence[Callback] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many steps were made in all."""
        return self.place.before + self.place.steps


@dataclass(slots=True)
class Kept:
    """The state of one callback, by the name of its class."""

    name: str
    state: Any


def keep(callbacks: Sequence[Callback]) -> tuple[list[Kept], dict[str, Array]]:
    """The states of callbacks as JSON values, and the arrays that were in them by names."""
    arrays: dict[str, Array] = {}
    kept = [Kept(type(each).__name__, _packed(each.state_dict(), type(each).__name__, arrays)) for each in callbacks]
    return kept, arrays


def take_up(callbacks: Sequence[Callback], kept: Sequence[Kept], arrays: Mapping[str, Array]) -> None:
    """Give callbacks their states, which `keep` made; those of one class in their order.

    Raises TrainingError if a callback that has a state is given none, or a state is of no callback.
    """
    left = list(kept)
    given: list[tuple[Callback, Any]] = []
    for callback in callbacks:
        name = type(callback).__name__
        found = next((each for each in left if each.name == name), None)
        if found is None and callback.state_dict():
            raise _others(f"the checkpoint has no state of callback {name}")
        if found is not None:
            left.remove(found)
            given.append((callback, found.state))
    for each in left:
        if each.state:
            raise _others(f"the checkpoint has a state of callback {shown(each.name)}, and fit is given no such")
    for callback, state in given:
        try:
            callback.load_state_dict(_unpacked(state, arrays))
        except (KeyError, TypeError, ValueError) as error:
            message = f"{type(callback).__name__} does not take the state that the checkpoint has of it"
            raise TrainingError(f"{message}: {shown(error)}") from error


def _others(message: str) -> TrainingError:
    error = TrainingError(message)
    error.quote("give fit the callbacks of the first run, or begin with all of them anew by ignore=['callbacks']")
    return error


def _packed(value: Any, owner: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        name = f"callbacks/{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != _ARRAY for key in value):
        return {key: _packed(each, owner, arrays) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(each, owner, arrays) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TrainingError(
        f"the state_dict of {owner} has {shown(value)}, a {type(value).__name__}: a checkpoint holds JSON values "
        "(None, bool, int, float, str, lists, dicts by str) and arrays of numbers"
    )


def _unpacked(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _unpacked(each, arrays) for key, each in value.items()}
    return [_unpacked(each, arrays) for each in value] if isinstance(value, list) else value

"""Schedules: the learning rate alpha_t at step t = 0, 1, 2, ..., as nodes and as plain numbers.

An optimizer evaluates its schedule in float64, in which every t that can be reached is exact, and rounds the result
once to the dtype of each parameter.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from itertools import pairwise
from numbers import Real
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from graphengine.ir.names import unknown_in
from graphengine.ir.node import Node
from graphengine.ir.training import Schedule
from graphengine.ops.compare import maximum, minimum, where
from graphengine.ops.elementwise import floor, sin, square

__all__ = [
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRate",
    "Piecewise",
    "StepDecay",
    "Warmup",
    "as_schedule",
]

__dir__ = __all__.copy
__getattr__ = unknown_in("schedules")


def _rate(value: Any) -> float | Schedule:
    if isinstance(value, Schedule | dict):
        return Schedule.of_kind(value)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= sys.float_info.max):
        raise PydanticCustomError("rate", "a finite number of at least 0, or a schedule, is needed")
    return float(value)


LearningRate = Annotated[float | SerializeAsAny[Schedule], BeforeValidator(_rate)]
_Step = TypeVar("_Step", Node, float)
Rate = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]


class Constant(Schedule):
    """alpha_t = alpha. Raises AttributeValueError unless 0 <= alpha."""

    kind: Literal["constant"] = Field(default="constant", init=False)
    alpha: Rate

    def at(self, step: Node) -> Node:
        return step.graph.scalar(self.alpha, step.dtype)

    def value(self, t: int) -> float:
        return self.alpha


class StepDecay(Schedule):
    """alpha_t = initial * factor^floor(t / every), t in steps.

    Raises AttributeValueError unless 0 <= initial, 0 < factor <= 1 and 1 <= every.
    """

    kind: Literal["step_decay"] = Field(default="step_decay", init=False)
    initial: Rate
    factor: Factor
    every: Steps

    def at(self, step: Node) -> Node:
        return self.initial * self.factor ** floor(step / self.every)

    def value(self, t: int) -> float:
        return self.initial * self.factor ** (t // self.every)


class ExponentialDecay(Schedule):
    """alpha_t = initial * rate^(t / every), t in steps.

    Raises AttributeValueError unless 0 <= initial, 0 < rate <= 1 and 1 <= every.
    """

    kind: Literal["exponential_decay"] = Field(default="exponential_decay", init=False)
    initial: Rate
    rate: Factor
    every: Steps = 1

    def at(self, step: Node) -> Node:
        return self.initial * self.rate ** (step / self.every)

    def value(self, t: int) -> float:
        return self.initial * math.pow(self.rate, t / self.every)


class InverseTimeDecay(Schedule):
    """alpha_t = initial / (1 + rate * t), t in steps: the sum diverges, that of the squares does not.

    Raises AttributeValueError unless 0 <= initial, rate. Source: Robbins and Monro 1951.
    """

    kind: Literal["inverse_time_decay"] = Field(default="inverse_time_decay", init=False)
    initial: Rate
    rate: Rate

    def at(self, step: Node) -> Node:
        return self.initial / (1.0 + self.rate * step)

    def value(self, t: int) -> float:
        return self.initial / (1.0 + self.rate * t)


class CosineDecay(Schedule):
    """alpha_t = final + (initial - final) * (1 + cos(pi * min(t, steps) / steps)) / 2, t in steps.

    Raises AttributeValueError unless 0 <= initial, final and 1 <= steps.
    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """

    kind: Literal["cosine_decay"] = Field(default="cosine_decay", init=False)
    initial: Rate
    steps: Steps
    final: Rate = 0.0

    def at(self, step: Node) -> Node:
        since, ahead = self._parts(minimum(step, self.steps))
        return self.initial * square(sin(ahead)) + self.final * square(sin(since))

    def value(self, t: int) -> float:
        since, ahead = self._parts(min(t, self.steps))
        return self.initial * math.sin(ahead) ** 2 + self.final * math.sin(since) ** 2

    def _parts(self, step: _Step) -> tuple[_Step, _Step]:
        """The angles of (1 - cos) / 2 = sin^2 of half the angle, and of (1 + cos) / 2, neither of which cancels."""
        quarter = math.pi / 2 / self.steps
        return step * quarter, (self.steps - step) * quarter


class Warmup(Schedule):
    """alpha_t = then_0 * (t + 1) / steps for t < steps, then_(t - steps) after: a linear start of the schedule `then`.

    `then` may be a number, for a constant rate. Raises AttributeValueError unless 1 <= steps.
    Source: Goyal et al. 2017, section 2.2.

    >>> [ge.Warmup(2, ge.StepDecay(0.4, 0.5, 2)).value(t) for t in range(6)]
    [0.2, 0.4, 0.4, 0.4, 0.2, 0.2]
    """

    kind: Literal["warmup"] = Field(default="warmup", init=False)
    steps: Steps
    then: LearningRate

    def at(self, step: Node) -> Node:
        since = maximum(step - self.steps, 0)
        return as_schedule(self.then).at(since) * minimum((step + 1.0) / self.steps, 1)

    def value(self, t: int) -> float:
        since = max(t - self.steps, 0)
        return as_schedule(self.then).value(since) * min((t + 1.0) / self.steps, 1.0)


class Piecewise(Schedule):
    """alpha_t = values[i] for boundaries[i-1] <= t < boundaries[i], t in steps.

    Raises AttributeValueError unless boundaries ascend from at least 1, and there is one more value than boundaries.
    """

    kind: Literal["piecewise"] = Field(default="piecewise", init=False)
    boundaries: tuple[Steps, ...]
    values: tuple[Rate, ...]

    @field_validator("boundaries")
    @classmethod
    def _ascend(cls, boundaries: tuple[int, ...]) -> tuple[int, ...]:
        if any(early >= late for early, late in pairwise(boundaries)):
            raise PydanticCustomError("boundaries", "boundaries ascend")
        return boundaries

    @field_validator("values")
    @classmethod
    def _one_more(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        wanted = len(info.data["boundaries"]) + 1 if "boundaries" in info.data else len(values)
        if len(values) != wanted:
            raise PydanticCustomError("values", f"{wanted} values are needed, one more than boundaries")
        return values

    def at(self, step: Node) -> Node:
        alpha = step.graph.scalar(self.values[-1], step.dtype)
        for boundary, value in zip(reversed(self.boundaries), reversed(self.values[:-1]), strict=True):
            alpha = where(step < boundary, value, alpha)
        return alpha

    def value(self, t: int) -> float:
        return self.values[bisect_right(self.boundaries, t)]


def as_schedule(rate: float | Schedule) -> Schedule:
    """`rate` as a schedule: returns `Constant(rate)` for a number. Raises AttributeValueError for a negative one."""
    return rate if isinstance(rate, Schedule) else Constant(alpha=rate)

"""Optimizers: rules that emit, for every parameter, the UPDATE nodes of its next value and of its slots.

In the formulas w is a parameter, g its gradient dL/dw (clipped, where `clip` says so), alpha_t the learning rate at
step t = 0, 1, 2, ..., and what is to the left of <- is the value after the step. All is by element.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from graphengine.ir.graph import Graph
from graphengine.ir.init import Constant
from graphengine.ir.node import Node, Phase
from graphengine.ir.training import Optimizer
from graphengine.ir.types import DType
from graphengine.ops.compare import maximum
from graphengine.ops.elementwise import moved, sqrt, square
from graphengine.optim.clip import AnyClip
from graphengine.optim.emission import Emission
from graphengine.optim.schedules import LearningRate

__all__ = ["GD", "SGD", "Adagrad", "Adam", "AdamW", "RMSProp"]

Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Rule(Optimizer):
    """What the optimizers have in common: the learning rate, the clipping, and the walk over the parameters."""

    learning_rate: LearningRate
    clip: AnyClip | None = Field(default=None, kw_only=True)

    def emit(self, graph: Graph, gradients: dict[Node, Node]) -> None:
        emission = Emission(graph, self.learning_rate)
        if self.clip is not None:
            gradients = self.clip.emit(gradients, emission)
        for w, g in gradients.items():
            with graph.emitting(Phase.UPDATE, w):
                graph.update(w, self.next(w, g, emission))
        emission.finish()

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        """The node of the next w; the slots' next values are registered in passing."""
        raise NotImplementedError


class GD(Rule):
    """Gradient descent on the full batch: w <- w - alpha_t g.

    learning_rate: alpha_t, a number or a schedule; clip: a rule that bounds g first.
    Raises AttributeValueError for a learning rate that is negative or not finite.
    Source: Cauchy 1847.
    """

    kind: Literal["gd"] = Field(default="gd", init=False)

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        return w - g * emission.alpha(w.dtype)


class SGD(Rule):
    """Stochastic gradient descent on batches: w <- w - alpha_t g.

    With weight_decay, g is the gradient plus weight_decay * w; with momentum mu, and with nesterov:

        v <- mu v + g         w <- w - alpha_t v
        v <- mu v + g         w <- w - alpha_t (g + mu v)        with nesterov

    v starts at 0 and is the state `w.velocity`. As in PyTorch, alpha_t is not part of v.
    Raises AttributeValueError unless 0 <= momentum < 1 and 0 <= weight_decay, and for nesterov without momentum.
    Source: Robbins and Monro 1951; momentum: Polyak 1964; nesterov: Sutskever et al. 2013.
    """

    kind: Literal["sgd"] = Field(default="sgd", init=False)
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise PydanticCustomError("nesterov", "nesterov needs a momentum above 0")
        return nesterov

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        if self.weight_decay:
            g = g + w * self.weight_decay
        if self.momentum:
            v = accumulate(emission.slot(w, "velocity"), g, self.momentum)
            g = g + v * self.momentum if self.nesterov else v
        return w - g * emission.alpha(w.dtype)


class AdamRule(Rule):
    """The step of Adam and AdamW, w - a m / (sqrt(v) + e), with two scalars that are emitted once for all w.

    a = alpha_t sqrt(1 - beta2^n) / (1 - beta1^n) and e = epsilon sqrt(1 - beta2^n).
    """

    learning_rate: LearningRate = 0.001
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        m = advance(emission.slot(w, "mean"), g, self.beta1)
        v = advance(emission.slot(w, "mean_square"), square(g), self.beta2)
        direction = m / (sqrt(v) + self._epsilon(w.dtype, emission))
        return self.decayed(w, emission) - direction * self._rate(w.dtype, emission)

    def decayed(self, w: Node, emission: Emission) -> Node:
        """What the step is taken from."""
        return w

    def _rate(self, dtype: DType, emission: Emission) -> Node:
        def make() -> Node:
            alpha = emission.alpha("float64")
            return alpha * self._correction(emission) / (1.0 - self.beta1 ** self._number(emission))

        return emission.once("adam.rate", dtype, make)

    def _epsilon(self, dtype: DType, emission: Emission) -> Node:
        return emission.once("adam.epsilon", dtype, lambda: self.epsilon * self._correction(emission))

    def _correction(self, emission: Emission) -> Node:
        return emission.once("adam.correction", "float64", lambda: sqrt(1.0 - self.beta2 ** self._number(emission)))

    def _number(self, emission: Emission) -> Node:
        return emission.once("adam.number", "float64", lambda: emission.step() + 1.0)


class Adam(AdamRule):
    """Adam. With n = t + 1, the number of this step counted from 1:

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        w <- w - alpha_t (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + epsilon)

    m and v start at 0 and are the states `w.mean` and `w.mean_square`. learning_rate: alpha_t, a number or a schedule;
    clip: a rule that bounds g first.
    Raises AttributeValueError unless 0 <= beta1, beta2 < 1 and epsilon > 0.
    Source: Kingma and Ba 2015, algorithm 1.

    >>> ge.Adam(0.005, clip=ge.ClipByGlobalNorm(1.0)).beta1
    0.9
    """

    kind: Literal["adam"] = Field(default="adam", init=False)


class AdamW(AdamRule):
    """Adam with decoupled weight decay: w <- (1 - alpha_t weight_decay) w - (the step of Adam).

    The rate multiplies the decay, as in PyTorch: the paper's lambda is alpha * weight_decay, its eta_t alpha_t / alpha.
    The other arguments are those of `Adam`. Raises AttributeValueError unless 0 <= weight_decay, and as `Adam` does.
    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    kind: Literal["adamw"] = Field(default="adamw", init=False)
    weight_decay: NonNegative = 0.01

    def decayed(self, w: Node, emission: Emission) -> Node:
        return w * emission.once("adamw.decay", w.dtype, lambda: 1.0 - emission.alpha("float64") * self.weight_decay)


class RMSProp(Rule):
    """RMSProp: the step is divided by a running root mean square of the gradient.

        v <- decay v + (1 - decay) g^2        d = g / (sqrt(v) + epsilon)                    w <- w - alpha_t d
        m <- decay m + (1 - decay) g          d = g / (sqrt(max(v - m^2, 0)) + epsilon)      with centered
        b <- momentum b + d                   w <- w - alpha_t b                             with momentum

    v, m and b start at 0 and are the states `w.mean_square`, `w.mean` and `w.velocity`.
    Raises AttributeValueError unless 0 <= decay, momentum < 1 and epsilon > 0.
    Source: Tieleman and Hinton 2012, lecture 6e; centered: Graves 2013.
    """

    kind: Literal["rmsprop"] = Field(default="rmsprop", init=False)
    learning_rate: LearningRate = 0.001
    decay: Fraction = 0.9
    epsilon: Positive = 1e-8
    momentum: Fraction = 0.0
    centered: bool = False

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        v = advance(emission.slot(w, "mean_square"), square(g), self.decay)
        if self.centered:
            m = advance(emission.slot(w, "mean"), g, self.decay)
            v = maximum(v - square(m), 0.0)  # rounding may leave a variance of 0 below it
        direction = g / (sqrt(v) + self.epsilon)
        if self.momentum:
            direction = accumulate(emission.slot(w, "velocity"), direction, self.momentum)
        return w - direction * emission.alpha(w.dtype)


class Adagrad(Rule):
    """Adagrad, diagonal: the step is divided by the root of the sum of all squares so far.

        s <- s + g^2          w <- w - alpha_t g / (sqrt(s) + epsilon)

    s starts at `initial_accumulator` and is the state `w.sum_square`.
    Raises AttributeValueError unless 0 <= initial_accumulator and epsilon > 0.
    Source: Duchi et al. 2011.
    """

    kind: Literal["adagrad"] = Field(default="adagrad", init=False)
    learning_rate: LearningRate = 0.01
    initial_accumulator: NonNegative = 0.0
    epsilon: Positive = 1e-10

    def next(self, w: Node, g: Node, emission: Emission) -> Node:
        start = Constant(value=self.initial_accumulator)
        s = accumulate(emission.slot(w, "sum_square", init=start), square(g))
        return w - g / (sqrt(s) + self.epsilon) * emission.alpha(w.dtype)


def accumulate(slot: Node, new: Node, decay: float = 1.0) -> Node:
    """Register decay * slot + new as the next value of `slot`, and return it."""
    value = (slot if decay == 1.0 else slot * decay) + new
    slot.graph.update(slot, value)
    return value


def advance(slot: Node, new: Node, decay: float) -> Node:
    """Register decay * slot + (1 - decay) * new as the next value of `slot`, and return it."""
    value = moved(slot, new, decay)
    slot.graph.update(slot, value)
    return value

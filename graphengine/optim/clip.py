"""Clipping: gradients are bounded before an optimizer uses them."""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from graphengine.ir.node import Node, Phase
from graphengine.ir.tagged import Settings
from graphengine.ops.broadcast import sum
from graphengine.ops.compare import clip, logical_and, maximum, where
from graphengine.ops.elementwise import abs, sqrt, square
from graphengine.ops.reduce import max
from graphengine.optim.emission import Emission, as_dtype

Limit = Annotated[float, Field(gt=0)]


class Clip(Settings):
    """A rule that bounds gradients before the optimizer uses them: `ClipByValue` or `ClipByGlobalNorm`."""

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        """Add the nodes of the bounded gradients, by parameter."""
        raise NotImplementedError


AnyClip = Annotated[SerializeAsAny[Clip], BeforeValidator(Clip.of_kind)]


class ClipByValue(Clip):
    """g <- min(max(g, -limit), limit), by element.

    Raises AttributeValueError unless limit > 0. Source: Mikolov 2012.
    """

    kind: Literal["by_value"] = Field(default="by_value", init=False)
    limit: Limit

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        clipped = {}
        for w, w_bar in gradients.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                clipped[w] = clip(w_bar, -self.limit, self.limit)
        return clipped


class ClipByGlobalNorm(Clip):
    """g <- g * min(1, limit / norm), with norm the Euclidean norm of all gradients as one vector.

    The norm is summed in float64; a float64 gradient is divided by the maximum first, so that no square overflows.
    Raises AttributeValueError unless limit > 0. Source: Pascanu et al. 2013.
    """

    kind: Literal["by_global_norm"] = Field(default="by_global_norm", init=False)
    limit: Limit

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        given = {w: w_bar for w, w_bar in gradients.items() if w.type.size}
        top = self._maximum(given, emission) if any(w.dtype == "float64" for w in given) else None
        squares, clipped = [], dict(gradients)
        for w, w_bar in given.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                wide = as_dtype(w_bar, "float64")
                squares.append(sum(square(wide if top is None else wide / top)))
        for w, w_bar in given.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                factor = emission.once("clip", w.dtype, lambda: self._factor(squares, top))
                clipped[w] = w_bar * factor
        return clipped

    def _maximum(self, gradients: dict[Node, Node], emission: Emission) -> Node:
        """The maximum absolute element, in float64; 1 if that is 0 or not finite."""
        sizes = []
        for w, w_bar in gradients.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                sizes.append(as_dtype(max(abs(w_bar)), "float64"))
        with emission.graph.emitting(Phase.UPDATE, next(iter(gradients))):
            top = reduce(maximum, sizes)
            return where(logical_and(top > 0.0, top < math.inf), top, 1.0)

    def _factor(self, squares: list[Node], top: Node | None) -> Node:
        """min(1, limit / norm), written so that a norm of 0 divides nothing, and none overflows."""
        limit = self.limit if top is None else self.limit / top
        return limit / maximum(sqrt(reduce(operator.add, squares)), limit)

"""Clipping: gradients kept from growing too long, before an optimizer uses them."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from graphengine.ir.node import Node, Phase
from graphengine.ir.tagged import Tagged
from graphengine.ops.broadcast import sum
from graphengine.ops.compare import clip, maximum
from graphengine.ops.elementwise import sqrt, square
from graphengine.optim.emission import Emission, as_dtype
from graphengine.optim.positional import Positional

__all__ = ["AnyClip", "Clip", "ClipByGlobalNorm", "ClipByValue"]

Limit = Annotated[float, Field(gt=0)]


class Clip(Tagged):
    """A rule that bounds gradients."""

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        """Add the nodes of the bounded gradients, by parameter."""
        raise NotImplementedError


AnyClip = Annotated[SerializeAsAny[Clip], BeforeValidator(Clip.of_kind)]


class ClipByValue(Positional, Clip):
    """Every element of a gradient brought into [-limit, limit]."""

    kind: Literal["by_value"] = "by_value"
    limit: Limit

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        clipped = {}
        for w, w_bar in gradients.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                clipped[w] = clip(w_bar, -self.limit, self.limit)
        return clipped


class ClipByGlobalNorm(Positional, Clip):
    """All gradients scaled by min(1, limit / norm), norm being that of all of them as one vector (Pascanu et al. 2013).

    The squares of a gradient are summed in its dtype, and these sums in float64. Gradients that are all 0 stay so.
    """

    kind: Literal["by_global_norm"] = "by_global_norm"
    limit: Limit

    def emit(self, gradients: dict[Node, Node], emission: Emission) -> dict[Node, Node]:
        squares, clipped = [], {}
        for w, w_bar in gradients.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                squares.append(as_dtype(sum(square(w_bar)), "float64"))
        for w, w_bar in gradients.items():
            with emission.graph.emitting(Phase.UPDATE, w):
                factor = emission.once("clip", w.dtype, lambda: self._factor(squares))
                clipped[w] = w_bar * factor
        return clipped

    def _factor(self, squares: list[Node]) -> Node:
        """min(1, limit / norm), written so that a norm of 0 divides nothing."""
        return self.limit / maximum(sqrt(reduce(operator.add, squares)), self.limit)

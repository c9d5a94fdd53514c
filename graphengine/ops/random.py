"""Randomness while running: every draw is fixed by (seed, step, node), so that a step can be made again exactly.

The seed and the number of the step are states of the graph, `random.seed` and `random.step`: they are declared when
first needed, saved in a checkpoint like all states, and the step is counted by an update. The generator is Philox
(Salmon et al. 2011), which is a function of a key and a counter and carries nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError, GraphError
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.graph import Graph
from graphengine.ir.init import Seed
from graphengine.ir.leaf import State
from graphengine.ir.names import stream_of
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType
from graphengine.ops.compare import Mask
from graphengine.ops.support.run_all import as_one

__all__ = ["dropout"]

SEED = "random.seed"
STEP = "random.step"
_COUNT = TensorType((), "int64")


class Dropout(Op):
    """y = 0 at a fraction `rate` of the elements, drawn anew in every step, and x / (1 - rate) elsewhere.

    The mask is a function of seed, step and `stream`, a number that tells nodes apart, and not of x: y is linear in x,
    and the adjoint is the same op on y_bar, which draws the mask again instead of saving it. Scaling by 1 / (1 - rate)
    keeps the expectation (Srivastava et al. 2014), so that for inference nothing is left of it.
    """

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["dropout"] = "dropout"
    rate: float = Field(ge=0, lt=1)
    stream: int = Field(ge=0, lt=2**48)

    def infer(self, x: TensorType, seed: TensorType, step: TensorType) -> TensorType:
        if not x.is_float:
            raise DTypeError(f"dropout takes floats, not {x}")
        for what, type_ in (("seed", seed), ("step", step)):
            if type_ != _COUNT:
                raise DTypeError(f"the {what} of a dropout is {_COUNT}, not {type_}")
        return x

    def eval(self, xp: Any, x: Any, seed: Any, step: Any) -> Any:
        uniform = np.empty(x.shape, np.float32)
        _Draws(self.stream, np.asarray(seed), np.asarray(step)).fill(uniform)
        is_kept = xp.asarray(uniform >= np.float32(self.rate))
        return xp.where(is_kept, x * self._scale(x.dtype), xp.zeros((), x.dtype))

    def scratch(self, y: TensorType, x: TensorType, seed: TensorType, step: TensorType) -> tuple[TensorType, ...]:
        is_kept = TensorType(x.shape, "bool")
        return TensorType(x.shape, "float32"), is_kept, *Mask().scratch(y, x, is_kept)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, seed, step), (uniform, is_kept, *work) = operands, scratch
        rate, scale = np.array(self.rate, np.float32), self._scale(x.dtype)
        hide = Mask().bind(out, out, is_kept, scratch=work)
        draws = _Draws(self.stream, seed, step)
        keep: list[Call] = [(draws.fill, (uniform,)), (np.greater_equal, (uniform, rate, is_kept))]
        return as_one([*keep, (np.multiply, (x, scale, out)), hide])

    def vjp(self, y: Node, y_bar: Node, x: Node, seed: Node, step: Node) -> tuple[Node | None, ...]:
        return apply(self, y_bar, seed, step), None, None

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return 3 * y.size

    def streams(self) -> frozenset[int]:
        return frozenset({self.stream})

    def with_streams(self, new: Mapping[int, int]) -> Op:
        return self.model_copy(update={"stream": new.get(self.stream, self.stream)})

    def _scale(self, dtype: Any) -> Array:
        return np.array(1 / (1 - self.rate), dtype)


class _Draws:
    """Uniform numbers of [0, 1) of one stream: the counter's low words count draws, its second word is the step."""

    def __init__(self, stream: int, seed: Array, step: Array) -> None:
        self._bits = np.random.Philox(key=[0, stream])
        self._generator = np.random.Generator(self._bits)
        self._start: Any = self._bits.state
        self._words = ((self._start["state"]["key"][:1], seed), (self._start["state"]["counter"][1:2], step))

    def fill(self, out: Array) -> None:
        """Write the draws at what seed and step are now into `out`, an array of float32."""
        for word, value in self._words:
            np.copyto(word, value, casting="unsafe")  # from int64, bit for bit
        self._bits.state = self._start
        self._generator.random(dtype=np.float32, out=out)


def dropout(x: Node, rate: float, *, name: str | None = None) -> Node:
    """Dropout: in training, an element is set to 0 with probability `rate` and else scaled by 1 / (1 - rate).

    The elements are drawn from (seed of `compile`, step, node): a step that is repeated, and a step's backward pass,
    drop the same ones. All steps of a scan share one mask (Gal and Ghahramani 2016). `ge.for_inference` removes
    dropout.

    x: floats; returns the type of x. Raises AttributeValueError for a rate outside [0, 1), DTypeError for other dtypes.
    Source: Srivastava et al. 2014.
    """
    name = name or layer_name(x.graph, "dropout")
    with declaring("dropout", x, name=name):
        op = Dropout(rate=rate, stream=_stream(x.graph, name))
        op.infer(TensorType(x.shape, x.dtype), _COUNT, _COUNT)  # before states are declared for it
        return apply(op, x, *_seed_and_step(x.graph.root), name=name) if rate else x


def _stream(graph: Graph, name: str) -> int:
    """A number for a node of this name; in the body of a scan, of its place in the graph around it as well."""
    while graph.outer is not None:
        name = f"{len(graph.outer)}.{graph.name}.{name}"
        graph = graph.outer
    return stream_of(str(name))


def _seed_and_step(graph: Graph) -> tuple[Node, Node]:
    """The states that all draws of `graph` read, declared by the first of them."""
    if SEED not in graph and STEP not in graph:
        seed, step = graph.state(SEED, (), Seed(), "int64"), graph.state(STEP, (), dtype="int64")
        with graph.emitting(Phase.UPDATE, step):
            graph.update(step, step + 1)
        return seed, step
    for name in (SEED, STEP):
        if name not in graph or not isinstance(graph[name].op, State) or graph[name].type != _COUNT:
            raise GraphError(f"dropout keeps its count in the states {SEED!r} and {STEP!r}; name your nodes otherwise")
    return graph[SEED], graph[STEP]

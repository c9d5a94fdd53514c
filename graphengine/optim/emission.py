"""What an optimizer's rule needs while it emits: slots, the step counter, and scalars made once for all parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphengine.errors import NamingError
from graphengine.ir.graph import Graph
from graphengine.ir.init import Initializer
from graphengine.ir.names import check_name, free_name
from graphengine.ir.node import Node, Phase
from graphengine.ir.training import Schedule
from graphengine.ir.types import DType
from graphengine.ops.elementwise import cast


@dataclass(slots=True)
class Emission:
    """The UPDATE nodes of one optimizer in one graph, under way."""

    graph: Graph
    rate: float | Schedule
    _counter: Node | None = None
    _scalars: dict[tuple[str, DType], Node] = field(default_factory=dict)

    def slot(self, w: Node, what: str, init: Initializer | None = None) -> Node:
        """A state of the type of `w`, named after it, as `w.velocity` is; zeros at first unless `init` is given."""
        return self.graph.state(_slot_name(w, what), w.type.static_shape, init=init, dtype=w.dtype)

    def step(self) -> Node:
        """t = 0, 1, 2, ..., the number of steps taken, as a float64: exact to 2^53, where a float32 ends at 2^24."""
        if self._counter is None:
            self._counter = self.graph.state(free_name("optimizer.step", self.graph), (), dtype="int64")
        counter = self._counter
        return self.once("step", "float64", lambda: cast(counter, "float64"))

    def alpha(self, dtype: DType) -> Node:
        """The learning rate of this step."""
        rate = self.rate
        if isinstance(rate, Schedule):
            return self.once("alpha", dtype, lambda: rate.at(self.step()))
        return self.graph.scalar(rate, dtype)

    def once(self, what: str, dtype: DType, make: Callable[[], Node]) -> Node:
        """The scalar `what`, which `make` emits in float64, rounded to `dtype`: emitted when first asked for."""
        if (what, "float64") not in self._scalars:
            self._scalars[what, "float64"] = make()
        if (what, dtype) not in self._scalars:
            self._scalars[what, dtype] = cast(self._scalars[what, "float64"], dtype)
        return self._scalars[what, dtype]

    def finish(self) -> None:
        """Count the step, if its number is used; last, so that the counter is updated in place."""
        if self._counter is not None:
            with self.graph.emitting(Phase.UPDATE, self._counter):
                self.graph.update(self._counter, self._counter + 1)


def as_dtype(x: Node, dtype: DType) -> Node:
    """`x` in `dtype`: itself, where it is so already."""
    return x if x.dtype == dtype else cast(x, dtype)


def _slot_name(w: Node, what: str) -> str:
    """`what` after the parameter's name, or after its number where that would be too long for a name."""
    try:
        return free_name(check_name(f"{w.name}.{what}"), w.graph)
    except NamingError:
        return free_name(f"parameter_{w.index}.{what}", w.graph)

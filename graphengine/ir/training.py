"""How a graph is to be trained, as its document may say: the loss, the optimizer, and how the data pass."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.tagged import Configuration, Settings


class Schedule(Settings):
    """A rule for alpha_t, the learning rate at step t = 0, 1, 2, ...; members are in `optim/schedules.py`."""

    def at(self, step: Node) -> Node:
        """The node of alpha_t; `step` is the scalar t, as a float64."""
        raise NotImplementedError

    def value(self, t: int) -> float:
        """alpha_t itself, of the formula that `at` emits."""
        raise NotImplementedError


class Optimizer(Settings):
    """A rule that makes next weights out of weights and gradients; members are in `optim/rules.py`."""

    def emit(self, graph: Graph, gradients: dict[Node, Node]) -> None:
        """Add the UPDATE nodes: for every parameter of `gradients` its next value, and that of every slot it needs."""
        raise NotImplementedError


AnyOptimizer = Annotated[SerializeAsAny[Optimizer], BeforeValidator(Optimizer.of_kind)]
AnySchedule = Annotated[SerializeAsAny[Schedule], BeforeValidator(Schedule.of_kind)]


class Training(Configuration):
    """How a graph is trained, as its document may say; a schedule is the optimizer's learning rate.

    loss: the name of an output; optimizer; batch_size: None for the full batch; epochs; seed.
    Raises AttributeValueError for a batch_size or epochs below 1 or a negative seed.
    """

    loss: str
    optimizer: AnyOptimizer
    batch_size: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

    def to_dict(self) -> dict[str, Any]:
        """The section of the document, defaults left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

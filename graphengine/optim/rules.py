"""Optimizers: rules that emit, for every parameter, the UPDATE nodes of its next value and of its slots."""

from __future__ import annotations

from typing import Literal

from graphengine.ir.graph import Graph, Node, Phase
from graphengine.ir.training import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """w <- w - alpha_t * dL/dw on batches (Robbins and Monro 1951)."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float

    def emit(self, graph: Graph, gradients: dict[Node, Node]) -> None:
        for w, w_bar in gradients.items():
            with graph.emitting(Phase.UPDATE, w):
                graph.update(w, w - w_bar * self.learning_rate)

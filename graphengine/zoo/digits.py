"""A 3-layer network that reads 8x8 digits, and how to train it: what `digits.json` holds, built in Python."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise

from graphengine.ir.graph import Graph
from graphengine.ir.init import HeNormal
from graphengine.ir.node import Node
from graphengine.ir.training import Training
from graphengine.ops.activation import relu
from graphengine.ops.elementwise import add
from graphengine.ops.loss import cross_entropy
from graphengine.ops.reduce import argmax
from graphengine.ops.regularizer import l2
from graphengine.optim.rules import Adam

_UNITS = (64, 128, 64, 10)
_DECAY = 1e-4


def digits_network() -> Graph:
    """Pixels to 128, to 64, to 10 scores; relu between, cross entropy plus 1e-4 times the squared weights as loss.

    Inputs are "pixels", float32[batch, 64] in [0, 1], and "label", int64[batch]; outputs are "logits", "prediction"
    (the digit of the greatest score) and "loss".
    """
    graph = Graph("digits")
    h = graph.input("pixels", ("batch", _UNITS[0]))
    label = graph.input("label", ("batch",), dtype="int64")
    weights: list[Node] = []
    for layer, (units_in, units_out) in enumerate(pairwise(_UNITS), 1):
        weights.append(graph.parameter(f"layer{layer}.weight", (units_in, units_out), init=HeNormal()))
        bias = graph.parameter(f"layer{layer}.bias", (units_out,))
        z = add(h @ weights[-1], bias, name=f"layer{layer}.z")
        h = relu(z, name=f"layer{layer}.h") if layer < len(_UNITS) - 1 else z
    graph.output("logits", h)
    graph.output("prediction", argmax(h, axis=-1, name="prediction"))
    penalty = add(l2(weights[0]) + l2(weights[1]), l2(weights[2]), name="penalty")
    graph.output("loss", add(cross_entropy(h, label, name="error"), _DECAY * penalty, name="loss"))
    graph.training = Training(loss="loss", optimizer=Adam(learning_rate=0.002), batch_size=32, epochs=30)
    return graph


def digits_spec() -> str:
    """The document of `digits_network`, as it ships with the package."""
    return files(__package__).joinpath("digits.json").read_text(encoding="utf-8")

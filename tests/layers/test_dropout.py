"""Dropout as a layer: the op itself."""

from functools import partial

import numpy as np

import graphengine as ge
from graphengine.layers import dropout, sequential


def test_the_layer_is_the_op() -> None:
    assert dropout is ge.dropout


def test_two_layers_of_one_network_drop_differently() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 100))
    for name in ("one", "other"):
        g.output(name, sequential(x, partial(dropout, rate=0.5)))
    values = ge.compile(g).forward({"x": np.ones((10, 100), np.float32)})
    assert 0.4 < np.mean(values["one"] == values["other"]) < 0.6
    assert [node.name for node in g.nodes if node.op.kind == "dropout"] == ["dropout_1", "dropout_2"]

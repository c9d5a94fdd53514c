"""Recurrent networks that read a digit as a sequence: row after row of its picture, from the top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphengine.ir.graph import Graph
from graphengine.ir.training import Training
from graphengine.layers import dense, gru, lstm
from graphengine.ops.broadcast import reshape
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay
from graphengine.zoo.classifier import begin, end

_ROWS, _COLUMNS = 8, 8
_CLASSES = 10
_UNITS = 64
_BATCH, _EPOCHS = 32, 30
_STEPS = _EPOCHS * 45
"""Of 1,437 digits in batches of 32."""


def digits_lstm() -> Graph:
    """An LSTM of 64 units over the 8 rows of a digit, and 10 scores from what it holds after the last.

    Inputs are "pixels", float32[batch, 64] in [0, 1], and "label", int64[batch], as `ge.data.digits` gives them;
    outputs are "logits", "prediction" and "loss".
    """
    return _reader("digits_lstm", lstm)


def digits_gru() -> Graph:
    """A GRU of 64 units over the 8 rows of a digit; all else as in `digits_lstm`."""
    return _reader("digits_gru", gru)


def _reader(name: str, layer: Callable[..., Any]) -> Graph:
    graph, pixels, label = begin(name, _ROWS * _COLUMNS)
    rows = reshape(pixels, ("batch", _ROWS, _COLUMNS))
    end(dense(layer(rows, _UNITS, name="reader"), _CLASSES, name="dense"), label)
    optimizer = Adam(learning_rate=CosineDecay(initial=0.005, steps=_STEPS))
    graph.training = Training(loss="loss", optimizer=optimizer, batch_size=_BATCH, epochs=_EPOCHS)
    return graph

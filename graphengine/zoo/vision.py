"""Networks for Fashion-MNIST: the multilayer perceptron and LeNet."""

from __future__ import annotations

from graphengine.ir.graph import Graph, Node
from graphengine.ir.init import HeNormal
from graphengine.ir.training import Training
from graphengine.layers import batch_norm, conv2d, dense, dropout
from graphengine.ops.activation import relu
from graphengine.ops.broadcast import reshape
from graphengine.ops.pool import max_pool2d
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay
from graphengine.zoo.classifier import begin, end

__all__ = ["fashion_mlp", "lenet"]

_EXAMPLES = 60_000
_SIDE = 28
_CLASSES = 10


def fashion_mlp() -> Graph:
    """784-256-128-10, with relu between.

    Inputs are "pixels", float32[batch, 784] in [0, 1], and "label", int64[batch]; outputs are "logits", "prediction"
    and "loss". Trained for 8 epochs by Adam, its learning rate falling to 0 along a cosine.
    """
    graph, pixels, label = begin("fashion_mlp", _SIDE * _SIDE)
    h = dense(pixels, 256, name="dense1", activation=relu)
    h = dense(h, 128, name="dense2", activation=relu)
    end(dense(h, _CLASSES, name="dense3"), label)
    graph.training = _training(rate=0.001, batch_size=128, epochs=8)
    return graph


def lenet() -> Graph:
    """LeNet-5 (LeCun et al. 1998, figure 2) with what came after it: relu, greatest pooling, batch norm and dropout.

    Two 5x5 convolutions, of 6 and 16 channels, each normalized, rectified and pooled 2x2; then 120, 84 and 10 units
    with dropout of 0.1 between. Inputs and outputs are those of `fashion_mlp`. Trained for 5 epochs.
    """
    graph, pixels, label = begin("lenet", _SIDE * _SIDE)
    h = _convolved(reshape(pixels, ("batch", 1, _SIDE, _SIDE)), 6, padding=2, place=1)
    h = _convolved(h, 16, padding=0, place=2)
    h = reshape(h, ("batch", 16 * 5 * 5))
    for place, units in ((1, 120), (2, 84)):
        h = dropout(dense(h, units, name=f"dense{place}", activation=relu), 0.1, name=f"dropout{place}")
    end(dense(h, _CLASSES, name="dense3"), label)
    graph.training = _training(rate=0.003, batch_size=64, epochs=5)
    return graph


def _convolved(x: Node, channels: int, padding: int, place: int) -> Node:
    # No bias, which the normalization would take away again.
    h = conv2d(x, channels, 5, padding=padding, name=f"conv{place}", bias=False, init=HeNormal())
    return max_pool2d(relu(batch_norm(h, name=f"norm{place}")), 2)


def _training(rate: float, batch_size: int, epochs: int) -> Training:
    steps = epochs * -(-_EXAMPLES // batch_size)
    return Training(
        loss="loss",
        optimizer=Adam(learning_rate=CosineDecay(initial=rate, steps=steps)),
        batch_size=batch_size,
        epochs=epochs,
    )

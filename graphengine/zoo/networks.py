"""Networks for Fashion-MNIST: the multilayer perceptron and LeNet."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ir.init import HeNormal
from graphengine.ir.training import Training
from graphengine.layers import batch_norm, conv2d, dense, dropout
from graphengine.ops.activation import relu
from graphengine.ops.broadcast import reshape
from graphengine.ops.pool import max_pool2d
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay
from graphengine.zoo.classifier import begin, end

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
    """LeNet (LeCun et al. 1998) in the sizes that Caffe gave it (Jia et al. 2014), with batch norm and dropout.

    Two 5x5 convolutions, of 20 and 50 channels, each normalized, rectified, and pooled by the greatest of 2x2; then 500
    units, a quarter of them dropped, and 10 scores. Inputs and outputs are those of `fashion_mlp`. Trained for 5 epochs
    by Adam, its learning rate falling to 0 along a cosine.
    """
    graph, pixels, label = begin("lenet", _SIDE * _SIDE)
    h = reshape(pixels, ("batch", 1, _SIDE, _SIDE))
    for place, channels in ((1, 20), (2, 50)):
        # No bias, which the normalization would take away again.
        h = conv2d(h, channels, 5, name=f"conv{place}", bias=False, init=HeNormal())
        h = max_pool2d(relu(batch_norm(h, name=f"norm{place}")), 2)
    h = dense(reshape(h, ("batch", 50 * 4 * 4)), 500, name="dense1", activation=relu)
    end(dense(dropout(h, 0.25, name="dropout"), _CLASSES, name="dense2"), label)
    graph.training = _training(rate=0.002, batch_size=64, epochs=5)
    return graph


def _training(rate: float, batch_size: int, epochs: int) -> Training:
    steps = epochs * -(-_EXAMPLES // batch_size)
    return Training(
        loss="loss",
        optimizer=Adam(learning_rate=CosineDecay(initial=rate, steps=steps)),
        batch_size=batch_size,
        epochs=epochs,
    )

"""A convolutional autoencoder: pictures through a code of a few numbers and back."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.ir.training import Training
from graphengine.layers import conv2d, conv2d_transpose, dense
from graphengine.ops.activation import relu, sigmoid
from graphengine.ops.broadcast import reshape
from graphengine.ops.loss import squared_error
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay

_BATCH, _EPOCHS = 32, 40
_STEPS = _EPOCHS * 45
"""Of 1,437 digits in batches of 32."""


def convolutional_autoencoder(code: int = 8) -> Graph:
    """8x8 pictures to 4x4, to 2x2, to `code` numbers, and by transposed convolutions the same way back.

    The input is "pixels", float32[batch, 64] in [0, 1]; outputs are "code", float32[batch, code], "reconstruction",
    float32[batch, 64] in (0, 1), and "loss", the mean over examples of the squared error of all pixels.

    Returns the graph. Raises AttributeValueError for a code below 1.
    """
    graph = Graph("convolutional_autoencoder")
    pixels = graph.input("pixels", ("batch", 64))
    h = reshape(pixels, ("batch", 1, 8, 8))
    h = conv2d(h, 16, 3, padding=1, name="encoder1", activation=relu)
    h = conv2d(h, 32, 4, stride=2, padding=1, name="encoder2", activation=relu)
    h = conv2d(h, 32, 4, stride=2, padding=1, name="encoder3", activation=relu)
    h = dense(reshape(h, ("batch", 32 * 2 * 2)), code, name="code")
    graph.output("code", h)
    h = reshape(dense(h, 32 * 2 * 2, name="decoder0", activation=relu), ("batch", 32, 2, 2))
    h = conv2d_transpose(h, 32, 4, stride=2, padding=1, name="decoder1", activation=relu)
    h = conv2d_transpose(h, 16, 4, stride=2, padding=1, name="decoder2", activation=relu)
    h = conv2d(h, 1, 3, padding=1, name="decoder3", activation=sigmoid)
    picture = graph.output("reconstruction", reshape(h, ("batch", 64), name="reconstruction"))
    graph.output("loss", squared_error(picture, pixels, name="loss"))
    optimizer = Adam(learning_rate=CosineDecay(initial=0.002, steps=_STEPS))
    graph.training = Training(loss="loss", optimizer=optimizer, batch_size=_BATCH, epochs=_EPOCHS)
    return graph

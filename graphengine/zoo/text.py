"""A causal transformer that predicts the next character of a text."""

from __future__ import annotations

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.init import Normal
from graphengine.ir.training import Training
from graphengine.layers import dense, embedding, layer_norm, learned_positions, transformer_block
from graphengine.ops.activation import relu
from graphengine.ops.broadcast import reshape
from graphengine.ops.loss import cross_entropy
from graphengine.optim.rules import Adam
from graphengine.optim.schedules import CosineDecay

STRETCH = 128
"""Characters that a text is cut into, and that positions are learned for."""

_BATCH, _EPOCHS = 8, 6
_STEPS = _EPOCHS * 409
"""Of the 3,269 stretches to train on in the topics of Python 3.11, in batches of 8."""


def character_transformer(symbols: int, units: int = 128, heads: int = 4, blocks: int = 2) -> Graph:
    """A transformer whose place t sees the characters up to t, and scores the one that follows.

    Characters and their places are embedded in `units` numbers; then come `blocks` of attention and of dense layers of
    4 * units, and scores of all `symbols`. Inputs are "characters" and "next", int64[batch, time], as `ge.data.windows`
    gives them, for a time of at most 128; outputs are "logits", float32[batch, time, symbols], and "loss", the mean
    over all characters of the cross entropy, in nats.

    Returns the graph. Raises AttributeValueError for sizes below 1 and heads that do not divide the units.
    """
    graph = Graph("character_transformer")
    characters, following = (graph.input(name, ("batch", "time"), dtype="int64") for name in ("characters", "next"))
    small = Normal(std=0.02)
    h = embedding(characters, symbols, units, name="embedding", init=small)
    h = h + learned_positions(h, STRETCH, name="positions", init=small)
    for place in range(1, blocks + 1):
        h = transformer_block(h, heads, 4 * units, name=f"block{place}", causal=True, activation=relu)
    logits = graph.output("logits", dense(layer_norm(h, name="norm"), symbols, name="scores"))
    rows = dims.product(following.shape)
    loss = cross_entropy(reshape(logits, (rows, symbols)), reshape(following, (rows,)), name="loss")
    graph.output("loss", loss)
    optimizer = Adam(learning_rate=CosineDecay(initial=0.003, steps=_STEPS))
    graph.training = Training(loss="loss", optimizer=optimizer, batch_size=_BATCH, epochs=_EPOCHS)
    return graph

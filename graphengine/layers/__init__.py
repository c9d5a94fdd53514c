"""Layers: functions that add several nodes to a graph, with the parameters that these need."""

from graphengine.ir.arguments import check_public
from graphengine.ir.names import unknown_in
from graphengine.layers.attention import multi_head_attention, transformer_block
from graphengine.layers.conv import conv1d, conv2d, conv2d_transpose
from graphengine.layers.dense import dense
from graphengine.layers.embedding import embedding, learned_positions, sinusoidal_positions
from graphengine.layers.norm import batch_norm, group_norm, layer_norm, rms_norm
from graphengine.layers.recurrent import gru, lstm, rnn
from graphengine.layers.sequential import sequential
from graphengine.ops.random import dropout

__all__ = [
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "dense",
    "dropout",
    "embedding",
    "group_norm",
    "gru",
    "layer_norm",
    "learned_positions",
    "lstm",
    "multi_head_attention",
    "rms_norm",
    "rnn",
    "sequential",
    "sinusoidal_positions",
    "transformer_block",
]

__dir__ = __all__.copy
__getattr__ = unknown_in("layers")

check_public(globals(), __all__)

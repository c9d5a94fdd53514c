"""Attention with parameters of its own, and the block of a transformer that it makes (Vaswani et al. 2017)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from graphengine.errors import AttributeValueError, ShapeError
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.init import Uniform
from graphengine.ir.node import Node
from graphengine.ir.types import TensorType
from graphengine.layers.dense import dense
from graphengine.layers.norm import layer_norm
from graphengine.layers.usual import Activation, check_size
from graphengine.ops.activation import gelu
from graphengine.ops.attention import Attention, attention, rows_in, swapped
from graphengine.ops.broadcast import reshape
from graphengine.ops.random import dropout as dropped
from graphengine.ops.shape import split


def multi_head_attention(
    x: Node,
    heads: int,
    *,
    name: str | None = None,
    context: Node | None = None,
    mask: Node | npt.ArrayLike | None = None,
    causal: bool = False,
    bias: bool = True,
    block: int | None = None,
) -> Node:
    """Multi-head attention of x, as queries, to x itself or to `context`, as keys and values.

        head_i = attention(x Wq_i, context Wk_i, context Wv_i),    y = [head_1, ..., head_heads] Wo

    x: floats [..., time, units]; context: floats [..., source, features]; returns [..., time, units]. `mask`: bools
    that broadcast to [..., heads, time, source], True where a query sees a key; one of padding is [batch, 1, 1,
    source]. For `causal` and `block` see `ge.attention`. A hidden row of the context is not read. A hidden row of x is
    still a query: where it may hold infinities or NaN, give `ge.mask(x, real)` for x.

    Parameters: `name.qkv.weight` [units, 3 * units] (queries, keys, values), or with a context `name.query.weight`
    [units, units] and `name.key_value.weight` [features, 2 * units]; `name.output.weight` [units, units]; each with a
    `.bias` unless `bias` is False.
    Raises DTypeError or ShapeError for operands that do not fit, AttributeValueError for heads that do not divide
    units.
    Source: Vaswani et al. 2017, section 3.2.2.
    """
    name = name or layer_name(x.graph, "multi_head_attention")
    given = [node for node in (x, context, mask) if isinstance(node, Node)]
    with declaring("multi_head_attention", *given, name=name):
        if mask is not None and not isinstance(mask, Node):
            mask = x.graph.constant(None, np.asarray(mask))
        units = _check(x, heads, context, mask, Attention(causal=causal, block=block))
        if context is None:
            q, k, v = split(_heads(_maps(x, 3, units, f"{name}.qkv", bias), 3 * heads), 3, axis=-3)
        else:
            if mask is not None:
                context = rows_in(context, mask, [-3, -2])
            q = _heads(_maps(x, 1, units, f"{name}.query", bias), heads)
            k, v = split(_heads(_maps(context, 2, units, f"{name}.key_value", bias), 2 * heads), 2, axis=-3)
        found = swapped(attention(q, k, v, mask, causal, block=block), -2, -3)
        return dense(reshape(found, (*x.shape[:-1], units)), units, name=f"{name}.output", bias=bias)


def transformer_block(
    x: Node,
    heads: int,
    hidden: int,
    *,
    name: str | None = None,
    mask: Node | npt.ArrayLike | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    activation: Activation = gelu,
    block: int | None = None,
) -> Node:
    """Transformer block: h = x + attention(norm(x)), then h + dense(activation(dense(norm(h)))).

    The norms are layer norms before attention and dense layers. `hidden` is the number of units between the dense
    layers; `dropout` is the rate at which the two terms that are added are dropped. Parameters: those of
    `name.attention_norm`, `name.attention`, `name.hidden_norm`, `name.hidden` and `name.output`. For `mask` see
    `ge.layers.multi_head_attention`.

    x: floats [..., time, units]; returns the type of x.
    Raises DTypeError, ShapeError or AttributeValueError for operands and sizes that do not fit.
    Source: Vaswani et al. 2017; norms: Xiong et al. 2020.
    """
    name = name or layer_name(x.graph, "transformer_block")
    with declaring("transformer_block", x, name=name):
        width = _check(x, heads, None, None, Attention(block=block))
        normed = layer_norm(x, name=f"{name}.attention_norm")
        found = multi_head_attention(normed, heads, name=f"{name}.attention", mask=mask, causal=causal, block=block)
        h = x + dropped(found, dropout, name=f"{name}.attention_dropout")
        normed = layer_norm(h, name=f"{name}.hidden_norm")
        between = dense(normed, hidden, name=f"{name}.hidden", activation=activation)
        added = dense(between, width, name=f"{name}.output")
        return h + dropped(added, dropout, name=f"{name}.output_dropout")


def _check(x: Node, heads: int, context: Node | None, mask: Node | None, op: Attention) -> int:
    """The units of x; raises before anything is declared if the heads cannot attend as asked."""
    check_size("the heads of an attention are", heads)
    source = x if context is None else context
    for node in (x, source):
        if node.ndim < 2 or not isinstance(node.shape[-1], int):
            raise ShapeError(f"[..., time, units] is needed, units being a number, not {node.type}")
    units = int(x.shape[-1])
    if units % heads:
        raise AttributeValueError(f"{heads} heads do not divide the {units} units of {x.type}")
    q, k = (TensorType((*n.shape[:-2], heads, n.shape[-2], units // heads), n.dtype) for n in (x, source))
    op.infer(q, k, k, None if mask is None else TensorType(mask.shape, mask.dtype))
    return units


def _maps(x: Node, count: int, units: int, name: str, bias: bool) -> Node:
    """So many maps of x to `units` units, side by side as one; each starts from Glorot's uniform law as if alone."""
    radius = math.sqrt(6 / (int(x.shape[-1]) + units))
    return dense(x, count * units, name=name, bias=bias, init=Uniform(low=-radius, high=radius))


def _heads(x: Node, heads: int) -> Node:
    """[..., time, heads * size] as [..., heads, time, size]."""
    return swapped(reshape(x, (*x.shape[:-1], heads, int(x.shape[-1]) // heads)), -2, -3)

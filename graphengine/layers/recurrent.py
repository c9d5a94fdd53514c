"""Recurrent layers over sequences [batch, time, features]: rnn, lstm, gru, in one direction or both, one upon another.

What a step takes from its input is one matrix product for all steps, ahead of the scan; only the product with the state
before is left inside. Every pass over the sequence has parameters of its own:

    input_weight      [features, gates * units]; starts from Glorot's uniform law
    recurrent_weight  [units, gates * units]; starts with orthonormal rows
    bias              [gates * units]
    recurrent_bias    [units], of gru alone: b_hn in its formula

Gates stand in the order of the formulas. The parameters of a single pass are `name.bias` and so on; those of a layer
among several `name.layer_0.bias`; those of a direction among two `name.forward.bias` and `name.backward.bias`, or
`name.layer_0.forward.bias`. A layer upon another takes what that gives for each step as its features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir import dims
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.init import GlorotUniform, Initializer, LSTMBias, Orthogonal, Zeros
from graphengine.ir.node import Node
from graphengine.ir.types import TensorType
from graphengine.layers.usual import Activation, check_size, parameter
from graphengine.ops import compare
from graphengine.ops.activation import identity, sigmoid, tanh
from graphengine.ops.broadcast import full, reshape
from graphengine.ops.scan import as_tuple, scan
from graphengine.ops.shape import concat, expand_dims, split, transpose

State = Node | Sequence[Node]
"""What a pass starts from, [batch, units]: h, or the pair (h, c) of an lstm."""

Step = Callable[[tuple[Node, ...], Node, Sequence[Node]], tuple[Node, ...]]
"""The states after a step, from those before it, x W + b, and U (of gru also b_hn)."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A kind of unit."""

    kind: str
    gates: int
    states: int
    step: Step
    bias: Initializer
    has_recurrent_bias: bool = False


@dataclass(frozen=True, slots=True)
class _Options:
    return_sequences: bool
    return_state: bool
    reverse: bool
    bidirectional: bool
    num_layers: int
    mask: Node | None
    initial: State | Sequence[State] | None


def rnn(
    x: Node,
    units: int,
    *,
    name: str | None = None,
    activation: Activation = tanh,
    return_sequences: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    bidirectional: bool = False,
    num_layers: int = 1,
    mask: Node | None = None,
    initial: State | Sequence[State] | None = None,
) -> Any:
    """Elman's network: h' = activation(x W + h U + b), with `activation` tanh or relu.

    x is [batch, time, features]. It returns h after the last step, [batch, units]; with `return_sequences` h after
    every step, [batch, time, units], in the order of x; with `return_state` a pair of that and the states at the end.
    `reverse` goes from the last step to the first. `bidirectional` does both: the results of the two passes are
    concatenated, forward first, into 2 * units features. `num_layers` stacks so many layers.

    `mask` is [batch, time], of bools: where it is False a step is padding. The state does not change there, and h in
    the sequence is 0. What x holds there is not read, even if it is infinite or NaN.

    `initial` is the state at the start, else zeros; for several passes a sequence in the order of the states returned:
    layer by layer, forward before backward.

    Raises DTypeError or ShapeError for an x, a mask or an initial state that does not fit, AttributeValueError for
    units or layers below 1, GraphError for a wrong number of initial states.
    Source: Elman 1990.
    """
    cell = _Cell("rnn", 1, 1, lambda state, z, weights: (activation(z + state[0] @ weights[0]),), Zeros())
    options = _Options(return_sequences, return_state, reverse, bidirectional, num_layers, mask, initial)
    return _layer(cell, x, units, name, options)


def lstm(
    x: Node,
    units: int,
    *,
    name: str | None = None,
    return_sequences: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    bidirectional: bool = False,
    num_layers: int = 1,
    mask: Node | None = None,
    initial: State | Sequence[State] | None = None,
) -> Any:
    """Long short-term memory, with a forget gate.

        i, f, g, o = x W + h U + b, four gates of `units` each, in this order
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    The bias of f starts at 1, so that a new cell remembers; all other biases start at 0. A state is the pair (h, c).
    Arguments, what it returns and errors are those of `rnn`: it raises DTypeError, ShapeError, AttributeValueError or
    GraphError.
    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000.
    """
    cell = _Cell("lstm", 4, 2, _lstm_step, LSTMBias())
    options = _Options(return_sequences, return_state, reverse, bidirectional, num_layers, mask, initial)
    return _layer(cell, x, units, name, options)


def gru(
    x: Node,
    units: int,
    *,
    name: str | None = None,
    return_sequences: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    bidirectional: bool = False,
    num_layers: int = 1,
    mask: Node | None = None,
    initial: State | Sequence[State] | None = None,
) -> Any:
    """Gated recurrent unit, in the variant whose reset gate acts after the product with U.

        r, z, n = x W + b, three gates of `units` each, in this order
        r = sigmoid(r + h U_r),  z = sigmoid(z + h U_z),  n = tanh(n + r * (h U_n + b_hn))
        h' = (1 - z) * n + z * h

    This is the variant of PyTorch, and of Keras with reset_after. Arguments, what it returns and errors are those of
    `rnn`: it raises DTypeError, ShapeError, AttributeValueError or GraphError.
    Source: Cho et al. 2014.
    """
    cell = _Cell("gru", 3, 1, _gru_step, Zeros(), has_recurrent_bias=True)
    options = _Options(return_sequences, return_state, reverse, bidirectional, num_layers, mask, initial)
    return _layer(cell, x, units, name, options)


def _lstm_step(state: tuple[Node, ...], z: Node, weights: Sequence[Node]) -> tuple[Node, ...]:
    h, c = state
    i, f, g, o = split(z + h @ weights[0], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(state: tuple[Node, ...], z: Node, weights: Sequence[Node]) -> tuple[Node, ...]:
    (h,), (recurrent, recurrent_bias) = state, weights
    sizes = dims.multiply(2, h.shape[1]), h.shape[1]
    from_input, n_from_input = split(z, sizes, axis=1)
    from_state, n_from_state = split(h @ recurrent, sizes, axis=1)
    reset, update = split(sigmoid(from_input + from_state), 2, axis=1)
    n = tanh(n_from_input + reset * (n_from_state + recurrent_bias))
    return (n + update * (h - n),)


def _layer(cell: _Cell, x: Node, units: int, name: str | None, options: _Options) -> Any:
    """All passes; between them sequences are [time, batch, features], as a scan takes them."""
    name = name or layer_name(x.graph, cell.kind)
    with declaring(cell.kind, x, name=name):
        _check(cell, x, units, options)
        mask = None if options.mask is None else expand_dims(transpose(options.mask), 2)
        directions = [(".forward", False), (".backward", True)] if options.bidirectional else [("", options.reverse)]
        firsts = iter(_initial(cell, x, units, options.num_layers * len(directions), options.initial))
        sequence, ends = transpose(x, (1, 0, 2)), list[tuple[Node, ...]]()
        if mask is not None:
            sequence = compare.mask(sequence, mask)  # ahead of all products, as 0 times what is there may be NaN
        for layer in range(options.num_layers):
            head = name if options.num_layers == 1 else f"{name}.layer_{layer}"
            stacked = options.return_sequences or layer < options.num_layers - 1
            results = []
            for tail, reverse in directions:
                y, end = _pass(cell, sequence, next(firsts), mask, f"{head}{tail}", reverse, stacked)
                results.append(y)
                ends.append(end)
            sequence = concat(results, axis=-1) if options.bidirectional else results[0]
        y = identity(transpose(sequence, (1, 0, 2)) if options.return_sequences else sequence, name=name)
        states = [end if cell.states > 1 else end[0] for end in ends]
        return (y, states if len(states) > 1 else states[0]) if options.return_state else y


def _pass(
    cell: _Cell, x: Node, first: tuple[Node, ...], mask: Node | None, name: str, reverse: bool, stacked: bool
) -> tuple[Node, tuple[Node, ...]]:
    """One way over the sequence: h of all steps if they are to be `stacked`, else the last; and the last states."""
    (time, batch, features), units = x.shape, int(first[0].shape[1])
    width = cell.gates * units
    weight = parameter(x, f"{name}.input_weight", (int(features), width), GlorotUniform())
    bias = parameter(x, f"{name}.bias", (width,), cell.bias)
    z = reshape(reshape(x, (dims.multiply(time, batch), features)) @ weight + bias, (time, batch, width))
    weights = [parameter(x, f"{name}.recurrent_weight", (units, width), Orthogonal())]
    if cell.has_recurrent_bias:
        weights.append(parameter(x, f"{name}.recurrent_bias", (units,), Zeros()))

    def body(state: tuple[Node, ...], step: tuple[Node, ...]) -> tuple[tuple[Node, ...], Node | None]:
        after = cell.step(state, step[0], weights)
        if mask is not None:
            after = tuple(compare.where(step[1], new, old) for new, old in zip(after, state, strict=True))
        return after, after[0] if stacked else None

    end, h = scan(body, first, (z,) if mask is None else (z, mask), reverse=reverse, name=f"{name}.scan")
    if not stacked:
        return end[0], end
    return (h if mask is None else compare.mask(h, mask)), end


def _initial(cell: _Cell, x: Node, units: int, count: int, initial: Any) -> list[tuple[Node, ...]]:
    """What each of `count` passes starts from."""
    wanted = TensorType((x.shape[0], units), x.dtype)
    if initial is None:
        return [(full(x.graph, 0.0, wanted.shape, x.dtype),) * cell.states] * count
    given = [initial] if count == 1 else as_tuple(initial)
    if len(given) != count:
        raise GraphError(f"{cell.kind} makes {count} passes, and {len(given)} initial states are given")
    states = [as_tuple(state) for state in given]
    for state in states:
        if len(state) != cell.states:
            names = " and ".join("hc"[: cell.states])
            raise GraphError(f"a state of {cell.kind} is {names}, and {len(state)} are given")
        for node in state:
            if node.type != wanted:
                raise ShapeError(f"{cell.kind} starts from {wanted}, and {node.name} is {node.type}")
    return states


def _check(cell: _Cell, x: Node, units: int, options: _Options) -> None:
    check_size(f"units of {cell.kind} is", units)
    check_size(f"num_layers of {cell.kind} is", options.num_layers)
    if options.reverse and options.bidirectional:
        raise AttributeValueError(f"a bidirectional {cell.kind} runs in both directions; leave reverse out")
    if not x.type.is_float:
        raise DTypeError(f"{cell.kind} takes floats, not {x.type}; cast it")
    if x.ndim != 3 or not isinstance(x.shape[2], int):
        raise ShapeError(f"{cell.kind} takes [batch, time, features], with a number of features, not {x.type}")
    mask, wanted = options.mask, TensorType(x.shape[:2], "bool")
    if mask is not None and mask.dtype != "bool":
        raise DTypeError(f"the mask of {cell.kind} is of bools, not {mask.type}")
    if mask is not None and mask.type != wanted:
        raise ShapeError(f"the mask of {cell.kind} over {x.type} is {wanted}, not {mask.type}")

"""Checks that an op keeps its contract, and that a graph's gradients are right: by finite differences, in float64."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from graphengine.backends.installed import installed_backends
from graphengine.compile import compile
from graphengine.errors import GraphEngineError, GraphError
from graphengine.executable import Executable
from graphengine.ir import dims
from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, apply
from graphengine.ir.op import GetItem, Op, check_operands
from graphengine.ir.types import Array, TensorType, TupleType, ValueType, check_dtype
from graphengine.ops.broadcast import sum
from graphengine.ops.elementwise import add
from graphengine.transform.adjoint import differentiate
from graphengine.transform.training_graph import UnreachedParameterWarning

__all__ = ["GradCheck", "GradientError", "check_op", "gradcheck"]

__dir__ = __all__.copy

Value = Array | tuple[Array, ...]
"""What an op gives: one array, or those of a tuple."""

STEP = 1e-5
"""h of the central difference (f(x + h) - f(x - h)) / 2h, which errs by order h^2, and rounding adds 1e-16 / h."""


class GradientError(GraphEngineError):
    """A gradient differs from the finite difference."""


@dataclass(frozen=True, slots=True)
class GradCheck:
    """The maximum difference found, by leaf: |gradient - central difference|, relative to the maximum of the leaf."""

    errors: dict[str, float]
    checked: int

    def __str__(self) -> str:
        worst = max(self.errors.values(), default=0.0)
        return f"{self.checked} derivatives agree with central differences; the worst differs by {worst:.1e}"


def gradcheck(
    graph: Graph,
    loss: str | Node,
    feeds: Mapping[str, npt.ArrayLike],
    seed: int = 0,
    wrt: Sequence[str | Node] | None = None,
    tolerance: float = 1e-6,
    samples: int = 200,
) -> GradCheck:
    """Compare the compiled gradients of `loss` with central differences; returns the differences found.

    The check runs on a float64 twin of the graph, whatever its dtype. At most `samples` elements of each leaf, drawn
    from `seed`, are checked. Feeds should keep away from kinks (0 of relu, ties of max).
    Raises GradientError where they differ by more than `tolerance`, relative; FeedError for feeds that do not fit.
    """
    twin = in_float64(graph)
    name = _name(loss)
    twin.outputs = {"loss": twin.outputs[name] if name in twin.outputs else twin[name]}
    names = None if wrt is None else [_name(leaf) for leaf in wrt]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreachedParameterWarning)  # that zeros are right is what is checked
        exe = compile(twin, loss="loss", wrt=names, seed=seed)
    held = {name: np.array(value, np.float64 if _is_float(value) else None) for name, value in feeds.items()}
    value = float(exe.forward(held)["loss"])
    gradients = exe.backward()
    generator = np.random.default_rng(seed)
    errors, checked = {}, 0
    for name, analytic in gradients.items():
        chosen = generator.permutation(analytic.size)[:samples]
        numeric = np.array([_difference(exe, held, name, int(index)) for index in chosen])
        given = analytic.reshape(-1)[chosen]
        scale = max(float(np.abs(numeric).max(initial=0.0)), 1e-3 * max(1.0, abs(value)))
        apart = np.abs(given - numeric) / scale
        errors[name] = float(apart.max(initial=0.0))
        checked += len(chosen)
        if not errors[name] <= tolerance:
            worst = int(np.argmax(apart))
            index = [int(i) for i in np.unravel_index(chosen[worst], analytic.shape)]
            raise GradientError(
                f"d loss / d {name}{index} is {given[worst]!r} by backpropagation, {numeric[worst]!r} by differences"
            )
    return GradCheck(errors, checked)


def _name(what: str | Node) -> str:
    return what if isinstance(what, str) else what.name


def in_float64(graph: Graph) -> Graph:
    """The same graph with float64 instead of float32, in the bodies of its scans too."""
    twin = Graph(graph.name, "float64" if graph.dtype == "float32" else graph.dtype)
    copies = copy_nodes(
        graph.nodes, twin, replace=lambda node: (_op_in_float64(node.op), node.parents), keep_phase=False
    )
    twin.outputs = {name: copies[node] for name, node in graph.outputs.items()}
    return twin


def _op_in_float64(op: Op) -> Op:
    fields = {name: getattr(op, name) for name in type(op).model_fields}
    changes: dict[str, Any] = {name: in_float64(value) for name, value in fields.items() if isinstance(value, Graph)}
    if fields.get("dtype") == "float32":
        changes["dtype"] = "float64"
    return type(op)(**(fields | changes)) if changes else op


def check_op(
    op: Op, *operands: Array, tolerance: float = 1e-6, second_order: bool = True, differentiable: bool = True
) -> None:
    """Hold an op to its contract on these operands; floats are given in float64, away from kinks.

    Checked: the type that `infer` gives is that of what `eval` returns; the kernel gives what `eval` gives, into memory
    full of garbage, over each operand that it may overwrite, from operands of other layouts, and in float32; an op that
    is elementwise sees no positions; attributes survive JSON; FLOPs are a count; named dims give types that agree with
    the sizes; every backend agrees with `eval`; the vjp agrees with central differences, and its own vjp does too.
    `differentiable=False` is for ops without a path.
    """
    check_operands(op, operands)
    again = type(op)(**json.loads(json.dumps(op.attributes(), allow_nan=False)))
    assert again == op, f"{op!r} comes back from JSON as {again!r}"
    _check_types(op, operands)
    if op.is_elementwise:  # elements in another order, along one axis, give the same values in that order
        expected = np.asarray(_evaluate(op, operands))
        turned = [np.broadcast_to(operand, expected.shape).reshape(-1)[::-1] for operand in operands]
        _same(_evaluate(op, turned), expected.reshape(-1)[::-1], f"{op.kind}, which is no elementwise op,")
    for dtype in ("float64", "float32"):
        cast = [operand.astype(dtype) if _is_float(operand) else operand for operand in operands]
        _check_kernel(op, cast)
        _check_backends(op, cast)
    _check_derivative(op, operands, tolerance, second_order, differentiable)


def _is_float(value: object) -> bool:
    return np.asarray(value).dtype.kind == "f"


def _type_of(array: Array) -> TensorType:
    return TensorType(array.shape, check_dtype(array.dtype))


def _types_of(value: Value) -> ValueType:
    return TupleType(tuple(map(_type_of, value))) if isinstance(value, tuple) else _type_of(value)


def _evaluate(op: Op, operands: Sequence[Array]) -> Value:
    with np.errstate(all="ignore"):
        value = op.eval(np, *operands)
    return tuple(map(np.asarray, value)) if isinstance(value, tuple) else np.asarray(value)


def _check_types(op: Op, operands: Sequence[Array]) -> None:
    types = [_type_of(operand) for operand in operands]
    inferred = op.infer(*types)
    actual = _types_of(_evaluate(op, operands))
    assert inferred == actual, f"infer says {inferred}, eval gives {actual}"
    flops = op.flops(inferred, *types)
    assert isinstance(flops, int), f"FLOPs are a count, not {flops!r}"
    assert flops >= 0, f"FLOPs are a count, not {flops}"
    for axis in range(max((type.ndim for type in types), default=0)):
        _check_named(op, types, inferred, axis)


def _check_named(op: Op, types: Sequence[TensorType], inferred: ValueType, axis: int) -> None:
    """With the sizes of one axis named, the type is refused, or agrees with the sizes once they are bound."""
    binding = {f"n{type.shape[axis]}": dims.bind(type.shape[axis], {}) for type in types if axis < type.ndim}
    named = [
        TensorType((*type.shape[:axis], f"n{type.shape[axis]}", *type.shape[axis + 1 :]), type.dtype)
        if axis < type.ndim and type.shape[axis] != 1
        else type
        for type in types
    ]
    try:
        result = op.infer(*named)
    except GraphError:
        return
    assert result.bind(binding) == inferred, f"infer of {named} says {result}, of {types} says {inferred}"


def _check_kernel(op: Op, operands: Sequence[Array]) -> None:
    expected = _evaluate(op, operands)
    if op.is_leaf:
        return
    for layout in _layouts(operands):
        if op.is_view:
            _same(op.view(layout[0]), expected, f"the view of {op.kind}")
            if op.can_view(contiguous=False):
                continue
        _run_kernel(op, _garbage(expected), layout, expected)
    if op.is_view or isinstance(expected, tuple):
        return
    for position in op.overwrites:
        if position < len(operands) and _type_of(operands[position]) == _type_of(expected):
            held = [operand.copy() for operand in operands]
            _run_kernel(op, held[position], held, expected)


def _run_kernel(op: Op, out: Any, operands: Sequence[Array], expected: Value) -> None:
    types = op.scratch(_types_of(out), *map(_type_of, operands))
    scratch = [_garbage(np.empty(type.static_shape, type.dtype)) for type in types]
    with np.errstate(all="ignore"):
        function, arguments = op.bind(out, *operands, scratch=scratch)
        for _ in range(2 if all(out is not operand for operand in operands) else 1):
            function(*arguments)
    _same(out, expected, f"the kernel of {op.kind}")


def _layouts(operands: Sequence[Array]) -> Iterator[list[Array]]:
    for order in ("C", "F"):
        yield [np.array(operand, order=order) for operand in operands]
    yield [np.repeat(operand, 2, axis=-1)[..., ::2] if operand.ndim else operand for operand in operands]


def _garbage(like: Any) -> Any:
    if isinstance(like, tuple):
        return tuple(map(_garbage, like))
    fill: Any = {"f": np.nan, "b": True}.get(like.dtype.kind, 77)
    return np.full(like.shape, fill, like.dtype)


def _same(actual: Any, expected: Any, what: str) -> None:
    if isinstance(expected, tuple):
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            _same(*pair, f"{what}, item {index}")
        return
    tolerance = 1e-12 if expected.dtype == np.float64 else 2e-6
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=what)
    assert actual.dtype == expected.dtype, f"{what} gives {actual.dtype}, eval {expected.dtype}"


def _declare(op: Op, operands: Sequence[Array]) -> tuple[Graph, list[Node], list[Node]]:
    """A graph of `op` alone: its operands, and what it gives, one node or the items of a tuple."""
    graph = Graph("check", "float64")
    leaves = [graph.input(f"x{i}", operand.shape, operand.dtype) for i, operand in enumerate(operands)]
    y = graph.add(op, leaves, name="y")
    count = len(y.type.items) if isinstance(y.type, TupleType) else 0
    return graph, leaves, [apply(GetItem(index=index), y) for index in range(count)] or [y]


def _check_backends(op: Op, operands: Sequence[Array]) -> None:
    graph, leaves, results = _declare(op, operands)
    for index, node in enumerate(results):
        graph.output(f"y{index}", node)
    feeds = {leaf.name: operand for leaf, operand in zip(leaves, operands, strict=True)}
    value = _evaluate(op, operands)
    expected = value if isinstance(value, tuple) else (value,)
    for backend in installed_backends():
        _same(tuple(compile(graph, backend=backend).forward(feeds).values()), expected, f"backend {backend}, {op.kind}")


def _check_derivative(
    op: Op, operands: Sequence[Array], tolerance: float, second_order: bool, differentiable: bool
) -> None:
    graph, leaves, results = _declare(op, operands)
    floats = [leaf for leaf in leaves if leaf.type.is_float]
    targets = [node for node in results if node.type.is_float]
    if not targets or not floats:
        return
    generator = np.random.default_rng(0)
    loss = graph.output("loss", _weighted(targets, generator))
    derivative = differentiate(loss, floats)
    reached = [leaf.name for leaf in floats if leaf in derivative.adjoints]
    assert bool(reached) == differentiable, f"{op.kind}: a gradient reaches {reached or 'none'}"
    gradients = [derivative.of(leaf) for leaf in floats]
    feeds = {leaf.name: operand for leaf, operand in zip(leaves, operands, strict=True)}
    gradcheck(graph, "loss", feeds, wrt=floats, tolerance=tolerance)
    if not second_order or not differentiable:
        return
    graph.output("second", _weighted(gradients, generator))
    gradcheck(graph, "second", feeds, wrt=floats, tolerance=10 * tolerance)


def _weighted(nodes: Sequence[Node], generator: np.random.Generator) -> Node:
    """The sum of all elements, each times a random number."""
    weights = [generator.normal(size=node.type.static_shape) for node in nodes]
    return reduce(add, [sum(node * node.graph.constant(None, w)) for node, w in zip(nodes, weights, strict=True)])


def _difference(exe: Executable, feeds: dict[str, Array], name: str, index: int) -> float:
    """The central difference of the loss by one element of a leaf, which has its own value again afterwards."""
    held: MutableMapping[str, Array] = next(values for values in (feeds, exe.parameters, exe.state) if name in values)
    original = np.array(held[name])
    step = STEP * max(1.0, abs(float(original.flat[index])))
    losses = []
    for shift in (step, -step):
        moved = original.copy()
        moved.flat[index] += shift
        held[name] = moved
        losses.append(float(exe.forward(feeds)["loss"]))
    held[name] = original
    return (losses[0] - losses[1]) / (2 * step)

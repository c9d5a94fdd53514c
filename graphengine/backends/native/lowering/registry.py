"""Lowerings: what the backend `numba` runs in the place of an op's NumPy kernel, registered by the class of the op.

A subclass has the lowering of its nearest base that has one. An op without one that has a scalar form is a loop over
elements; any other is run by its NumPy kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from graphengine.backends.native.fusion.loops import pointwise_loops
from graphengine.backends.native.kernel import LoopCall
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType, TupleType, ValueType, check_dtype
from graphengine.schedule.arena import rounded

Calls = Sequence[LoopCall] | None
"""Kernels to run one after the other, with their arguments; None leaves the op to NumPy."""

Lowering = Callable[..., Calls]
"""`lowering(op, out, *operands, scratch=arrays)`. It may depend on shapes, strides and dtypes, but on no values."""

Scratch = Callable[..., Sequence[ValueType]]
"""`scratch(op, y, *types)`: the types of the work arrays of a lowering, for a result and operands of these types."""

_LOWERINGS: dict[type[Op], tuple[Lowering, Scratch | None]] = {}


def register_lowering(*ops: type[Op], scratch: Scratch | None = None) -> Callable[[Lowering], Lowering]:
    """The decorator of a lowering of these classes, which takes the place of those that were registered before.

    A lowering is given the work arrays of the op's NumPy kernel, or those of `scratch` if it needs others.
    """

    def register(lowering: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(ops, (lowering, scratch)))
        lowering_of.cache_clear()
        return lowering

    return register


@cache  # by classes
def lowering_of(op: type[Op]) -> tuple[Lowering | None, Scratch | None]:
    """The lowering of a class, or of its nearest base that has one, and the work memory of it."""
    return next((_LOWERINGS[base] for base in op.__mro__ if base in _LOWERINGS), (None, None))


def lower(op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array] = ()) -> Calls:
    """The kernels that compute `op` into `out`; None if NumPy has to do it."""
    lowering, own = lowering_of(type(op))
    calls = None
    if lowering is not None:
        work = scratch if own is None else _cut(scratch, own(op, *_types(out, operands)))
        calls = lowering(op, out, *operands, scratch=work)
    if calls is None and type(op).scalar is not Op.scalar:
        return pointwise_loops(op, out, operands)
    return calls


def scratch_types(op: Op, y: ValueType, *types: ValueType) -> Sequence[ValueType]:
    """The work memory of an op. One block serves its lowering and its NumPy kernel where they need different arrays."""
    _, own = lowering_of(type(op))
    if own is None:
        return op.scratch(y, *types)
    nbytes = max(sum(rounded(type_.nbytes) for type_ in of) for of in (own(op, y, *types), op.scratch(y, *types)))
    return (TensorType((nbytes,), "uint8"),)


def numpy_scratch(op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array]) -> Sequence[Array]:
    """The work arrays of an op's NumPy kernel, of those that `scratch_types` gives."""
    _, own = lowering_of(type(op))
    return scratch if own is None else _cut(scratch, op.scratch(*_types(out, operands)))


def _cut(scratch: Sequence[Array], types: Sequence[ValueType]) -> list[Array]:
    """Arrays of these types, one behind the other in a block."""
    found: list[Array] = []
    start = 0
    for type_ in types:
        found.append(np.ndarray(type_.static_shape, type_.dtype, scratch[0], start))
        start += rounded(type_.nbytes)
    return found


def _types(out: Array | tuple[Array, ...], operands: Sequence[Array]) -> list[ValueType]:
    outs = out if isinstance(out, tuple) else (out,)
    types = [TensorType(array.shape, check_dtype(array.dtype)) for array in (*outs, *operands)]
    return [TupleType(tuple(types[: len(outs)])), *types[len(outs) :]] if isinstance(out, tuple) else [*types]

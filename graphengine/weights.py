"""What a graph holds between runs: the arrays of its parameters and states."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, NoReturn

import numpy as np

from graphengine.access import Access
from graphengine.backends.memory import taking
from graphengine.errors import NamingError, UnknownAttributeError, UsageError
from graphengine.ir import leaf
from graphengine.ir.array import assignable
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.types import Array, TensorType, ValueType
from graphengine.wording import shown


class Weights:
    """Arrays by the names of their parameters and states, each drawn from `seed` when it is first read."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.access = Access()
        self._leaves: dict[str, leaf.Stored] = {}
        self._arrays: dict[str, Array] = {}
        self._nbytes = 0
        """What the arrays take."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Weights:
        """The same values in arrays of their own; what has not been drawn yet is drawn the same."""
        return self.access.look(self._twin)

    def __getstate__(self) -> dict[str, Any]:
        return vars(copy.deepcopy(self))

    def _twin(self) -> Weights:
        twin = Weights(self.seed)
        twin._leaves.update(self._leaves)
        for name, array in list(self._arrays.items()):
            twin[name] = array
        return twin

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy arrays that are read-only, as those of a file that is mapped into memory."""
        vars(self).update(state)
        self._arrays = {
            name: array if type(array) is np.ndarray and array.flags.carray else np.array(array, order="C")
            for name, array in self._arrays.items()
        }

    def add(self, graph: Graph) -> None:
        """Note what `graph` holds; raises what drawing it would, as far as one element tells."""
        for node in graph.nodes:
            if isinstance(node.op, leaf.Stored) and node.name not in self._leaves:
                node.op.init.check(self.seed, node.name, node.type.static_shape, node.dtype)
                self._leaves[node.name] = node.op

    def __getitem__(self, name: str) -> Array:
        """The array of this name, which stays the same one."""
        array = self._arrays.get(name)
        if array is None:
            op = self._leaves[name]
            array = self._keep(name, lambda type_: op.init.draw(self.seed, name, type_.static_shape, type_.dtype))
        return array

    def __setitem__(self, name: str, value: Array) -> None:
        """Set all elements; what has not been drawn yet is not drawn for that."""
        array = self._arrays.get(name)
        if array is None:
            array = self._keep(name, lambda type_: np.array(value, type_.dtype, order="C"))
        self.access.changes += 1
        array[...] = value

    def of(self, names: Iterable[str]) -> dict[str, Array]:
        """The arrays of those of `names` that are parameters or states."""
        return {name: self[name] for name in names if name in self._leaves}

    def _keep(self, name: str, make: Callable[[TensorType], Array]) -> Array:
        type_ = self._leaves[name].infer()
        with taking(type_.nbytes, f"{name}, {type_},", self._nbytes):
            made = make(type_)
        array = self._arrays.setdefault(name, made)  # all threads that make it at once get the same one
        self._nbytes += array.nbytes if array is made else 0
        return array


class _Read(np.ndarray[Any, Any]):
    """What reading a weight gives: a copy that cannot be written to, as that would change no weight.

    `parameters["w"] -= 1` is a new array, which is then assigned. What else is computed from it is a plain array.
    """

    __iadd__, __isub__, __imul__ = np.ndarray.__add__, np.ndarray.__sub__, np.ndarray.__mul__  # type: ignore[assignment]  # as below
    __itruediv__, __ipow__ = np.ndarray.__truediv__, np.ndarray.__pow__  # type: ignore[assignment]  # overloaded alike

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self.flags.writeable:
            raise UsageError(
                "what was read is a read-only copy: changing it would change no weight; write "
                "w = exe.parameters[name].copy(), change w, and then exe.parameters[name] = w"
            )
        super().__setitem__(key, value)

    def __array_wrap__(self, array: Any, *_: Any) -> Any:
        return array[()] if array.ndim == 0 else array

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()

    def __repr__(self) -> str:
        return repr(np.asarray(self))


class Held(MutableMapping[str, Array]):
    """Parameters or states by name. Reading gives a read-only copy; assignment checks shape and dtype, and sets."""

    __slots__ = ("_types", "_weights", "_what")

    def __init__(self, weights: Weights, nodes: Sequence[Node], what: str) -> None:
        self._weights = weights
        self._types = {node.name: node.type for node in nodes}
        self._what = what

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.__slots__:
            held = "exe.state" if self._what == "state" else "exe.parameters"
            raise UnknownAttributeError(f"{shown(name)} cannot be set so; write {held}[{shown(name)}] = array")
        object.__setattr__(self, name, value)

    def __copy__(self) -> Held:
        """A copy that an executable no longer changes."""
        return copy.deepcopy(self)

    def __getitem__(self, name: str) -> Array:
        type_ = self._type(name)
        with taking(type_.nbytes, f"a copy of {name}, {type_},"):
            array = self._weights.access.look(lambda: self._weights[name].copy()).view(_Read)
        array.flags.writeable = False
        return array

    def __setitem__(self, name: str, value: Any) -> None:
        array = assignable(value, self._type(name), f"{self._what} {name!r}")
        access = self._weights.access
        access.change(access.seat(), self._weights.__setitem__, name, array)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of this name, or `default` if there is none."""
        return self[name] if name in self._types else default

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a {self._what} of a compiled graph is there to stay")

    def __call__(self) -> NoReturn:
        """Say what is called instead."""
        raise UsageError("these are a mapping of arrays by name, as a dict is; write exe.parameters.items()")

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name}: {type}' for name, type in self._types.items())}}}"

    def _type(self, name: str) -> ValueType:
        if name not in self._types:
            raise NamingError(f"no {self._what} {name!r}{did_you_mean(name, self._types)}")
        return self._types[name]
